//! One driver a machine: it closes a cycle once all disks are sealed in it, and begins the next one by the clock, on request, or where
//! the one under way can no longer be read.
//!
//! **Invariant**: no disk begins a cycle before all disks were sealed in the one before, unless that one is given up for all of them.
//! A source that was stopped for a final cycle that was not made is started again. What an earlier cycle needs stays until a later
//! one is sealed.

use super::Supervisor;
use crate::claim::blocking;
use crate::config::Machine;
use crate::convergence::judge;
use crate::hook::{Hook, HookError};
use crate::lineage::Lineage;
use crate::snapshots;
use crate::step::{Step, View, next_step};
use failback_model::{Code, DiskId, Finding, MachineId};
use failback_service::clock::unix_ms;
use failback_service::event::Event;
use failback_service::registry::{CycleOutcome, CycleWish, Intent, Snapshot, Wanted};
use failback_service::report::{FindingLine, finding_lines};
use failback_service::size::{human, spoken};
use failback_service::status::{CycleStatus, DiskStage};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// What passes of a machine have read and sent since the daemon started.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    read_bytes: u64,
    shipped_bytes: u64,
}

impl Supervisor {
    /// Sees to it that each of these machines has a driver, and that it looks again.
    pub(super) fn drive(&self, machines: &[Machine]) {
        let mut drivers = self.drivers();
        for machine in machines {
            if let Some(look) = drivers.get(&machine.id) {
                look.notify_one();
                continue;
            }
            if self.0.kit.stop.is_cancelled() {
                continue;
            }
            let look = Arc::new(Notify::new());
            drivers.insert(machine.id.clone(), Arc::clone(&look));
            let (supervisor, id) = (self.clone(), machine.id.clone());
            self.0.tasks.spawn_on(async move { supervisor.follow_cycles(&id, &look).await }, &self.0.runtime);
        }
    }

    /// A machine's driver looks again.
    pub(super) fn look_again(&self, machine: &MachineId) {
        if let Some(look) = self.drivers().get(machine) {
            look.notify_one();
        }
    }

    /// Notes that a cycle is wanted; what is said of it.
    pub fn wish(&self, machine: &Machine, wish: CycleWish) -> Result<String, Finding> {
        let id = &machine.id;
        let intent = self.0.registry.intent(id);
        let refused = |evidence: String, remedy: String| {
            Err(Finding::error(Code::RequestInvalid, evidence).with_remedy(remedy))
        };
        if intent.job.is_none() {
            return refused(
                format!("{id} never replicated"),
                format!("start it with 'failback reprotect {id}'"),
            );
        }
        if intent.wanted != Wanted::Running {
            return refused(format!("{id} is stopped"), format!("resume it with 'failback resume {id}'"));
        }
        if intent.flags.is_final && intent.cycles.closed_unix_ms.is_some() {
            let evidence = format!("cycle {} of {id} was its final one", intent.cycles.number);
            return refused(evidence, format!("cut over to it; 'failback reprotect {id}' begins a new job"));
        }
        if wish == CycleWish::Final && machine.stop_source.is_empty() {
            let remedy = "name the command that stops the source and proves it as 'stop_source' in the configuration; \
                          where it is off already, 'failback reprotect --final' brings its last state";
            return refused(format!("nothing is configured that stops the source of {id}"), remedy.into());
        }
        self.0.registry.intend(id, |intent| intent.cycles.wish = Some(wish))?;
        self.look_again(id);
        let number = intent.cycles.number;
        Ok(match (intent.cycles.closed_unix_ms, wish) {
            (Some(_), CycleWish::Next) => format!("{id}: cycle {} begins", number + 1),
            (Some(_), CycleWish::Final) => {
                format!("{id}: the source is stopped for the final cycle {}", number + 1)
            }
            (None, _) => format!("{id}: cycle {number} is under way; the one that was asked for follows it"),
        })
    }

