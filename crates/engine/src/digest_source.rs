//! Where a pass learns a disk's digests from: a scan, a trusted manifest, or the knowledge that a disk is new.
//!
//! **Invariant**: runs come in disk order, touch each other, start at block 0 and end at the last block.

use crate::manifest::Manifest;
use bytes::Bytes;
use failback_blockio::{DiskError, Operation};
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Code, Digest, Layout};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Consecutive blocks and their digests.
#[derive(Debug)]
pub struct DigestRun {
    /// Which blocks.
    pub blocks: BlockRange,
    /// One a block; `None` where all are zero.
    pub digests: Option<Vec<Digest>>,
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
        Self { blocks, digests: None, kept: Vec::new() }
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

/// A sealed manifest that stands for a disk which nobody wrote to since.
///
/// Each chunk's entries are checked against the chunk digest that was sealed before they are believed.
pub struct TrustedManifest {
    /// The manifest.
    pub manifest: Manifest,
    /// What to call it in messages.
    pub path: PathBuf,
}

impl DigestSource for TrustedManifest {
    fn deliver(&mut self, deliver: &mut dyn FnMut(DigestRun) -> ControlFlow<()>) -> Result<(), ScanEnd> {
        let layout = self.manifest.layout();
        let mut zeros = BlockRange::new(0, 0);
        let mut hand_over = |run: DigestRun| match deliver(run) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ScanEnd::Stopped),
        };
        for chunk in (0..layout.chunk_count()).map(ChunkIndex) {
            let blocks = layout.chunk_blocks(chunk);
            if self.manifest.chunk_digest(chunk).is_zero() {
                zeros.end = blocks.end;
                continue;
            }
            if !self.manifest.is_chunk_intact(chunk) {
                let reason = format!("the entries of chunk {} are not those that were sealed", chunk.0);
                return Err(DiskError::new(Code::ManifestDamaged, Operation::Read, &self.path, reason).into());
            }
            if !zeros.is_empty() {
                hand_over(DigestRun::zeros(zeros))?;
            }
            let digests = self.manifest.entries(blocks).iter().map(|entry| Digest(*entry)).collect();
            hand_over(DigestRun { blocks, digests: Some(digests), kept: Vec::new() })?;
            zeros = BlockRange { start: blocks.end, end: blocks.end };
        }
        if zeros.is_empty() { Ok(()) } else { hand_over(DigestRun::zeros(zeros)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::BlockSize;

    fn runs(source: &mut dyn DigestSource) -> Vec<(u64, u64, bool)> {
        let mut runs = Vec::new();
        let delivered = source.deliver(&mut |run| {
            runs.push((run.blocks.start.0, run.blocks.end.0, run.digests.is_some()));
            ControlFlow::Continue(())
        });
        delivered.expect("an intact manifest");
        runs
    }

    #[test]
    fn a_manifest_gives_its_chunks_and_joins_those_of_zeros() {
        let layout = Layout::new(5 * 1024 * 65_536 - 7, BlockSize::DEFAULT).expect("a layout");
        let mut manifest = Manifest::create_temp(layout).expect("a manifest");
        manifest.set(BlockIndex(2 * 1024 + 5), Digest([3; 32])).expect("set");
        manifest.seal(1).expect("sealed");
        let mut trusted = TrustedManifest { manifest, path: "manifest".into() };
        assert_eq!(runs(&mut trusted), [(0, 2048, false), (2048, 3072, true), (3072, 5120, false)]);
        assert_eq!(runs(&mut NewDisk(layout)), [(0, 5120, false)]);
    }
}
