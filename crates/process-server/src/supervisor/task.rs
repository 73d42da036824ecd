//! The life of one disk's task.

use super::claims::Unclaimed;
use super::{Name, Supervisor};
use crate::config::Machine;
use crate::runner::Attempt;
use crate::seen::SeenSource;
use crate::verdict::{Verdict, verdict};
use failback_model::limits::BACKOFF_MAX;
use failback_model::{Code, Finding, MachineId, PointClaim};
use failback_pass::{Cancel, Progress};
use failback_service::backoff::Backoff;
use failback_service::budget::Grant;
use failback_service::clock::unix_ms;
use failback_service::registry::Lease;
use failback_service::status::{DiskHandle, DiskStage, Sealed};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// How a task ended.
pub(super) enum End {
    Sealed(Sealed),
    Stopped,
    Failed(Finding),
}

/// What one try has of its task's.
struct Try<'a> {
    claim: PointClaim,
    status: &'a Arc<DiskHandle>,
    grant: Grant,
    seen: &'a SeenSource,
    progress: &'a Arc<Progress>,
}

impl Supervisor {
    /// Says how a task ended, in the disk's status.
    pub(super) fn tell(&self, (machine, disk): &Name, end: &End) {
        let status = self.0.kit.board.disk(machine, disk);
        match end {
            End::Sealed(sealed) => status.sealed(sealed),
            End::Stopped => status.stopped(),
            End::Failed(finding) => status.failed(finding),
        }
    }

    /// Brings a disk to its seal, however often it takes; ends there, at a stop, or where an operator is needed.
    pub(super) async fn replicate(&self, name: &Name, stop: &CancellationToken, hurry: &Notify) -> End {
        let (machine, disk) = name;
        let status = self.0.kit.board.disk(machine, disk);
        let seen = SeenSource::default();
        // Two daemons that lost the same peer shall not come back in step.
        let mut backoff = Backoff::new(unix_ms() ^ u64::from(std::process::id()) << 32);
        loop {
            if let Some(finding) = self.goal_over(machine) {
                return End::Failed(finding);
            }
            if self.0.registry.intent(machine).cycles.failing.is_some() {
                return End::Stopped;
            }
            status.stage(DiskStage::Queued);
            let claim = match self.claim(name, stop).await {
                Ok(claim) => claim,
                Err(_) if stop.is_cancelled() => return End::Stopped,
                Err(unclaimed) if verdict(unclaimed.finding.code) == Verdict::GiveUp => {
                    return End::Failed(unclaimed.finding);
                }
                Err(Unclaimed { finding, shared }) => {
                    let (tries, wait) = shared.unwrap_or_else(|| {
                        let wait = backoff.next_wait();
                        (backoff.attempts(), wait)
                    });
                    match self.wait(machine, &status, &finding, (tries, wait), stop, hurry).await {
                        Some(end) => return end,
                        None => continue,
                    }
                }
            };
            // Only a wait for memory is left at once; a pass is asked to stop and comes to its end itself.
            let grant = tokio::select! {
                grant = self.0.kit.budget.acquire() => grant,
                () = stop.cancelled() => return End::Stopped,
            };
            let (began, progress) = (Instant::now(), Arc::<Progress>::default());
            let epoch = self.0.registry.intent(machine).epoch;
            let metered = self.0.egress.meter(machine, epoch, &progress);
            let work = Try { claim, status: &status, grant, seen: &seen, progress: &progress };
            let ended = self.attempt(name, work, stop).await;
            drop(metered);
            let finding = match ended {
                Ok(sealed) => {
                    let is_current = self.seal(name, sealed.claim.cycle);
                    if is_current {
                        return End::Sealed(sealed);
                    }
                    // Its machine's cycle was given up meanwhile; the state is sealed none the less, and the next one follows.
                    status.sealed(&sealed);
                    continue;
                }
                Err(finding) if stop.is_cancelled() => {
                    tracing::debug!("{machine}/{disk}: stopped: {}", finding.evidence);
                    return self.goal_over(machine).map_or(End::Stopped, End::Failed);
                }
                Err(finding) => finding,
            };
            if verdict(finding.code) == Verdict::GiveUp {
                return End::Failed(finding);
            }
            if has_advanced(&progress, began.elapsed()) {
                // It got somewhere: the next try is a first one.
                backoff.reset();
            }
            let wait = backoff.next_wait();
            let told = (backoff.attempts(), wait);
            if let Some(end) = self.wait(machine, &status, &finding, told, stop, hurry).await {
                return end;
            }
        }
    }

