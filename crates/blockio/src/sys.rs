//! System calls that the safe wrapper crate does not have.
//!
//! **Invariant**: nothing here keeps a pointer or a descriptor beyond the call.

use failback_model::ByteRange;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd};

/// Kind of a byte-range lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// Others may hold shared locks too.
    Shared,
    /// Nobody else holds any.
    Exclusive,
}

impl LockKind {
    fn to_raw(self) -> libc::c_short {
        match self {
            Self::Shared => libc::F_RDLCK as libc::c_short,
            Self::Exclusive => libc::F_WRLCK as libc::c_short,
        }
    }
}

/// Starts writing back dirty pages of `range` without waiting for them.
pub(crate) fn start_writeback(file: impl AsFd, range: ByteRange) -> Result<(), Errno> {
    let (Ok(start), Ok(length)) = (i64::try_from(range.start()), i64::try_from(range.length_bytes())) else {
        return Err(Errno::INVAL);
    };
    // SAFETY: no pointers are passed; the descriptor is borrowed for the call.
    let result = unsafe {
        libc::sync_file_range(file.as_fd().as_raw_fd(), start, length, libc::SYNC_FILE_RANGE_WRITE)
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Takes a lock that belongs to the open file description (`F_OFD_SETLK`) without waiting. A range that ends at
/// `i64::MAX` covers all of the file, however long it becomes.
pub(crate) fn try_lock_bytes(file: impl AsFd, kind: LockKind, range: ByteRange) -> Result<(), Errno> {
    lock_call(file, libc::F_OFD_SETLK, kind, range).map(|_| ())
}

/// Whether somebody else holds a lock on `range` that a lock of `kind` would conflict with (`F_OFD_GETLK`).
pub(crate) fn is_locked_by_others(file: impl AsFd, kind: LockKind, range: ByteRange) -> Result<bool, Errno> {
    lock_call(file, libc::F_OFD_GETLK, kind, range).map(|found| found != libc::F_UNLCK as libc::c_short)
}

fn lock_call(
    file: impl AsFd,
    command: libc::c_int,
    kind: LockKind,
    range: ByteRange,
) -> Result<libc::c_short, Errno> {
    let whole = range.end() >= i64::MAX as u64;
    let length = if whole { 0 } else { range.length_bytes() };
    let (Ok(start), Ok(length)) = (i64::try_from(range.start()), i64::try_from(length)) else {
        return Err(Errno::INVAL);
    };
    let mut lock = libc::flock {
        l_type: kind.to_raw(),
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    // SAFETY: `lock` is a valid `struct flock` that outlives the call; l_pid is 0 as OFD locks require.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw mut lock) };
    if result == -1 { Err(last_errno()) } else { Ok(lock.l_type) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
pub(crate) mod residency {
    //! What of a file the page cache holds, asked without changing it.

    use memmap2::Mmap;
    use std::fs::File;

    /// For each page of the file, whether it is cached.
    pub(crate) fn of(file: &File) -> Vec<bool> {
        // SAFETY: a test's own file, which nothing shortens.
        let map = unsafe { Mmap::map(file) }.expect("mapped");
        let mut pages = vec![0_u8; map.len().div_ceil(4096)];
        // SAFETY: the mapping spans `map.len()` bytes and `pages` has one byte for each of its pages.
        let result = unsafe { libc::mincore(map.as_ptr() as *mut _, map.len(), pages.as_mut_ptr()) };
        assert_eq!(result, 0, "mincore failed");
        pages.iter().map(|page| page & 1 == 1).collect()
    }
}
