//! Disks, images and stores for the tests.

use failback_blockio::{Device, DiskError, Operation, UnitSource, Zeroing};
use failback_format::manifest::{RootHasher, chunk_digest};
use failback_image::{Image, ImageFormat, ImageIdentity, Provisioning};
use failback_model::{
    BlockIndex, BlockRange, BlockSize, ByteRange, Digest, DiskGeometry, DiskId, Finding, Layout, MachineId,
    PointClaim, PointLabel, block_digest,
};
use failback_store::Medium;
use failback_testkit::MemoryDevice;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) const BLOCK_BYTES: u64 = 16 << 10;

/// A disk of whole blocks.
pub(crate) fn layout(blocks: u64) -> Layout {
    Layout::new(blocks * BLOCK_BYTES, BlockSize::new(BLOCK_BYTES).expect("a block size")).expect("a layout")
}

pub(crate) fn machine() -> MachineId {
    MachineId::new("web-1").expect("an id")
}

pub(crate) fn disk_id() -> DiskId {
    DiskId::new("scsi0.0").expect("an id")
}

/// What nobody asks for in these tests.
pub(crate) fn claim() -> PointClaim {
    PointClaim { source_unix_ms: 0, label: PointLabel::CrashConsistent, reason: String::new(), cycle: 0 }
}

pub(crate) fn range(start: u64, end: u64) -> BlockRange {
    BlockRange::new(start, end)
}

/// The contents of a block that a test calls `version`; version 0 is zeros.
pub(crate) fn contents(version: u8) -> Vec<u8> {
    vec![version; BLOCK_BYTES as usize]
}

pub(crate) fn digest(version: u8) -> Digest {
    block_digest(&contents(version))
}

/// What happens in the middle of a flush.
type DuringFlush = Box<dyn FnOnce() + Send>;

/// A thin image over any device.
pub(crate) struct DeviceImage {
    device: Arc<dyn Device>,
    during_flush: Mutex<Option<DuringFlush>>,
}

impl DeviceImage {
    pub(crate) fn new(device: Arc<dyn Device>) -> Arc<Self> {
        Arc::new(Self { device, during_flush: Mutex::default() })
    }

    /// An image of zeros in memory.
    pub(crate) fn in_memory(layout: Layout) -> Arc<Self> {
        Self::new(Arc::new(MemoryDevice::new(layout.length_bytes())))
    }

    /// Does something once the next flush has made the image durable, before the flush returns.
    pub(crate) fn during_flush(&self, call: impl FnOnce() + Send + 'static) {
        *self.during_flush.lock().expect("no test panics with it") = Some(Box::new(call));
    }

    /// Digest of a block as it stands.
    pub(crate) fn digest_of(&self, block: u64) -> Digest {
        let mut bytes = contents(0);
        self.device.read_at(block * BLOCK_BYTES, &mut bytes).expect("a block of the disk");
        block_digest(&bytes)
    }
}

impl UnitSource for DeviceImage {
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

impl Image for DeviceImage {
    fn identity(&self) -> ImageIdentity {
        let files = Vec::new();
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
        self.device.write_at(offset_bytes, bytes)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        self.device.zero(range, zeroing)
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.device.sync()?;
        let call = self.during_flush.lock().expect("no test panics with it").take();
        call.into_iter().for_each(|call| call());
        Ok(())
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

/// Writes one version into a run of blocks by the sink's rules, without a commit.
pub(crate) fn write_blocks(sink: &dyn failback_engine::Sink, blocks: BlockRange, version: u8) {
    sink.begin(&[blocks], &[]).expect("begun");
    for block in blocks.iter() {
        sink.write(block.0 * BLOCK_BYTES, &contents(version)).expect("written");
    }
    let digests: Vec<(BlockIndex, Digest)> = blocks.iter().map(|block| (block, digest(version))).collect();
    sink.applied(&digests, &[]).expect("applied");
}

/// Makes the device behind a new file of this name.
pub(crate) type MakeDevice = Box<dyn Fn(&str) -> Arc<dyn Device> + Send + Sync>;

/// A store's files in memory; what they are made of is the test's to say.
#[derive(Clone)]
pub(crate) struct MemoryMedium {
    pub(crate) files: Arc<Mutex<BTreeMap<String, Arc<dyn Device>>>>,
    pub(crate) make: Arc<MakeDevice>,
    pub(crate) segment_max_bytes: u64,
    pub(crate) ahead_bytes: u64,
}

impl std::fmt::Debug for MemoryMedium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MemoryMedium").field(&self.files).finish()
    }
}

impl MemoryMedium {
    /// Files that do not fail; nothing is announced ahead.
    pub(crate) fn new() -> Self {
        Self::made_of(|name| Arc::new(MemoryDevice::new(0).named(name)))
    }

    pub(crate) fn made_of(make: impl Fn(&str) -> Arc<dyn Device> + Send + Sync + 'static) -> Self {
        Self {
            files: Arc::default(),
            make: Arc::new(Box::new(make)),
            segment_max_bytes: 64 << 20,
            ahead_bytes: 0,
        }
    }

    /// The same files as others that do not fail.
    pub(crate) fn repaired(&self) -> Self {
        let copy = |device: &Arc<dyn Device>| {
            let mut bytes = vec![0; device.length_bytes() as usize];
            device.read_at(0, &mut bytes).expect("what was written is read");
            Arc::new(MemoryDevice::from_bytes(&bytes).named(device.path())) as Arc<dyn Device>
        };
        let files = self.files().iter().map(|(name, device)| (name.clone(), copy(device))).collect();
        Self { files: Arc::new(Mutex::new(files)), ..Self::new() }
    }

    /// The one file with such a name.
    pub(crate) fn file(&self, is_it: impl Fn(&str) -> bool) -> Arc<dyn Device> {
        let files = self.files();
        let mut found = files.iter().filter(|(name, _)| is_it(name));
        let (_, device) = found.next().expect("there is one");
        assert!(found.next().is_none(), "there is only one");
        device.clone()
    }

    /// The segment of the journal.
    pub(crate) fn segment(&self) -> Arc<dyn Device> {
        self.file(|name| name.ends_with(".fbj"))
    }

    pub(crate) fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<dyn Device>>> {
        self.files.lock().expect("no test panics with it")
    }
}

fn not_found(name: &str) -> DiskError {
    DiskError::io(Operation::Open, Path::new(name), None, io::ErrorKind::NotFound.into())
}

impl Medium for MemoryMedium {
    fn path(&self) -> &Path {
        Path::new("medium")
    }

    fn names(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.files().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn Device>, DiskError> {
        let device = (self.make)(name);
        assert!(self.files().insert(name.into(), device.clone()).is_none(), "{name} is there");
        Ok(device)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Device>, DiskError> {
        self.files().get(name).cloned().ok_or_else(|| not_found(name))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut files = self.files();
        let device = files.remove(from).ok_or_else(|| not_found(from))?;
        files.insert(to.into(), device);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.files().remove(name).map(drop).ok_or_else(|| not_found(name))
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn segment_max_bytes(&self) -> u64 {
        self.segment_max_bytes
    }

    fn ahead_bytes(&self) -> u64 {
        self.ahead_bytes
    }
}

/// The root of a disk with these digests.
pub(crate) fn root_of(layout: Layout, digests: &[Digest]) -> Digest {
    let mut hasher = RootHasher::new(layout);
    let entries: Vec<[u8; 32]> = digests.iter().map(|digest| digest.0).collect();
    entries.chunks(1024).for_each(|chunk| hasher.update(chunk_digest(chunk.as_flattened())));
    hasher.finish()
}
