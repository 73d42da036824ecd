//! Blocks whose intent is logged ahead of time, so that a pass that goes through the disk does not wait for a sync with
//! each message.
//!
//! How much is announced follows the writers: a window is small until one of them had to wait for its sync, grows quickly
//! then, and shrinks slowly while nobody waits. So a slow link announces little, and a fast one what it needs.
//!
//! **Invariant**: an announced block is unknown to the journal, was trusted before and has not been begun since; so it
//! may be trusted again as it was. There are few announced blocks: they are scanned again after a crash.

use crate::block_set::{BlockSet, push_joined};
use crate::journal::Position;
use failback_model::limits::{JOURNAL_AHEAD_MIN_BYTES, JOURNAL_AHEAD_WINDOWS};
use failback_model::{BlockIndex, BlockRange, Layout};
use std::collections::VecDeque;

/// A window that came too late makes the next ones this much longer.
const GROWTH: u64 = 4;
/// A window that came in time makes the next ones shorter by this part of them.
const DECAY: u64 = 8;

/// The announced blocks of a session.
#[derive(Debug)]
pub(crate) struct Ahead {
    announced: BlockSet,
    windows: VecDeque<Window>,
    /// Blocks of the next window.
    window_blocks: u64,
    least_blocks: u64,
    most_blocks: u64,
}

/// A run of blocks of which those that were trusted are announced.
#[derive(Debug)]
struct Window {
    blocks: BlockRange,
    /// Where the journal says so, once it does.
    logged_at: Option<Position>,
    /// Whether somebody waited, behind it or for it.
    is_late: bool,
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
    /// Announces this much at once at most.
    pub(crate) fn new(layout: Layout, most_bytes: u64) -> Self {
        let blocks = |bytes: u64| bytes / layout.block_size().bytes();
        let (least_blocks, most_blocks) =
            (blocks(most_bytes.min(JOURNAL_AHEAD_MIN_BYTES)), blocks(most_bytes));
        let announced = BlockSet::empty(layout.block_count());
        let (windows, window_blocks) = (VecDeque::new(), least_blocks);
        Self { announced, windows, window_blocks, least_blocks, most_blocks }
    }

    /// Somebody waits for the journal although there is a window: the next ones are longer.
    pub(crate) fn waited(&mut self) {
        if let Some(newest) = self.windows.back_mut()
            && !std::mem::replace(&mut newest.is_late, true)
        {
            self.window_blocks = (self.window_blocks * GROWTH).min(self.most_blocks);
        }
    }

    /// Whether a block is announced: then its digest is still the one that was known.
    pub(crate) fn holds(&self, block: BlockIndex) -> bool {
        self.announced.contains_all(BlockRange::new(block.0, block.0 + 1))
    }

    /// Blocks begin to change: they are announced no more. Up to where the journal must be durable for those that were.
    pub(crate) fn take(&mut self, blocks: BlockRange) -> Option<Position> {
        let touches = |window: &&Window| window.blocks.start < blocks.end && blocks.start < window.blocks.end;
        let logged_at = self.windows.iter().filter(touches).filter_map(|window| window.logged_at).max();
        self.announced.remove(blocks);
        logged_at
    }

    /// Adds to blocks that must be made unknown, which are trusted and ascend, those that will probably come next, and
    /// releases the oldest announcements.
    pub(crate) fn announce(&mut self, needed: &[BlockRange], trusted: &BlockSet) -> Announcement {
        let Some(first) = needed.first().map(|range| range.start.0) else {
            return Announcement { intended: Vec::new(), released: Vec::new() };
        };
        let window = self.window_from(first);
        let mut intended = trusted.runs_in(window);
        let released = self.open_window(window, &intended);
        for range in needed {
            self.announced.remove(*range);
            // What of it lies in the window is there already.
            let start = range.start.0.max(window.end.0);
            if start < range.end.0 {
                push_joined(&mut intended, BlockRange::new(start, range.end.0));
            }
        }
        Announcement { intended, released }
    }

    /// Announces what comes behind the newest window when blocks of that window are begun, so that nobody will wait for
    /// it. Only where at least half of it is trusted: else the scan has not come by yet.
    pub(crate) fn announce_next(&mut self, begun: &[BlockRange], trusted: &BlockSet) -> Option<Announcement> {
        let &Window { blocks: newest, is_late, .. } = self.windows.back()?;
        let next = self.window_from(newest.end.0);
        if next.is_empty()
            || !begun.iter().any(|range| newest.start <= range.start && range.start < newest.end)
        {
            return None;
        }
        let intended = trusted.runs_in(next);
        let count: u64 = intended.iter().map(|range| range.count()).sum();
        if count * 2 < next.count() {
            return None;
        }
        let released = self.open_window(next, &intended);
        if !is_late {
            self.window_blocks = (self.window_blocks - self.window_blocks / DECAY).max(self.least_blocks);
        }
        Some(Announcement { intended, released })
    }