    /// A machine's cycles as status shows them.
    pub fn cycle_status(&self, machine: &Machine) -> Option<CycleStatus> {
        let intent = self.0.registry.intent(&machine.id);
        intent.job.as_ref()?;
        let (now, cycles) = (unix_ms(), &intent.cycles);
        let judged = judge(&cycles.outcomes, now.saturating_sub(cycles.began_unix_ms));
        let every_ms = machine.cycle_every.map(|every| every.as_ms());
        let next = every_ms.filter(|_| intent.wanted == Wanted::Running && !intent.flags.is_final);
        let last = cycles.outcomes.last();
        Some(CycleStatus {
            number: cycles.number,
            is_final: intent.flags.is_final,
            began_unix_ms: cycles.began_unix_ms,
            closed_unix_ms: cycles.closed_unix_ms,
            wish: cycles.wish,
            every_seconds: every_ms.map(|ms| ms / 1000),
            next_unix_ms: next.map(|every| cycles.began_unix_ms + every),
            lag_seconds: last.map(|last| now.saturating_sub(last.began_unix_ms) / 1000),
            last: last.cloned(),
            churn_bytes_per_hour: judged.churn_per_second.map(|churn| (churn * 3600.0) as u64),
            final_seconds: judged.final_seconds.map(|seconds| seconds.ceil() as u64),
            verdict: judged.diverges.then(|| FindingLine::from(&not_converging(&cycles.outcomes))),
        })
    }

