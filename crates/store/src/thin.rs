//! Giving up points: what only they needed is freed.
//!
//! The interval behind a point that is given up joins the one before it. Of each page the oldest record counts then; later
//! ones are left out of their segments, one segment at a time. **Invariant**: a segment is replaced whole, by one that lacks
//! only what older segments of the interval make needless; so thinning may be cut off anywhere and done again.

use crate::block_set::BlockSet;
use crate::error::StoreError;
use crate::machine::MachineStore;
use crate::restore::{plain, records_of};
use crate::undo::UndoLog;
use failback_format::journal_record::{DiskSlot, OldPages, PageRun, Record, Undo, UndoPiece};
use failback_model::limits::{PAGE_BYTES, UNDO_SEEN_PAGES};
use failback_model::{BlockIndex, BlockRange, Layout};

/// Pieces of one record: with the most bytes and digests that a record has beside them, it is no longer than it may be.
const PIECES_MAX: usize = 8 << 10;

impl MachineStore {
    /// Gives up points, durably, and frees the undo that no other needs; how much that was, in bytes. The newest is never
    /// given up, the original only where cancelling is.
    pub fn drop_points(&self, numbers: &[u64], gives_up_cancel: bool) -> Result<u64, StoreError> {
        let Some(undo) = &self.undo else { return Err(StoreError::Point("no undo log is kept".into())) };
        let _turn = self.turn();
        let held: Vec<u64> =
            self.journal.look(|state| state.history.points.iter().map(|point| point.number).collect());
        for number in numbers {
            let refused = match *number {
                number if !held.contains(&number) => format!("the machine has no point {number}"),
                number if held.last() == Some(&number) => {
                    format!("point {number} is the newest: it is what the disks hold")
                }
                0 if !gives_up_cancel => {
                    "point 0 is the original: without it nothing can be cancelled".into()
                }
                _ => continue,
            };
            return Err(StoreError::Point(refused));
        }
        let before = undo.bytes_of(0, u64::MAX);
        self.journal.update_machine(|_| {
            let dropped = numbers.iter().map(|number| Record::PointDropped { number: *number });
            (dropped.collect(), ())
        })?;
        self.remove_unreachable_undo()?;
        for (from, to) in self.joined_intervals(&held) {
            self.thin(undo, from, to)?;
        }
        Ok(before.saturating_sub(undo.bytes_of(0, u64::MAX)))
    }

    /// The intervals that lost a border since these points were there.
    fn joined_intervals(&self, before: &[u64]) -> Vec<(u64, u64)> {
        self.journal.look(|state| {
            let points = &state.history.points;
            let between = |pair: &[failback_format::journal_record::Point]| {
                let lost = before.iter().any(|n| (pair[0].number + 1..pair[1].number).contains(n));
                lost.then_some((pair[0].undo_from, pair[1].undo_from))
            };
            points.windows(2).filter_map(between).collect()
        })
    }

    /// Leaves out what older segments of an interval make needless, in as many turns as its disks need memory for.
    fn thin(&self, undo: &UndoLog, from: u64, to: u64) -> Result<(), StoreError> {
        let layouts: Vec<Option<Layout>> =
            self.journal.look(|state| state.disks.iter().map(|disk| disk.layout).collect());
        let mut turn: Vec<Window> = Vec::new();
        let mut pages_held = 0;
        for (slot, layout) in layouts.iter().enumerate() {
            let Some(layout) = layout else { continue };
            let pages = layout.length_bytes().div_ceil(PAGE_BYTES);
            for start in (0..pages).step_by(UNDO_SEEN_PAGES as usize) {
                let window = Window::new(DiskSlot(slot as u16), start, pages);
                if pages_held + window.pages.count() > UNDO_SEEN_PAGES {
                    thin_windows(undo, from, to, &mut turn)?;
                    (turn, pages_held) = (Vec::new(), 0);
                }
                pages_held += window.pages.count();
                turn.push(window);
            }
        }
        thin_windows(undo, from, to, &mut turn)
    }
}

/// A part of a disk, and its pages that older records name.
struct Window {
    slot: DiskSlot,
    pages: PageRun,
    seen: BlockSet,
}

impl Window {
    fn new(slot: DiskSlot, start: u64, pages: u64) -> Self {
        let pages = PageRun { start, end: pages.min(start + UNDO_SEEN_PAGES) };
        Self { slot, pages, seen: BlockSet::empty(pages.count()) }
    }

    /// The parts of a run that are in the window and were not seen, and those that are outside.
    fn keep(&mut self, run: PageRun) -> Vec<PageRun> {
        let within = PageRun { start: run.start.max(self.pages.start), end: run.end.min(self.pages.end) };
        if within.start >= within.end {
            return vec![run];
        }
        let shifted = BlockRange::new(within.start - self.pages.start, within.end - self.pages.start);
        let fresh = self
            .seen
            .gaps_in(shifted)
            .into_iter()
            .map(|gap| PageRun { start: gap.start.0 + self.pages.start, end: gap.end.0 + self.pages.start });
        let front = PageRun { start: run.start, end: within.start };
        let back = PageRun { start: within.end, end: run.end };
        let parts: Vec<PageRun> = [front].into_iter().chain(fresh).chain([back]).collect();
        self.seen.insert(shifted);
        let mut kept: Vec<PageRun> = Vec::new();
        for part in parts.into_iter().filter(|part| part.start < part.end) {
            match kept.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                _ => kept.push(part),
            }
        }
        kept
    }
}

