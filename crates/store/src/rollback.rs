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
        undo.bytes_of(target.undo_from, self.start_of_way(&target, &newest).undo_from)
    }

    /// Brings the machine to a point: undoes a partial pass, which needs no source, then goes back or forward. `disks` are
    /// those of the point, open for writing, without a pass under way; the others keep what they hold. Asked to stop, it
    /// stops within a segment; the same call finishes it.
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
        require_disks(&target, disks)?;
        require_disks(&newest, disks)?;
        let is_there = target.number == newest.number || newest.restored == Some(number);
        let start = self.start_of_way(&target, &newest).undo_from;
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
            false => self.go_to(undo, &target, disks, &watch)?,
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
    fn start_of_way(&self, target: &Point, newest: &Point) -> Point {
        let mut start = newest.clone();
        while let Some(earlier) = start.restored.filter(|earlier| *earlier >= target.number) {
            let Ok((earlier, _)) = self.target(earlier) else { break };
            start = earlier;
        }
        start
    }

    /// Puts back what was written since the newest point, and lets go of that undo.
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
            state.layout.is_none() || !state.in_pass && held.is_some_and(|held| held.root == state.root)
        };
        if undo.segments(newest.undo_from, end).is_empty() && disks.iter().all(is_as_sealed) {
            return Ok(());
        }
        let restored = self.restore(undo, newest, (newest.undo_from, end), disks, Logging::Nothing, watch)?;
        let again = Point { undo_from: end, disks: restored, ..newest.clone() };
        self.journal.update_machine(|_| (vec![Record::Point(again)], ()))?;
        undo.remove(newest.undo_from, end)?;
        Ok(())
    }

    /// From the newest point, at which the machine is, to another; its number.
    fn go_to(
        &self,
        undo: &UndoLog,
        target: &Point,
        disks: &[OpenDisk],
        watch: &Watch<'_>,
    ) -> Result<u64, StoreError> {
        let (target, newest) = self.target(target.number)?;
        let bounds = (target.undo_from, self.start_of_way(&target, &newest).undo_from);
        let restored = self.restore(undo, &target, bounds, disks, Logging::ForPoints, watch)?;
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

    /// Puts segments back on the disks of a point and seals each with its root.
    fn restore(
        &self,
        undo: &UndoLog,
        point: &Point,
        (from, to): (u64, u64),
        disks: &[OpenDisk],
        logging: Logging,
        watch: &Watch<'_>,
    ) -> Result<Vec<PointDisk>, StoreError> {
        let mut restored = Vec::new();
        let mut roots = Vec::new();
        for (disk, image) in disks {
            let Some((root, session)) = session(point, disk, image, logging)? else { continue };
            restored.push(session);
            roots.push(root);
        }
        restore_interval(undo, from, to, &mut restored, watch)?;
        for disk in &mut restored {
            disk.finish(watch)?;
        }
        let mut sealed = Vec::new();
        for (disk, root) in restored.iter().zip(roots) {
            let (generation, root) = disk.seal(root)?;
            let (slot, layout) = (disk.disk.slot, Some(disk.layout));
            sealed.push(PointDisk { slot, generation, layout, root: Some(root) });
        }
        sealed.sort_unstable_by_key(|disk| disk.slot);
        Ok(sealed)
    }
}

/// Opens a session that puts a disk back to a point, and the root that the point has of it. `None` where the point does not
/// hold the disk.
fn session(
    point: &Point,
    disk: &Arc<DiskStore>,
    image: &Arc<dyn Image>,
    logging: Logging,
) -> Result<Option<(Option<Digest>, RestoredDisk)>, StoreError> {
    let state = disk.state();
    let held = point.disks.iter().find(|held| held.slot == disk.disk().slot);
    // As it was sealed: passes may have cut it into other blocks since, or extended it. What was added stays behind its end.
    let (layout, root) = match held.and_then(|held| Some((held.layout?, held.root))) {
        Some(sealed) => sealed,
        None if point.number == 0 && !disk.was_created() => match state.layout {
            Some(layout) => (layout, None),
            None => return Ok(None),
        },
        None => return Ok(None),
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
    let sink = JournaledSink::new(Arc::clone(disk.disk()), Arc::clone(image), number, claim, logging);
    let has_root = root.is_some();
    let restored = RestoredDisk::new(Arc::clone(disk.disk()), Arc::clone(image), sink, layout, has_root)?;
    Ok(Some((root, restored)))
}

/// All disks of a point must be there: none is left behind at another state.
fn require_disks(point: &Point, disks: &[OpenDisk]) -> Result<(), StoreError> {
    let is_given = |slot: DiskSlot| disks.iter().any(|(disk, _)| disk.disk().slot == slot);
    match point.disks.iter().find(|held| !is_given(held.slot)) {
        None => Ok(()),
        Some(_) => Err(StoreError::Point(format!("point {} holds a disk that is not there", point.number))),
    }
}
