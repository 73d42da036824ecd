//! Raw files: the file is the disk, byte for byte.
//!
//! **Invariant**: its content is never looked at to decide anything; a guest may write whatever it likes into its own
//! first sector.

use crate::provision::{IsCancelled, provision, provisioning_of, zero_flat};
use crate::{CreateOptions, Image, ImageFormat, ImageIdentity, Provisioning};
use failback_blockio::{
    Access, Device, DiskError, FileDevice, NewFiles, Operation, ReadPath, UnitSource, Zeroing,
};
use failback_model::limits::DISK_MAX_BYTES;
use failback_model::{ByteRange, Code, DiskGeometry, Finding};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A raw file.
#[derive(Debug)]
pub struct RawImage {
    device: Arc<dyn Device>,
    provisioning: Provisioning,
    was_written: AtomicBool,
}

impl RawImage {
    /// Opens an existing file and locks it.
    pub fn open(path: &Path, access: Access) -> Result<Self, DiskError> {
        let device = FileDevice::open_file(path, access)?;
        device.lock()?;
        Self::over(Arc::new(device))
    }

    /// Creates a file; nothing stays behind where that fails.
    pub fn create(path: &Path, options: &CreateOptions) -> Result<Self, DiskError> {
        Self::create_unless(path, options, &|| false)
    }

    /// The same, stopped between two steps where `is_cancelled` says so.
    pub(crate) fn create_unless(
        path: &Path,
        options: &CreateOptions,
        is_cancelled: IsCancelled<'_>,
    ) -> Result<Self, DiskError> {
        require_length(path, Operation::Create, options.length_bytes)?;
        let mut files = NewFiles::new();
        let device: Arc<dyn Device> = Arc::new(files.create(path, options.length_bytes)?);
        let all = ByteRange::new(0, options.length_bytes);
        provision(device.as_ref(), all, options.provisioning(), is_cancelled)?;
        device.sync()?;
        files.keep()?;
        Ok(Self { device, provisioning: options.provisioning(), was_written: AtomicBool::new(false) })
    }

    /// The disk that these bytes are, whatever carries them.
    pub fn over(device: Arc<dyn Device>) -> Result<Self, DiskError> {
        let length_bytes = device.length_bytes();
        require_length(device.path(), Operation::Open, length_bytes)?;
        let provisioning = provisioning_of(device.as_ref(), length_bytes)?;
        Ok(Self { device, provisioning, was_written: AtomicBool::new(false) })
    }
}

/// Refuses disks that are longer than any index here can count.
pub(crate) fn require_length(path: &Path, operation: Operation, length_bytes: u64) -> Result<(), DiskError> {
    if length_bytes <= DISK_MAX_BYTES {
        return Ok(());
    }
    let reason = format!("{length_bytes} bytes are more than 64 TiB");
    Err(DiskError::new(Code::ImageSizeUnsupported, operation, path, reason))
}

impl UnitSource for RawImage {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.device.length_bytes(), sector_size: self.device.sector_size() }
    }

    fn name(&self) -> &Path {
        self.device.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.device.read_at(offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.device.next_data(from_bytes)
    }
}

impl Image for RawImage {
    fn identity(&self) -> ImageIdentity {
        ImageIdentity {
            format: ImageFormat::Raw,
            uuid: None,
            content_id: None,
            adapter_type: None,
            files: vec![self.device.path().into()],
            version: None,
        }
    }

    fn provisioning(&self) -> Provisioning {
        self.provisioning
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.device.allocated_bytes()
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_vectored_at(offset_bytes, &[bytes])
    }

    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        let length_bytes = parts.iter().map(|part| part.len() as u64).sum();
        require_inside(self.device.as_ref(), Operation::Write, offset_bytes, length_bytes)?;
        self.was_written.store(true, Ordering::Relaxed);
        self.device.write_vectored_at(offset_bytes, parts)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        require_inside(self.device.as_ref(), Operation::Zero, range.start(), range.length_bytes())?;
        self.was_written.store(true, Ordering::Relaxed);
        zero_flat(self.device.as_ref(), range, zeroing, self.provisioning)
    }

    fn flush(&self) -> Result<(), DiskError> {
        if self.was_written.load(Ordering::Relaxed) { self.device.sync() } else { Ok(()) }
    }

    fn drop_cached(&self) -> ReadPath {
        self.device.drop_cached()
    }

    fn grow(&self, length_bytes: u64) -> Result<(), DiskError> {
        require_length(self.name(), Operation::Resize, length_bytes)?;
        let old_bytes = self.device.length_bytes();
        if length_bytes < old_bytes {
            let reason = format!("it has {old_bytes} bytes and is never shortened to {length_bytes}");
            return Err(DiskError::new(Code::WriteFailed, Operation::Resize, self.name(), reason));
        }
        self.was_written.store(true, Ordering::Relaxed);
        self.device.set_length(length_bytes)?;
        let added = ByteRange::new(old_bytes, length_bytes);
        provision(self.device.as_ref(), added, self.provisioning, &|| false).inspect_err(|_| {
            // Back to what it was; the error that is returned says why it had to be.
            let _shortened = self.device.set_length(old_bytes);
        })
    }

    fn close(&self) -> Result<(), DiskError> {
        self.flush()
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        Ok(Vec::new())
    }
}

/// A disk does not grow by being written past its end.
pub(crate) fn require_inside(
    device: &dyn Device,
    operation: Operation,
    offset_bytes: u64,
    length_bytes: u64,
) -> Result<(), DiskError> {
    let end = device.length_bytes();
    if offset_bytes.checked_add(length_bytes).is_some_and(|last| last <= end) {
        return Ok(());
    }
    let reason = format!("{length_bytes} bytes pass the disk's end at {end}");
    Err(DiskError::new(Code::WriteFailed, operation, device.path(), reason).at(offset_bytes))
}
