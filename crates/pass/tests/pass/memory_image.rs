//! An image in memory that remembers which pages were written with contents, and fails where a test wants it to.

use failback_blockio::{Device, DiskError, UnitSource, Zeroing};
use failback_engine::Sink;
use failback_image::{Image, ImageFormat, ImageIdentity, Provisioning};
use failback_model::{ByteRange, Digest, DiskGeometry, Finding};
use failback_testkit::{Fault, Faulty, MemoryDevice};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Called before each read.
type ReadHook = Box<dyn Fn() + Send + Sync>;

pub(crate) struct MemoryImage {
    device: Faulty<MemoryDevice>,
    written_pages: Mutex<BTreeSet<u64>>,
    zeroed_bytes: Mutex<u64>,
    write_calls: AtomicU64,
    on_read: Option<ReadHook>,
}

impl MemoryImage {
    pub(crate) fn new(bytes: &[u8], faults: impl IntoIterator<Item = Fault>) -> std::sync::Arc<Self> {
        Self::over(MemoryDevice::from_bytes(bytes), faults)
    }

    pub(crate) fn over(
        device: MemoryDevice,
        faults: impl IntoIterator<Item = Fault>,
    ) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self::build(Faulty::new(device, faults), None))
    }

    /// An image that calls `hook` before each read.
    pub(crate) fn hooked(bytes: &[u8], hook: impl Fn() + Send + Sync + 'static) -> std::sync::Arc<Self> {
        let device = Faulty::new(MemoryDevice::from_bytes(bytes), []);
        std::sync::Arc::new(Self::build(device, Some(Box::new(hook))))
    }

    fn build(device: Faulty<MemoryDevice>, on_read: Option<ReadHook>) -> Self {
        let (written_pages, zeroed_bytes) = (Mutex::default(), Mutex::default());
        Self { device, written_pages, zeroed_bytes, write_calls: AtomicU64::new(0), on_read }
    }

    /// What a fault leaves on the medium, seen without faults.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.device.inner().to_bytes()
    }

    /// Pages (of the disk, from 0) that were written with contents.
    pub(crate) fn written_pages(&self) -> BTreeSet<u64> {
        self.written_pages.lock().expect("no test panics with it").clone()
    }

    pub(crate) fn write_calls(&self) -> u64 {
        self.write_calls.load(Ordering::Relaxed)
    }

    pub(crate) fn zeroed_bytes(&self) -> u64 {
        *self.zeroed_bytes.lock().expect("no test panics with it")
    }

    /// Changes bytes behind everyone's back.
    pub(crate) fn tamper(&self, offset_bytes: u64, bytes: &[u8]) {
        self.device.inner().write_at(offset_bytes, bytes).expect("memory takes it");
    }

    pub(crate) fn struck(&self) -> usize {
        self.device.struck().len()
    }
}

impl UnitSource for MemoryImage {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.device.length_bytes(), sector_size: self.device.sector_size() }
    }

    fn name(&self) -> &Path {
        self.device.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        if let Some(hook) = &self.on_read {
            hook();
        }
        Device::read_at(&self.device, offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        Device::next_data(&self.device, from_bytes)
    }
}

impl Image for MemoryImage {
    fn identity(&self) -> ImageIdentity {
        let files = vec![self.device.path().into()];
        ImageIdentity {
            format: ImageFormat::Raw,
            uuid: None,
            content_id: None,
            adapter_type: None,
            files,
            version: None,
        }
    }

    fn provisioning(&self) -> Provisioning {
        Provisioning::Thin
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.device.length_bytes())
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let pages = offset_bytes / 4096..(offset_bytes + bytes.len() as u64).div_ceil(4096);
        self.written_pages.lock().expect("no test panics with it").extend(pages);
        self.write_calls.fetch_add(1, Ordering::Relaxed);
        self.device.write_at(offset_bytes, bytes)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        *self.zeroed_bytes.lock().expect("no test panics with it") += range.length_bytes();
        self.device.zero(range, zeroing)
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.device.sync()
    }

    fn grow(&self, length_bytes: u64) -> Result<(), DiskError> {
        self.device.set_length(length_bytes)
    }

    fn close(&self) -> Result<(), DiskError> {
        self.device.sync()
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        Ok(Vec::new())
    }
}

impl Sink for MemoryImage {
    fn read_old(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        UnitSource::read_at(self, offset_bytes, buffer)
    }

    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_at(offset_bytes, bytes)
    }

    fn zero(&self, range: ByteRange) -> Result<(), DiskError> {
        Image::zero(self, range, Zeroing::Punch)
    }

    fn commit(&self) -> Result<(), DiskError> {
        self.flush()
    }

    fn seal(&self, _root: Digest) -> Result<u64, DiskError> {
        self.flush().map(|()| 1)
    }
}
