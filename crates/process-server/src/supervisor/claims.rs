//! One claim for all disks of a machine in a cycle of a job: the first task that needs it has it made, the others wait for that.
//!
//! **Invariant**: what a cycle claims is durable before any of its disks is opened for a pass, and never changes after that. A
//! `snapshot` that failed is run again by one task at a time, with the waits of one backoff.

use super::{Name, Supervisor};
use crate::claim::{Taken, Taking, blocking};
use crate::snapshots;
use failback_model::{Code, DiskId, Finding, JobId, MachineId, PointClaim};
use failback_service::backoff::Backoff;
use failback_service::clock::unix_ms;
use failback_service::event::Event;
use failback_service::registry::KeptClaim;
use failback_service::report::finding_lines;
use failback_service::status::DiskStage;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Machines whose job is to say what it brings.
#[derive(Default)]
pub(super) struct Claims(Mutex<BTreeMap<MachineId, Gate>>);

type Gate = Arc<tokio::sync::Mutex<Tries>>;

/// Tries of a cycle that came to nothing.
#[derive(Default)]
struct Tries {
    cycle: u64,
    backoff: Option<Backoff>,
    failed: Option<Failed>,
}

#[derive(Clone)]
struct Failed {
    finding: Finding,
    tries: u32,
    next: Instant,
}

/// A job does not know yet what it brings.
pub(super) struct Unclaimed {
    pub(super) finding: Finding,
    /// The machine's tries that failed, and the wait for the next one; none: it is this disk's own matter.
    pub(super) shared: Option<(u32, Duration)>,
}

impl From<Finding> for Unclaimed {
    fn from(finding: Finding) -> Self {
        Self { finding, shared: None }
    }
}

impl From<Failed> for Unclaimed {
    fn from(failed: Failed) -> Self {
        let wait = failed.next.saturating_duration_since(Instant::now());
        Self { finding: failed.finding, shared: Some((failed.tries, wait)) }
    }
}

impl Claims {
    fn gate(&self, machine: &MachineId) -> Gate {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(machine.clone()).or_default())
    }

    /// The next try comes at once.
    pub(super) fn hurry(&self, machine: &MachineId) {
        // Where somebody is at it, there is nothing to hurry.
        if let Ok(mut tries) = self.gate(machine).try_lock() {
            tries.failed = None;
        }
    }

    /// Forgets machines that are registered no more.
    pub(super) fn retain(&self, is_registered: impl Fn(&MachineId) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|machine, _| is_registered(machine));
    }
}

impl Tries {
    /// Whether the last try of this cycle failed and the next one is not due yet.
    fn waiting(&self, cycle: u64) -> Option<Failed> {
        let failed = self.failed.as_ref().filter(|_| self.cycle == cycle)?;
        (Instant::now() < failed.next).then(|| failed.clone())
    }

    fn fail(&mut self, cycle: u64, finding: Finding) -> Failed {
        if self.cycle != cycle {
            *self = Self { cycle, ..Self::default() };
        }
        let seed = unix_ms() ^ u64::from(std::process::id()) << 32;
        let backoff = self.backoff.get_or_insert_with(|| Backoff::new(seed));
        let next = Instant::now() + backoff.next_wait();
        let failed = Failed { finding, tries: backoff.attempts(), next };
        self.failed = Some(failed.clone());
        failed
    }
}

/// Whether the snapshot is tried again, by one task for all disks.
const fn is_of_snapshot(code: Code) -> bool {
    matches!(code, Code::SnapshotFailed | Code::SnapshotLimit)
}

impl Supervisor {
    /// What a disk's pass claims; made once in a cycle.
    pub(super) async fn claim(
        &self,
        (machine, disk): &Name,
        stop: &CancellationToken,
    ) -> Result<PointClaim, Unclaimed> {
        let gate = self.0.claims.gate(machine);
        let mut tries = tokio::select! {
            tries = gate.lock() => tries,
            () = stop.cancelled() => return Err(Finding::error(Code::Cancelled, "stopped").into()),
        };
        let intent = self.0.registry.intent(machine);
        if let Some(kept) = &intent.claim {
            return Ok(kept.of(disk));
        }
        let (cycle, definition) = (intent.cycles.number, self.0.registry.machine(machine)?);
        let environment = self.environment(&definition, &intent);
        if let Some(failed) = tries.waiting(cycle) {
            return Err(failed.into());
        }
        let job = intent
            .job
            .ok_or_else(|| Finding::error(Code::Internal, format!("nobody asked for {machine}")))?;
        if !definition.snapshot.is_empty() || definition.is_managed() {
            self.0.kit.board.disk(machine, disk).stage(DiskStage::Snapshot);
        }
        let taking = Taking {
            machine: &definition,
            managed: &self.0.managed,
            job: &job,
            cycle,
            environment: &environment,
            is_final: intent.flags.is_final,
            stop,
        };
        let taken = match taking.take(disk).await {
            Ok(taken) => taken,
            Err(finding) if is_of_snapshot(finding.code) && !stop.is_cancelled() => {
                return Err(tries.fail(cycle, finding).into());
            }
            Err(finding) => return Err(finding.into()),
        };
        let disks = definition.disk.iter().map(|disk| &disk.id);
        let snapshots = taken.snapshots.clone();
        let kept = self.keep(machine, disk, &job, cycle, taken, disks);
        let remembered = self.0.registry.intent(machine).cycles.snapshots;
        // Managed disks have notes of their own, by which the next close removes them.
        let is_forgotten = |snapshot| !definition.is_managed() && !remembered.contains(snapshot);
        if snapshots.iter().any(is_forgotten) {
            // Nobody would ever remove what nobody remembers.
            let managed = self.0.managed.clone();
            let removed =
                blocking(move || Ok(snapshots::retire(&definition, &managed, &snapshots, &[]))).await;
            tracing::warn!("{machine}: snapshots of a cycle that is over were removed: {removed:?}");
        }
        Ok(kept?)
    }

    /// Makes a claim durable, and tells of it.
    fn keep<'a>(
        &self,
        machine: &MachineId,
        disk: &DiskId,
        job: &JobId,
        cycle: u64,
        taken: Taken,
        disks: impl Iterator<Item = &'a DiskId>,
    ) -> Result<PointClaim, Finding> {
        let Taken { claim, warnings, snapshots } = taken;
        let kept = KeptClaim::new(claim.clone(), disks);
        let told = kept.of(disk);
        self.0.registry.intend(machine, |intent| {
            if intent.cycles.number == cycle {
                intent.claim = Some(kept);
                intent.cycles.snapshots.extend(snapshots.iter().cloned());
                intent.snapshots = snapshots;
            }
        })?;
        warnings.iter().for_each(|warning| self.0.kit.events.count(warning.code));
        self.0.kit.events.publish(Event::SourceTaken {
            machine: machine.to_string(),
            job: job.to_string(),
            point_label: claim.label.to_string(),
            point_reason: Some(claim.reason).filter(|reason| !reason.is_empty()),
            source_unix_ms: claim.source_unix_ms,
            findings: finding_lines(&warnings),
        });
        Ok(told)
    }
}
