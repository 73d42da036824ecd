//! The digests of a sealed state, while the file that holds them takes those of the next one.
//!
//! **Invariant**: what is told is the base's from the beginning of the pass to its end: the digests of blocks that may differ are
//! copied before any of them is scanned, and no other block's entry changes.

use failback_blockio::DiskError;
use failback_engine::TrustedDigests;
use failback_model::{BlockIndex, BlockRange, Digest};
use failback_store::HeldDigests;

/// A base of which few blocks may differ.
pub(crate) struct BaseDigests {
    held: HeldDigests,
    /// Runs that may differ, ascending, with their digests in the base.
    copied: Vec<(BlockRange, Vec<Digest>)>,
}

impl BaseDigests {
    /// Copies the digests of these blocks, which ascend.
    pub(crate) fn copy(held: HeldDigests, may_differ: &[BlockRange]) -> Result<Self, DiskError> {
        let copied = may_differ.iter().map(|blocks| Ok((*blocks, held.digests(*blocks)?)));
        Ok(Self { copied: copied.collect::<Result<_, DiskError>>()?, held })
    }

    /// Copied runs from the first that ends behind a block.
    fn from(&self, block: u64) -> &[(BlockRange, Vec<Digest>)] {
        let first = self.copied.partition_point(|(run, _)| run.end.0 <= block);
        &self.copied[first..]
    }
}

impl TrustedDigests for BaseDigests {
    fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError> {
        let mut digests = self.held.digests(blocks)?;
        for (run, copied) in
            self.from(blocks.start.0).iter().take_while(|(run, _)| run.start.0 < blocks.end.0)
        {
            let (start, end) = (run.start.0.max(blocks.start.0), run.end.0.min(blocks.end.0));
            let within = |of: &BlockRange| (start - of.start.0) as usize..(end - of.start.0) as usize;
            digests[within(&blocks)].copy_from_slice(&copied[within(run)]);
        }
        Ok(digests)
    }

    fn next_data(&self, from: BlockIndex) -> Result<Option<BlockIndex>, DiskError> {
        let held = self.held.next_data(from)?;
        // The file may say zero by now where the base was not.
        let copied = self.from(from.0).iter().find_map(|(run, digests)| {
            let skipped = from.0.saturating_sub(run.start.0);
            let at = digests.iter().skip(skipped as usize).position(|digest| !digest.is_zero())?;
            Some(BlockIndex(run.start.0 + skipped + at as u64))
        });
        Ok(held.into_iter().chain(copied).min_by_key(|block| block.0))
    }
}