fn thin_windows(undo: &UndoLog, from: u64, to: u64, windows: &mut [Window]) -> Result<(), StoreError> {
    for number in undo.segments(from, to) {
        let mut is_changed = false;
        let mut kept = Vec::new();
        for (slot, record) in records_of(undo, number)? {
            let before = (record.pieces.len(), record.digests.len());
            let (record, is_cut) = thin_record(slot, record, windows)?;
            is_changed |= is_cut || before != (record.pieces.len(), record.digests.len());
            kept.extend(fitting(record).map(|record| (slot, Record::Undo(record))));
        }
        // Long runs that were cut into many pieces may take more than what is left out: then all of it stays.
        if is_changed && undo.fits(&kept) {
            undo.replace(number, kept)?;
        }
    }
    Ok(())
}

/// The same in records that fit: a long run of zeros may have become many pieces. The digests go with the first, which is the
/// one that counts.
fn fitting(record: Undo) -> impl Iterator<Item = Undo> {
    let Undo { group, block_bytes, mut digests, pieces } = record;
    let mut pieces = pieces.into_iter().peekable();
    std::iter::from_fn(move || {
        pieces.peek()?;
        let (digests, pieces) = (std::mem::take(&mut digests), pieces.by_ref().take(PIECES_MAX).collect());
        Some(Undo { group, block_bytes, digests, pieces })
    })
}

/// What of a record still counts, and whether a piece was cut.
fn thin_record(slot: DiskSlot, record: Undo, windows: &mut [Window]) -> Result<(Undo, bool), StoreError> {
    let Undo { group, block_bytes, mut digests, mut pieces } = record;
    let mut is_cut = false;
    for window in windows.iter_mut().filter(|window| window.slot == slot) {
        let mut kept = Vec::new();
        for piece in pieces {
            let runs = window.keep(piece.pages);
            if runs[..] == [piece.pages] {
                kept.push(piece);
                continue;
            }
            is_cut = true;
            for run in runs {
                kept.push(part_of(&piece, run)?);
            }
        }
        pieces = kept;
    }
    if is_cut {
        let block_pages = u64::from(block_bytes) / PAGE_BYTES;
        let touches = |block: BlockIndex, pages: PageRun| {
            block.0 * block_pages < pages.end && pages.start < (block.0 + 1) * block_pages
        };
        digests.retain(|(block, _)| pieces.iter().any(|piece| touches(*block, piece.pages)));
    }
    Ok((Undo { group, block_bytes, digests, pieces }, is_cut))
}

/// Some pages of a piece.
fn part_of(piece: &UndoPiece, pages: PageRun) -> Result<UndoPiece, StoreError> {
    let Some(old) = plain(piece)? else { return Ok(UndoPiece { pages, old: OldPages::Zero }) };
    let from = ((pages.start - piece.pages.start) * PAGE_BYTES) as usize;
    let until = (((pages.end - piece.pages.start) * PAGE_BYTES) as usize).min(old.len());
    let bytes = old.get(from..until).map(<[u8]>::to_vec);
    let bytes = bytes.ok_or_else(|| StoreError::UndoDamaged("a piece of undo is short".into()))?;
    let plain_bytes = bytes.len() as u32;
    Ok(UndoPiece { pages, old: OldPages::Stored { bytes, plain_bytes } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_format::journal_record::{Place, encode_record};

    #[test]
    fn a_run_of_zeros_that_was_cut_into_many_still_fits_its_records() {
        let piece =
            |at: u64| UndoPiece { pages: PageRun { start: 2 * at, end: 2 * at + 1 }, old: OldPages::Zero };
        let pieces: Vec<UndoPiece> = (0..200_000).map(piece).collect();
        let digests = vec![(BlockIndex(7), None)];
        let cut: Vec<Undo> =
            fitting(Undo { group: 1, block_bytes: 65_536, digests: digests.clone(), pieces: pieces.clone() })
                .collect();
        assert!(cut[0].digests == digests && cut[1..].iter().all(|record| record.digests.is_empty()));
        assert!(cut.iter().flat_map(|record| &record.pieces).eq(&pieces));
        for record in cut {
            let place = Place { salt: 0, offset_bytes: 128, sequence: 0 };
            encode_record(&mut Vec::new(), place, 128, DiskSlot(0), &Record::Undo(record));
        }
        let none = Undo { group: 1, block_bytes: 65_536, digests, pieces: Vec::new() };
        assert_eq!(fitting(none).count(), 0);
    }
}
