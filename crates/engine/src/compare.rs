//! Comparison of two digest sequences, as both ends scan: a merge of two ordered streams of runs.
//!
//! **Invariant**: whatever the runs' boundaries on either side, each block is compared exactly once, in order.

use crate::digest_source::DigestRun;
use crate::partly_trusted::TrustedDigests;
use bytes::Bytes;
use failback_model::limits::CHUNK_BLOCKS;
use failback_model::{BlockIndex, BlockRange, Difference, Digest, TruncatedDigest};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a step of the comparison found; both lists ascend.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Blocks that differ and hold data at the source.
    pub differing: Vec<Difference>,
    /// Blocks that are zero at the source and not at the target.
    pub zeroed: Vec<BlockRange>,
    /// The target's digests that were used up: what may be sent again.
    pub consumed_digests: u64,
}

/// The target's digests of consecutive blocks.
#[derive(Debug)]
pub struct TargetRun {
    /// Which blocks.
    pub blocks: BlockRange,
    /// Their digests.
    pub digests: TargetDigests,
}

/// How the target's digests are known.
#[derive(Debug)]
pub enum TargetDigests {
    /// All are zero.
    Zeros,
    /// They are those of the base.
    Base,
    /// 16 bytes a block.
    Truncated(Bytes),
}

impl TargetRun {
    fn digest(&self, bytes: &Bytes, block: u64) -> TruncatedDigest {
        TruncatedDigest(bytes.as_chunks().0[(block - self.blocks.start.0) as usize])
    }
}

/// Runs of both sides that the other side has not reached yet.
#[derive(Default)]
pub struct Comparer {
    source: VecDeque<DigestRun>,
    target: VecDeque<TargetRun>,
    base: Option<Arc<dyn TrustedDigests>>,
    below: u64,
}

impl Comparer {
    /// Digests of the target's that are known here: those of [`TargetDigests::Base`].
    pub fn with_base(base: Option<Arc<dyn TrustedDigests>>) -> Self {
        Self { base, ..Self::default() }
    }

    /// Takes the source's next run.
    pub fn push_source(&mut self, run: DigestRun) {
        self.source.push_back(run);
    }

    /// Takes the target's next run.
    pub fn push_target(&mut self, run: TargetRun) {
        self.target.push_back(run);
    }

    /// Runs of the source that wait for the target.
    pub fn waiting_source_runs(&self) -> usize {
        self.source.len()
    }

    /// All blocks below this are compared.
    pub fn below(&self) -> BlockIndex {
        BlockIndex(self.below)
    }

    /// Compares as far as both sides reach, at most to the end of one run: small steps keep the caller responsive.
    pub fn step(&mut self) -> Option<Comparison> {
        let (source, target) = (self.source.front()?, self.target.front()?);
        let mut blocks = BlockRange::new(self.below, source.blocks.end.0.min(target.blocks.end.0));
        let within = |blocks: BlockRange| {
            (blocks.start.0 - source.blocks.start.0) as usize..(blocks.end.0 - source.blocks.start.0) as usize
        };
        let mut found = Comparison::default();
        match (&source.digests, &target.digests) {
            (None, TargetDigests::Zeros) => {}
            (None, TargetDigests::Truncated(bytes)) => {
                let not_zero = |block: &u64| target.digest(bytes, *block) != TruncatedDigest::ZERO;
                (blocks.start.0..blocks.end.0).filter(not_zero).for_each(|block| found.zeroed(block));
            }
            (None, TargetDigests::Base) => blocks = self.compare_zeros(blocks, &mut found),
            (Some(own), TargetDigests::Zeros) => {
                found.compare(blocks, &own[within(blocks)], |_| Some(TruncatedDigest::ZERO));
            }
            (Some(own), TargetDigests::Truncated(bytes)) => {
                found.compare(blocks, &own[within(blocks)], |block| Some(target.digest(bytes, block)));
            }
            (Some(own), TargetDigests::Base) => {
                let (own, held) = (&own[within(blocks)], self.of_base(blocks));
                if held.as_deref() != Some(own) {
                    let digest =
                        |held: &Vec<Digest>, block| held[(block - blocks.start.0) as usize].truncated();
                    found.compare(blocks, own, |block| held.as_ref().map(|held| digest(held, block)));
                }
            }
        }
        let end = blocks.end;
        let (source_done, target_done) = (source.blocks.end == end, target.blocks.end == end);
        if target_done {
            let is_many = matches!(target.digests, TargetDigests::Truncated(_));
            found.consumed_digests = if is_many { target.blocks.count() } else { 1 };
            self.target.pop_front();
        }
        if source_done {
            self.source.pop_front();
        }
        self.below = end.0;
        Some(found)
    }

    /// Digests of the base; `None` where they can't be read: then all of these blocks count as different.
    fn of_base(&self, blocks: BlockRange) -> Option<Vec<Digest>> {
        self.base.as_ref().and_then(|base| base.digests(blocks).ok())
    }

