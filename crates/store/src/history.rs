//! What the records about the whole machine add up to: its recovery points, and what became of it.
//!
//! **Invariant**: points are in the order of their numbers, and so is the undo behind them: what lies in segments from a
//! point's `undo_from` to the next point's leads back from the one to the other.

use crate::disk_state::Misfit;
use crate::look::unix_ms;
use failback_format::journal_record::{DiskSlot, Phase, PhaseKind, Point, Record};
use failback_model::limits::POINTS_MAX;
use failback_model::{Epoch, PointClaim, PointLabel};

/// The machine's history.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// The oldest first.
    pub(crate) points: Vec<Point>,
    pub(crate) phase: Phase,
    /// Whether the way back to the original was given up.
    pub(crate) has_no_original: bool,
}

impl Default for History {
    fn default() -> Self {
        let phase = Phase { kind: PhaseKind::Replicating, point: 0, epoch: Epoch(0), at_unix_ms: 0 };
        Self { points: Vec::new(), phase, has_no_original: false }
    }
}

impl History {
    /// The newest point.
    pub(crate) fn newest(&self) -> Option<&Point> {
        self.points.last()
    }

    /// A point by its number.
    pub(crate) fn find(&self, number: u64) -> Option<&Point> {
        self.points.iter().find(|point| point.number == number)
    }

    /// Whether a point leads back to a state of this disk: then what is written to it must be undoable.
    pub(crate) fn protects(&self, disk: DiskSlot, is_created: bool) -> bool {
        let holds = |point: &Point| match point.number {
            0 => !is_created,
            _ => point.disks.iter().any(|held| held.slot == disk),
        };
        self.points.iter().any(holds)
    }

    /// The record that makes what is there now the original of a disk that no session made, where nothing does; undo of it
    /// lies in this segment or behind it.
    pub(crate) fn original(&self, undo_from: u64) -> Option<Record> {
        if self.has_no_original || self.points.first().is_some_and(|first| first.number == 0) {
            return None;
        }
        let claim = PointClaim {
            source_unix_ms: 0,
            label: PointLabel::CrashConsistent,
            reason: "the original".into(),
            cycle: 0,
        };
        Some(Record::Point(Point {
            number: 0,
            undo_from: self.undo_floor().unwrap_or(undo_from),
            sealed_unix_ms: unix_ms(),
            claim,
            restored: None,
            disks: Vec::new(),
        }))
    }

    /// All undo below this segment leads to no point.
    pub(crate) fn undo_floor(&self) -> Option<u64> {
        self.points.first().map(|point| point.undo_from)
    }

    /// The same in records, for a checkpoint.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        if self.phase != Self::default().phase {
            records.push(Record::Phase(self.phase));
        }
        if self.has_no_original {
            records.push(Record::PointDropped { number: 0 });
        }
        records.extend(self.points.iter().cloned().map(Record::Point));
        records
    }

    /// Whether a record can follow.
    pub(crate) fn check(&self, record: &Record) -> Result<(), Misfit> {
        match record {
            Record::Point(point) => {
                let newest = self.newest().map(|newest| (newest.number, newest.undo_from));
                if point.number == 0 && self.undo_floor().is_none_or(|floor| point.undo_from <= floor) {
                    return Ok(());
                }
                if self.points.len() >= POINTS_MAX {
                    return Err(Misfit("no machine has as many points"));
                }
                match newest {
                    Some((number, from)) if point.number < number || point.undo_from < from => {
                        Err(Misfit("points count up"))
                    }
                    _ => Ok(()),
                }
            }
            Record::PointDropped { .. } | Record::Phase(_) => Ok(()),
            _ => Err(Misfit("it is about a disk, not about the machine")),
        }
    }

    /// Takes a record that was checked.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Point(point) => {
                self.points.retain(|held| held.number != point.number);
                let behind = self.points.partition_point(|held| held.number < point.number);
                self.points.insert(behind, point.clone());
            }
            Record::PointDropped { number } => {
                self.points.retain(|held| held.number != *number);
                self.has_no_original |= *number == 0;
            }
            Record::Phase(phase) => {
                self.phase = *phase;
                if matches!(phase.kind, PhaseKind::Committed | PhaseKind::HistoryEnded) {
                    self.points.clear();
                    self.has_no_original = phase.kind == PhaseKind::HistoryEnded;
                }
            }
            _ => {}
        }
    }
}