    /// Says that a try failed, the how many-th, and waits for the next one; an end where it is not to come.
    async fn wait(
        &self,
        machine: &MachineId,
        status: &DiskHandle,
        finding: &Finding,
        (tries, wait): (u32, Duration),
        stop: &CancellationToken,
        hurry: &Notify,
    ) -> Option<End> {
        status.retrying(finding, tries, wait);
        self.look_again(machine);
        tokio::select! {
            () = stop.cancelled() => Some(End::Stopped),
            () = hurry.notified() => None,
            () = tokio::time::sleep(wait) => None,
        }
    }

    /// One try, on a thread of its own.
    async fn attempt(&self, name: &Name, work: Try<'_>, stop: &CancellationToken) -> Result<Sealed, Finding> {
        let lease = self.0.registry.lease(&name.0, &name.1)?;
        work.status.stage(DiskStage::Connecting);
        let attempt = self.prepare(&lease, &work)?;
        let cancel = attempt.cancel.clone();
        let (done, ended) = oneshot::channel();
        let runner = Arc::clone(&self.0.runner);
        let thread = std::thread::Builder::new().name(format!("pass {}/{}", name.0, name.1));
        let started = thread.spawn(move || drop(done.send(runner.run(&attempt))));
        started.map_err(|error| Finding::error(Code::Internal, format!("cannot start a thread: {error}")))?;
        let mut ended = std::pin::pin!(ended);
        let ended = tokio::select! {
            ended = &mut ended => ended,
            () = stop.cancelled() => {
                cancel.cancel();
                ended.await
            }
        };
        drop((lease, work.grant));
        // The thread panicked: its text is in the log.
        ended.unwrap_or_else(|_| Err(Finding::error(Code::Internal, "the pass broke off; see the log")))
    }

    fn prepare(&self, lease: &Lease<Machine>, work: &Try<'_>) -> Result<Attempt, Finding> {
        let (machine, disk) = (lease.machine().clone(), lease.disk().clone());
        let intent = self.0.registry.intent(&machine.id);
        let job = intent
            .job
            .clone()
            .ok_or_else(|| Finding::error(Code::Internal, format!("nobody asked for {}", machine.id)))?;
        if intent.cycles.number != work.claim.cycle {
            // Whoever begins a cycle may do so between a try's claim and here.
            let evidence = format!("cycle {} was given up", work.claim.cycle);
            return Err(Finding::error(Code::SnapshotFailed, evidence));
        }
        let state = self.source_folder(&machine.id, &disk.id);
        let snapshot = intent.snapshot(&disk.id).map(Into::into);
        Ok(Attempt {
            throttle: self.throttle(&machine),
            machine,
            managed: self.0.managed.clone(),
            disk,
            job,
            epoch: intent.epoch(),
            flags: intent.flags,
            claim: work.claim.clone(),
            window_bytes: work.grant.bytes(),
            status: Arc::clone(work.status),
            progress: Arc::clone(work.progress),
            cancel: Cancel::default(),
            tls: self.0.tls.clone(),
            runtime: self.0.runtime.clone(),
            seen: work.seen.clone(),
            state,
            snapshot,
        })
    }

    /// The disk is home in this cycle. A daemon that starts anew shall know. Whether the cycle is still under way.
    fn seal(&self, (machine, disk): &Name, cycle: u64) -> bool {
        let noted = self.0.registry.intend(machine, |intent| {
            if intent.cycles.number == cycle {
                intent.seal(disk);
            }
        });
        if let Err(finding) = noted {
            // Then it compares once more after a restart.
            tracing::warn!("{machine}/{disk}: {}", finding.evidence);
        }
        self.0.registry.intent(machine).cycles.number == cycle
    }
}

/// Whether a try that failed left something durable: at the target, or what was scanned of the source for long.
fn has_advanced(progress: &Progress, lasted: Duration) -> bool {
    let has_scanned = Progress::get(&progress.bytes_read_source) > 0;
    Progress::get(&progress.messages_acknowledged) > 0 || (has_scanned && lasted >= BACKOFF_MAX)
}
