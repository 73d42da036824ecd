//! Whether the next block that differs is worth refining.

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

/// Blocks over which the share of differing pages is watched.
const WATCH_BLOCKS: u64 = 64;
/// Blocks that ship whole before refinement is tried again.
const PAUSE_BLOCKS: u64 = 1024;

/// Watches how much refinement saves.
#[derive(Debug)]
pub(crate) struct RefinementPolicy {
    mode: RefinementMode,
    watched_blocks: u64,
    watched_pages: u64,
    differing_pages: u64,
    pause_blocks: u64,
}

impl RefinementPolicy {
    pub(crate) fn new(mode: RefinementMode) -> Self {
        Self { mode, watched_blocks: 0, watched_pages: 0, differing_pages: 0, pause_blocks: 0 }
    }

    /// Whether to refine the next block.
    pub(crate) fn choose(&mut self) -> bool {
        match self.mode {
            RefinementMode::On => true,
            RefinementMode::Off => false,
            RefinementMode::Auto if self.pause_blocks > 0 => {
                self.pause_blocks -= 1;
                false
            }
            RefinementMode::Auto => true,
        }
    }

    /// Tells what a refined block came to. Above seven pages in eight, refining costs more than it saves.
    pub(crate) fn observe(&mut self, differing: usize, pages: usize) {
        self.watched_blocks += 1;
        self.watched_pages += pages as u64;
        self.differing_pages += differing as u64;
        if self.watched_blocks >= WATCH_BLOCKS {
            if self.differing_pages * 8 > self.watched_pages * 7 {
                self.pause_blocks = PAUSE_BLOCKS;
            }
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
        for _ in 0..WATCH_BLOCKS {
            assert!(policy.choose());
            policy.observe(16, 16);
        }
        let whole = (0..PAUSE_BLOCKS + 1).take_while(|_| !policy.choose()).count();
        assert_eq!(whole as u64, PAUSE_BLOCKS);
        for _ in 0..WATCH_BLOCKS {
            policy.observe(2, 16);
        }
        assert!(policy.choose());
    }
}
