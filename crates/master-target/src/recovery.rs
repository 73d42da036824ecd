//! What the status says of a machine's recovery: where it stands, its points, and how long its undo has space.

use crate::config::Machine;
use crate::site::Site;
use failback_model::{Code, Finding, MachineId, Severity};
use failback_service::clock::unix_ms;
use failback_service::control::{
    MachinePoints, PointDiskStatus, PointStatus, RecoveryStatus, StandingStatus, UndoStatus,
};
use failback_service::report::{FindingLine, finding_lines};
use failback_service::size::human;
use failback_store::{MachineStore, Phase, Point, Standing, UsedSample, forecast};

/// The growth of a day says when space ends.
const FORECAST_MS: u64 = 24 * 3_600_000;
/// Less says nothing of an hour.
const FORECAST_LEAST_MS: u64 = 60_000;

/// A phase by its name.
pub(crate) const fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Replicating => "replicating",
        Phase::Released { .. } => "released",
        Phase::Cancelled => "cancelled",
        Phase::Committed => "committed",
    }
}

impl Site {
    /// A machine's points.
    pub(crate) fn points(&self, machine: &MachineId) -> Result<MachinePoints, Finding> {
        let entry = self.registry().machine(machine)?;
        let store = self.stores().machine(machine)?;
        let points = store.points();
        let recovery = self.recovery(&entry, &store, &points)?;
        Ok(MachinePoints {
            machine: machine.to_string(),
            recovery,
            points: points.iter().map(told).collect(),
        })
    }

    /// A machine's recovery in short; `None` where its journal cannot be read, which its disks' status says.
    pub(crate) fn recovery_of(&self, machine: &Machine) -> Option<RecoveryStatus> {
        let store = self.stores().machine(&machine.id).ok()?;
        let points = store.points();
        match self.recovery(machine, &store, &points) {
            Ok(recovery) => Some(recovery),
            Err(finding) => {
                let findings = vec![FindingLine::from(&finding)];
                Some(RecoveryStatus { findings, ..RecoveryStatus::default() })
            }
        }
    }

    fn recovery(
        &self,
        machine: &Machine,
        store: &MachineStore,
        points: &[Point],
    ) -> Result<RecoveryStatus, Finding> {
        let undo = self.undo_of(&machine.id, store, points)?;
        let operation = self.pending().status(&machine.id);
        let mut findings: Vec<Finding> = self.space_short(&machine.id, &undo, points);
        if operation.as_ref().is_some_and(|operation| operation.is_cut_off) {
            findings.extend(self.pending().bars(&machine.id));
        }
        findings.extend(self.noted(&machine.id));
        let newest = points.iter().filter(|point| point.number > 0);
        Ok(RecoveryStatus {
            group: machine.group.as_ref().map(ToString::to_string),
            standing: standing(&store.standing()),
            points: points.len() as u64,
            newest_source_unix_ms: newest.map(|point| point.claim.source_unix_ms).max(),
            undo,
            operation,
            findings: finding_lines(&findings),
        })
    }

    /// Space for a machine's undo, and how long it lasts.
    pub(crate) fn undo_of(
        &self,
        machine: &MachineId,
        store: &MachineStore,
        points: &[Point],
    ) -> Result<UndoStatus, Finding> {
        let space = store.undo_space().map_err(|error| error.to_finding())?;
        let (used_bytes, free_bytes) =
            space.map_or((0, u64::MAX), |space| (space.used_bytes, space.free_bytes.unwrap_or(u64::MAX)));
        let left = free_bytes.saturating_sub(self.retention().low_space.0);
        let full = forecast(&growth(points, unix_ms()), left);
        let bytes_per_hour = full.map(|full| full.bytes_per_second.saturating_mul(3600));
        let full_in_seconds = full.map(|full| full.full_in.as_secs());
        let folder = self.stores().undo_folder(machine).display().to_string();
        Ok(UndoStatus { folder, used_bytes, free_bytes, bytes_per_hour, full_in_seconds })
    }

    /// Refuses a pass where there is no room for its undo. A journal that cannot be read is refused where it is needed.
    pub(crate) fn has_room(&self, machine: &MachineId) -> Result<(), Finding> {
        let Ok(store) = self.stores().machine(machine) else { return Ok(()) };
        let points = store.points();
        let undo = self.undo_of(machine, &store, &points)?;
        let found = self.space_short(machine, &undo, &points);
        found.into_iter().find(|finding| finding.severity == Severity::Error).map_or(Ok(()), Err)
    }

