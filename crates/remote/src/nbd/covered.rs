//! Which bytes of a request have come.
//!
//! **Invariant**: no byte counts twice.

use super::error::NbdError;

/// Pieces of one reply that lie apart, at most: servers cut data at holes, not at random.
const APART_MAX: usize = 4096;

/// The part of a request that has come.
#[derive(Debug)]
pub(super) struct Covered {
    length: usize,
    /// Runs that came, ascending and apart.
    runs: Vec<(usize, usize)>,
}

impl Covered {
    pub(super) const fn new(length: usize) -> Self {
        Self { length, runs: Vec::new() }
    }

    /// Counts `length` bytes from `start`.
    pub(super) fn add(&mut self, start: usize, length: usize) -> Result<(), NbdError> {
        let end = start.checked_add(length).filter(|end| length > 0 && *end <= self.length);
        let end = end.ok_or_else(|| NbdError::broken("data came that was not asked for"))?;
        let next = self.runs.partition_point(|run| run.0 < start);
        let overlaps_before = next > 0 && self.runs[next - 1].1 > start;
        if overlaps_before || self.runs.get(next).is_some_and(|run| run.0 < end) {
            return Err(NbdError::broken("data came twice"));
        }
        let joins_before = next > 0 && self.runs[next - 1].1 == start;
        let joins_after = self.runs.get(next).is_some_and(|run| run.0 == end);
        match (joins_before, joins_after) {
            (true, true) => {
                self.runs[next - 1].1 = self.runs[next].1;
                self.runs.remove(next);
            }
            (true, false) => self.runs[next - 1].1 = end,
            (false, true) => self.runs[next].0 = start,
            (false, false) if self.runs.len() < APART_MAX => self.runs.insert(next, (start, end)),
            (false, false) => return Err(NbdError::broken("a reply is cut into too many pieces")),
        }
        Ok(())
    }

    pub(super) fn is_whole(&self) -> bool {
        self.runs == [(0, self.length)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_may_come_in_any_order_and_only_once() {
        let mut covered = Covered::new(10);
        for (start, length) in [(4, 2), (8, 2), (0, 1), (6, 2), (1, 3)] {
            assert!(!covered.is_whole());
            covered.add(start, length).expect("it is new");
        }
        assert!(covered.is_whole());
        for (start, length) in [(0, 1), (9, 1), (3, 2), (10, 1), (0, 0), (usize::MAX, 2)] {
            covered.add(start, length).expect_err("it is there or beyond");
        }
        let mut covered = Covered::new(10);
        covered.add(4, 2).expect("it is new");
        covered.add(3, 2).expect_err("half of it is there");
        covered.add(2, 8).expect_err("it encloses what is there");
    }
}
