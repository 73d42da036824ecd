//! What the control socket may ask of a process server.

use crate::ProcessServer;
use crate::config::{Disk, Machine};
use crate::runner::{predict, source_of};
use failback_model::{Code, Finding, JobId, MachineId};
use failback_pass::ASSUMED_READ_BYTES_PER_SECOND;
use failback_remote::Waits;
use failback_service::clock::unix_ms;
use failback_service::control::{
    DiskForecast, Forecast, Orders, PassFlags, Request, at_master_target, outcome_of_reload,
};
use failback_service::event::Caller;
use failback_service::registry::{CycleWish, Intent, Wanted};
use failback_service::report::FindingLine;
use failback_service::status::{DaemonStatus, MachineStatus};
use failback_transport::{Rate, WeekTime};
use serde::Deserialize as _;
use serde_json::Value;

impl Orders for ProcessServer {
    fn status(&self, machine: Option<&MachineId>) -> Result<DaemonStatus, Finding> {
        let machines: Vec<_> =
            self.registry.asked_for(machine)?.iter().map(|machine| self.status_of(machine)).collect();
        let disks = machines.iter().flat_map(|machine| &machine.disks);
        let sessions = disks.filter(|disk| disk.link.is_some()).count() as u64;
        Ok(self.kit.status(Some(self.certificate()), sessions, machines))
    }

    fn registry(&self, machine: Option<&MachineId>) -> Result<Vec<Value>, Finding> {
        self.registry.definitions(machine)
    }

    fn forecast(&self, machine: &MachineId) -> Result<Forecast, Finding> {
        let machine = self.registry.machine(machine)?;
        if self.supervisor.is_running(&machine.id) {
            let evidence = format!("passes of {} run or wait for their next try", machine.id);
            let remedy =
                format!("'failback status {}' has what was predicted, beside what became of it", machine.id);
            return Err(Finding::error(Code::AlreadyRunning, evidence).with_remedy(remedy));
        }
        let bandwidth_bytes_per_second = match machine.bandwidth.rate_at(WeekTime::now()) {
            Rate::Unlimited => None,
            Rate::BytesPerSecond(rate) => Some(rate.get()),
        };
        Ok(Forecast {
            machine: machine.id.to_string(),
            disks: machine.disk.iter().map(|disk| self.forecast_of(&machine, disk)).collect(),
            bandwidth_bytes_per_second,
            assumed_read_bytes_per_second: ASSUMED_READ_BYTES_PER_SECOND,
        })
    }

    fn is_draining(&self) -> bool {
        self.kit.stop.is_cancelled()
    }

    fn carry_out(&self, _: Caller, request: &Request) -> Result<String, Vec<Finding>> {
        let alone = |finding| vec![finding];
        match request {
            Request::Reprotect { job, machine, flags } => self.begin(job, machine, *flags).map_err(alone),
            Request::Cycle { machine, is_final, .. } => self.cycle(machine, *is_final).map_err(alone),
            Request::Verify { machine, .. } => Err(alone(not_here(machine))),
            Request::Cutover { .. }
            | Request::Cancel { .. }
            | Request::Commit { .. }
            | Request::DropPoints { .. } => {
                let evidence =
                    format!("'{}' runs at the master target, which holds the disks", request.name());
                Err(alone(at_master_target(evidence)))
            }
            Request::Stop { machine, .. } => self.stop(machine).map_err(alone),
            Request::Resume { machine, .. } => self.resume(machine).map_err(alone),
            Request::Release { machine, .. } => self.release(request, machine).map_err(alone),
            Request::Bandwidth { machine, schedule, .. } => {
                self.bandwidth(machine, schedule.as_deref()).map_err(alone)
            }
            Request::Reload { .. } => outcome_of_reload(self.read_again()),
            request => self.change_registry(request).map_err(alone),
        }
    }
}

impl ProcessServer {
    fn status_of(&self, machine: &Machine) -> MachineStatus {
        let status = |disk: &Disk| self.kit.board.disk(&machine.id, &disk.id).status();
        MachineStatus {
            cycle: self.supervisor.cycle_status(machine).map(Box::new),
            pace: self.supervisor.pace_status(machine).map(Box::new),
            id: machine.id.to_string(),
            wanted: self.registry.intent(&machine.id).wanted,
            peer: machine.target.clone(),
            recovery: None,
            disks: machine.disk.iter().map(status).collect(),
        }
    }

    /// A disk's forecast; where there is none, its findings say why.
    fn forecast_of(&self, machine: &Machine, disk: &Disk) -> DiskForecast {
        let state = self.supervisor.source_folder(&machine.id, &disk.id);
        let intent = self.registry.intent(&machine.id);
        let cycle = intent.claim.as_ref().map_or(0, |claim| claim.of(&disk.id).cycle);
        let snapshot = intent.snapshot(&disk.id).map(Into::into);
        let status = self.kit.board.disk(&machine.id, &disk.id).status();
        let at = (machine, disk);
        let opened = source_of(at, &self.managed, &state, cycle, snapshot.as_ref(), Waits::default());
        let (source, feed) = match opened {
            Ok(opened) => opened,
            Err(finding) => return unpredicted(disk, &finding),
        };
        let forecast = predict(&*source, &disk.options(0), &state, &feed, status.generation);
        match forecast {
            Ok(forecast) => {
                DiskForecast { disk: disk.id.to_string(), source: disk.source.clone(), ..forecast }
            }
            Err(finding) => unpredicted(disk, &finding),
        }
    }

