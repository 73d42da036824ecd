//! Opening and creating.
//!
//! **Invariant**: nothing but a regular file or a block device is ever opened, and nothing existing is ever created.

use super::{Access, FileDevice, FileId};
use crate::latch::Latch;
use crate::read::{ReadMode, Reader};
use crate::{Device, DiskError, Operation};
use failback_model::{Code, SectorSize};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Rights of a new file, before the umask.
const MODE: Mode = Mode::from_raw_mode(0o666);

impl FileDevice {
    /// Opens an existing file or block device.
    pub fn open(path: &Path, access: Access) -> Result<Self, DiskError> {
        Self::open_with(path, access, ReadMode::Auto)
    }

    /// The same with a reading mode. A block device opened for writing is opened with `O_EXCL`: one that is
    /// mounted or otherwise claimed is refused as in use.
    pub fn open_with(path: &Path, access: Access, mode: ReadMode) -> Result<Self, DiskError> {
        let fail = |errno: Errno| {
            let error = DiskError::io(Operation::Open, path, None, errno.into());
            if errno == Errno::BUSY { DiskError { code: Code::InUse, ..error } } else { error }
        };
        // Looked at first: opening a FIFO or a tape would already do something.
        let stat = rustix::fs::stat(path).map_err(fail)?;
        let mut flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
        flags |= if access == Access::Write { OFlags::RDWR } else { OFlags::RDONLY };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::BlockDevice if access == Access::Write => flags |= OFlags::EXCL,
            FileType::BlockDevice => {}
            _ => {
                let reason = "it is neither a regular file nor a block device";
                return Err(DiskError::new(Code::OpenFailed, Operation::Open, path, reason));
            }
        }
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(fail)?);
        let opened = rustix::fs::fstat(&file).map_err(fail)?;
        if FileType::from_raw_mode(opened.st_mode) != FileType::from_raw_mode(stat.st_mode) {
            // What was said about a device, O_EXCL above all, was not said about a file, nor the other way round.
            let reason = "it became something else while it was opened";
            return Err(DiskError::new(Code::ChangedMeanwhile, Operation::Open, path, reason));
        }
        Self::from_file(path, file, access, mode)
    }

    /// The same for a format that is a regular file: a block device under its name is refused.
    pub fn open_file(path: &Path, access: Access) -> Result<Self, DiskError> {
        let device = Self::open(path, access)?;
        if device.is_block_device() {
            let reason = "it is a block device where a file is named";
            return Err(DiskError::new(Code::ImageFormatDisagrees, Operation::Open, path, reason));
        }
        Ok(device)
    }

    /// Creates a regular file of zeros, all of it a hole; refuses where the path exists. Who may read and write it is
    /// the umask's to say, as for every file that a user makes.
    pub fn create_new(path: &Path, length_bytes: u64) -> Result<Self, DiskError> {
        Self::create_as(path, path, length_bytes)
    }

    /// The same for a file that lies at `at` until it is whole and then at `path`, which messages name.
    pub(crate) fn create_as(at: &Path, path: &Path, length_bytes: u64) -> Result<Self, DiskError> {
        let flags = OFlags::CLOEXEC | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = rustix::fs::open(at, flags, MODE).map_err(|errno| {
            let error = DiskError::io(Operation::Create, path, None, errno.into());
            if errno == Errno::EXIST { DiskError { code: Code::ImageExists, ..error } } else { error }
        })?;
        let made = Self::from_file(path, File::from(file), Access::Write, ReadMode::Auto)
            .and_then(|device| device.set_length(length_bytes).map(|()| device));
        made.map_err(|error| {
            // This error is the one to report; the file was ours alone and is empty.
            let _removed = std::fs::remove_file(at);
            DiskError { operation: Operation::Create, ..error }
        })
    }

    /// The same for a file that was opened by someone who knows more about where it may lie; `path` is for messages.
    pub fn from_file(path: &Path, file: File, access: Access, mode: ReadMode) -> Result<Self, DiskError> {
        let fail = |errno: Errno| DiskError::io(Operation::Open, path, None, errno.into());
        let stat = rustix::fs::fstat(&file).map_err(fail)?;
        let (id, length_bytes, taken_bytes, sector_bytes) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let id = FileId::File { filesystem: stat.st_dev, inode: stat.st_ino };
                (id, stat.st_size as u64, stat.st_blocks as u64 * 512, 512)
            }
            FileType::BlockDevice => {
                let length_bytes = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(fail)?;
                let sector_bytes = rustix::fs::ioctl_blksszget(&file).map_err(fail)?;
                (FileId::Device(stat.st_rdev), length_bytes, length_bytes, u64::from(sector_bytes))
            }
            _ => return Err(DiskError::new(Code::OpenFailed, Operation::Open, path, "it changed its kind")),
        };
        let sector_size = SectorSize::new(sector_bytes).map_err(|error| {
            DiskError::new(Code::ImageUnsupported, Operation::Open, path, error.to_string())
        })?;
        Ok(Self {
            path: path.into(),
            access,
            id,
            known_length_bytes: AtomicU64::new(length_bytes),
            sector_size,
            reader: Reader::new(&file, taken_bytes, mode),
            latch: Latch::default(),
            can_zero: AtomicBool::new(true),
            can_punch: AtomicBool::new(matches!(id, FileId::File { .. })),
            file,
        })
    }
}
