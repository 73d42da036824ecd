//! Blocks that differ and wait for their turn, each in the queue of the way it will travel.
//!
//! **Invariant**: what is taken out for one message or job ascends, and so does what is in each open request.

use crate::error::SessionError;
use crate::refinement::RefinementPolicy;
use bytes::Bytes;
use failback_model::limits::{BATCH_MAX_BLOCKS, REFINE_WINDOW_BLOCKS};
use failback_model::{BlockIndex, BlockRange, Difference, Layout};
use std::collections::{HashSet, VecDeque};

/// The queues, and the page digests that were asked for.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) policy: RefinementPolicy,
    whole: VecDeque<BlockIndex>,
    offers: VecDeque<Difference>,
    zeros: VecDeque<BlockRange>,
    to_refine: VecDeque<BlockIndex>,
    open_refinements: HashSet<BlockIndex>,
    refined: VecDeque<(Vec<BlockIndex>, Bytes)>,
    refined_blocks: usize,
}

impl Queues {
    pub(super) fn new(policy: RefinementPolicy) -> Self {
        Self {
            policy,
            whole: VecDeque::new(),
            offers: VecDeque::new(),
            zeros: VecDeque::new(),
            to_refine: VecDeque::new(),
            open_refinements: HashSet::new(),
            refined: VecDeque::new(),
            refined_blocks: 0,
        }
    }

    /// Blocks and ranges that have not been asked for or started.
    pub(super) fn waiting(&self) -> usize {
        self.whole.len() + self.to_refine.len() + self.offers.len() + self.zeros.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting() == 0 && self.open_refinements.is_empty() && self.refined.is_empty()
    }

    /// Where there is anything to narrow it to, a block waits for the policy.
    pub(super) fn push(&mut self, difference: Difference) {
        if !difference.target_is_zero && !self.policy.is_off() {
            self.to_refine.push_back(difference.block);
        } else {
            self.whole.push_back(difference.block);
        }
    }

    pub(super) fn push_offer(&mut self, difference: Difference) {
        self.offers.push_back(difference);
    }

    pub(super) fn push_whole(&mut self, blocks: impl IntoIterator<Item = BlockIndex>) {
        self.whole.extend(blocks);
    }

    pub(super) fn push_zeros(&mut self, ranges: impl IntoIterator<Item = BlockRange>) {
        self.zeros.extend(ranges);
    }

    /// Ranges for one message: ascending, and joined where they touch.
    pub(super) fn take_zeros(&mut self) -> Vec<BlockRange> {
        let mut taken: Vec<BlockRange> = Vec::new();
        while let Some(&range) = self.zeros.front() {
            let is_full = taken.len() == BATCH_MAX_BLOCKS;
            match taken.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                Some(last) if last.end > range.start || is_full => break,
                _ => taken.push(range),
            }
            self.zeros.pop_front();
        }
        taken
    }

    /// Offers for one message, at most `room`.
    pub(super) fn take_offers(&mut self, room: usize) -> Vec<Difference> {
        let count = self.offers.len().min(room);
        self.offers.drain(..count).collect()
    }

    /// Blocks to ask page digests of; so many more that were asked for are under way. A block counts until it is written:
    /// a request may overtake its pages, and the other end remembers its page digests until those come.
    pub(super) fn take_page_request(&mut self, under_way: usize) -> Vec<BlockIndex> {
        let open = self.open_refinements.len() + self.refined_blocks + under_way;
        let room = REFINE_WINDOW_BLOCKS.saturating_sub(open).min(BATCH_MAX_BLOCKS / 4);
        let blocks = take_ascending(&mut self.to_refine, room.min(self.policy.room()));
        self.policy.refine(blocks.len());
        self.open_refinements.extend(&blocks);
        blocks
    }

    /// Takes page digests that were asked for.
    pub(super) fn take_page_digests(
        &mut self,
        layout: Layout,
        blocks: Vec<BlockIndex>,
        digests: Bytes,
    ) -> Result<(), SessionError> {
        if !blocks.iter().all(|block| self.open_refinements.remove(block)) {
            return Err(SessionError::violation("page digests of a block that was not asked for"));
        }
        let pages: usize = blocks.iter().map(|&block| layout.pages_of(block)).sum();
        if blocks.is_empty() || digests.len() != pages * 16 {
            return Err(SessionError::violation("page digests do not fit their blocks"));
        }
        self.refined_blocks += blocks.len();
        self.refined.push_back((blocks, digests));
        Ok(())
    }

    /// Blocks whose page digests came together, and may be refined together.
    pub(super) fn next_refined_blocks(&self) -> Option<usize> {
        self.refined.front().map(|(blocks, _)| blocks.len())
    }

    /// Whether page digests are still to come.
    pub(super) fn awaits_page_digests(&self) -> bool {
        !self.open_refinements.is_empty()
    }

    /// The first `count` of them, with their page digests.
    pub(super) fn take_refined(&mut self, layout: Layout, count: usize) -> Option<(Vec<BlockIndex>, Bytes)> {
        let (mut blocks, mut digests) = self.refined.pop_front()?;
        let rest = blocks.split_off(count.min(blocks.len()));
        self.refined_blocks -= blocks.len();
        if !rest.is_empty() {
            let pages: usize = blocks.iter().map(|&block| layout.pages_of(block)).sum();
            let behind = digests.split_off(pages * 16);
            self.refined.push_front((rest, behind));
        }
        Some((blocks, digests))
    }

    /// Blocks that wait to be shipped whole, at most `most`: where refining pauses, those that wait for it too.
    pub(super) fn whole_blocks(&mut self, most: usize) -> usize {
        while self.whole.len() < most && self.policy.room() == 0 {
            let Some(block) = self.to_refine.pop_front() else { break };
            self.policy.skip();
            self.whole.push_back(block);
        }
        self.whole.len().min(most)
    }

    /// At most `count` blocks to ship whole.
    pub(super) fn take_whole(&mut self, count: usize) -> Vec<BlockIndex> {
        take_ascending(&mut self.whole, count)
    }
}

/// Takes at most `count` blocks off the front, as long as they ascend: a resent block may stand behind later ones.
fn take_ascending(queue: &mut VecDeque<BlockIndex>, count: usize) -> Vec<BlockIndex> {
    let mut taken: Vec<BlockIndex> = Vec::with_capacity(count.min(queue.len()));
    while taken.len() < count {
        match queue.front() {
            Some(&block) if taken.last().is_none_or(|&last| last < block) => taken.push(block),
            _ => break,
        }
        queue.pop_front();
    }
    taken
}
