//! Whether the next block that differs is worth refining.
//!
//! The choice is made when the block's turn comes, not when it is found: differences queue up long before the first of
//! them is refined, and what was found out meanwhile counts.

/// How refinement is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RefinementMode {
    /// On; off for a while where most pages of recent blocks differ.
    #[default]
    Auto,
    /// Every block.
    On,
    /// No block.
    Off,
}

/// Blocks over which the share of differing pages is watched, and that are refined to try it again.
const WATCH_BLOCKS: usize = 64;
/// Blocks that ship whole before refinement is tried again.
const PAUSE_BLOCKS: usize = 1024;

/// Where automatic refinement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Every block is refined.
    Open,
    /// So many more blocks ship whole.
    Pausing(usize),
    /// So many more blocks are refined, then all ship whole until it is known what these came to.
    Trying(usize),
}

/// Watches how much refinement saves.
#[derive(Debug)]
pub(crate) struct RefinementPolicy {
    mode: RefinementMode,
    state: State,
    watched_blocks: usize,
    watched_pages: usize,
    differing_pages: usize,
}

impl RefinementPolicy {
    pub(crate) fn new(mode: RefinementMode) -> Self {
        Self { mode, state: State::Open, watched_blocks: 0, watched_pages: 0, differing_pages: 0 }
    }

    /// Whether blocks are ever refined.
    pub(crate) fn is_off(&self) -> bool {
        self.mode == RefinementMode::Off
    }

    /// How many of the next blocks may be refined; where it is none, they ship whole.
    pub(crate) fn room(&self) -> usize {
        match (self.mode, self.state) {
            (RefinementMode::Off, _) | (RefinementMode::Auto, State::Pausing(_)) => 0,
            (RefinementMode::On, _) | (_, State::Open) => usize::MAX,
            (RefinementMode::Auto, State::Trying(left)) => left,
        }
    }

    /// So many blocks are being refined.
    pub(crate) fn refine(&mut self, blocks: usize) {
        if let State::Trying(left) = &mut self.state {
            *left -= blocks;
        }
    }

    /// A block ships whole, since there is no room.
    pub(crate) fn skip(&mut self) {
        match &mut self.state {
            State::Pausing(left) if *left > 1 => *left -= 1,
            State::Pausing(_) => self.state = State::Trying(WATCH_BLOCKS),
            State::Open | State::Trying(_) => {}
        }
    }

    /// Tells what refined blocks came to. Above seven pages in eight, refining costs more than it saves.
    pub(crate) fn observe(&mut self, blocks: usize, differing: usize, pages: usize) {
        self.watched_blocks += blocks;
        self.watched_pages += pages;
        self.differing_pages += differing;
        if self.mode == RefinementMode::Auto && self.watched_blocks >= WATCH_BLOCKS {
            let is_worth_it = self.differing_pages * 8 <= self.watched_pages * 7;
            self.state = if is_worth_it { State::Open } else { State::Pausing(PAUSE_BLOCKS) };
            (self.watched_blocks, self.watched_pages, self.differing_pages) = (0, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refinement_pauses_where_most_pages_differ_and_is_tried_again() {
        let mut policy = RefinementPolicy::new(RefinementMode::Auto);
        assert_eq!(policy.room(), usize::MAX);
        policy.observe(WATCH_BLOCKS - 1, 16 * (WATCH_BLOCKS - 1), 16 * (WATCH_BLOCKS - 1));
        assert_eq!(policy.room(), usize::MAX, "one block too few to know");
        policy.observe(1, 16, 16);
        let skip_pause = |policy: &mut RefinementPolicy| {
            for _ in 0..PAUSE_BLOCKS {
                assert_eq!(policy.room(), 0);
                policy.skip();
            }
        };
        skip_pause(&mut policy);
        assert_eq!(policy.room(), WATCH_BLOCKS);
        policy.refine(WATCH_BLOCKS);
        assert_eq!(policy.room(), 0, "whole, until it is known what those came to");
        policy.skip();
        policy.observe(WATCH_BLOCKS, 16 * WATCH_BLOCKS, 16 * WATCH_BLOCKS);
        skip_pause(&mut policy);
        policy.refine(WATCH_BLOCKS);
        policy.observe(WATCH_BLOCKS, 2 * WATCH_BLOCKS, 16 * WATCH_BLOCKS);
        assert_eq!(policy.room(), usize::MAX);
    }

    #[test]
    fn only_automatic_refinement_changes_its_mind() {
        for (mode, room) in [(RefinementMode::On, usize::MAX), (RefinementMode::Off, 0)] {
            let mut policy = RefinementPolicy::new(mode);
            policy.observe(1000, 16_000, 16_000);
            policy.skip();
            assert_eq!(policy.room(), room);
        }
    }
}
