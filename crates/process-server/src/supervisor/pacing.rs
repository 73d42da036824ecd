//! Jobs with a deadline or a budget: their pace is set once a second, and they pause where it is over.
//!
//! A pause is a stop that the job's own goal asked for: the passes end at their next durable group, and the disks' status says
//! why. The next job goes on from there.

use super::Supervisor;
use crate::config::Machine;
use crate::goal::{Decision, Goal, Standing, left_bytes};
use failback_model::limits::PACE_TICK;
use failback_model::{Finding, MachineId};
use failback_service::clock::unix_ms;
use failback_service::registry::{Intent, Wanted};
use failback_service::report::FindingLine;
use failback_service::status::PaceStatus;
use failback_transport::Rate;

impl Supervisor {
    /// Looks at all machines until the daemon stops.
    pub(super) fn keep_pace(&self) {
        let supervisor = self.clone();
        let stop = self.0.kit.stop.clone();
        let task = async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PACE_TICK) => {}
                }
                supervisor.0.registry.machines().iter().for_each(|machine| supervisor.set_pace(machine));
            }
        };
        self.0.tasks.spawn_on(task, &self.0.runtime);
    }

    fn set_pace(&self, machine: &Machine) {
        let intent = self.0.registry.intent(&machine.id);
        let throttle = self.throttle(machine);
        let Some(goal) = Goal::of(&intent.flags).filter(|_| self.is_running(&machine.id)) else {
            throttle.pace(Rate::Unlimited);
            return;
        };
        let noted = intent
            .flags
            .max_egress_bytes
            .map_or(Ok(()), |most| self.0.egress.note(&machine.id, intent.epoch, most));
        match (goal.decide(&self.standing(machine, &intent)), noted) {
            // A budget that cannot be counted is not spent.
            (_, Err(finding)) | (Decision::Over(finding), _) => {
                tracing::info!("{}: {}", machine.id, finding.evidence);
                self.stop(&machine.id);
            }
            (Decision::Go(rate, _), Ok(())) => throttle.pace(rate),
        }
    }

    /// Why a machine's job is to pause, if it is.
    pub(super) fn goal_over(&self, id: &MachineId) -> Option<Finding> {
        let intent = self.0.registry.intent(id);
        let goal = Goal::of(&intent.flags).filter(|_| intent.wanted == Wanted::Running)?;
        let machine = self.0.registry.machine(id).ok()?;
        let standing = self.standing(&machine, &intent);
        goal.over(standing.sent_bytes, standing.left_bytes, standing.now_unix_ms)
    }

    /// What a job with a goal has reached.
    pub(crate) fn pace_status(&self, machine: &Machine) -> Option<PaceStatus> {
        let intent = self.0.registry.intent(&machine.id);
        let goal = Goal::of(&intent.flags)?;
        let standing = self.standing(machine, &intent);
        let (rate, warning) = match goal.decide(&standing) {
            Decision::Go(rate, warning) => (Some(rate), warning),
            Decision::Over(finding) => (None, Some(finding)),
        };
        let bytes = |rate: Rate| match rate {
            Rate::Unlimited => None,
            Rate::BytesPerSecond(bytes) => Some(bytes.get()),
        };
        Some(PaceStatus {
            finish_by_unix_ms: intent.flags.finish_by_unix_ms,
            max_egress_bytes: intent.flags.max_egress_bytes,
            sent_bytes: standing.sent_bytes,
            left_bytes: standing.left_bytes,
            bytes_per_second: rate.and_then(bytes),
            finding: warning.as_ref().map(FindingLine::from),
        })
    }

    fn standing(&self, machine: &Machine, intent: &Intent) -> Standing {
        let left = |disk: &crate::config::Disk| {
            let status = self.0.kit.board.disk(&machine.id, &disk.id).status();
            let predicted = status
                .predicted
                .as_ref()
                .map(|predicted| predicted.ship_estimate_bytes.unwrap_or(predicted.ship_at_most_bytes));
            let of_job = status.pass.filter(|_| status.epoch == Some(intent.epoch));
            let (done, total, sent) = of_job.map_or((0, 0, 0), |pass| {
                let sent = pass.counters.get("bytes_to_target").copied().unwrap_or_default();
                (pass.done_bytes, pass.total_bytes, sent)
            });
            left_bytes(done, total, sent, predicted)
        };
        let open = machine.disk.iter().filter(|disk| !intent.is_sealed(&disk.id));
        Standing {
            now_unix_ms: unix_ms(),
            sent_bytes: self.0.egress.sent_bytes(&machine.id, intent.epoch),
            left_bytes: open.map(left).sum(),
            ceiling: self.throttle(machine).ceiling(),
        }
    }
}
