//! What a job claims of the state that it brings: its hooks, and what follows from how they went.
//!
//! **Invariant**: nothing is claimed that a hook or the operator did not vouch for: disks of several sources are of one instant
//! only where `snapshot_is_atomic` says so, and applications were quiesced only where both hooks around the snapshot succeeded
//! in time. Whoever was quiesced is let go on, whatever failed or stopped in between.

use crate::config::{Disk, Machine};
use crate::hook::{Hook, HookError};
use crate::managed::Managed;
use crate::snapshots::{self, States};
use failback_model::limits::HOOK_THAW_MAX;
use failback_model::{Code, DiskId, Finding, JobId, PointClaim, PointLabel};
use failback_pass::source_unix_ms;
use failback_remote::{OpenOptions, SourceSpec};
use failback_service::clock::unix_ms;
use failback_service::registry::Snapshot;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Why a state is crash-consistent and no more, where no hooks are there to make it so.
pub const NOT_QUIESCED: &str = "no hooks quiesced its applications";

/// A job that is to say what it brings.
pub(crate) struct Taking<'a> {
    pub(crate) machine: &'a Machine,
    /// Where the states of managed disks are taken.
    pub(crate) managed: &'a Managed,
    pub(crate) job: &'a JobId,
    /// Its cycle.
    pub(crate) cycle: u64,
    /// What hooks are told of it.
    pub(crate) environment: &'a [(&'static str, String)],
    /// The operator says that the source is off.
    pub(crate) is_final: bool,
    /// The job is stopped.
    pub(crate) stop: &'a CancellationToken,
}

/// What came of it.
pub(crate) struct Taken {
    pub(crate) claim: PointClaim,
    /// Hooks around the snapshot that failed.
    pub(crate) warnings: Vec<Finding>,
    /// What was taken in the cloud.
    pub(crate) snapshots: Vec<Snapshot>,
}

impl Taking<'_> {
    /// Runs the hooks and judges. Without a `snapshot` nothing runs, and the sources are looked at: `disk`'s must be there.
    pub(crate) async fn take(&self, disk: &DiskId) -> Result<Taken, Finding> {
        if self.machine.snapshot.is_empty() && !snapshots::are_taken(self.machine) {
            let source_unix_ms = newest(self.machine.disk.clone(), disk.clone()).await?;
            return Ok(self.taken(source_unix_ms, Ok(false), States::default()));
        }
        // A source that is off has nothing to quiesce.
        let (before, after) = match self.is_final {
            true => (None, None),
            false => (self.hook("before_snapshot"), self.hook("after_snapshot")),
        };
        let mut quiesced = Ok(before.is_some() && after.is_some());
        if let Some(hook) = before {
            quiesced = hook.run(self.stop.cancelled()).await.and(quiesced);
        }
        // Not later than it was: whoever looks for a state from before some moment shall not find a newer one.
        let source_unix_ms = unix_ms();
        let snapshot = match self.hook("snapshot") {
            _ if self.stop.is_cancelled() => Err(HookError::Stopped("snapshot")),
            Some(hook) => hook.run(self.stop.cancelled()).await,
            None => Ok(()),
        };
        let snapshots = match &snapshot {
            Ok(()) if snapshots::are_taken(self.machine) => self.take_snapshots().await,
            _ => Ok(States::default()),
        };
        if let Some(hook) = after {
            let stopped = async {
                self.stop.cancelled().await;
                tokio::time::sleep(HOOK_THAW_MAX).await;
            };
            let thawed = hook.run(stopped).await;
            if let Err(error) = &thawed {
                tracing::warn!("{}: applications may still be quiesced: {error}", self.machine.id);
            }
            quiesced = quiesced.and_then(|both| thawed.map(|()| both));
        }
        snapshot.map_err(|error| Finding::error(Code::SnapshotFailed, error.to_string()))?;
        let states = snapshots?;
        if states.is_older {
            quiesced = quiesced.and(Ok(false));
        }
        Ok(self.taken(source_unix_ms.min(states.taken_unix_ms.unwrap_or(u64::MAX)), quiesced, states))
    }

    /// Takes the daemon's own snapshots, within the time that a hook has: applications may be waiting for it.
    async fn take_snapshots(&self) -> Result<States, Finding> {
        let (machine, managed, cycle) = (self.machine.clone(), self.managed.clone(), self.cycle);
        let limit = Duration::from_secs(self.machine.hook_timeout.into());
        let late = |why: &str| Err(Finding::error(Code::SnapshotFailed, format!("snapshots: {why}")));
        tokio::select! {
            taken = blocking(move || snapshots::take(&machine, &managed, cycle)) => taken,
            () = tokio::time::sleep(limit) => late("not taken within hook_timeout"),
            () = self.stop.cancelled() => late("the job was stopped"),
        }
    }

    fn hook(&self, name: &'static str) -> Option<Hook<'_>> {
        let command = match name {
            "before_snapshot" => &self.machine.before_snapshot,
            "snapshot" => &self.machine.snapshot,
            _ => &self.machine.after_snapshot,
        };
        let limit = Duration::from_secs(self.machine.hook_timeout.into());
        let hook = Hook {
            name,
            command,
            machine: &self.machine.id,
            job: self.job,
            environment: self.environment,
            limit,
        };
        (!command.is_empty()).then_some(hook)
    }

    fn taken(&self, source_unix_ms: u64, quiesced: Result<bool, HookError>, states: States) -> Taken {
        let why_not = quiesced.as_ref().err().map(ToString::to_string);
        let (label, reason) = if self.is_final {
            (PointLabel::Final, String::new())
        } else {
            judge(self.machine, &states, quiesced.unwrap_or(false), why_not.clone())
        };
        let warning = |evidence: String| Finding::warning(Code::QuiesceFailed, evidence);
        Taken {
            claim: PointClaim::new(source_unix_ms, label, &reason).of_cycle(self.cycle),
            warnings: why_not.map(warning).into_iter().collect(),
            snapshots: states.snapshots,
        }
    }
}

