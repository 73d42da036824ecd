//! What a pass need not scan.

use crate::digest_file::DigestFile;
use crate::journal::Journal;
use failback_blockio::DiskError;
use failback_engine::{Known, TrustedDigests};
use failback_model::{BlockIndex, BlockRange, Digest};
use std::sync::Arc;

/// Blocks whose digests are known, and the digests.
#[derive(Debug)]
pub struct TrustedState {
    /// The digests.
    pub digests: HeldDigests,
    /// Which blocks, in order; no two touch.
    pub ranges: Vec<BlockRange>,
}

/// The digests of a disk, read as they are asked for. Those of a block stay what they are until a session begins to
/// write to it.
#[derive(Debug, Clone)]
pub struct HeldDigests {
    file: Option<Arc<DigestFile>>,
    /// Keeps the folder locked.
    _journal: Arc<Journal>,
}

impl HeldDigests {
    pub(crate) fn new(file: Option<Arc<DigestFile>>, journal: Arc<Journal>) -> Self {
        Self { file, _journal: journal }
    }

    /// Digests of some blocks. Panics past the disk's last block.
    pub fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError> {
        match &self.file {
            Some(file) => file.digests(blocks),
            None => Ok(vec![Digest::ZERO; blocks.count() as usize]),
        }
    }

    /// The first block at or behind `from` that need not be zero; `None` where all the rest is.
    pub fn next_data(&self, from: BlockIndex) -> Result<Option<BlockIndex>, DiskError> {
        match &self.file {
            Some(file) => file.next_data(from),
            None => Ok(None),
        }
    }
}

impl From<TrustedState> for Known {
    fn from(trusted: TrustedState) -> Self {
        Self { digests: Box::new(trusted.digests), ranges: trusted.ranges }
    }
}

impl TrustedDigests for HeldDigests {
    fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError> {
        Self::digests(self, blocks)
    }

    fn next_data(&self, from: BlockIndex) -> Result<Option<BlockIndex>, DiskError> {
        Self::next_data(self, from)
    }
}
