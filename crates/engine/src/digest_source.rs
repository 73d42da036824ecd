//! Where a pass learns a disk's digests from: a scan, what is remembered of one, or the knowledge that a disk is new.
//!
//! **Invariant**: runs come in disk order, touch each other, start at block 0 and end at the last block.

use bytes::Bytes;
use failback_blockio::DiskError;
use failback_model::{BlockIndex, BlockRange, Digest, Layout};
use std::ops::ControlFlow;

/// Consecutive blocks and their digests.
#[derive(Debug)]
pub struct DigestRun {
    /// Which blocks.
    pub blocks: BlockRange,
    /// One a block; `None` where all are zero.
    pub digests: Option<Vec<Digest>>,
    /// Blocks among these whose digests were known before, ascending; the others were read.
    pub known: Vec<BlockRange>,
    /// Bytes of some of these blocks that a scan kept, because they will ship for certain.
    pub kept: Vec<KeptBytes>,
}

/// Bytes that were read while scanning and need not be read again.
#[derive(Debug, Clone)]
pub struct KeptBytes {
    /// Block that they start at.
    pub first: BlockIndex,
    /// Whole blocks.
    pub bytes: Bytes,
}

impl DigestRun {
    /// Blocks of zeros.
    pub fn zeros(blocks: BlockRange) -> Self {
        Self { blocks, digests: None, known: Vec::new(), kept: Vec::new() }
    }

    /// The blocks that were read, in order, with their digests (`None`: zeros).
    pub fn read(&self) -> impl Iterator<Item = (BlockRange, Option<&[Digest]>)> {
        let mut at = self.blocks.start;
        let ends = self.known.iter().copied().chain([BlockRange::new(self.blocks.end.0, self.blocks.end.0)]);
        ends.filter_map(move |known| {
            let run = BlockRange::new(at.0, known.start.0);
            at = known.end;
            let digests = self.digests.as_ref().map(|digests| {
                let first = (run.start.0 - self.blocks.start.0) as usize;
                &digests[first..first + run.count() as usize]
            });
            (!run.is_empty()).then_some((run, digests))
        })
    }
}

/// Why a digest source stopped early.
#[derive(Debug, thiserror::Error)]
pub enum ScanEnd {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Whoever takes the runs wants no more.
    #[error("stopped")]
    Stopped,
}

/// Gives a disk's digests in order.
pub trait DigestSource: Send {
    /// Hands over every run; blocks until the disk's end, an error, or `deliver` breaks.
    fn deliver(&mut self, deliver: &mut dyn FnMut(DigestRun) -> ControlFlow<()>) -> Result<(), ScanEnd>;
}

/// A disk that is new: all of it reads as zero.
#[derive(Debug, Clone, Copy)]
pub struct NewDisk(pub Layout);

impl DigestSource for NewDisk {
    fn deliver(&mut self, deliver: &mut dyn FnMut(DigestRun) -> ControlFlow<()>) -> Result<(), ScanEnd> {
        let blocks = self.0.blocks();
        if blocks.is_empty() || deliver(DigestRun::zeros(blocks)).is_continue() {
            Ok(())
        } else {
            Err(ScanEnd::Stopped)
        }
    }
}
