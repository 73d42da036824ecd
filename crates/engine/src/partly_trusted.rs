//! A disk of which some blocks' digests are known: what a journal remembers is not scanned again.
//!
//! **Invariant**: as for every digest source, runs come in disk order, touch each other and cover the disk.

use crate::digest_source::{DigestRun, DigestSource, ScanEnd};
use crate::scan::Scan;
use failback_blockio::DiskError;
use failback_model::{BlockIndex, BlockRange, Digest};
use std::ops::ControlFlow;

/// Digests that are known and need no reading. Threads ask for them in any order.
pub trait TrustedDigests: Send + Sync {
    /// The digests of blocks that are trusted. Where they cannot be read, the blocks are scanned.
    fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError>;

    /// The first block at or behind `from` whose digest need not be that of zeros; `None` where all the rest is zero.
    fn next_data(&self, from: BlockIndex) -> Result<Option<BlockIndex>, DiskError>;
}

/// What is known of a disk before it is scanned.
pub struct Known {
    /// The digests.
    pub digests: Box<dyn TrustedDigests>,
    /// Of which blocks: ascending, not overlapping.
    pub ranges: Vec<BlockRange>,
}

/// Remembers what a scan found, so that it need not be found twice.
pub trait ScanLog: Send + Sync {
    /// A finished run of a scan: these digests (`None`: zeros) are what the disk holds.
    fn scanned(&self, blocks: BlockRange, digests: Option<&[Digest]>) -> Result<(), DiskError>;
}

/// A source of digests that scans only what is not known.
pub struct PartlyTrusted {
    /// What need not be scanned.
    pub known: Known,
    /// How the others are read; its own range is the whole that is delivered.
    pub scan: Scan,
}

impl DigestSource for PartlyTrusted {
    fn deliver(&mut self, deliver: &mut dyn FnMut(DigestRun) -> ControlFlow<()>) -> Result<(), ScanEnd> {
        self.scan.deliver_beside(Some(&self.known), deliver)
    }
}
