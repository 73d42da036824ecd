//! Disks, images and stores for the tests.

use failback_blockio::{Device, DiskError, UnitSource, Zeroing};
use failback_image::{Image, ImageFormat, ImageIdentity, Provisioning};
use failback_model::{
    BlockIndex, BlockRange, BlockSize, ByteRange, Digest, DiskGeometry, DiskId, Finding, Layout, MachineId,
    block_digest,
};
use std::path::Path;
use std::sync::Arc;

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

/// A thin image over any device.
#[derive(Debug)]
pub(crate) struct DeviceImage(pub(crate) Arc<dyn Device>);

impl DeviceImage {
    /// Digest of a block as it stands.
    pub(crate) fn digest_of(&self, block: u64) -> Digest {
        let mut bytes = contents(0);
        self.0.read_at(block * BLOCK_BYTES, &mut bytes).expect("a block of the disk");
        block_digest(&bytes)
    }
}

impl UnitSource for DeviceImage {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.0.length_bytes(), sector_size: self.0.sector_size() }
    }

    fn name(&self) -> &Path {
        self.0.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.0.read_at(offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.0.next_data(from_bytes)
    }
}

impl Image for DeviceImage {
    fn identity(&self) -> ImageIdentity {
        let files = Vec::new();
        ImageIdentity { format: ImageFormat::Raw, uuid: None, content_id: None, adapter_type: None, files }
    }

    fn provisioning(&self) -> Provisioning {
        Provisioning::Thin
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.0.length_bytes())
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.write_at(offset_bytes, bytes)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        self.0.zero(range, zeroing)
    }

    fn start_writeback(&self, range: ByteRange) {
        self.0.start_writeback(range);
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.0.sync()
    }

    fn grow(&self, length_bytes: u64) -> Result<(), DiskError> {
        self.0.set_length(length_bytes)
    }

    fn close(&self) -> Result<(), DiskError> {
        self.0.sync()
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        Ok(Vec::new())
    }
}

/// Writes one version into a run of blocks by the sink's rules, without a commit.
pub(crate) fn write_blocks(sink: &dyn failback_engine::Sink, blocks: BlockRange, version: u8) {
    sink.begin(&[blocks]).expect("begun");
    for block in blocks.iter() {
        sink.write(block.0 * BLOCK_BYTES, &contents(version)).expect("written");
    }
    let digests: Vec<(BlockIndex, Digest)> = blocks.iter().map(|block| (block, digest(version))).collect();
    sink.applied(&digests, &[]).expect("applied");
}
