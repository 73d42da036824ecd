//! Which numbered messages are dealt with: a prefix, and those ahead of it.

use std::collections::BTreeSet;

/// A set of sequence numbers that fills up from 0.
#[derive(Debug, Default)]
pub(crate) struct SequenceSet {
    below: u64,
    ahead: BTreeSet<u64>,
}

impl SequenceSet {
    /// Adds a number; false where it was there.
    pub(crate) fn insert(&mut self, sequence: u64) -> bool {
        if self.contains(sequence) {
            return false;
        }
        self.ahead.insert(sequence);
        self.close_gap();
        true
    }

    pub(crate) fn contains(&self, sequence: u64) -> bool {
        sequence < self.below || self.ahead.contains(&sequence)
    }

    /// All numbers below this are in.
    pub(crate) fn below(&self) -> u64 {
        self.below
    }

    fn close_gap(&mut self) {
        while self.ahead.remove(&self.below) {
            self.below += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_grows_as_gaps_close() {
        let mut set = SequenceSet::default();
        assert!(set.insert(1) && set.insert(2) && !set.insert(2));
        assert_eq!((set.below(), set.contains(0), set.contains(2)), (0, false, true));
        assert!(set.insert(0) && !set.insert(1));
        assert_eq!(set.below(), 3);
    }
}
