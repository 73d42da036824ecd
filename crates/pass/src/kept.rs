//! Bytes that the scan kept because their blocks ship, or probably do: found again by block, let go with the last block.

use bytes::Bytes;
use failback_engine::{KeptBytes, Packer};
use failback_model::{BlockIndex, BlockRange, Difference, Digest, Layout};
use failback_wire::BlockPatch;
use std::collections::BTreeMap;
use std::ops::Range;

/// One unit, and how many of its blocks are still to ship.
struct Unit {
    kept: KeptBytes,
    /// Of blocks that are still to ship; `None`: taken, or zero.
    digests: Vec<Option<Digest>>,
}

/// Units by their first block.
pub(crate) struct Kept {
    layout: Layout,
    units: BTreeMap<u64, Unit>,
}

impl Kept {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, units: BTreeMap::new() }
    }

    /// Takes a unit of a run whose digests start at `run_start`. Blocks of zeros never ship with contents.
    pub(crate) fn insert(&mut self, kept: KeptBytes, run_start: BlockIndex, run_digests: &[Digest]) {
        let size = self.layout.block_size().bytes() as usize;
        let start = (kept.first.0 - run_start.0) as usize;
        let digests = run_digests[start..start + kept.bytes.len().div_ceil(size)].iter();
        let digests = digests.map(|digest| (!digest.is_zero()).then_some(*digest)).collect();
        self.units.insert(kept.first.0, Unit { kept, digests });
    }

    /// These blocks were compared: of those that do not differ nothing ships.
    pub(crate) fn compared(&mut self, blocks: BlockRange, differing: &[Difference]) {
        let differs = |block| differing.binary_search_by_key(&BlockIndex(block), |found| found.block).is_ok();
        let reached = self.units.range(..blocks.end.0).rev();
        let reached: Vec<u64> = reached
            .take_while(|(first, unit)| *first + unit.digests.len() as u64 > blocks.start.0)
            .map(|(first, _)| *first)
            .collect();
        for first in reached {
            let unit = self.units.get_mut(&first).expect("it was just there");
            for (block, digest) in (first..).zip(&mut unit.digests) {
                if (blocks.start.0..blocks.end.0).contains(&block) && !differs(block) {
                    *digest = None;
                }
            }
            if unit.digests.iter().all(Option::is_none) {
                self.units.remove(&first);
            }
        }
    }

    /// A block and its digest, once; `None` where it was not kept: a block that ships again is read again.
    pub(crate) fn take(&mut self, block: BlockIndex) -> Option<KeptBlock> {
        let (&first, unit) = self.units.range_mut(..=block.0).next_back()?;
        let position = (block.0 - first) as usize;
        let digest = unit.digests.get_mut(position)?.take()?;
        let start = position * self.layout.block_size().bytes() as usize;
        let end = start + self.layout.block_bytes(block).length_bytes() as usize;
        let unit_bytes = unit.kept.bytes.clone();
        if unit.digests.iter().all(Option::is_none) {
            self.units.remove(&first);
        }
        Some(KeptBlock { block, digest, unit: unit_bytes, range: start..end })
    }

    /// These blocks, where all of them were kept; those of a list that were not all kept are read again.
    pub(crate) fn take_all(&mut self, blocks: &[BlockIndex]) -> Option<Vec<KeptBlock>> {
        let taken: Vec<_> = blocks.iter().filter_map(|&block| self.take(block)).collect();
        (taken.len() == blocks.len()).then_some(taken)
    }
}

/// A block within a unit that was kept.
pub(crate) struct KeptBlock {
    pub(crate) block: BlockIndex,
    pub(crate) digest: Digest,
    unit: Bytes,
    range: Range<usize>,
}

impl KeptBlock {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.unit[self.range.clone()]
    }
}

/// Neighbouring blocks of one unit, to be sent as they lie there.
#[derive(Default)]
pub(crate) struct SharedRun {
    unit: Bytes,
    range: Range<usize>,
    patches: Vec<BlockPatch>,
}

impl SharedRun {
    /// Adds the block that follows in the same unit; gives it back where it does not follow.
    pub(crate) fn push(&mut self, block: &KeptBlock, patch: BlockPatch) -> Result<(), BlockPatch> {
        let is_same_unit = self.unit.as_ptr() == block.unit.as_ptr() && self.range.end == block.range.start;
        if self.patches.is_empty() {
            (self.unit, self.range) = (block.unit.clone(), block.range.clone());
        } else if is_same_unit {
            self.range.end = block.range.end;
        } else {
            return Err(patch);
        }
        self.patches.push(patch);
        Ok(())
    }

    /// Packs what was collected, without a copy, and starts anew.
    pub(crate) fn flush(&mut self, packer: &mut Packer) {
        if !self.patches.is_empty() {
            let run = std::mem::take(self);
            packer.add_shared(run.patches, run.unit.slice(run.range));
        }
    }
}