    /// The journal holds what was announced last.
    pub(crate) fn logged(&mut self, at: Position) {
        if let Some(newest) = self.windows.back_mut() {
            newest.logged_at.get_or_insert(at);
        }
    }

    fn window_from(&self, first: u64) -> BlockRange {
        BlockRange::new(first, (first + self.window_blocks).min(self.announced.all().end.0))
    }

    /// Adds a window; the blocks of the oldest that are released.
    fn open_window(&mut self, window: BlockRange, intended: &[BlockRange]) -> Vec<BlockRange> {
        intended.iter().for_each(|range| self.announced.insert(*range));
        self.windows.push_back(Window { blocks: window, logged_at: None, is_late: false });
        let is_over = self.windows.len() > JOURNAL_AHEAD_WINDOWS;
        let oldest = if is_over { self.windows.pop_front() } else { None };
        let released = oldest.map_or(Vec::new(), |oldest| self.announced.runs_in(oldest.blocks));
        // What the new window has just announced stays announced.
        let released = released.into_iter().flat_map(|range| outside(range, window)).collect::<Vec<_>>();
        released.iter().for_each(|range| self.announced.remove(*range));
        released
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
        let window = JOURNAL_AHEAD_MIN_BYTES >> 20;
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
        assert_eq!(ahead.take(range(20 * window + 3, 21 * window)), None);
        let all: u64 = ahead.release_all().into_iter().map(BlockRange::count).sum();
        assert!(all <= JOURNAL_AHEAD_WINDOWS as u64 * window && ahead.release_all().is_empty());
    }

    /// A disk of 400 blocks, 16 of which are the shortest window.
    fn disk() -> (Layout, BlockSet) {
        let layout = Layout::new(400 << 18, BlockSize::new(1 << 18).unwrap()).unwrap();
        assert_eq!(16 << 18, JOURNAL_AHEAD_MIN_BYTES);
        (layout, BlockSet::empty(layout.block_count()))
    }

    #[test]
    fn the_next_window_is_announced_when_one_is_entered_and_the_scan_has_passed() {
        let range = BlockRange::new;
        let (layout, mut trusted) = disk();
        trusted.insert(range(0, 24));
        let mut ahead = Ahead::new(layout, JOURNAL_AHEAD_MIN_BYTES);
        assert_eq!(ahead.announce_next(&[range(0, 1)], &trusted), None, "nothing is announced yet");
        let first = ahead.announce(&[range(0, 1)], &trusted);
        assert_eq!(first.intended, [range(0, 16)]);
        first.intended.iter().for_each(|range| trusted.remove(*range));
        assert_eq!(ahead.announce_next(&[range(24, 25)], &trusted), None, "that is elsewhere");
        trusted.remove(range(23, 24));
        assert_eq!(ahead.announce_next(&[range(5, 6)], &trusted), None, "the scan is not there");
        trusted.insert(range(23, 40));
        let next = ahead.announce_next(&[range(5, 6)], &trusted).expect("announced");
        assert_eq!((next.intended, next.released), (vec![range(16, 32)], vec![]));
        assert_eq!(ahead.announce_next(&[range(6, 7)], &trusted), None, "once is enough");
        let mut short = Ahead::new(layout, 0);
        assert_eq!(short.announce(&[range(35, 36)], &trusted).intended, [range(35, 36)]);
        assert_eq!(short.announce_next(&[range(35, 36)], &trusted), None);
    }

    #[test]
    fn windows_grow_where_somebody_waited_and_shrink_again() {
        let range = BlockRange::new;
        let (layout, mut trusted) = disk();
        trusted.insert(trusted.all());
        let mut ahead = Ahead::new(layout, 5 * JOURNAL_AHEAD_MIN_BYTES);
        ahead.waited();
        let mut at = ahead.announce(&[range(0, 1)], &trusted).intended[0];
        assert_eq!(at.count(), 16, "the first one is waited for in any case");
        let mut next = |at: &mut BlockRange, waits: usize| {
            (0..waits).for_each(|_| ahead.waited());
            *at = ahead.announce_next(&[range(at.start.0, at.start.0 + 1)], &trusted).expect("next").intended
                [0];
            at.count()
        };
        assert_eq!(next(&mut at, 0), 16, "no shorter than that");
        assert_eq!(next(&mut at, 2), 64, "two that wait for one window are late once");
        assert_eq!(next(&mut at, 1), 80, "no longer than that");
        assert_eq!((next(&mut at, 0), next(&mut at, 0)), (80, 70));
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
