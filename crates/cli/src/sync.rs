//! `failback sync`: brings one disk home.

use crate::args::SyncArgs;
use crate::job::{Asked, Job};
use crate::plan_summary::PlanSummary;
use crate::report::Voice;
use crate::summary::PassSummary;
use crate::transfer::{Unfinished, carry_out};
use failback_model::ExitClass;
use failback_pass::Cancel;

/// Runs the command.
pub(crate) fn run(args: &SyncArgs, cancel: &Cancel) -> ExitClass {
    // A plan is what a dry run was asked for: --quiet silences progress alone.
    let quiet = args.progress.quiet && !args.dry_run;
    let voice = Voice { command: "sync", json: args.output.json, quiet };
    let job = Job::prepare(&asked(args), cancel);
    if args.dry_run
        && let Some(plan) = &job.plan
    {
        return voice.finish(
            "planned",
            &PlanSummary::new(&args.target, plan, &job, &args.create),
            &job.findings,
        );
    }
    let not_started = || PassSummary::not_started(&args.source, &args.target);
    if args.dry_run || job.is_refused() {
        return voice.finish("done", &not_started(), &job.findings);
    }
    match carry_out(job, &args.create, &args.progress, Unfinished::Keep, cancel) {
        Ok((summary, findings)) => voice.finish("done", &summary, &findings),
        Err(findings) => voice.finish("done", &not_started(), &findings),
    }
}

fn asked(args: &SyncArgs) -> Asked<'_> {
    Asked {
        source: &args.source,
        target: &args.target,
        pass: &args.pass,
        create: &args.create,
        grow: args.grow,
        accept_mismatch: args.accept_mismatch,
        in_place: true,
    }
}
