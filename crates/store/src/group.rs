//! The commit groups of a session: what was begun, what was written since the last commit.
//!
//! **Invariant**: a commit names only blocks that were applied before its group was closed and not begun again since:
//! what it says of a block is what the flush made durable.

use crate::ahead::Ahead;
use crate::block_set::BlockSet;
use crate::journal::Position;
use crate::page_runs::PageRuns;
use failback_format::journal_record::PageRun;
use failback_model::{BlockIndex, BlockRange, Digest, Layout};
use std::collections::BTreeMap;

/// What blocks became.
#[derive(Debug)]
pub(crate) struct Applied {
    digests: BTreeMap<u64, Digest>,
    zeros: BlockSet,
}

impl Applied {
    fn new(block_count: u64) -> Self {
        Self { digests: BTreeMap::new(), zeros: BlockSet::empty(block_count) }
    }

    fn remove(&mut self, blocks: BlockRange) {
        self.digests.extract_if(blocks.start.0..blocks.end.0, |_, _| true).for_each(drop);
        self.zeros.remove(blocks);
    }
}

/// The groups of one session.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Blocks that this session has touched, ever.
    begun: BlockSet,
    /// Blocks that were begun since the last group was closed.
    reopened: BlockSet,
    open: Applied,
    number: u64,
    /// Up to where the journal must be durable for all that was begun.
    begun_at: Option<Position>,
    /// Pages whose old contents this group has logged.
    logged: PageRuns,
    /// Blocks that will probably be begun.
    pub(crate) ahead: Ahead,
}

impl Groups {
    /// A session whose first group has this number.
    pub(crate) fn new(layout: Layout, number: u64, ahead_bytes: u64) -> Self {
        let block_count = layout.block_count();
        Self {
            begun: BlockSet::empty(block_count),
            reopened: BlockSet::empty(block_count),
            open: Applied::new(block_count),
            number,
            begun_at: None,
            logged: PageRuns::default(),
            ahead: Ahead::new(layout, ahead_bytes),
        }
    }

    /// Number of the open group.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Blocks are about to change, and the journal says so.
    pub(crate) fn begin(&mut self, blocks: BlockRange) {
        self.begun.insert(blocks);
        self.reopened.insert(blocks);
        self.open.remove(blocks);
    }

    /// Of these pages, those that the open group has not touched; it has from now on.
    pub(crate) fn touch(&mut self, pages: &[PageRun]) -> Vec<PageRun> {
        pages.iter().flat_map(|run| self.logged.insert(*run)).collect()
    }

    /// What was logged may not be, or not be durable: whatever is touched next is logged again. The oldest record of a page
    /// wins, so one too many does no harm.
    pub(crate) fn forget_logged(&mut self) {
        self.logged.clear();
    }

    /// Up to where the journal must be durable for all blocks that were begun, these included.
    pub(crate) fn begun_at(&mut self, latest: Option<Position>) -> Option<Position> {
        self.begun_at = self.begun_at.max(latest);
        self.begun_at
    }

    pub(crate) fn is_begun(&self, blocks: BlockRange) -> bool {
        self.begun.contains_all(blocks)
    }

    /// The blocks among these that the session has not touched.
    pub(crate) fn untouched(&self, blocks: BlockRange) -> Vec<BlockRange> {
        self.begun.gaps_in(blocks)
    }

    /// A block is written.
    pub(crate) fn applied(&mut self, block: BlockIndex, digest: Digest) {
        self.open.zeros.remove(BlockRange::new(block.0, block.0 + 1));
        self.open.digests.insert(block.0, digest);
    }

    /// Blocks are zero.
    pub(crate) fn zeroed(&mut self, blocks: BlockRange) {
        self.open.remove(blocks);
        self.open.zeros.insert(blocks);
    }

    /// Closes the open group and opens the next.
    pub(crate) fn close(&mut self) -> Applied {
        self.number += 1;
        self.reopened.clear();
        self.logged.clear();
        std::mem::replace(&mut self.open, Applied::new(self.begun.all().end.0))
    }

    /// What a closed group, flushed by now, may be committed with.
    pub(crate) fn settle(&self, closed: Applied) -> (Vec<(BlockIndex, Digest)>, Vec<BlockRange>) {
        let mut closed = closed;
        self.reopened.runs().into_iter().for_each(|blocks| closed.remove(blocks));
        let entries = closed.digests.into_iter().map(|(block, digest)| (BlockIndex(block), digest)).collect();
        (entries, closed.zeros.runs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::BlockSize;

    #[test]
    fn a_block_begun_again_waits_for_the_next_commit() {
        let range = BlockRange::new;
        let layout = Layout::new(100 << 20, BlockSize::new(1 << 20).unwrap()).unwrap();
        let mut groups = Groups::new(layout, 7, 0);
        groups.begin(range(0, 50));
        groups.applied(BlockIndex(1), Digest([1; 32]));
        groups.applied(BlockIndex(2), Digest([2; 32]));
        groups.zeroed(range(10, 20));
        groups.applied(BlockIndex(12), Digest([3; 32]));
        groups.zeroed(range(2, 3));
        groups.begin(range(1, 2));
        let closed = groups.close();
        groups.begin(range(15, 16));
        let (entries, zeros) = groups.settle(closed);
        assert_eq!(entries, [(BlockIndex(12), Digest([3; 32]))]);
        assert_eq!(zeros, [range(2, 3), range(10, 12), range(13, 15), range(16, 20)]);
        groups.applied(BlockIndex(1), Digest([4; 32]));
        let closed = groups.close();
        assert_eq!(groups.settle(closed), (vec![(BlockIndex(1), Digest([4; 32]))], vec![]));
        assert_eq!((groups.number(), groups.untouched(range(40, 60))), (9, vec![range(50, 60)]));
    }
}
