//! Comparison of two digest sequences, as both ends scan: a merge of two ordered streams of runs.
//!
//! **Invariant**: whatever the runs' boundaries on either side, each block is compared exactly once, in order.

use crate::digest_source::DigestRun;
use bytes::Bytes;
use failback_model::{BlockIndex, BlockRange, Difference, Digest, TruncatedDigest};
use std::collections::VecDeque;

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

/// The target's digests of consecutive blocks; `None` where all are zero.
#[derive(Debug)]
pub struct TargetRun {
    /// Which blocks.
    pub blocks: BlockRange,
    /// 16 bytes a block.
    pub digests: Option<Bytes>,
}

impl TargetRun {
    fn digest(&self, block: u64) -> TruncatedDigest {
        match &self.digests {
            None => TruncatedDigest::ZERO,
            Some(bytes) => TruncatedDigest(bytes.as_chunks().0[(block - self.blocks.start.0) as usize]),
        }
    }
}

/// Runs of both sides that the other side has not reached yet.
#[derive(Debug, Default)]
pub struct Comparer {
    source: VecDeque<DigestRun>,
    target: VecDeque<TargetRun>,
    below: u64,
}

impl Comparer {
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
        let end = source.blocks.end.0.min(target.blocks.end.0);
        let mut found = Comparison::default();
        match &source.digests {
            Some(digests) => {
                let own =
                    &digests[(self.below - source.blocks.start.0) as usize..][..(end - self.below) as usize];
                compare_digests(self.below, own, target, &mut found);
            }
            None if target.digests.is_none() => {}
            None => {
                for block in self.below..end {
                    if target.digest(block) != TruncatedDigest::ZERO {
                        extend_ranges(&mut found.zeroed, block);
                    }
                }
            }
        }
        let (source_done, target_done) = (source.blocks.end.0 == end, target.blocks.end.0 == end);
        if target_done {
            found.consumed_digests = if target.digests.is_some() { target.blocks.count() } else { 1 };
            self.target.pop_front();
        }
        if source_done {
            self.source.pop_front();
        }
        self.below = end;
        Some(found)
    }
}

fn compare_digests(first: u64, own: &[Digest], target: &TargetRun, found: &mut Comparison) {
    for (block, digest) in (first..).zip(own) {
        let theirs = target.digest(block);
        if digest.truncated() == theirs {
            continue;
        }
        if digest.is_zero() {
            extend_ranges(&mut found.zeroed, block);
        } else {
            let target_is_zero = theirs == TruncatedDigest::ZERO;
            found.differing.push(Difference { block: BlockIndex(block), digest: *digest, target_is_zero });
        }
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
            digests: Some(digests.into()),
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
        comparer.push_target(TargetRun { blocks: BlockRange::new(6, 8), digests: None });
        assert_eq!(run(&mut comparer), (vec![7], vec![], 1));
        assert_eq!(comparer.below(), BlockIndex(8));
    }
}