    /// Begins a job for all disks of a machine.
    fn begin(&self, job: &JobId, id: &MachineId, flags: PassFlags) -> Result<String, Finding> {
        let machine = self.registry.machine(id)?;
        let disks = machine.disk.len();
        if disks == 0 {
            return Err(Finding::error(Code::RequestInvalid, format!("machine {id} has no disk")));
        }
        if self.supervisor.is_running(id) {
            return Err(Finding::error(
                Code::AlreadyRunning,
                format!("passes of {id} run or wait for their next try"),
            ));
        }
        self.registry.intend(id, |intent| intent.begin(job.clone(), flags, unix_ms()))?;
        self.supervisor.settle();
        let epoch = self.registry.intent(id).epoch;
        Ok(format!("{id}: {disks} disks go to {}, epoch {epoch}", machine.target))
    }

    fn cycle(&self, id: &MachineId, is_final: bool) -> Result<String, Finding> {
        let wish = if is_final { CycleWish::Final } else { CycleWish::Next };
        self.supervisor.wish(&self.registry.machine(id)?, wish)
    }

    fn stop(&self, id: &MachineId) -> Result<String, Finding> {
        self.registry.intend(id, |intent| intent.wanted = Wanted::Stopped)?;
        let stopping = self.supervisor.stop(id);
        let cycles = self.registry.intent(id).cycles;
        let is_off = cycles.source_stopped && cycles.closed_unix_ms.is_none();
        let off = if is_off {
            "; its source was stopped for the final cycle and stays off until it is resumed"
        } else {
            ""
        };
        Ok(match stopping {
            0 => format!("{id}: nothing was at work, and nothing starts until it is resumed{off}"),
            disks => format!("{id}: {disks} disks stop at their next durable group{off}"),
        })
    }

    fn resume(&self, id: &MachineId) -> Result<String, Finding> {
        let machine = self.registry.machine(id)?;
        let Intent { job: Some(_), .. } = self.registry.intent(id) else {
            let finding = Finding::error(Code::RequestInvalid, format!("{id} never replicated"));
            return Err(finding.with_remedy(format!("start it with 'failback reprotect {id}'")));
        };
        self.registry.intend(id, |intent| intent.wanted = Wanted::Running)?;
        self.supervisor.hurry(id);
        self.supervisor.settle();
        let left = self.registry.intent(id);
        let left = machine.disk.iter().filter(|disk| !left.is_sealed(&disk.id)).count();
        Ok(format!("{id}: {left} of {} disks go on", machine.disk.len()))
    }

    /// A machine that waits for its next try has no lease, but a task that would miss what is released.
    fn release(&self, request: &Request, machine: &MachineId) -> Result<String, Finding> {
        if self.supervisor.is_running(machine) {
            let evidence = format!("passes of {machine} run or wait for their next try");
            return Err(Finding::error(Code::AlreadyRunning, evidence));
        }
        self.change_registry(request)
    }

    fn change_registry(&self, request: &Request) -> Result<String, Finding> {
        if let Request::RegisterMachine { machine, .. } = request {
            self.check_hooks(machine)?;
        }
        let changed = self.registry.carry_out(request, &self.kit.events);
        self.settle();
        changed.unwrap_or_else(|| Err(invalid("it changes nothing and needs no job".into())))
    }

    /// Hooks run as this daemon's user, and whoever may ask it for passes may not ask it for that.
    fn check_hooks(&self, machine: &Value) -> Result<(), Finding> {
        // What is no definition is refused with its own words.
        let Ok(asked) = Machine::deserialize(machine) else { return Ok(()) };
        let known = self.registry.machine(&asked.id).ok();
        let is_known = known.is_some_and(|known| known.commands() == asked.commands());
        if is_known || asked.commands().iter().all(|(_, command)| command.is_empty()) {
            return Ok(());
        }
        let finding = invalid(format!("hooks of {} over the control socket", asked.id));
        Err(finding.with_remedy("define them in the configuration file, then 'failback reload'"))
    }

    fn bandwidth(&self, id: &MachineId, schedule: Option<&str>) -> Result<String, Finding> {
        let machine = self.registry.machine(id)?;
        let parse = |text: &str| text.parse().map_err(|error| invalid(format!("schedule: {error}")));
        let schedule = schedule.map(parse).transpose()?;
        let said = match &schedule {
            Some(schedule) => format!("{id}: {schedule} until the daemon starts anew"),
            None => format!("{id}: {} as it is defined", machine.bandwidth),
        };
        self.supervisor.set_bandwidth(&machine, schedule);
        Ok(said)
    }
}

fn unpredicted(disk: &Disk, finding: &Finding) -> DiskForecast {
    DiskForecast {
        disk: disk.id.to_string(),
        source: disk.source.clone(),
        findings: vec![FindingLine::from(finding)],
        ..DiskForecast::default()
    }
}

/// A pass that proves a target also repairs it: nobody who asks for a proof asked for that.
fn not_here(machine: &MachineId) -> Finding {
    let finding = invalid("a process server does not read targets back; its passes write to them".into());
    finding.with_remedy(format!(
        "at the master target: 'failback verify {machine} --socket /run/failback/master-target.sock'; a pass that \
         compares, repairs and reads back: 'failback reprotect {machine} --verify'"
    ))
}

fn invalid(evidence: String) -> Finding {
    Finding::error(Code::RequestInvalid, evidence)
}
