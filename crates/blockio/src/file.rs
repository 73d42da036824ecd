//! Regular files and block devices of this host.
//!
//! **Invariant**: a call moves all its bytes or fails naming the first byte it could not move; a file that became
//! shorter than it was when it was opened is reported as changed, never read as zeros.

mod holes;
mod open;
mod zero;

use crate::latch::Latch;
use crate::read::Reader;
use crate::{Device, DiskError, Operation, ReadPath, Zeroing, sys};
use failback_model::{ByteRange, Code, SectorSize};
use rustix::fs::Advice;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Parts handed to one `pwritev`; Linux's `IOV_MAX`.
const PARTS_MAX: usize = 1024;

/// What a file or device is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing in place.
    Write,
}

/// Which file or device of this host, whatever path led there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileId {
    /// A regular file: file system and inode.
    File {
        /// Device number of its file system.
        filesystem: u64,
        /// Inode number.
        inode: u64,
    },
    /// A block device, by its own number.
    Device(u64),
}

/// An open file or block device.
#[derive(Debug)]
pub struct FileDevice {
    path: PathBuf,
    file: File,
    access: Access,
    id: FileId,
    known_length_bytes: AtomicU64,
    sector_size: SectorSize,
    reader: Reader,
    latch: Latch,
    can_zero: AtomicBool,
    can_punch: AtomicBool,
}

impl FileDevice {
    /// Which file or device it is, whatever path led here.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// What it was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Names that it has on its file system; 1 of a block device.
    pub fn link_count(&self) -> Result<u64, DiskError> {
        if self.is_block_device() {
            return Ok(1);
        }
        let stat = rustix::fs::fstat(&self.file).map_err(|errno| self.fail(Operation::Open, None, errno))?;
        #[expect(clippy::useless_conversion, reason = "the field is narrower on some architectures")]
        Ok(stat.st_nlink.into())
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        matches!(self.id, FileId::Device(_))
    }

    /// Refuses what would change a file opened for reading.
    fn require_write(&self, operation: Operation) -> Result<(), DiskError> {
        self.latch.check(operation, &self.path)?;
        match self.access {
            Access::Write => Ok(()),
            Access::Read => {
                let reason = "it was opened for reading only";
                Err(DiskError::new(Code::WriteFailed, operation, &self.path, reason))
            }
        }
    }

    fn fail(&self, operation: Operation, offset_bytes: impl Into<Option<u64>>, errno: Errno) -> DiskError {
        DiskError::io(operation, &self.path, offset_bytes, errno.into())
    }

    /// The error of a read that met the end of the file.
    fn ended(&self, offset_bytes: u64) -> DiskError {
        let known_bytes = self.length_bytes();
        let (code, reason) = if offset_bytes < known_bytes {
            let reason = format!("the file ends here, it had {known_bytes} bytes when it was opened");
            (Code::ChangedMeanwhile, reason)
        } else {
            (Code::ReadFailed, format!("that is past its end at {known_bytes}"))
        };
        DiskError::new(code, Operation::Read, &self.path, reason).at(offset_bytes)
    }
}

impl Device for FileDevice {
    fn path(&self) -> &Path {
        &self.path
    }

    fn length_bytes(&self) -> u64 {
        self.known_length_bytes.load(Ordering::Relaxed)
    }

    fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.latch.check(Operation::Read, &self.path)?;
        let mut done = 0;
        while done < buffer.len() {
            let at = offset_bytes + done as u64;
            match self.reader.read(&self.file, at, &mut buffer[done..]) {
                Ok(0) => return Err(self.ended(at)),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.fail(Operation::Read, at, errno)),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_vectored_at(offset_bytes, &[bytes])
    }

    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        self.require_write(Operation::Write)?;
        let mut slices: Vec<IoSlice<'_>> =
            parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        let mut at = offset_bytes;
        while !rest.is_empty() {
            match rustix::io::pwritev(&self.file, &rest[..rest.len().min(PARTS_MAX)], at) {
                Ok(0) => {
                    let error = io::Error::from(io::ErrorKind::WriteZero);
                    return Err(DiskError::io(Operation::Write, &self.path, at, error));
                }
                Ok(count) => {
                    at += count as u64;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.fail(Operation::Write, at, errno)),
            }
        }
        self.known_length_bytes.fetch_max(at, Ordering::Relaxed);
        Ok(())
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        self.require_write(Operation::Zero)?;
        self.zero_range(range, zeroing)
    }

    fn reserve(&self, range: ByteRange) -> Result<bool, DiskError> {
        self.require_write(Operation::Write)?;
        self.reserve_range(range)
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        if self.is_block_device() {
            return Ok(self.length_bytes());
        }
        let stat = rustix::fs::fstat(&self.file).map_err(|errno| self.fail(Operation::Read, None, errno))?;
        Ok(stat.st_blocks as u64 * 512)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.next_data_run(from_bytes)
    }

    fn set_length(&self, length_bytes: u64) -> Result<(), DiskError> {
        self.require_write(Operation::Resize)?;
        if self.is_block_device() {
            let reason = "a block device is resized where it is provided";
            return Err(DiskError::new(Code::WriteFailed, Operation::Resize, &self.path, reason));
        }
        rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&self.file, length_bytes))
            .map_err(|errno| self.fail(Operation::Resize, length_bytes, errno))?;
        self.known_length_bytes.store(length_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn start_writeback(&self, range: ByteRange) {
        if !range.is_empty() {
            // A hint: what it could not start, `sync` will, and will report.
            let _started = sys::start_writeback(&self.file, range);
        }
    }

    fn drop_cached(&self) -> ReadPath {
        if !self.reader.is_direct() {
            // What is not durable yet, or in use elsewhere, stays whatever is advised.
            let _advised = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
            if sys::cached_pages(&self.file, ByteRange::new(0, self.length_bytes())) == Ok(0) {
                return ReadPath::CacheDropped;
            }
            self.reader.go_direct(&self.file);
        }
        if self.reader.is_direct() { ReadPath::Direct } else { ReadPath::Cached }
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.latch.run(&self.path, || rustix::fs::fdatasync(&self.file))
    }
}

impl AsFd for FileDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for FileDevice {
    fn drop(&mut self) {
        self.reader.finish(&self.file);
        self.unlock();
    }
}
