//! Blocks whose intent is logged ahead of time, so that a pass that goes through the disk does not wait for a sync with
//! each message.
//!
//! **Invariant**: an announced block is unknown to the journal, was trusted before and has not been begun since; so it
//! may be trusted again as it was. There are few announced blocks: they are scanned again after a crash.

use crate::block_set::{BlockSet, push_joined};
use failback_model::limits::JOURNAL_AHEAD_WINDOWS;
use failback_model::{BlockRange, Layout};
use std::collections::VecDeque;

/// The announced blocks of a session.
#[derive(Debug)]
pub(crate) struct Ahead {
    announced: BlockSet,
    windows: VecDeque<BlockRange>,
    window_blocks: u64,
}

/// What the journal is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// Blocks that are unknown from now on.
    pub(crate) intended: Vec<BlockRange>,
    /// Blocks that are known again.
    pub(crate) released: Vec<BlockRange>,
}

impl Ahead {
    /// Announces this much at once.
    pub(crate) fn new(layout: Layout, window_bytes: u64) -> Self {
        let block_count = layout.block_count();
        let window_blocks = window_bytes / layout.block_size().bytes();
        Self { announced: BlockSet::empty(block_count), windows: VecDeque::new(), window_blocks }
    }

    /// Blocks begin to change: they are announced no more.
    pub(crate) fn take(&mut self, blocks: BlockRange) {
        self.announced.remove(blocks);
    }

    /// Adds to blocks that must be made unknown, which are trusted and ascend, those that will probably come next, and
    /// releases the oldest announcements.
    pub(crate) fn announce(&mut self, needed: &[BlockRange], trusted: &BlockSet) -> Announcement {
        let Some(first) = needed.first().map(|range| range.start.0) else {
            return Announcement { intended: Vec::new(), released: Vec::new() };
        };
        let window = BlockRange::new(first, (first + self.window_blocks).min(trusted.all().end.0));
        let mut intended = trusted.runs_in(window);
        intended.iter().for_each(|range| self.announced.insert(*range));
        for range in needed {
            self.announced.remove(*range);
            // What of it lies in the window is there already.
            let start = range.start.0.max(window.end.0);
            if start < range.end.0 {
                push_joined(&mut intended, BlockRange::new(start, range.end.0));
            }
        }
        self.windows.push_back(window);
        let is_over = self.windows.len() > JOURNAL_AHEAD_WINDOWS;
        let oldest = if is_over { self.windows.pop_front() } else { None };
        let released = oldest.map_or(Vec::new(), |oldest| self.announced.runs_in(oldest));
        // What the new window has just announced stays announced.
        let released = released.into_iter().flat_map(|range| outside(range, window)).collect::<Vec<_>>();
        released.iter().for_each(|range| self.announced.remove(*range));
        Announcement { intended, released }
    }

    /// All announced blocks, to be known again.
    pub(crate) fn release_all(&mut self) -> Vec<BlockRange> {
        let released = self.announced.runs();
        self.forget();
        released
    }

    /// Announced blocks are not to be trusted again.
    pub(crate) fn forget(&mut self) {
        self.announced.clear();
        self.windows.clear();
    }
}

/// The parts of a range in front of and behind a window.
fn outside(range: BlockRange, window: BlockRange) -> impl Iterator<Item = BlockRange> {
    let (start, end) = (range.start.0, range.end.0);
    let front = (start, end.min(window.start.0.max(start)));
    let behind = (start.max(window.end.0.min(end)), end);
    [front, behind]
        .into_iter()
        .filter(|(start, end)| start < end)
        .map(|(start, end)| BlockRange::new(start, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::BlockSize;

    #[test]
    fn a_window_is_announced_once_and_the_oldest_is_released() {
        let range = BlockRange::new;
        let size = BlockSize::new(1 << 20).unwrap();
        let window = 64;
        let layout = Layout::new((100 * window) << 20, size).unwrap();
        let mut trusted = BlockSet::empty(layout.block_count());
        trusted.insert(range(0, 50 * window));
        let mut ahead = Ahead::new(layout, window << 20);
        let mut announce = |needed: &[BlockRange]| {
            let announcement = ahead.announce(needed, &trusted);
            announcement.intended.iter().for_each(|range| trusted.remove(*range));
            announcement.released.iter().for_each(|range| trusted.insert(*range));
            announcement
        };
        let far = range(10 * window, 10 * window + 1);
        let first = announce(&[range(0, 1), far]);
        assert_eq!((first.intended, first.released), (vec![range(0, window), far], vec![]));
        for other in 1..JOURNAL_AHEAD_WINDOWS as u64 {
            let at = other * window;
            let next = announce(&[range(at, at + 1)]);
            assert_eq!((next.intended, next.released), (vec![range(at, at + window)], vec![]));
        }
        let last = announce(&[range(20 * window, 20 * window + 2)]);
        assert_eq!(last.released, [range(1, window)], "the begun block stays unknown");
        let end = announce(&[range(50 * window - 3, 50 * window - 1)]);
        assert_eq!(end.intended, [range(50 * window - 3, 50 * window)], "only what is trusted is announced");
        ahead.take(range(20 * window + 5, 20 * window + 6));
        let all: u64 = ahead.release_all().into_iter().map(BlockRange::count).sum();
        assert!(all <= JOURNAL_AHEAD_WINDOWS as u64 * window && ahead.release_all().is_empty());
    }

    #[test]
    fn a_range_is_cut_around_a_window() {
        let range = BlockRange::new;
        let cut = |start, end| outside(range(start, end), range(10, 20)).collect::<Vec<_>>();
        assert_eq!(cut(0, 30), [range(0, 10), range(20, 30)]);
        assert_eq!((cut(0, 5), cut(25, 30), cut(12, 15)), (vec![range(0, 5)], vec![range(25, 30)], vec![]));
        assert_eq!((cut(5, 15), cut(15, 25)), (vec![range(5, 10)], vec![range(20, 25)]));
    }
}
