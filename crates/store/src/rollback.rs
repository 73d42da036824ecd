//! Ways back: a partial pass undone, and the machine brought to an older or newer point.
//!
//! A way back is a session like a pass's, whose source is the undo log. What it overwrites is logged as one more interval,
//! so the points that were newer stay in reach; it ends as a new point that is what the old one was. Only what the newest
//! point's own interval holds is put back without logging: all of it is in the log already.
//!
//! **Invariant**: killed anywhere, the same call begins with undoing what was partly done and ends at the same state. The
//! journal says that a machine is at a point only when all its disks are sealed with that point's roots.

use crate::disk::DiskStore;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::look::unix_ms;
use crate::machine::MachineStore;
use crate::restore::{RestoredDisk, Watch, restore_interval};
use crate::sink::{JournaledSink, Logging};
use crate::undo::UndoLog;
use failback_format::journal_record::{DiskSlot, Point, PointDisk, Record};
use failback_image::Image;
use failback_model::limits::JOURNAL_SEGMENT_MAX_BYTES;
use failback_model::{Digest, PointClaim};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far a way back is.
#[derive(Debug, Default)]
pub struct RollbackProgress {
    total_bytes: AtomicU64,
    restored_bytes: AtomicU64,
    read_back_bytes: AtomicU64,
}

