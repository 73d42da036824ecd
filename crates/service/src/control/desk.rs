//! Takes requests, whoever brings them: gives each job to the daemon once, and writes the audit event.

use super::forecast::Forecast;
use super::jobs::{Job, Jobs};
use super::point::{MachinePoints, Plan};
use super::protocol::{ReceiptFile, Reply, Request};
use crate::event::{Caller, Event, Events};
use crate::report::finding_lines;
use crate::status::DaemonStatus;
use failback_model::{Code, Finding, JobId, MachineId, Severity};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A daemon, as the control socket sees it. Calls may block for a moment, and start what takes longer.
pub trait Orders: Send + Sync + 'static {
    /// Where everything stands.
    fn status(&self, machine: Option<&MachineId>) -> Result<DaemonStatus, Finding>;

    /// How machines and disks are defined.
    fn registry(&self, machine: Option<&MachineId>) -> Result<Vec<Value>, Finding>;

    /// A receipt of a machine; the last one where no number is given.
    fn receipt(&self, _machine: &MachineId, _number: Option<u64>) -> Result<ReceiptFile, Finding> {
        Err(at_master_target("this daemon signs no receipts"))
    }

    /// A machine's recovery points.
    fn points(&self, _machine: &MachineId) -> Result<MachinePoints, Finding> {
        Err(at_master_target("recovery points are kept by the master target"))
    }

    /// What the next passes of a machine are expected to cost.
    fn forecast(&self, _machine: &MachineId) -> Result<Forecast, Finding> {
        let evidence = "passes are predicted by the process server, which reads the sources";
        Err(Finding::error(Code::RequestInvalid, evidence)
            .with_remedy("ask it: 'failback plan MACHINE --socket /run/failback/process-server.sock'"))
    }

    /// What a verb would do: a request whose job was left out. Nothing is done.
    fn plan(&self, request: &Request) -> Result<Plan, Vec<Finding>> {
        let evidence = format!("'{}' is for a master target, which holds the disks", request.name());
        Err(vec![at_master_target(evidence)])
    }

    /// Whether no more jobs are taken.
    fn is_draining(&self) -> bool;

    /// Carries out a request that has a job, for whoever asks; says what was done. Jobs come one at a time.
    fn carry_out(&self, caller: Caller, request: &Request) -> Result<String, Vec<Finding>>;
}

/// What every daemon says of itself.
#[derive(Debug, Clone)]
pub struct About {
    /// `process-server` or `master-target`.
    pub daemon: &'static str,
    /// Its version.
    pub version: &'static str,
    /// When it started.
    pub started_unix_ms: u64,
}

/// The desk.
pub struct Desk {
    about: About,
    orders: Arc<dyn Orders>,
    events: Arc<Events>,
    jobs: Mutex<Jobs>,
}

impl Desk {
    /// Opens the desk; outcomes of jobs lie in `jobs`.
    pub fn open(
        about: About,
        orders: Arc<dyn Orders>,
        events: Arc<Events>,
        jobs: &Path,
    ) -> Result<Self, Finding> {
        Ok(Self { about, orders, events, jobs: Mutex::new(Jobs::open(jobs)?) })
    }

    /// The event stream.
    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    /// Answers one request. May block.
    pub fn answer(&self, caller: Caller, request: &Request) -> Reply {
        let About { daemon, version, started_unix_ms } = self.about;
        let asked = match request {
            Request::Version {} => Ok(Reply::Version { daemon: daemon.into(), version: version.into() }),
            Request::Status { machine } => {
                self.orders.status(machine.as_ref()).map(|status| Reply::Status { status })
            }
            Request::Registry { machine } => {
                self.orders.registry(machine.as_ref()).map(|machines| Reply::Registry { machines })
            }
            Request::Receipt { machine, number } => {
                self.orders.receipt(machine, *number).map(|receipt| Reply::Receipt { receipt })
            }
            Request::Points { machine } => self.orders.points(machine).map(|points| Reply::Points { points }),
            Request::Forecast { machine } => {
                self.orders.forecast(machine).map(|forecast| Reply::Forecast { forecast })
            }
            Request::Events { .. } => Ok(Reply::Events { started_unix_ms }),
            request => match request.job() {
                Some(job) => return self.do_job(caller, request, job),
                None => {
                    let planned = self.orders.plan(request);
                    return planned
                        .map_or_else(|findings| refused(None, &findings), |plan| Reply::Plan { plan });
                }
            },
        };
        asked.unwrap_or_else(|finding| refused(None, &[finding]))
    }

    /// Carries a job out, unless it was before.
    fn do_job(&self, caller: Caller, request: &Request, id: &JobId) -> Reply {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = jobs.find(id) {
            if earlier.request == *request {
                return repeated(earlier.reply.clone());
            }
            let evidence =
                format!("job {id} was a {} request, or one with other values", earlier.request.name());
            let finding = Finding::error(Code::RequestInvalid, evidence);
            return refused(Some(id), &[finding.with_remedy("give each job an id of its own")]);
        }
        if self.orders.is_draining() {
            return refused(Some(id), &[Finding::error(Code::Draining, "no more jobs are taken")]);
        }
        let reply = match self.orders.carry_out(caller, request) {
            Ok(said) => Reply::Done { job: id.clone(), repeated: false, said },
            Err(findings) => refused(Some(id), &findings),
        };
        let kept = jobs.keep(Job { request: request.clone(), reply: reply.clone() });
        drop(jobs);
        let (outcome, findings) = match &reply {
            Reply::Refused { findings, .. } => ("refused", findings.clone()),
            _ => ("done", Vec::new()),
        };
        self.events.publish(Event::Job {
            job: id.to_string(),
            request: request.name().into(),
            machine: request.machine().map(String::from),
            caller,
            outcome: outcome.into(),
            findings,
        });
        // What was done is done, but a second request would do it again: whoever asks shall know.
        kept.map_or_else(|finding| refused(Some(id), &[finding]), |()| reply)
    }
}

/// What only a master target does is asked of one.
pub fn at_master_target(evidence: impl Into<String>) -> Finding {
    let finding = Finding::error(Code::RequestInvalid, evidence);
    finding.with_remedy("ask the master target: --socket /run/failback/master-target.sock")
}

pub(super) fn refused(job: Option<&JobId>, findings: &[Finding]) -> Reply {
    Reply::Refused { job: job.cloned(), repeated: false, findings: finding_lines(findings) }
}

fn repeated(reply: Reply) -> Reply {
    match reply {
        Reply::Done { job, said, .. } => Reply::Done { job, repeated: true, said },
        Reply::Refused { job, findings, .. } => Reply::Refused { job, repeated: true, findings },
        other => other,
    }
}

/// What a reload says of its findings: an error is a refusal, and what is only worth knowing is told.
pub fn outcome_of_reload(findings: Vec<Finding>) -> Result<String, Vec<Finding>> {
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(findings);
    }
    let told = findings.iter().map(|finding| format!("; {}", finding.evidence));
    Ok(std::iter::once("read again".to_string()).chain(told).collect())
}