    /// What speaks against another pass: space that would not hold what the last one took.
    pub(crate) fn space_short(
        &self,
        machine: &MachineId,
        undo: &UndoStatus,
        points: &[Point],
    ) -> Vec<Finding> {
        let low = self.retention().low_space.0;
        let expected = last_interval(points);
        let (free, folder) = (undo.free_bytes, &undo.folder);
        if free < low {
            let evidence = format!(
                "{machine}: {folder} has {} left, and no pass begins below {}",
                human(free),
                human(low)
            );
            return vec![Finding::error(Code::UndoSpace, evidence)];
        }
        if let Some(expected) = expected.filter(|expected| free - low < *expected) {
            let evidence = format!(
                "{machine}: {folder} has {} left; the last pass took {} of undo, and {} are to stay free",
                human(free),
                human(expected),
                human(low)
            );
            return vec![Finding::error(Code::UndoSpace, evidence)];
        }
        if free < low.saturating_mul(2) {
            let evidence = format!(
                "{machine}: {folder} has {} left, and passes pause below {}",
                human(free),
                human(low)
            );
            return vec![Finding::warning(Code::UndoLow, evidence)];
        }
        Vec::new()
    }
}

/// Undo that the last sealed pass took; none before there was one over a state that has to be had back.
fn last_interval(points: &[Point]) -> Option<u64> {
    let before = points.len().checked_sub(2)?;
    Some(points[before].undo_bytes)
}

/// How undo grew since the oldest point of the last day; nothing yet where that is less than a minute.
fn growth(points: &[Point], now_ms: u64) -> Vec<UsedSample> {
    let recent = points.iter().filter(|point| point.sealed_unix_ms >= now_ms.saturating_sub(FORECAST_MS));
    let mut samples = Vec::new();
    let mut used_bytes = 0;
    for point in recent {
        samples.push(UsedSample { at_unix_ms: point.sealed_unix_ms, used_bytes });
        used_bytes += point.undo_bytes;
    }
    match samples.first() {
        Some(first) if now_ms.saturating_sub(first.at_unix_ms) >= FORECAST_LEAST_MS => {
            samples.push(UsedSample { at_unix_ms: now_ms, used_bytes });
            samples
        }
        _ => Vec::new(),
    }
}

fn standing(standing: &Standing) -> StandingStatus {
    StandingStatus {
        phase: phase_word(standing.phase).into(),
        since_unix_ms: standing.since_unix_ms,
        released_point: match standing.phase {
            Phase::Released { point } => Some(point),
            _ => None,
        },
        at_point: standing.at,
        is_partial: standing.is_partial,
    }
}

fn told(point: &Point) -> PointStatus {
    let disk = |disk: &failback_store::PointDisk| PointDiskStatus {
        id: disk.disk.to_string(),
        generation: disk.generation.0,
        root: disk.root.map(|root| root.to_string()),
        length_bytes: disk.length_bytes,
    };
    PointStatus {
        number: point.number,
        label: if point.number == 0 { "original".into() } else { point.claim.label.to_string() },
        reason: point.claim.reason.clone(),
        source_unix_ms: point.claim.source_unix_ms,
        sealed_unix_ms: point.sealed_unix_ms,
        restored: point.restored,
        undo_bytes: point.undo_bytes,
        disks: point.disks.iter().map(disk).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::{PointClaim, PointLabel};

    fn point(number: u64, sealed_unix_ms: u64, undo_bytes: u64) -> Point {
        let claim =
            PointClaim { source_unix_ms: 0, label: PointLabel::PerDisk, reason: String::new(), cycle: 0 };
        Point { number, claim, sealed_unix_ms, restored: None, disks: Vec::new(), undo_bytes }
    }

    #[test]
    fn growth_is_of_the_last_day_and_needs_a_while() {
        let (now, hour) = (100 * 3_600_000, 3_600_000);
        assert_eq!(growth(&[], now), []);
        assert_eq!(growth(&[point(1, now - 1000, 5)], now), [], "a second says nothing of an hour");
        let points = [point(1, now - 30 * hour, 900), point(2, now - 2 * hour, 50), point(3, now - hour, 30)];
        let used: Vec<_> = growth(&points, now).iter().map(|sample| sample.used_bytes).collect();
        assert_eq!(used, [0, 50, 80], "what is older than a day does not count");
        assert_eq!((last_interval(&points), last_interval(&points[..1])), (Some(50), None));
    }
}
