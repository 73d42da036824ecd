//! Locks that keep two writers, or a writer and a reader, off one file.
//!
//! Three conventions are honoured at once: `flock` of the whole file; locks of byte ranges that belong to the open
//! file (`F_OFD_SETLK`), of which qemu keeps one for every permission an image's user takes (from byte 100) or
//! denies others (from byte 200); and the lock files of VMware products. Block devices have `O_EXCL` against mounts
//! and claims instead of `flock`, which udev takes for a moment whenever it looks at one. On NFS a `flock` is a lock of
//! all bytes: a shared one there is another reader's, not the permissions that qemu's single bytes stand for.
//!
//! **Invariant**: a writer shares with nobody; readers share with readers. Locks end with the device, so nothing stale
//! survives a crash.

mod holder;
mod vmware;

use crate::draft;
use crate::sys::{self, LockKind};
use crate::{Access, Device, DiskError, FileDevice, Operation};
use failback_model::{ByteRange, Code};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::os::fd::AsFd;

/// Everything: whole-file locks of others, and qemu's bytes.
const ALL_BYTES: ByteRange = ByteRange::new(0, i64::MAX as u64);
/// What a reader in qemu's convention holds: "I read" (100), "nobody may write" (201), "nobody may resize" (203).
const READER_BYTES: [u64; 3] = [100, 201, 203];
/// What a writer in qemu's convention holds: "I write" (101) to "I resize" (103).
const WRITER_BYTES: ByteRange = ByteRange::new(101, 104);

impl FileDevice {
    /// Locks it until it is closed: alone where it was opened for writing, with other readers where it was opened
    /// for reading. Fails with [`Code::InUse`] and, where it can be found, the name of who holds it.
    pub fn lock(&self) -> Result<(), DiskError> {
        let in_use = |reason: String| Err(DiskError::new(Code::InUse, Operation::Open, self.path(), reason));
        let lock_file = match self.is_block_device() {
            true => None,
            false => vmware::lock_file_of(self.path(), self.id()),
        };
        if let Some(lock_file) = lock_file {
            return in_use(format!("VMware's lock file {} says so", lock_file.display()));
        }
        match self.try_lock() {
            Ok(()) => {
                if self.access() == Access::Write && self.link_count()? > 1 {
                    draft::settle(self);
                }
                Ok(())
            }
            Err(Errno::AGAIN | Errno::ACCESS) => {
                let holder =
                    holder::holder_of(self.id(), self.as_fd()).unwrap_or_else(|| "another process".into());
                in_use(format!("{holder} holds it"))
            }
            // A file system without locks: nobody there can be refused, so nobody is.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(errno) => Err(DiskError::io(Operation::Open, self.path(), None, errno.into())),
        }
    }

    fn try_lock(&self) -> Result<(), Errno> {
        let write = self.access() == Access::Write;
        if !self.is_block_device() {
            let operation = match write {
                true => FlockOperation::NonBlockingLockExclusive,
                false => FlockOperation::NonBlockingLockShared,
            };
            rustix::io::retry_on_intr(|| rustix::fs::flock(self, operation))?;
        }
        if write {
            return sys::try_lock_bytes(self, LockKind::Exclusive, ALL_BYTES);
        }
        for byte in READER_BYTES {
            sys::try_lock_bytes(self, LockKind::Shared, ByteRange::new(byte, byte + 1))?;
        }
        // Asked after our own are held: of two that start together at least one sees the other.
        match sys::others_lock(self, LockKind::Exclusive, WRITER_BYTES)? {
            Some(lock) if !lock.is_shared_whole() => Err(Errno::AGAIN),
            _ => Ok(()),
        }
    }

    /// Gives the locks back at once. Closing alone would leave them to a child process that was forked a moment ago and
    /// has not yet closed its copy of the descriptor.
    pub(crate) fn unlock(&self) {
        // What was never locked, or cannot be, is as free as it can be.
        let _bytes = sys::try_lock_bytes(self, LockKind::Released, ALL_BYTES);
        if !self.is_block_device() {
            let _whole = rustix::fs::flock(self, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// NFS shows the `flock` of each reader to the others as a shared lock of all bytes.
    #[test]
    fn a_shared_lock_of_all_bytes_is_another_readers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        std::fs::write(&path, [0; 4096]).expect("written");
        let other = File::options().read(true).write(true).open(&path).expect("opened");
        let open = |access| FileDevice::open(&path, access).and_then(|device| device.lock().map(|()| device));
        sys::try_lock_bytes(&other, LockKind::Shared, ALL_BYTES).expect("locked");
        let first = open(Access::Read).expect("readers share");
        open(Access::Read).expect("readers share");
        assert_eq!(open(Access::Write).map(drop).unwrap_err().code, Code::InUse);
        drop(first);
        // A byte of qemu's permissions is no reader's, nor is an exclusive lock.
        sys::try_lock_bytes(&other, LockKind::Released, ALL_BYTES).expect("unlocked");
        sys::try_lock_bytes(&other, LockKind::Shared, ByteRange::new(101, 102)).expect("locked");
        assert_eq!(open(Access::Read).map(drop).unwrap_err().code, Code::InUse);
        sys::try_lock_bytes(&other, LockKind::Released, ALL_BYTES).expect("unlocked");
        sys::try_lock_bytes(&other, LockKind::Exclusive, ALL_BYTES).expect("locked");
        assert_eq!(open(Access::Read).map(drop).unwrap_err().code, Code::InUse);
    }
}
