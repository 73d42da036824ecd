//! What outlives a session at the receiving end: the medium, what the journal knows of it, and who may write.
//!
//! It is the store's promise in few lines: a block is begun before it changes, its old contents are gone from the journal's
//! knowledge from then on, and only the commit of its group brings the new ones in. A killed end finds each block that was
//! begun old, new, or torn.

use crate::disk::{Block, PAGES};
use failback_model::Digest;
use failback_testkit::Random;
use std::collections::{BTreeMap, BTreeSet};

/// What a kill leaves of writes that no commit covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// None of them reached the medium.
    Old,
    /// All did.
    New,
    /// Each did, did not, or did in part.
    Torn,
}

/// What the next commit makes known.
#[derive(Debug, Default)]
struct Group {
    scanned: BTreeMap<usize, Digest>,
    /// Digest of a block, and how often it had been begun by then.
    written: BTreeMap<usize, (Digest, u64)>,
}

/// A target's store.
pub(crate) struct Durable {
    known: Vec<Option<Digest>>,
    open: Group,
    committing: Option<Group>,
    /// Contents that a block had when it was last known, and how often it was begun since.
    begun: BTreeMap<usize, (Block, u64)>,
    pub(crate) session: u64,
    pub(crate) generation: u64,
    pub(crate) root: Option<Digest>,
}

impl Durable {
    pub(crate) fn new(blocks: usize) -> Self {
        Self {
            known: vec![None; blocks],
            open: Group::default(),
            committing: None,
            begun: BTreeMap::new(),
            session: 0,
            generation: 0,
            root: None,
        }
    }

    pub(crate) fn known(&self, block: usize) -> Option<Digest> {
        self.known[block]
    }

    /// Blocks that a kill would leave uncertain.
    pub(crate) fn begun(&self) -> BTreeSet<usize> {
        self.begun.keys().copied().collect()
    }

    pub(crate) fn scanned(&mut self, block: usize, digest: Digest) {
        if self.known[block].is_none() {
            self.open.scanned.insert(block, digest);
        }
    }

    /// Durable before the write.
    pub(crate) fn begin(&mut self, block: usize, old: Block) {
        self.known[block] = None;
        self.root = None;
        self.begun.entry(block).or_insert((old, 0)).1 += 1;
    }

    pub(crate) fn written(&mut self, block: usize, digest: Digest) {
        let times = self.begun.get(&block).expect("it was begun").1;
        self.open.scanned.remove(&block);
        self.open.written.insert(block, (digest, times));
    }

    /// The open group is everything that was written so far.
    pub(crate) fn close(&mut self) {
        let closed = self.committing.replace(std::mem::take(&mut self.open));
        assert!(closed.is_none(), "two groups are open at most");
    }

    /// The group that was closed is durable.
    pub(crate) fn commit(&mut self) {
        let group = self.committing.take().expect("a group was closed");
        for (block, digest) in group.scanned {
            if !self.begun.contains_key(&block) {
                self.known[block] = Some(digest);
            }
        }
        for (block, (digest, times)) in group.written {
            if self.begun.get(&block).is_some_and(|(_, begun)| *begun == times) {
                self.begun.remove(&block);
                self.known[block] = Some(digest);
            }
        }
    }

    pub(crate) fn seal(&mut self, root: Digest) {
        self.generation += 1;
        self.root = Some(root);
    }

    /// What the next start finds; no group is open then.
    pub(crate) fn kill(&mut self, medium: &mut [Block], leftover: Leftover, random: &mut Random) {
        (self.open, self.committing) = (Group::default(), None);
        for (block, (old, _)) in std::mem::take(&mut self.begun) {
            let new = &mut medium[block];
            match (leftover, random.below(3)) {
                (Leftover::New, _) | (Leftover::Torn, 0) => {}
                (Leftover::Old, _) | (Leftover::Torn, 1) => *new = old,
                (Leftover::Torn, _) => {
                    let at = random.below(PAGES as u64) as usize;
                    new[at..].copy_from_slice(&old[at..]);
                }
            }
        }
    }
}
