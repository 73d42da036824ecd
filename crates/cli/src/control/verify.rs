//! `failback verify`: begins it, and with `--wait` stays until all disks were read and the receipt is there.

use super::orders::{Outcome, finish, job_id, voice};
use super::{ask, understood, unexpected};
use crate::control_args::{SocketArgs, VerifyArgs};
use crate::receipt::Shown;
use crate::report::Summary;
use failback_model::{Code, DiskId, ExitClass, Finding, MachineId, Severity};
use failback_service::control::{Client, EventLines, Reply, Request};
use failback_service::event::Event;
use failback_service::report::printable;
use serde::Serialize;

/// What a verification that was waited for came to.
#[derive(Serialize)]
pub(super) struct Verified {
    #[serde(flatten)]
    outcome: Outcome,
    receipt_number: Option<u64>,
    #[serde(flatten)]
    receipt: Option<Shown>,
    /// Where the receipt lies.
    #[serde(skip)]
    path: Option<String>,
}

impl Summary for Verified {
    fn text(&self) -> String {
        let begun = self.outcome.text();
        match (self.receipt_number, &self.path) {
            (Some(number), Some(path)) => format!("{begun}receipt {number}: {}\n", printable(path)),
            _ => format!("{begun}all as it was sealed; a receipt is signed for whole machines only\n"),
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &VerifyArgs) -> ExitClass {
    let order = &args.order;
    let voice = voice("verify", &order.job.output);
    let (machine, disk) = (order.machine.clone(), args.disk.clone());
    if !args.wait {
        return finish(voice, &order.job, |job| Request::Verify { job, machine, disk });
    }
    match prove(&args.order.job.socket, &machine, disk.as_ref()) {
        Ok((verified, findings)) => voice.finish("done", &verified, &findings),
        Err(findings) => voice.fail(&findings),
    }
}

/// Has a machine proven, and waits for the end.
pub(super) fn prove(
    socket: &SocketArgs,
    machine: &MachineId,
    disk: Option<&DiskId>,
) -> Result<(Verified, Vec<Finding>), Vec<Finding>> {
    let alone = |finding| vec![finding];
    match ask(socket, &Request::Version {})? {
        Reply::Version { daemon, .. } if daemon == "master-target" => {}
        Reply::Version { daemon, .. } => {
            let finding =
                Finding::error(Code::RequestInvalid, format!("{daemon} signs no receipts to wait for"));
            let remedy = "ask the master target: --socket /run/failback/master-target.sock";
            return Err(vec![finding.with_remedy(remedy)]);
        }
        reply => return Err(unexpected(&reply)),
    }
    // Heard from before it begins, so that its end cannot be missed.
    let follow = Request::Events { since: None, machine: Some(machine.clone()) };
    let events = Client::connect(&socket.socket).and_then(|client| client.events(&follow)).map_err(alone)?;
    let job = job_id(None).map_err(alone)?;
    let request = Request::Verify { job: job.clone(), machine: machine.clone(), disk: disk.cloned() };
    let outcome = match ask(socket, &request)? {
        Reply::Done { job, repeated, said } => Outcome { job: job.to_string(), repeated, said },
        reply => return Err(unexpected(&reply)),
    };
    let End { number, path, findings } = end_of(job.as_str(), events).map_err(alone)?;
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(findings);
    }
    let receipt = match number {
        Some(_) => Some(Shown::fetch(socket, &Request::Receipt { machine: machine.clone(), number })?),
        None => None,
    };
    Ok((Verified { outcome, receipt_number: number, receipt, path }, findings))
}

/// How the reading ended.
struct End {
    number: Option<u64>,
    path: Option<String>,
    findings: Vec<Finding>,
}

/// Waits for the end of this job's reading.
fn end_of(job: &str, events: EventLines) -> Result<End, Finding> {
    for envelope in events {
        match envelope?.event {
            Event::MachineVerified { job: ended, receipt, number, findings, .. } if ended == job => {
                let findings = findings.iter().map(understood).collect();
                return Ok(End { number, path: receipt, findings });
            }
            Event::Missed { count } => {
                let finding =
                    Finding::error(Code::DaemonUnreachable, format!("{count} of its events were missed"));
                return Err(finding
                    .with_remedy("look for the outcome with 'failback status' and 'failback receipt show'"));
            }
            _ => {}
        }
    }
    Err(Finding::error(Code::DaemonUnreachable, "the daemon has ended, and with it the reading")
        .with_remedy("run the same command again once it runs"))
}