    /// Compares zeros of the source, of any number, with the base; the blocks that were compared.
    fn compare_zeros(&self, blocks: BlockRange, found: &mut Comparison) -> BlockRange {
        let next = self.base.as_ref().map(|base| base.next_data(blocks.start));
        let next = match next {
            Some(Ok(next)) => next.unwrap_or(blocks.end).min(blocks.end),
            _ => blocks.start,
        };
        let end = ((next.0 / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS).min(blocks.end.0);
        let held = BlockRange::new(next.0, end);
        if !held.is_empty() {
            let digests = self.of_base(held);
            let may_hold = |at: usize| digests.as_ref().is_none_or(|digests| !digests[at].is_zero());
            held.iter()
                .enumerate()
                .filter(|(at, _)| may_hold(*at))
                .for_each(|(_, block)| found.zeroed(block.0));
        }
        BlockRange::new(blocks.start.0, end)
    }
}

impl Comparison {
    /// Compares the source's digests with the target's; a block whose target digest is not known counts as different.
    fn compare(
        &mut self,
        blocks: BlockRange,
        own: &[Digest],
        theirs: impl Fn(u64) -> Option<TruncatedDigest>,
    ) {
        for (block, digest) in (blocks.start.0..).zip(own) {
            let theirs = theirs(block);
            if theirs == Some(digest.truncated()) {
                continue;
            }
            if digest.is_zero() {
                self.zeroed(block);
            } else {
                let target_is_zero = theirs == Some(TruncatedDigest::ZERO);
                let block = BlockIndex(block);
                self.differing.push(Difference { block, digest: *digest, target_is_zero });
            }
        }
    }

    fn zeroed(&mut self, block: u64) {
        extend_ranges(&mut self.zeroed, block);
    }
}

fn extend_ranges(ranges: &mut Vec<BlockRange>, block: u64) {
    match ranges.last_mut() {
        Some(last) if last.end.0 == block => last.end.0 += 1,
        _ => ranges.push(BlockRange::new(block, block + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_blockio::{DiskError, Operation};
    use failback_model::Code;
    use std::path::Path;

    fn digest(value: u8) -> Digest {
        Digest([value; 32])
    }

    fn source(start: u64, values: &[u8]) -> DigestRun {
        DigestRun {
            blocks: BlockRange::new(start, start + values.len() as u64),
            digests: Some(values.iter().map(|&v| digest(v)).collect()),
            known: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn target(start: u64, values: &[u8]) -> TargetRun {
        let digests: Vec<u8> = values.iter().flat_map(|&v| [v; 16]).collect();
        TargetRun {
            blocks: BlockRange::new(start, start + values.len() as u64),
            digests: TargetDigests::Truncated(digests.into()),
        }
    }

    fn run(comparer: &mut Comparer) -> (Vec<u64>, Vec<(u64, u64)>, u64) {
        let (mut differing, mut zeroed, mut consumed) = (Vec::new(), Vec::new(), 0);
        while let Some(found) = comparer.step() {
            differing.extend(found.differing.iter().map(|d| d.block.0));
            zeroed.extend(found.zeroed.iter().map(|r| (r.start.0, r.end.0)));
            consumed += found.consumed_digests;
        }
        (differing, zeroed, consumed)
    }

    #[test]
    fn runs_with_other_boundaries_are_compared_block_by_block() {
        let mut comparer = Comparer::default();
        comparer.push_source(source(0, &[1, 2, 0]));
        comparer.push_source(DigestRun::zeros(BlockRange::new(3, 7)));
        comparer.push_source(source(7, &[4]));
        comparer.push_target(target(0, &[1, 9]));
        comparer.push_target(target(2, &[5, 0, 6, 6]));
        assert_eq!(run(&mut comparer), (vec![1], vec![(2, 3), (4, 6)], 6));
        assert_eq!(comparer.below(), BlockIndex(6));
        comparer.push_target(TargetRun { blocks: BlockRange::new(6, 8), digests: TargetDigests::Zeros });
        assert_eq!(run(&mut comparer), (vec![7], vec![], 1));
        assert_eq!(comparer.below(), BlockIndex(8));
    }

    /// Digests of a base; those of the last block can't be read.
    struct Base(Vec<u8>);

    impl TrustedDigests for Base {
        fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError> {
            if blocks.end.0 == self.0.len() as u64 {
                return Err(DiskError::new(Code::ReadFailed, Operation::Read, Path::new("base"), "lost"));
            }
            Ok(self.0[blocks.start.0 as usize..blocks.end.0 as usize].iter().map(|&v| digest(v)).collect())
        }

        fn next_data(&self, from: BlockIndex) -> Result<Option<BlockIndex>, DiskError> {
            let next = (from.0..self.0.len() as u64).find(|&block| self.0[block as usize] != 0);
            Ok(next.map(BlockIndex))
        }
    }

    #[test]
    fn a_base_stands_for_digests_that_do_not_come() {
        let mut values = vec![0; 5001];
        (values[0], values[1], values[2], values[9], values[3000]) = (1, 2, 3, 4, 5);
        let base = Arc::new(Base(values));
        let mut comparer = Comparer::with_base(Some(base));
        comparer.push_source(source(0, &[1, 7, 0, 8]));
        comparer.push_source(DigestRun::zeros(BlockRange::new(4, 4000)));
        comparer.push_source(source(4000, &[0; 1000]));
        comparer.push_source(source(5000, &[6]));
        comparer.push_target(TargetRun { blocks: BlockRange::new(0, 5001), digests: TargetDigests::Base });
        assert_eq!(run(&mut comparer), (vec![1, 3, 5000], vec![(2, 3), (9, 10), (3000, 3001)], 1));
        assert_eq!(comparer.below(), BlockIndex(5001));
    }
}
