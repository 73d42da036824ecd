//! `failback reprotect`, `stop` and `resume`: one request, one outcome.

use super::{ask, unexpected};
use crate::args::OutputArgs;
use crate::confirm::confirm;
use crate::control_args::{CycleArgs, JobArgs, OrderArgs, ReprotectArgs};
use crate::report::{Summary, Voice};
use failback_model::{Code, ExitClass, Finding, JobId};
use failback_service::clock::unix_ms;
use failback_service::control::{PassFlags, Reply, Request};
use failback_service::report::printable;
use serde::Serialize;

/// What became of a job.
#[derive(Serialize)]
pub(super) struct Outcome {
    pub(super) job: String,
    /// Whether the same job was carried out before.
    pub(super) repeated: bool,
    pub(super) said: String,
}

impl Summary for Outcome {
    fn text(&self) -> String {
        let before = if self.repeated { " (before; this was its outcome)" } else { "" };
        format!("{}{before}\n", printable(&self.said))
    }
}

/// Runs `failback reprotect`.
pub(crate) fn reprotect(args: &ReprotectArgs) -> ExitClass {
    let voice = voice("reprotect", &args.order.job.output);
    let (machine, order) = (args.order.machine.clone(), &args.order);
    let question = format!("Overwrite the target disks of {machine} with what the process server reads?");
    if let Err(finding) = confirm(&question, args.yes) {
        return voice.fail(&[finding]);
    }
    let flags = PassFlags {
        verify: args.verify,
        accept_mismatch: args.accept_mismatch,
        accept_older: args.accept_older,
        accept_divergence: args.accept_divergence,
        is_final: args.is_final,
        finish_by_unix_ms: args.goal.finish_by,
        max_egress_bytes: args.goal.max_egress,
    };
    finish(voice, &order.job, |job| Request::Reprotect { job, machine, flags })
}

/// Runs `failback cycle`.
pub(crate) fn cycle(args: &CycleArgs) -> ExitClass {
    let voice = voice("cycle", &args.order.job.output);
    let (machine, is_final) = (args.order.machine.clone(), args.is_final);
    if is_final {
        let question = format!("Stop the source of {machine} for its last cycle?");
        if let Err(finding) = confirm(&question, args.yes) {
            return voice.fail(&[finding]);
        }
    }
    finish(voice, &args.order.job, |job| Request::Cycle { job, machine, is_final })
}

/// Runs `failback stop`.
pub(crate) fn stop(args: &OrderArgs) -> ExitClass {
    let machine = args.machine.clone();
    finish(voice("stop", &args.job.output), &args.job, |job| Request::Stop { job, machine })
}

/// Runs `failback resume`.
pub(crate) fn resume(args: &OrderArgs) -> ExitClass {
    let machine = args.machine.clone();
    finish(voice("resume", &args.job.output), &args.job, |job| Request::Resume { job, machine })
}

/// How a command speaks.
pub(super) fn voice(command: &'static str, output: &OutputArgs) -> Voice {
    Voice { command, json: output.json, quiet: false }
}

pub(super) fn finish(voice: Voice, order: &JobArgs, request: impl FnOnce(JobId) -> Request) -> ExitClass {
    let job = job_id(order.id.as_ref()).map_err(|finding| vec![finding]);
    let done = job.and_then(|job| ask(&order.socket, &request(job)));
    match done {
        Ok(Reply::Done { job, repeated, said }) => {
            voice.finish("done", &Outcome { job: job.to_string(), repeated, said }, &[])
        }
        Ok(reply) => voice.fail(&unexpected(&reply)),
        Err(findings) => voice.fail(&findings),
    }
}

/// The given id, or one that nobody else makes at the same time.
pub(crate) fn job_id(given: Option<&JobId>) -> Result<JobId, Finding> {
    given.cloned().map_or_else(
        || {
            let text = format!("cli-{}-{}", unix_ms(), std::process::id());
            text.parse().map_err(|error| Finding::error(Code::Internal, format!("{text}: {error}")))
        },
        Ok,
    )
}
