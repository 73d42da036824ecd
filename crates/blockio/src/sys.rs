//! System calls that the safe wrapper crate does not have.
//!
//! **Invariant**: nothing here keeps a pointer or a descriptor beyond the call.

use failback_model::ByteRange;
use failback_model::limits::PAGE_BYTES;
use memmap2::MmapOptions;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Kind of a byte-range lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// Others may hold shared locks too.
    Shared,
    /// Nobody else holds any.
    Exclusive,
    /// None is held any more.
    Released,
}

impl LockKind {
    fn to_raw(self) -> libc::c_short {
        match self {
            Self::Shared => libc::F_RDLCK as libc::c_short,
            Self::Exclusive => libc::F_WRLCK as libc::c_short,
            Self::Released => libc::F_UNLCK as libc::c_short,
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

/// A lock of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OthersLock {
    /// Whether it shares with nobody.
    pub(crate) is_exclusive: bool,
    /// Whether it covers all of the file, however long it becomes.
    pub(crate) is_whole: bool,
}

impl OthersLock {
    /// Whether it is a reader's `flock`, which NFS turns into a shared lock of all bytes.
    pub(crate) fn is_shared_whole(self) -> bool {
        self.is_whole && !self.is_exclusive
    }
}

/// The first lock of somebody else on `range` that a lock of `kind` would conflict with (`F_OFD_GETLK`).
pub(crate) fn others_lock(
    file: impl AsFd,
    kind: LockKind,
    range: ByteRange,
) -> Result<Option<OthersLock>, Errno> {
    let found = lock_call(file, libc::F_OFD_GETLK, kind, range)?;
    Ok((found.l_type != libc::F_UNLCK as libc::c_short).then_some(OthersLock {
        is_exclusive: found.l_type == libc::F_WRLCK as libc::c_short,
        is_whole: found.l_start == 0 && found.l_len == 0,
    }))
}

fn lock_call(
    file: impl AsFd,
    command: libc::c_int,
    kind: LockKind,
    range: ByteRange,
) -> Result<libc::flock, Errno> {
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
    if result == -1 { Err(last_errno()) } else { Ok(lock) }
}

/// Pages of `range` in the page cache (`cachestat`, since Linux 6.5), which stays as it is.
pub(crate) fn cached_pages(file: &File, range: ByteRange) -> Result<u64, Errno> {
    // One number on every architecture that Linux gained lately, and not yet named by the C library's bindings.
    const CACHESTAT: libc::c_long = 451;
    let bytes = [range.start(), range.length_bytes()];
    // Cached, dirty, in writeback, evicted, evicted lately.
    let mut counts = [0_u64; 5];
    let file = libc::c_long::from(file.as_raw_fd());
    // SAFETY: both arrays are laid out as the two structures of unsigned 64-bit fields and outlive the call.
    let result = unsafe { libc::syscall(CACHESTAT, file, bytes.as_ptr(), counts.as_mut_ptr(), 0) };
    if result == 0 { Ok(counts[0]) } else { Err(last_errno()) }
}

/// For each page of `range`, which starts on one, whether it can be read without the medium (`mincore`). The page cache
/// stays as it is. All of them where the kernel will not tell this user.
pub(crate) fn resident_pages(file: &File, range: ByteRange) -> io::Result<Vec<bool>> {
    let length = usize::try_from(range.length_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let map = MmapOptions::new().offset(range.start()).len(length).map_raw_read_only(file)?;
    let mut pages = vec![0_u8; length.div_ceil(PAGE_BYTES as usize)];
    // SAFETY: the mapping spans `length` bytes, `pages` has a byte for each of its pages, and no byte of the mapping is
    // touched, so that a file that was shortened does no harm.
    let result = unsafe { libc::mincore(map.as_mut_ptr().cast(), length, pages.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(pages.into_iter().map(|page| page & 1 == 1).collect())
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