    async fn follow_cycles(&self, id: &MachineId, look: &Notify) {
        let (mut before, followed_unix_ms) = (self.counted(id), unix_ms());
        loop {
            let Ok(machine) = self.0.registry.machine(id) else {
                let mut drivers = self.drivers();
                // One that was registered again meanwhile counts on this driver.
                if self.0.registry.machine(id).is_ok() {
                    continue;
                }
                drivers.remove(id);
                return;
            };
            let intent = self.0.registry.intent(id);
            let step = next_step(&self.view(&machine, &intent, followed_unix_ms));
            let done = match step {
                Step::Wait(until) => Ok(until),
                Step::Close => self.close(&machine, &intent, before).await.map(|()| Some(0)),
                Step::Begin { is_final: false } => self.begin_next(&intent, id).map(|()| Some(0)),
                Step::Begin { is_final: true } => self.begin_final(&machine, &intent).await.map(|()| Some(0)),
                Step::FailFinal => self.fail_final(&machine, &intent).await.map(|()| Some(0)),
            };
            if self.0.kit.stop.is_cancelled() {
                return;
            }
            if done.is_ok() && !matches!(step, Step::Wait(_)) {
                before = self.counted(id);
            }
            let until = done.unwrap_or_else(|finding| {
                tracing::error!("{id}: cycle {}: {}", intent.cycles.number, finding.evidence);
                Some(unix_ms() + AGAIN_MS)
            });
            let wait = until.map(|until| Duration::from_millis(until.saturating_sub(unix_ms())));
            tokio::select! {
                () = self.0.kit.stop.cancelled() => return,
                () = look.notified(), if !matches!(until, Some(0)) => {}
                () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)) => {}
            }
        }
    }

    fn view(&self, machine: &Machine, intent: &Intent, followed_unix_ms: u64) -> View {
        let unsealed = machine.disk.iter().filter(|disk| !intent.is_sealed(&disk.id));
        let states: Vec<_> =
            unsealed.map(|disk| self.0.kit.board.disk(&machine.id, &disk.id).status()).collect();
        let code = |status: &failback_service::status::DiskStatus| {
            status.error.as_ref().and_then(|error| Code::from_text(&error.code))
        };
        let is_stuck = |status: &failback_service::status::DiskStatus| {
            matches!(status.stage, DiskStage::Retrying | DiskStage::Failed)
                && code(status).is_some_and(is_of_source)
        };
        View {
            is_wanted: intent.wanted == Wanted::Running && intent.job.is_some(),
            // A task that has noted its seal counts what it read a moment later.
            is_sealed: !machine.disk.is_empty() && states.is_empty() && !self.is_running(&machine.id),
            is_closed: intent.cycles.closed_unix_ms.is_some(),
            is_final: intent.flags.is_final,
            was_stopped_for_it: intent.cycles.source_stopped,
            is_failing: intent.cycles.failing.is_some(),
            has_sealed: !intent.cycles.outcomes.is_empty(),
            is_stuck: !states.is_empty() && states.iter().all(is_stuck),
            has_failed: states.iter().any(|status| status.stage == DiskStage::Failed),
            wish: intent.cycles.wish,
            began_unix_ms: intent.cycles.began_unix_ms,
            every_ms: machine.cycle_every.map(|every| every.as_ms()),
            final_timeout_ms: machine.final_timeout.as_ms(),
            followed_unix_ms,
            now_unix_ms: unix_ms(),
        }
    }

    /// All disks are sealed: gives up what no later cycle needs, and tells what the cycle came to.
    async fn close(&self, machine: &Machine, intent: &Intent, before: Counted) -> Result<(), Finding> {
        let (id, cycles, now) = (&machine.id, &intent.cycles, unix_ms());
        let counted = self.counted(id);
        let last = cycles.outcomes.last();
        let outcome = CycleOutcome {
            number: cycles.number,
            began_unix_ms: cycles.began_unix_ms,
            took_ms: now.saturating_sub(cycles.began_unix_ms),
            since_last_ms: last.map(|last| cycles.began_unix_ms.saturating_sub(last.began_unix_ms)),
            read_bytes: counted.read_bytes.saturating_sub(before.read_bytes),
            shipped_bytes: counted.shipped_bytes.saturating_sub(before.shipped_bytes),
        };
        let retired: Vec<u64> = cycles.held.iter().copied().filter(|held| *held < cycles.number).collect();
        let mut findings = Vec::new();
        let mut held = vec![cycles.number];
        if let Err(error) = self.retire(machine, intent, &retired).await {
            let evidence = format!("snapshots of cycles {retired:?} are still there: {error}");
            findings.push(Finding::warning(Code::SnapshotFailed, evidence));
            held = cycles.held.clone();
        }
        let (gone, why) = self.remove_snapshots(machine, intent).await;
        findings.extend(why);
        self.note(id, intent, |intent| {
            intent.cycles.close(now, outcome.clone(), held);
            intent.cycles.snapshots.retain(|snapshot| !gone.contains(snapshot));
        })?;
        let outcomes = self.0.registry.intent(id).cycles.outcomes;
        let judged = judge(&outcomes, outcome.took_ms);
        findings.extend(judged.diverges.then(|| not_converging(&outcomes)));
        findings.iter().for_each(|finding| self.0.kit.events.count(finding.code));
        let next = machine.cycle_every.filter(|_| !intent.flags.is_final);
        let next_ms = next.map(|every| (cycles.began_unix_ms + every.as_ms()).saturating_sub(now));
        self.0.kit.events.publish(Event::CycleClosed {
            machine: id.to_string(),
            said: said(&outcome, next_ms, judged.final_seconds, intent.flags.is_final),
            outcome,
            findings: finding_lines(&findings),
        });
        Ok(())
    }

    async fn retire(&self, machine: &Machine, intent: &Intent, retired: &[u64]) -> Result<(), String> {
        let mut environment = self.environment(machine, intent);
        let list: Vec<_> = retired.iter().map(u64::to_string).collect();
        environment.push(("FAILBACK_RETIRE", list.join(",")));
        self.run_hook(machine, intent, "after_seal", &machine.after_seal, &environment)
            .await
            .map_err(|error| error.to_string())
    }

    /// Removes the snapshots of earlier cycles; those that are gone, and why one is not.
    async fn remove_snapshots(&self, machine: &Machine, intent: &Intent) -> (Vec<Snapshot>, Option<Finding>) {
        let (taken, kept) = (intent.cycles.snapshots.clone(), intent.snapshots.clone());
        if !snapshots::are_taken(machine) && taken.is_empty() {
            return (Vec::new(), None);
        }
        let (machine, managed) = (machine.clone(), self.0.managed.clone());
        let removed = blocking(move || Ok(snapshots::retire(&machine, &managed, &taken, &kept))).await;
        let (gone, why) = removed.unwrap_or_else(|finding| (Vec::new(), Some(finding)));
        let why = why.map(|why| {
            let evidence = format!("snapshots of earlier cycles are still there: {}", why.evidence);
            Finding::warning(Code::SnapshotFailed, evidence).with_remedy(why.remedy)
        });
        (gone, why)
    }

    /// Changes what is kept of a cycle, durably, unless another job or cycle has taken its place.
    fn note(&self, id: &MachineId, of: &Intent, change: impl FnOnce(&mut Intent)) -> Result<(), Finding> {
        let noted = self.0.registry.intend(id, |intent| {
            if (intent.epoch, intent.cycles.number) == (of.epoch, of.cycles.number) {
                change(intent);
            }
        });
        noted.map(|_| ())
    }

    /// The next cycle, which is not the final one.
    fn begin_next(&self, intent: &Intent, id: &MachineId) -> Result<(), Finding> {
        self.begin_cycle(id, intent, false)?;
        self.tell_given_up(intent, id);
        Ok(())
    }

    async fn begin_final(&self, machine: &Machine, intent: &Intent) -> Result<(), Finding> {
        let environment = self.environment(machine, intent);
        let stopped = self.run_hook(machine, intent, "stop_source", &machine.stop_source, &environment).await;
        if self.0.kit.stop.is_cancelled() {
            // The wish stands: the next run of the daemon stops the source, which may be off already.
            return Ok(());
        }
        match stopped {
            Ok(()) => self.begin_cycle(&machine.id, intent, true),
            Err(error) => {
                // First, so that whoever is killed in between tries both again.
                self.start_source(machine, intent, &error.to_string()).await?;
                self.note(&machine.id, intent, |intent| intent.cycles.wish = None)
            }
        }
    }

    /// The final cycle was not made: its source runs on, and so do cycles. Nothing of it is sealed once the source is started.
    async fn fail_final(&self, machine: &Machine, intent: &Intent) -> Result<(), Finding> {
        let id = &machine.id;
        let why =
            intent.cycles.failing.clone().unwrap_or_else(|| match self.view(machine, intent, 0).has_failed {
                true => "a disk needs an operator".to_string(),
                false => format!("it was not sealed within {}", machine.final_timeout),
            });
        self.note(id, intent, |intent| intent.cycles.failing = Some(why.clone()))?;
        self.stop(id);
        while self.is_running(id) {
            tokio::select! {
                () = self.0.kit.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(TASKS_END_TICK) => {}
            }
        }
        let now = self.0.registry.intent(id);
        if machine.disk.iter().all(|disk| now.is_sealed(&disk.id)) {
            // The last of its passes came to its seal meanwhile.
            return self.note(id, intent, |intent| intent.cycles.failing = None);
        }
        self.start_source(machine, intent, &why).await?;
        self.begin_cycle(id, intent, false)
    }

    /// Starts the source again, and says so. An error where it may still be off: it is tried again.
    async fn start_source(&self, machine: &Machine, intent: &Intent, why: &str) -> Result<(), Finding> {
        let environment = self.environment(machine, intent);
        let started =
            self.run_hook(machine, intent, "start_source", &machine.start_source, &environment).await;
        let after = match &started {
            Ok(()) if machine.start_source.is_empty() => {
                "no start_source is configured: look whether it runs".into()
            }
            Ok(()) => "the source was started again".into(),
            Err(error) => format!("THE SOURCE MAY BE OFF, and is tried again: {error}"),
        };
        let finding = Finding::error(Code::FinalFailed, format!("{why}; {after}"));
        self.0.kit.events.count(finding.code);
        let (machine, number) = (machine.id.to_string(), intent.cycles.number);
        self.0.kit.events.publish(Event::CycleFailed {
            machine,
            number,
            finding: FindingLine::from(&finding),
        });
        started.map_err(|_| finding)
    }

    fn begin_cycle(&self, id: &MachineId, of: &Intent, is_final: bool) -> Result<(), Finding> {
        self.note(id, of, |intent| {
            intent.next_cycle(is_final, unix_ms());
            intent.cycles.source_stopped = is_final;
        })?;
        self.hurry(id);
        self.settle();
        Ok(())
    }

    /// Says that a cycle that can no longer be read is given up.
    fn tell_given_up(&self, intent: &Intent, id: &MachineId) {
        if intent.cycles.closed_unix_ms.is_some() {
            return;
        }
        let evidence =
            "its source can no longer be read; the next one starts from the state that was sealed last";
        let finding = Finding::warning(Code::SnapshotFailed, evidence);
        let (machine, number) = (id.to_string(), intent.cycles.number);
        self.0.kit.events.publish(Event::CycleFailed {
            machine,
            number,
            finding: FindingLine::from(&finding),
        });
    }

    /// Runs a hook of the machine; without a command there is nothing to run.
    async fn run_hook(
        &self,
        machine: &Machine,
        intent: &Intent,
        name: &'static str,
        command: &[String],
        environment: &[(&'static str, String)],
    ) -> Result<(), HookError> {
        let Some(job) = intent.job.as_ref().filter(|_| !command.is_empty()) else { return Ok(()) };
        let limit = Duration::from_secs(machine.hook_timeout.into());
        let hook = Hook { name, command, machine: &machine.id, job, environment, limit };
        hook.run(self.0.kit.stop.cancelled()).await
    }

    /// What hooks are told of the cycle that is under way or begins.
    pub(super) fn environment(&self, machine: &Machine, intent: &Intent) -> Vec<(&'static str, String)> {
        let bases = machine.disk.iter().map(|disk| {
            Lineage::of(&self.source_folder(&machine.id, &disk.id)).map(|lineage| lineage.base.cycle)
        });
        // A disk that was never sealed needs all of its source.
        let base = bases.collect::<Option<Vec<_>>>().and_then(|bases| bases.into_iter().min());
        vec![
            ("FAILBACK_CYCLE", intent.cycles.number.to_string()),
            ("FAILBACK_BASE_CYCLE", base.map(|base| base.to_string()).unwrap_or_default()),
        ]
    }

    /// Folder for what is known of a disk's source.
    pub(crate) fn source_folder(&self, machine: &MachineId, disk: &DiskId) -> PathBuf {
        self.0.kit.state.join("sources").join(machine.as_str()).join(disk.as_str())
    }

    fn counted(&self, id: &MachineId) -> Counted {
        let mut sum = Counted::default();
        let Ok(machine) = self.0.registry.machine(id) else { return sum };
        for disk in &machine.disk {
            let totals: BTreeMap<String, u64> = self.0.kit.board.disk(id, &disk.id).totals();
            sum.read_bytes += totals.get("bytes_read_source").copied().unwrap_or_default();
            sum.shipped_bytes += totals.get("bytes_to_target").copied().unwrap_or_default();
        }
        sum
    }
}

/// Before the next try of what could not be noted.
const AGAIN_MS: u64 = 15_000;
/// How often it is looked whether the passes of a final cycle have ended.
const TASKS_END_TICK: Duration = Duration::from_millis(50);

/// Whether a failure is of the source alone: another snapshot of it may be read.
fn is_of_source(code: Code) -> bool {
    matches!(
        code,
        Code::SourceUnreachable
            | Code::SourceDenied
            | Code::SourceUnsupported
            | Code::SnapshotFailed
            | Code::ChangedMeanwhile
            | Code::ReadFailed
            | Code::OpenFailed
    )
}

fn not_converging(outcomes: &[CycleOutcome]) -> Finding {
    let last = outcomes.last();
    let (took, since) = last.map_or((0, 0), |last| (last.took_ms, last.since_last_ms.unwrap_or_default()));
    let evidence = format!(
        "the last two cycles took longer ({:.1} s) than what they brought had taken to change ({:.1} s)",
        took as f64 / 1000.0,
        since as f64 / 1000.0
    );
    Finding::warning(Code::NotConverging, evidence)
}

/// A cycle in one line.
fn said(outcome: &CycleOutcome, next_ms: Option<u64>, final_seconds: Option<f64>, is_final: bool) -> String {
    let mut text = format!(
        "cycle {}: {} in {:.1} s",
        outcome.number,
        human(outcome.shipped_bytes),
        outcome.took_ms as f64 / 1000.0
    );
    match next_ms {
        _ if is_final => return text + "; it was the final one",
        Some(0) => text += "; the next one begins now",
        Some(ms) => text += &format!("; next in {}", spoken(ms.div_ceil(1000))),
        None => text += "; the next one when it is asked for",
    }
    if let Some(seconds) = final_seconds {
        text += &format!("; final cycle would take about {}", spoken(seconds.ceil() as u64));
    }
    text
}
