//! Recovery points of a machine: recorded when all its disks are sealed, dropped, and what the machine stands at.
//!
//! **Invariant**: a point is recorded with all disks of the machine or not at all; undo of what is written later lies behind
//! the segment that it names. The newest point is never dropped, the original only by whoever gives up cancelling.

use crate::error::StoreError;
use crate::journal::JournalState;
use crate::look::unix_ms;
use crate::machine::MachineStore;
use crate::sink::PUT_BACK;
use crate::undo::UndoSpace;
use failback_format::journal_record::{self as record, DiskSlot, PhaseKind, Record};
use failback_model::{Digest, DiskId, Epoch, Generation, Layout, PointClaim, PointLabel};

/// A state of all disks of a machine that can be gone back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its number: 0 is the original.
    pub number: u64,
    /// What the sending end said of it.
    pub claim: PointClaim,
    /// When it was recorded, milliseconds since 1970.
    pub sealed_unix_ms: u64,
    /// The point that was gone back to, where this one came to be so.
    pub restored: Option<u64>,
    /// Its disks.
    pub disks: Vec<PointDisk>,
    /// Undo between it and the next point, or now.
    pub undo_bytes: u64,
}

/// A disk in a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointDisk {
    /// Which.
    pub disk: DiskId,
    /// Number of its sealed state; 0: it was never sealed.
    pub generation: Generation,
    /// Root of that state; none of an original that was never gone back to.
    pub root: Option<Digest>,
    /// Length of the disk that was sealed, bytes.
    pub length_bytes: u64,
}

/// What became of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Passes may write to it.
    Replicating,
    /// It was cut over to a point, and its disks handed over.
    Released {
        /// The point that it stands at.
        point: u64,
    },
    /// It is the original again, and its disks handed over.
    Cancelled,
    /// What it is is final.
    Committed,
}

/// Where a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What became of it.
    pub phase: Phase,
    /// Since when, milliseconds since 1970; 0 where nothing ever did.
    pub since_unix_ms: u64,
    /// Jobs up to this epoch are over, unless it replicates.
    pub epoch: Epoch,
    /// Its newest point.
    pub at: Option<u64>,
    /// Whether something was written since that point.
    pub is_partial: bool,
}

impl MachineStore {
    /// The machine's points, the oldest first. The original's disks are those that no session made.
    pub fn points(&self) -> Vec<Point> {
        let (mut points, bounds): (Vec<_>, Vec<_>) = self.journal.look(|state| {
            let points = state.history.points.iter().map(|point| public(state, point));
            let bounds = state.history.points.iter().map(|point| point.undo_from);
            (points.collect(), bounds.chain([u64::MAX]).collect())
        });
        if let Some(undo) = &self.undo {
            for (point, bounds) in points.iter_mut().zip(bounds.windows(2)) {
                point.undo_bytes = undo.bytes_of(bounds[0], bounds[1]);
            }
        }
        points
    }

    /// Where the machine stands.
    pub fn standing(&self) -> Standing {
        let (phase, newest) = self.journal.look(|state| {
            let newest = state.history.newest().map(|point| (point.number, point.undo_from));
            (state.history.phase, newest)
        });
        let written = |(_, from)| self.undo.as_ref().is_some_and(|undo| undo.bytes_of(from, u64::MAX) > 0);
        Standing {
            phase: match phase.kind {
                PhaseKind::Replicating | PhaseKind::HistoryEnded => Phase::Replicating,
                PhaseKind::Released => Phase::Released { point: phase.point },
                PhaseKind::Cancelled => Phase::Cancelled,
                PhaseKind::Committed => Phase::Committed,
            },
            since_unix_ms: phase.at_unix_ms,
            epoch: phase.epoch,
            at: newest.map(|(number, _)| number),
            is_partial: newest.is_some_and(written),
        }
    }

