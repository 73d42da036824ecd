//! The life of one disk's task.

use super::{Name, Supervisor};
use crate::config::Machine;
use crate::runner::Attempt;
use crate::seen::SeenSource;
use crate::verdict::{Verdict, verdict};
use failback_model::limits::BACKOFF_MAX;
use failback_model::{Code, Finding};
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
            status.stage(DiskStage::Queued);
            // Only a wait for memory is left at once; a pass is asked to stop and comes to its end itself.
            let grant = tokio::select! {
                grant = self.0.kit.budget.acquire() => grant,
                () = stop.cancelled() => return End::Stopped,
            };
            let (began, progress) = (Instant::now(), Arc::<Progress>::default());
            let ended = self.attempt(name, &status, grant, &seen, stop, &progress).await;
            let finding = match ended {
                Ok(sealed) => {
                    self.seal(name);
                    return End::Sealed(sealed);
                }
                Err(finding) if stop.is_cancelled() => {
                    tracing::debug!("{machine}/{disk}: stopped: {}", finding.evidence);
                    return End::Stopped;
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
            status.retrying(&finding, backoff.attempts(), wait);
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                () = hurry.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One try, on a thread of its own.
    async fn attempt(
        &self,
        name: &Name,
        status: &Arc<DiskHandle>,
        grant: Grant,
        seen: &SeenSource,
        stop: &CancellationToken,
        progress: &Arc<Progress>,
    ) -> Result<Sealed, Finding> {
        let lease = self.0.registry.lease(&name.0, &name.1)?;
        status.stage(DiskStage::Connecting);
        let attempt = self.prepare(&lease, status, grant.bytes(), seen, Arc::clone(progress))?;
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
        drop((lease, grant));
        // The thread panicked: its text is in the log.
        ended.unwrap_or_else(|_| Err(Finding::error(Code::Internal, "the pass broke off; see the log")))
    }

    fn prepare(
        &self,
        lease: &Lease<Machine>,
        status: &Arc<DiskHandle>,
        window_bytes: u64,
        seen: &SeenSource,
        progress: Arc<Progress>,
    ) -> Result<Attempt, Finding> {
        let (machine, disk) = (lease.machine().clone(), lease.disk().clone());
        let intent = self.0.registry.intent(&machine.id);
        let job = intent
            .job
            .clone()
            .ok_or_else(|| Finding::error(Code::Internal, format!("nobody asked for {}", machine.id)))?;
        let state = self.0.kit.state.join("sources").join(machine.id.as_str()).join(disk.id.as_str());
        Ok(Attempt {
            throttle: self.throttle(&machine),
            machine,
            disk,
            job,
            epoch: intent.epoch(),
            flags: intent.flags,
            window_bytes,
            status: Arc::clone(status),
            progress,
            cancel: Cancel::default(),
            tls: self.0.tls.clone(),
            runtime: self.0.runtime.clone(),
            seen: seen.clone(),
            state,
        })
    }

    /// The disk is home. A daemon that starts anew shall know.
    fn seal(&self, (machine, disk): &Name) {
        if let Err(finding) = self.0.registry.intend(machine, |intent| intent.seal(disk)) {
            // Then it compares once more after a restart.
            tracing::warn!("{machine}/{disk}: {}", finding.evidence);
        }
    }
}

/// Whether a try that failed left something durable: at the target, or what was scanned of the source for long.
fn has_advanced(progress: &Progress, lasted: Duration) -> bool {
    let has_scanned = Progress::get(&progress.bytes_read_source) > 0;
    Progress::get(&progress.messages_acknowledged) > 0 || (has_scanned && lasted >= BACKOFF_MAX)
}
