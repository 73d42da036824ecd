//! Regular files and block devices of this host.
//!
//! **Invariant**: a call moves all its bytes or fails naming the first byte it could not move; a file that became
//! shorter than it was when it was opened is reported as changed, never read as zeros.

use crate::latch::Latch;
use crate::read::{ReadMode, Reader};
use crate::{Device, DiskError, Operation, Zeroing, sys};
use failback_model::{ByteRange, Code, SectorSize};
use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Parts handed to one `pwritev`; Linux's `IOV_MAX`.
const PARTS_MAX: usize = 1024;
/// Zeros written at once where the medium cannot zero by itself.
const ZERO_CHUNK_BYTES: usize = 256 << 10;
static ZEROS: [u8; ZERO_CHUNK_BYTES] = [0; ZERO_CHUNK_BYTES];
/// Block devices zero whole sectors and drop whole pages from the cache: pages satisfy both.
const DEVICE_ZERO_UNIT_BYTES: u64 = 4096;

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
    opened_length_bytes: AtomicU64,
    sector_size: SectorSize,
    reader: Reader,
    latch: Latch,
    can_zero: AtomicBool,
    can_punch: AtomicBool,
}

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
        Self::from_file(path, file, access, mode)
    }

    /// Creates a regular file of zeros, all of it a hole; refuses where the path exists.
    pub fn create_new(path: &Path, length_bytes: u64) -> Result<Self, DiskError> {
        let flags = OFlags::CLOEXEC | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| {
            let error = DiskError::io(Operation::Create, path, None, errno.into());
            if errno == Errno::EXIST { DiskError { code: Code::ImageExists, ..error } } else { error }
        })?;
        let device = Self::from_file(path, File::from(file), Access::Write, ReadMode::Auto)?;
        if let Err(error) = device.set_length(length_bytes) {
            // The length's error is the one to report; the file was ours alone and is empty.
            let _removed = std::fs::remove_file(path);
            return Err(DiskError { operation: Operation::Create, ..error });
        }
        Ok(device)
    }

    fn from_file(path: &Path, file: File, access: Access, mode: ReadMode) -> Result<Self, DiskError> {
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
            opened_length_bytes: AtomicU64::new(length_bytes),
            sector_size,
            reader: Reader::new(&file, taken_bytes, mode),
            latch: Latch::default(),
            can_zero: AtomicBool::new(true),
            can_punch: AtomicBool::new(matches!(id, FileId::File { .. })),
            file,
        })
    }

    /// Which file or device it is, whatever path led here.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// What it was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        matches!(self.id, FileId::Device(_))
    }

    /// Bytes it takes on its medium; all of them for a block device.
    pub fn allocated_bytes(&self) -> Result<u64, DiskError> {
        if self.is_block_device() {
            return Ok(self.length_bytes());
        }
        let stat = rustix::fs::fstat(&self.file).map_err(|errno| self.fail(Operation::Read, None, errno))?;
        Ok(stat.st_blocks as u64 * 512)
    }

    /// Takes space for these bytes of a file, which keep reading as they do; lengthens the file if need be. Where the
    /// file system cannot reserve, `false`.
    pub fn reserve(&self, range: ByteRange) -> Result<bool, DiskError> {
        if range.is_empty() {
            return Ok(true);
        }
        match self.fallocate(FallocateFlags::empty(), range) {
            Ok(()) => {
                self.opened_length_bytes.fetch_max(range.end(), Ordering::Relaxed);
                Ok(true)
            }
            Err(Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(self.fail(Operation::Write, range.start(), errno)),
        }
    }

    /// Writes zeros, even where a hole reads as zeros already.
    pub fn write_zeros(&self, range: ByteRange) -> Result<(), DiskError> {
        let mut at = range.start();
        while at < range.end() {
            let count = (range.end() - at).min(ZEROS.len() as u64);
            self.write_at(at, &ZEROS[..count as usize])?;
            at += count;
        }
        Ok(())
    }

    fn fail(&self, operation: Operation, offset_bytes: impl Into<Option<u64>>, errno: Errno) -> DiskError {
        DiskError::io(operation, &self.path, offset_bytes, errno.into())
    }

    fn fallocate(&self, flags: FallocateFlags, range: ByteRange) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(&self.file, flags, range.start(), range.length_bytes())
        })
    }

    /// The error of a read that met the end of the file.
    fn ended(&self, offset_bytes: u64) -> DiskError {
        let opened_bytes = self.length_bytes();
        let (code, reason) = if offset_bytes < opened_bytes {
            let reason = format!("the file ends here, it had {opened_bytes} bytes when it was opened");
            (Code::ChangedMeanwhile, reason)
        } else {
            (Code::ReadFailed, format!("that is past its end at {opened_bytes}"))
        };
        DiskError::new(code, Operation::Read, &self.path, reason).at(offset_bytes)
    }

    /// Asks the medium to zero by itself; false where it cannot and never will.
    fn try_zero(&self, range: ByteRange, flags: FallocateFlags, can: &AtomicBool) -> Result<bool, DiskError> {
        if !can.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match self.fallocate(flags | FallocateFlags::KEEP_SIZE, range) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => {
                can.store(false, Ordering::Relaxed);
                Ok(false)
            }
            Err(errno) => Err(self.fail(Operation::Zero, range.start(), errno)),
        }
    }

    /// Zeroes a block device: whole pages by `BLKZEROOUT` (which this flag stands for on devices), the rest by writing.
    fn zero_device(&self, range: ByteRange) -> Result<(), DiskError> {
        let inner_start = range.start().next_multiple_of(DEVICE_ZERO_UNIT_BYTES);
        let inner_end = range.end() - range.end() % DEVICE_ZERO_UNIT_BYTES;
        if inner_start >= inner_end {
            return self.write_zeros(range);
        }
        self.write_zeros(ByteRange::new(range.start(), inner_start))?;
        let inner = ByteRange::new(inner_start, inner_end);
        if !self.try_zero(inner, FallocateFlags::ZERO_RANGE, &self.can_zero)? {
            self.write_zeros(inner)?;
        }
        self.write_zeros(ByteRange::new(inner_end, range.end()))
    }

    /// Writes zeros over data only, so that holes stay holes.
    fn zero_data(&self, range: ByteRange) -> Result<(), DiskError> {
        let mut at = range.start();
        while let Some(data) = self.next_data(at)?.and_then(|data| data.intersection(range)) {
            self.write_zeros(data)?;
            at = data.end();
        }
        Ok(())
    }

    /// Offset of the next data or hole; `None` where there is none before the end.
    fn seek(&self, to: SeekFrom) -> Result<Option<u64>, Errno> {
        match rustix::io::retry_on_intr(|| rustix::fs::seek(&self.file, to)) {
            Ok(offset) => Ok(Some(offset)),
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl Device for FileDevice {
    fn path(&self) -> &Path {
        &self.path
    }

    fn length_bytes(&self) -> u64 {
        self.opened_length_bytes.load(Ordering::Relaxed)
    }

    fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
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
        self.opened_length_bytes.fetch_max(at, Ordering::Relaxed);
        Ok(())
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        if range.is_empty() {
            return Ok(());
        }
        if self.is_block_device() {
            return self.zero_device(range);
        }
        if range.end() > self.length_bytes() {
            let reason = format!("{range:?} passes its end at {}", self.length_bytes());
            return Err(DiskError::new(Code::WriteFailed, Operation::Zero, &self.path, reason));
        }
        match zeroing {
            Zeroing::KeepAllocation => {
                if self.try_zero(range, FallocateFlags::ZERO_RANGE, &self.can_zero)? {
                    return Ok(());
                }
                self.write_zeros(range)
            }
            Zeroing::Punch => {
                if self.try_zero(range, FallocateFlags::PUNCH_HOLE, &self.can_punch)? {
                    return Ok(());
                }
                self.zero_data(range)
            }
        }
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        let length_bytes = self.length_bytes();
        if from_bytes >= length_bytes {
            return Ok(None);
        }
        let all = ByteRange::new(from_bytes, length_bytes);
        let fail = |errno| self.fail(Operation::Seek, from_bytes, errno);
        let start = match self.seek(SeekFrom::Data(from_bytes)) {
            Ok(Some(start)) => start,
            // Nothing but a hole up to the end; but a file that was shortened must not pass for zeros.
            Ok(None) => return if self.ends_early()? { Ok(Some(all)) } else { Ok(None) },
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOTTY) => return Ok(Some(all)),
            Err(errno) => return Err(fail(errno)),
        };
        if start >= length_bytes {
            return Ok(None);
        }
        let end = self.seek(SeekFrom::Hole(start)).map_err(fail)?.unwrap_or(length_bytes);
        // A shortened file ends in a "hole" here too; the data run is cut there and the next call finds out.
        Ok(Some(ByteRange::new(start, end.clamp(start, length_bytes))))
    }

    fn set_length(&self, length_bytes: u64) -> Result<(), DiskError> {
        if self.is_block_device() {
            let reason = "a block device is resized where it is provided";
            return Err(DiskError::new(Code::WriteFailed, Operation::Resize, &self.path, reason));
        }
        rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&self.file, length_bytes))
            .map_err(|errno| self.fail(Operation::Resize, length_bytes, errno))?;
        self.opened_length_bytes.store(length_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn start_writeback(&self, range: ByteRange) {
        if !range.is_empty() {
            // A hint: what it could not start, `sync` will, and will report.
            let _started = sys::start_writeback(&self.file, range);
        }
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.latch.run(&self.path, || rustix::fs::fdatasync(&self.file))
    }
}

impl FileDevice {
    /// Whether the file is shorter now than it was when it was opened.
    fn ends_early(&self) -> Result<bool, DiskError> {
        if self.is_block_device() {
            return Ok(false);
        }
        let stat = rustix::fs::fstat(&self.file).map_err(|errno| self.fail(Operation::Seek, None, errno))?;
        Ok((stat.st_size as u64) < self.length_bytes())
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
    }
}