    /// Records a point where all these disks, which are all of the machine, were sealed by one cycle of a job and no point says so.
    /// `None` where that is not so, or no undo is kept.
    pub fn record_point(&self, disks: &[DiskId]) -> Result<Option<Point>, StoreError> {
        let Some(undo) = &self.undo else { return Ok(None) };
        if self.journal.look(|state| sealed_together(state, disks)).is_none() {
            return Ok(None);
        }
        // A call that logged what it will change, and has not said so, would change it behind the point.
        let held = self.open_disks();
        let _paused: Vec<_> = held.iter().map(|disk| disk.pause()).collect();
        // First, so that whatever is written behind the record lies behind it.
        let undo_from = undo.start_interval()?;
        let number = self.journal.update_machine(|state| {
            let Some((disks, claim)) = sealed_together(state, disks) else { return (Vec::new(), None) };
            let number = state.history.newest().map_or(1, |newest| newest.number + 1);
            let sealed_unix_ms = unix_ms();
            let point = record::Point { number, undo_from, sealed_unix_ms, claim, restored: None, disks };
            (vec![Record::Point(point)], Some(number))
        })?;
        Ok(number.and_then(|number| self.points().into_iter().find(|point| point.number == number)))
    }

    /// Space of the undo log; `None` where none is kept.
    pub fn undo_space(&self) -> Result<Option<UndoSpace>, StoreError> {
        Ok(self.undo.as_ref().map(|undo| undo.space()).transpose()?)
    }

    /// Ends the job durably: the machine was cut over or cancelled, and its disks are handed over. Sessions of it are
    /// refused from now on; a newer job takes the disks back.
    pub fn release(&self, phase: Phase) -> Result<(), StoreError> {
        let (kind, point) = match phase {
            Phase::Released { point } => (PhaseKind::Released, point),
            Phase::Cancelled => (PhaseKind::Cancelled, 0),
            Phase::Replicating | Phase::Committed => {
                return Err(StoreError::Point("a machine is released to a point or cancelled".into()));
            }
        };
        self.journal.update_machine(|state| (vec![phase_record(state, kind, point)], ()))?;
        for disk in self.open_disks() {
            disk.fence(disk.state().session.next());
        }
        Ok(())
    }

    /// Makes what is there final: points and undo are gone. What was freed. Refused where there is nothing to commit,
    /// and in the middle of a pass or of a way back.
    pub fn commit(&self) -> Result<u64, StoreError> {
        let _turn = self.turn();
        let standing = self.standing();
        if standing.phase == Phase::Committed || standing.at.is_none() {
            return Err(StoreError::AlreadyFinal(match standing.phase {
                Phase::Committed => "it was committed before".into(),
                _ => "it has no recovery point".into(),
            }));
        }
        // Without an original, cancelling removed what a part of a pass is on.
        let is_removed =
            standing.phase == Phase::Cancelled && self.points().iter().all(|point| point.number > 0);
        if standing.is_partial && !is_removed {
            let reason =
                "something was written since its newest point: what its disks hold is no state of anything";
            return Err(StoreError::Point(reason.into()));
        }
        let point = standing.at.unwrap_or(0);
        self.journal.update_machine(|state| (vec![phase_record(state, PhaseKind::Committed, point)], ()))?;
        self.remove_unreachable_undo()
    }

    /// Gives up all points, durably: something else wrote to a disk, which makes every way back wrong.
    pub fn end_history(&self) -> Result<u64, StoreError> {
        self.journal.update_machine(|state| {
            let has_points = !state.history.points.is_empty();
            let ended = has_points.then(|| phase_record(state, PhaseKind::HistoryEnded, 0));
            (ended.into_iter().collect(), ())
        })?;
        self.remove_unreachable_undo()
    }

    /// Removes segments of undo that lead to no point; what was freed.
    pub(crate) fn remove_unreachable_undo(&self) -> Result<u64, StoreError> {
        let Some(undo) = &self.undo else { return Ok(0) };
        let end = undo.start_interval()?;
        let floor = self.journal.look(|state| state.history.undo_floor()).unwrap_or(end);
        Ok(undo.remove(0, floor)?)
    }
}

