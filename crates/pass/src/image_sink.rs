//! An image as the sink of a pass without a journal.

use failback_blockio::{DiskError, Zeroing};
use failback_engine::Sink;
use failback_image::{Image, Provisioning};
use failback_model::{ByteRange, Digest};
use std::sync::Arc;

/// Writes in place; a commit is the image's ordered flush. There is no undo: a pass that stops half-way leaves a
/// mixture that the next pass completes.
pub(crate) struct ImageSink {
    image: Arc<dyn Image>,
    zeroing: Zeroing,
}

impl ImageSink {
    /// Zeros keep the target's provisioning: a thin image gives their space back.
    pub(crate) fn new(image: Arc<dyn Image>) -> Self {
        let zeroing = match image.provisioning() {
            Provisioning::Thin => Zeroing::Punch,
            Provisioning::Thick | Provisioning::Eager => Zeroing::KeepAllocation,
        };
        Self { image, zeroing }
    }
}

impl Sink for ImageSink {
    fn read_old(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.image.read_at(offset_bytes, buffer)
    }

    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.image.write_at(offset_bytes, bytes)
    }

    fn zero(&self, range: ByteRange) -> Result<(), DiskError> {
        self.image.zero(range, self.zeroing)
    }

    fn commit(&self) -> Result<(), DiskError> {
        self.image.flush()
    }

    fn seal(&self, _root: Digest) -> Result<u64, DiskError> {
        self.image.flush().map(|()| 1)
    }
}
