//! `failback cutover`, `cancel`, `commit` and `points drop`: what would happen is shown, then asked about, then done, and
//! with `--wait` followed to its end.
//!
//! **Invariant**: nothing is asked of the daemon with a job before its plan was shown and confirmed, or `--yes` given.

use super::orders::{job_id, voice};
use super::{ask, plan, understood, unexpected};
use crate::confirm::confirm;
use crate::report::{Summary, is_refused, warn};
use crate::verb_args::{CancelArgs, CommitArgs, CutoverArgs, PointsDropArgs, VerbArgs};
use failback_model::{Code, ExitClass, Finding, JobId};
use failback_service::control::{Client, EventLines, MachinePlan, Plan, Reply, Request, Wish};
use failback_service::event::Event;
use failback_service::report::printable;
use serde::Serialize;

/// How a verb of one machine ended.
#[derive(Serialize)]
struct Ended {
    machine: String,
    point: Option<u64>,
    outcome: String,
    said: String,
    #[serde(skip)]
    findings: Vec<Finding>,
}

/// What became of a verb.
#[derive(Serialize)]
struct Done {
    job: String,
    repeated: bool,
    said: String,
    plan: Option<Plan>,
    /// Each machine's end, where it was waited for.
    ended: Vec<Ended>,
}

impl Summary for Done {
    fn text(&self) -> String {
        if self.ended.is_empty() {
            let before = if self.repeated { " (before; this was its outcome)" } else { "" };
            return format!("{}{before}\n", printable(&self.said));
        }
        let done = self.ended.iter().filter(|ended| ended.outcome == "done");
        done.map(|ended| format!("{}\n", printable(&ended.said))).collect()
    }

    fn has_written(&self) -> bool {
        true
    }
}

/// What would become of one.
#[derive(Serialize)]
struct Would {
    plan: Plan,
}

impl Summary for Would {
    fn text(&self) -> String {
        plan::text(&self.plan)
    }
}

/// A verb as it is asked for: without a job it is only planned.
type Asked<'a> = dyn Fn(Option<JobId>, Option<&Plan>) -> Request + 'a;

/// Runs `failback cutover`.
pub(crate) fn cutover(args: &CutoverArgs) -> ExitClass {
    run("cutover", &args.verb, &|job, plan| {
        // What was shown is what is done, also where a newer point came meanwhile. A job of the caller's own is repeated
        // word for word.
        let shown = match plan.map(|plan| &plan.machines[..]) {
            Some([MachinePlan { machine, point: Some(point), .. }])
                if args.verb.id.is_none() && machine == args.of.as_str() =>
            {
                Some(Wish::Number(*point))
            }
            _ => None,
        };
        Request::Cutover { job, of: args.of.clone(), point: shown.unwrap_or(args.point) }
    })
}

/// Runs `failback cancel`.
pub(crate) fn cancel(args: &CancelArgs) -> ExitClass {
    run("cancel", &args.verb, &|job, _| Request::Cancel { job, machine: args.machine.clone() })
}

/// Runs `failback commit`.
pub(crate) fn commit(args: &CommitArgs) -> ExitClass {
    let without_receipt = args.without_receipt;
    run("commit", &args.verb, &|job, _| Request::Commit {
        job,
        machine: args.machine.clone(),
        without_receipt,
    })
}

/// Runs `failback points drop`, whose outcome is there at once.
pub(crate) fn drop_points(args: &PointsDropArgs) -> ExitClass {
    run("points drop", &args.verb, &|job, _| Request::DropPoints {
        job,
        machine: args.machine.clone(),
        numbers: args.numbers.clone(),
        give_up_cancel: args.give_up_cancel,
    })
}

fn run(command: &'static str, args: &VerbArgs, asked: &Asked<'_>) -> ExitClass {
    let voice = voice(command, &args.output);
    match carry_out(command, args, asked) {
        Ok(Planned::Only(plan)) => {
            let findings: Vec<Finding> = plan.findings.iter().map(understood).collect();
            voice.finish("planned", &Would { plan }, &findings)
        }
        Ok(Planned::Done(done, findings)) => voice.finish("done", &done, &findings),
        Err(findings) => voice.fail(&findings),
    }
}

enum Planned {
    Only(Plan),
    Done(Done, Vec<Finding>),
}

fn carry_out(command: &str, args: &VerbArgs, asked: &Asked<'_>) -> Result<Planned, Vec<Finding>> {
    let (socket, alone) = (args.site.socket(), |finding| vec![finding]);
    let plan = match ask(&socket, &asked(None, None)) {
        Ok(Reply::Plan { plan }) => Some(plan),
        Ok(reply) => return Err(unexpected(&reply)),
        // A job that was carried out before has its outcome, whatever could be planned now.
        Err(_) if args.id.is_some() && args.yes => None,
        Err(findings) => return Err(findings),
    };
    if let (true, Some(plan)) = (args.dry_run, &plan) {
        return Ok(Planned::Only(plan.clone()));
    }
    if let (false, Some(plan)) = (args.output.json && args.yes, &plan) {
        warn(&plan::text(plan));
    }
    confirm(&format!("Carry out this {command}?"), args.yes).map_err(alone)?;
    let job = job_id(args.id.as_ref()).map_err(alone)?;
    let events = if args.wait { Some(follow(args)?) } else { None };
    let machines = plan.as_ref().map_or(0, |plan| plan.machines.len());
    let (repeated, said) = match ask(&socket, &asked(Some(job.clone()), plan.as_ref()))? {
        Reply::Done { repeated, said, .. } => (repeated, said),
        reply => return Err(unexpected(&reply)),
    };
    let has_end = command != "points drop";
    let ended = match events {
        Some(events) if has_end => ends_of(job.as_str(), machines, events).map_err(alone)?,
        _ => Vec::new(),
    };
    let findings: Vec<Finding> = ended.iter().flat_map(|ended| ended.findings.clone()).collect();
    if is_refused(&findings) && ended.len() == 1 {
        return Err(findings);
    }
    Ok(Planned::Done(Done { job: job.to_string(), repeated, said, plan, ended }, findings))
}

/// Events from before it begins, so that its end cannot be missed.
fn follow(args: &VerbArgs) -> Result<EventLines, Vec<Finding>> {
    let request = Request::Events { since: None, machine: None };
    let client = Client::connect(&args.site.socket().socket);
    client.and_then(|client| client.events(&request)).map_err(|finding| vec![finding])
}

/// Waits until this job's verb is over for so many machines.
fn ends_of(job: &str, machines: usize, events: EventLines) -> Result<Vec<Ended>, Finding> {
    let mut ends = Vec::new();
    for envelope in events {
        match envelope?.event {
            Event::OperationEnded { machine, job: ended, point, outcome, said, findings, .. }
                if ended == job =>
            {
                let findings = findings.iter().map(understood).collect();
                ends.push(Ended { machine, point, outcome, said, findings });
                if ends.len() >= machines {
                    return Ok(ends);
                }
            }
            Event::Missed { count } => {
                let evidence = format!("{count} of its events were missed");
                return Err(Finding::error(Code::DaemonUnreachable, evidence)
                    .with_remedy("look for the outcome with 'failback status' at the master target"));
            }
            _ => {}
        }
    }
    Err(Finding::error(Code::DaemonUnreachable, "the daemon has ended in the middle of it")
        .with_remedy("start it, and run the same command again: it finishes what was cut off"))
}