/// The label of a machine that is not off, and why it is no better.
fn judge(
    machine: &Machine,
    states: &States,
    is_quiesced: bool,
    why_not: Option<String>,
) -> (PointLabel, String) {
    let disks = machine.disk.len();
    if let Some(why) = &states.per_disk {
        return (PointLabel::PerDisk, why.clone());
    }
    if disks > 1 && !machine.snapshot_is_atomic && !machine.is_managed() {
        let reason = format!("{disks} disks, and nothing says that their snapshots are one instant");
        return (PointLabel::PerDisk, reason);
    }
    match why_not {
        Some(why) => (PointLabel::CrashConsistent, why),
        None if is_quiesced => (PointLabel::AppConsistent, String::new()),
        None => (PointLabel::CrashConsistent, NOT_QUIESCED.into()),
    }
}

/// When the last of a machine's sources was written; a device, and another disk's source that is not there yet, counts as
/// written now.
async fn newest(disks: Vec<Disk>, own: DiskId) -> Result<u64, Finding> {
    let now_unix_ms = unix_ms();
    let look = move || {
        let mut newest = 0;
        for disk in &disks {
            let written = SourceSpec::parse(&disk.source)
                .and_then(|source| failback_remote::open(&source, &OpenOptions::default()))
                .and_then(|image| source_unix_ms(&*image, now_unix_ms).map_err(|error| error.to_finding()));
            newest = newest.max(match written {
                Ok(unix_ms) => unix_ms,
                Err(finding) if disk.id == own => return Err(finding),
                Err(_) => now_unix_ms,
            });
        }
        Ok(newest)
    };
    blocking(look).await
}

/// Sources are looked at, and the cloud asked, on threads that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Finding> + Send + 'static,
) -> Result<T, Finding> {
    let lost = |error| Finding::error(Code::Internal, format!("looking at the sources: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

#[cfg(test)]
mod tests;