impl RollbackProgress {
    /// Undo that is to be put back, bytes as they are stored: more than what will be written where pages changed often.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the disks that were written so far.
    pub fn restored_bytes(&self) -> u64 {
        self.restored_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the disks that were read back so far.
    pub fn read_back_bytes(&self) -> u64 {
        self.read_back_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn restored(&self, bytes: u64) {
        self.restored_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn read_back(&self, bytes: u64) {
        self.read_back_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn expect(&self, bytes: u64) {
        self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What a way back came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolledBack {
    /// The newest point now: what was asked for, or the one that has become what it was.
    pub point: u64,
    /// Bytes of the disks that were written.
    pub written_bytes: u64,
}

/// A disk and its image.
pub type OpenDisk = (Arc<DiskStore>, Arc<dyn Image>);

impl MachineStore {
    /// Most bytes of undo that going back to a point may log; 0 for the newest.
    pub fn predicted_undo(&self, number: u64) -> u64 {
        let Some(undo) = &self.undo else { return 0 };
        let Ok((target, newest)) = self.target(number) else { return 0 };
        undo.bytes_of(target.undo_from, self.start_of_way(&target, &newest, &|_| true).undo_from)
    }

    /// Brings the machine to a point: undoes a partial pass, which needs no source, then goes back or forward. `disks` are
    /// those of the point, open for writing, without a pass under way; the others keep what they hold, and their undo.
    /// Asked to stop, it stops within a segment; the same call finishes it.
    pub fn roll_back(
        &self,
        number: u64,
        disks: &[OpenDisk],
        progress: &RollbackProgress,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<RolledBack, StoreError> {
        let watch = Watch { progress, is_stopped };
        let undo = self.undo.as_ref().ok_or_else(|| StoreError::Point("no undo log is kept".into()))?;
        let _turn = self.turn();
        let (target, newest) = self.target(number)?;
        require_disks(&target, disks, |_| true)?;
        // Cancelling removes what a job made: where that is gone already, nothing is missed.
        let is_made = |slot: DiskSlot| self.journal.read(slot, |disk| disk.is_created);
        require_disks(&newest, disks, |slot| number != 0 || !is_made(slot))?;
        let is_whole = |point: &Point| holds_all(point, &target, disks);
        let is_there = target.number == newest.number || newest.restored == Some(number) && is_whole(&newest);
        let start = self.start_of_way(&target, &newest, &is_whole).undo_from;
        let between = if is_there { 0 } else { undo.bytes_of(target.undo_from, start) };
        if let Some(free_bytes) = undo.space()?.free_bytes
            && !is_there
            && between + JOURNAL_SEGMENT_MAX_BYTES > free_bytes
        {
            let needed_bytes = between + JOURNAL_SEGMENT_MAX_BYTES;
            return Err(StoreError::UndoSpace { needed_bytes, free_bytes });
        }
        progress.expect(between + undo.bytes_of(newest.undo_from, u64::MAX));
        self.undo_partial_pass(undo, &newest, disks, &watch)?;
        let point = match is_there {
            true => newest.number,
            false => self.go_to(undo, &target, &is_whole, disks, &watch)?,
        };
        Ok(RolledBack { point, written_bytes: progress.restored_bytes() })
    }

    /// A point by its number, and the newest.
    fn target(&self, number: u64) -> Result<(Point, Point), StoreError> {
        let found = self
            .journal
            .look(|state| state.history.find(number).cloned().zip(state.history.newest().cloned()));
        found.ok_or_else(|| StoreError::Point(format!("the machine has no point {number}")))
    }

    /// The point that the way to another begins at: what the newest came to be by going back, where that lies no further.
    /// A point that was gone back to is what the earlier one was only as far as its own disks go.
    fn start_of_way(&self, target: &Point, newest: &Point, is_whole: &dyn Fn(&Point) -> bool) -> Point {
        let mut start = newest.clone();
        while let Some(earlier) =
            start.restored.filter(|earlier| *earlier >= target.number && is_whole(&start))
        {
            let Ok((earlier, _)) = self.target(earlier) else { break };
            start = earlier;
        }
        start
    }

    /// Puts back what was written since the newest point, and lets go of that undo where no disk that is not here needs it.
    fn undo_partial_pass(
        &self,
        undo: &UndoLog,
        newest: &Point,
        disks: &[OpenDisk],
        watch: &Watch<'_>,
    ) -> Result<(), StoreError> {
        let end = undo.start_interval()?;
        let is_as_sealed = |(disk, _): &OpenDisk| {
            let state = disk.state();
            let held = newest.disks.iter().find(|held| held.slot == disk.disk().slot);
            held.is_none_or(|held| state.layout.is_none() || !state.in_pass && held.root == state.root)
        };
        if undo.segments(newest.undo_from, end).is_empty() && disks.iter().all(is_as_sealed) {
            return Ok(());
        }
        let way = Way { from: newest.undo_from, to: end, logging: Logging::Nothing };
        let (restored, is_needed) = self.restore(undo, newest, &way, disks, watch)?;
        let mut again = Point { disks: restored, ..newest.clone() };
        let sealed = |slot: DiskSlot| again.disks.iter().any(|disk| disk.slot == slot);
        let others: Vec<_> = newest.disks.iter().filter(|held| !sealed(held.slot)).cloned().collect();
        again.disks.extend(others);
        again.disks.sort_unstable_by_key(|disk| disk.slot);
        let is_oldest = self.journal.look(|state| state.history.undo_floor()) == Some(newest.undo_from);
        if !is_needed || !is_oldest {
            // Behind an older point what is kept leads back to that one.
            again.undo_from = end;
        }
        self.journal.update_machine(|_| (vec![Record::Point(again)], ()))?;
        if !is_needed {
            undo.remove(newest.undo_from, end)?;
        }
        Ok(())
    }

    /// From the newest point, at which the machine is, to another; its number.
    fn go_to(
        &self,
        undo: &UndoLog,
        target: &Point,
        is_whole: &dyn Fn(&Point) -> bool,
        disks: &[OpenDisk],
        watch: &Watch<'_>,
    ) -> Result<u64, StoreError> {
        let (target, newest) = self.target(target.number)?;
        let (from, to) = (target.undo_from, self.start_of_way(&target, &newest, is_whole).undo_from);
        let way = Way { from, to, logging: Logging::ForPoints };
        let (restored, _) = self.restore(undo, &target, &way, disks, watch)?;
        let undo_from = undo.start_interval()?;
        let point = Point {
            number: newest.number + 1,
            undo_from,
            sealed_unix_ms: unix_ms(),
            claim: target.claim.clone(),
            restored: Some(target.number),
            disks: restored,
        };
        let number = point.number;
        self.journal.update_machine(|_| (vec![Record::Point(point)], ()))?;
        Ok(number)
    }

    /// Puts segments back on the disks of a point and seals each with its root; whether there is undo of other disks among
    /// it. Disks that came behind the point are put back, too, and are no sealed state.
    fn restore(
        &self,
        undo: &UndoLog,
        point: &Point,
        way: &Way,
        disks: &[OpenDisk],
        watch: &Watch<'_>,
    ) -> Result<(Vec<PointDisk>, bool), StoreError> {
        let mut restored = Vec::new();
        let mut seals = Vec::new();
        for (disk, image) in disks {
            let Some((seal, session)) = session(point, disk, image, way)? else { continue };
            restored.push(session);
            seals.push(seal);
        }
        let has_others = restore_interval(undo, way.from, way.to, &mut restored, watch)?;
        for disk in &mut restored {
            disk.finish(watch)?;
        }
        let mut sealed = Vec::new();
        for (disk, seal) in restored.iter().zip(seals) {
            let Seal::With(root) = seal else { continue };
            let (generation, root) = disk.seal(root)?;
            let (slot, layout) = (disk.disk.slot, Some(disk.layout));
            sealed.push(PointDisk { slot, generation, layout, root: Some(root) });
        }
        sealed.sort_unstable_by_key(|disk| disk.slot);
        Ok((sealed, has_others))
    }
}

/// Segments that are put back, and whether what they overwrite is logged.
struct Way {
    from: u64,
    to: u64,
    logging: Logging,
}

/// What becomes of a disk that was put back.
enum Seal {
    /// It is what a point is; its root, where that is known.
    With(Option<Digest>),
    /// It is what it was when the point was recorded, which is none of the point's states.
    Not,
}

/// Opens a session that puts a disk back to a point. `None` where undo does not lead there.
fn session(
    point: &Point,
    disk: &Arc<DiskStore>,
    image: &Arc<dyn Image>,
    way: &Way,
) -> Result<Option<(Seal, RestoredDisk)>, StoreError> {
    let state = disk.state();
    let held = point.disks.iter().find(|held| held.slot == disk.disk().slot);
    let is_passed_by = way.logging == Logging::Nothing && point.number != 0;
    // As it was sealed: passes may have cut it into other blocks since, or extended it.
    let (layout, seal) = match (held.and_then(|held| Some((held.layout?, held.root))), state.layout) {
        (Some((layout, root)), _) => (layout, Seal::With(root)),
        (None, Some(layout)) if point.number == 0 && !disk.was_created() => (layout, Seal::With(None)),
        (None, Some(layout)) if is_passed_by && disk.disk().is_protected() => (layout, Seal::Not),
        _ => return Ok(None),
    };
    let length_bytes = image.geometry().length_bytes;
    if length_bytes < layout.length_bytes() {
        return Err(StoreError::Point(format!(
            "{} has {length_bytes} bytes, point {} has {} of disk {}",
            image.name().display(),
            point.number,
            layout.length_bytes(),
            disk.id()
        )));
    }
    let fingerprint = Fingerprint::of_image(&**image, state.epoch)?;
    let number = disk.begin_session(state.epoch, layout, false, &fingerprint)?;
    let claim: PointClaim = point.claim.clone();
    let sink =
        JournaledSink::new(Arc::clone(disk.disk()), Arc::clone(image), number, claim, way.logging).back();
    let has_root = matches!(seal, Seal::With(Some(_)));
    let restored = RestoredDisk::new(Arc::clone(disk.disk()), Arc::clone(image), sink, layout, has_root)?;
    Ok(Some((seal, restored)))
}

/// Whether a point holds all these disks that were written to. The original has none of those that a job made.
fn holds_all(point: &Point, target: &Point, disks: &[OpenDisk]) -> bool {
    disks.iter().all(|(disk, _)| {
        let is_made = target.number == 0 && disk.was_created();
        let is_held = point.disks.iter().any(|held| held.slot == disk.disk().slot);
        is_held || is_made || disk.state().layout.is_none()
    })
}

/// All disks of a point that are needed must be there: none is left behind at another state.
fn require_disks(
    point: &Point,
    disks: &[OpenDisk],
    is_needed: impl Fn(DiskSlot) -> bool,
) -> Result<(), StoreError> {
    let is_missed =
        |slot: DiskSlot| is_needed(slot) && !disks.iter().any(|(disk, _)| disk.disk().slot == slot);
    match point.disks.iter().find(|held| is_missed(held.slot)) {
        None => Ok(()),
        Some(_) => Err(StoreError::Point(format!("point {} holds a disk that is not there", point.number))),
    }
}