fn phase_record(state: &JournalState, kind: PhaseKind, point: u64) -> Record {
    let epoch = state.disks.iter().map(|disk| disk.epoch).max().unwrap_or(Epoch(0));
    Record::Phase(record::Phase { kind, point, epoch, at_unix_ms: unix_ms() })
}

/// The disks of the next point and what is claimed of it, where one cycle of a job sealed all of them since the newest.
fn sealed_together(state: &JournalState, disks: &[DiskId]) -> Option<(Vec<record::PointDisk>, PointClaim)> {
    if disks.is_empty()
        || !matches!(state.history.phase.kind, PhaseKind::Replicating | PhaseKind::HistoryEnded)
    {
        return None;
    }
    let mut claims: Vec<(Epoch, &PointClaim)> = Vec::new();
    let mut held = Vec::new();
    for (slot, disk) in state.disks.iter().enumerate() {
        if !disks.contains(&disk.id) {
            continue;
        }
        let sealed = disk.sealed.as_ref().filter(|sealed| {
            disk.is_sealed() && sealed.epoch == disk.epoch && sealed.at_unix_ms != PUT_BACK
        })?;
        claims.push((sealed.epoch, &sealed.claim));
        held.push(record::PointDisk {
            slot: DiskSlot(slot as u16),
            generation: disk.generation,
            layout: disk.layout,
            root: disk.root,
        });
    }
    let (epoch, _) = *claims.first()?;
    let cycle = claims.first()?.1.cycle;
    let is_one_job = held.len() == disks.len()
        && claims.iter().all(|(other, claim)| (*other, claim.cycle) == (epoch, cycle))
        && (epoch > state.history.phase.epoch || state.history.phase.kind == PhaseKind::HistoryEnded);
    let is_new = state.history.newest().is_none_or(|newest| newest.disks != held);
    (is_one_job && is_new).then(|| (held, together(claims.into_iter().map(|(_, claim)| claim))))
}

/// What the claims of all disks come to: no more than the weakest, and disks of different instants are only that.
fn together<'a>(claims: impl Iterator<Item = &'a PointClaim> + Clone) -> PointClaim {
    let weakest = claims.clone().min_by_key(|claim| claim.label);
    let oldest = claims.clone().map(|claim| claim.source_unix_ms).min();
    let newest = claims.map(|claim| claim.source_unix_ms).max();
    let mut claim = weakest.expect("a machine has disks").clone();
    if oldest != newest {
        claim.label = PointLabel::PerDisk;
        claim.reason = "the states of its disks are of different instants".into();
    }
    PointClaim { source_unix_ms: oldest.unwrap_or_default(), ..claim }
}

fn public(state: &JournalState, point: &record::Point) -> Point {
    let id = |slot: DiskSlot| state.disks[usize::from(slot.0)].id.clone();
    let mut disks: Vec<PointDisk> = point
        .disks
        .iter()
        .map(|disk| PointDisk {
            disk: id(disk.slot),
            generation: disk.generation,
            root: disk.root,
            length_bytes: disk.layout.map_or(0, Layout::length_bytes),
        })
        .collect();
    if point.number == 0 {
        let originals = state.disks.iter().filter(|disk| !disk.is_created && disk.layout.is_some());
        for disk in originals {
            if !disks.iter().any(|held| held.disk == disk.id) {
                disks.push(PointDisk {
                    disk: disk.id.clone(),
                    generation: Generation(0),
                    root: None,
                    length_bytes: disk.layout.map_or(0, Layout::length_bytes),
                });
            }
        }
    }
    Point {
        number: point.number,
        claim: point.claim.clone(),
        sealed_unix_ms: point.sealed_unix_ms,
        restored: point.restored,
        disks,
        undo_bytes: 0,
    }
}
