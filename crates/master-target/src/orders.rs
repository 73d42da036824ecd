//! What the control socket may ask of a master target.

use crate::MasterTarget;
use crate::config::Machine;
use failback_model::{Code, Finding, MachineId};
use failback_service::control::{MachinePoints, Orders, Plan, ReceiptFile, Request, outcome_of_reload};
use failback_service::event::Caller;
use failback_service::registry::Wanted;
use failback_service::status::{DaemonStatus, MachineStatus};
use serde_json::Value;

impl Orders for MasterTarget {
    fn status(&self, machine: Option<&MachineId>) -> Result<DaemonStatus, Finding> {
        let machines = self.site.registry().asked_for(machine)?;
        let machines: Vec<_> = machines.iter().map(|machine| self.status_of(machine)).collect();
        let disks = machines.iter().flat_map(|machine| &machine.disks);
        let sessions = disks.filter(|disk| disk.link.is_some()).count() as u64;
        let mut status = self.site.kit().status(Some(self.certificate()), sessions, machines);
        status.receipt_key = Some(self.site.receipts().key().to_string());
        // Connections that came to nothing before anybody knew whose they were.
        for (code, count) in self.listened().failed {
            *status.errors.entry(code.into()).or_default() += count;
        }
        Ok(status)
    }

    fn registry(&self, machine: Option<&MachineId>) -> Result<Vec<Value>, Finding> {
        self.site.registry().definitions(machine)
    }

    fn receipt(&self, machine: &MachineId, number: Option<u64>) -> Result<ReceiptFile, Finding> {
        self.site.registry().machine(machine)?;
        self.site.receipts().find(machine, number)
    }

    fn points(&self, machine: &MachineId) -> Result<MachinePoints, Finding> {
        self.site.points(machine)
    }

    fn plan(&self, request: &Request) -> Result<Plan, Vec<Finding>> {
        match request {
            Request::DropPoints { machine, numbers, give_up_cancel, .. } => {
                self.plan_drop(machine, numbers, *give_up_cancel).map_err(|finding| vec![finding])
            }
            request => self.plan_verb(request),
        }
    }

    fn is_draining(&self) -> bool {
        self.site.kit().stop.is_cancelled()
    }

    fn carry_out(&self, caller: Caller, request: &Request) -> Result<String, Vec<Finding>> {
        match request {
            Request::Reload { .. } => outcome_of_reload(self.read_again()),
            Request::DropPoints { job: Some(job), machine, numbers, give_up_cancel } => {
                let dropped = self.drop_points(caller, job, machine, numbers, *give_up_cancel);
                dropped.map_err(|finding| vec![finding])
            }
            Request::Cutover { job: Some(job), .. }
            | Request::Cancel { job: Some(job), .. }
            | Request::Commit { job: Some(job), .. } => self.begin_verb(caller, job, request),
            request => self.do_one(request).map_err(|finding| vec![finding]),
        }
    }
}

impl MasterTarget {
    fn do_one(&self, request: &Request) -> Result<String, Finding> {
        match request {
            Request::Stop { machine, .. } => {
                self.site.registry().intend(machine, |intent| intent.wanted = Wanted::Stopped)?;
                let working = self.stop_sessions(machine);
                let then = "none is written until it is resumed";
                Ok(format!("{machine}: {working} disks stop at their next durable group, and {then}"))
            }
            Request::Resume { machine, .. } => {
                self.site.registry().intend(machine, |intent| intent.wanted = Wanted::Running)?;
                let given_up = match self.site.pending().abandon(machine)? {
                    true => "; what was cut off is given up, and the next pass writes over it",
                    false => "",
                };
                let may = "its disks may be written; the process server's next try gets through";
                Ok(format!("{machine}: {may}{given_up}"))
            }
            Request::Verify { job, machine, disk } => self.site.verify(job, machine, disk.as_ref()),
            Request::Bandwidth { machine, schedule, .. } => self.bandwidth(machine, schedule.as_deref()),
            Request::Reprotect { machine, .. } | Request::Cycle { machine, .. } => {
                let finding = Finding::error(Code::RequestInvalid, "a master target does not start passes");
                let remedy = format!("ask the process server: failback reprotect {machine}");
                Err(finding.with_remedy(remedy))
            }
            request => {
                let changed = self.site.registry().carry_out(request, &self.site.kit().events);
                self.site.settle();
                changed.unwrap_or_else(|| {
                    Err(Finding::error(Code::RequestInvalid, "it changes nothing and needs no job"))
                })
            }
        }
    }

    fn status_of(&self, machine: &Machine) -> MachineStatus {
        let disks =
            machine.disk.iter().map(|disk| self.site.kit().board.disk(&machine.id, &disk.id).status());
        let peers: Vec<_> = machine.allow.iter().map(ToString::to_string).collect();
        MachineStatus {
            pace: None,
            cycle: None,
            recovery: self.site.recovery_of(machine).map(Box::new),
            id: machine.id.to_string(),
            wanted: self.site.registry().intent(&machine.id).wanted,
            peer: peers.join(", "),
            disks: disks.collect(),
        }
    }

    /// What this end sends is little, and one limit for all machines.
    fn bandwidth(&self, machine: &MachineId, schedule: Option<&str>) -> Result<String, Finding> {
        self.site.registry().machine(machine)?;
        let wrong = |error| Finding::error(Code::RequestInvalid, format!("schedule: {error}"));
        let schedule = schedule.map(|text| text.parse().map_err(wrong)).transpose()?;
        let until = if schedule.is_some() { "until the daemon starts anew" } else { "as it is configured" };
        let now = self.limit.set(schedule);
        Ok(format!("{now} for all that this master target sends, to every machine's process server, {until}"))
    }
}
