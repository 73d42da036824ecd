//! `failback image convert`: a pass into a new image. What it does not finish it removes.

use crate::args::ConvertArgs;
use crate::job::{Asked, Job};
use crate::report::Voice;
use crate::summary::PassSummary;
use crate::transfer::{Unfinished, carry_out};
use failback_model::ExitClass;
use failback_pass::Cancel;

/// Runs the command.
pub(crate) fn run(args: &ConvertArgs, cancel: &Cancel) -> ExitClass {
    let voice = Voice { command: "image convert", json: args.output.json, quiet: args.progress.quiet };
    let asked = Asked {
        source: &args.source,
        target: &args.target,
        pass: &args.pass,
        create: &args.create,
        grow: false,
        accept_mismatch: false,
        in_place: false,
    };
    let job = Job::prepare(&asked, cancel);
    let not_started = || PassSummary::not_started(&args.source, &args.target);
    if job.is_refused() {
        return voice.finish("done", &not_started(), &job.findings);
    }
    match carry_out(job, &args.create, &args.progress, Unfinished::Remove, None, cancel) {
        Ok((summary, findings)) => voice.finish("done", &summary, &findings),
        Err(findings) => voice.finish("done", &not_started(), &findings),
    }
}
