//! `failback sync`: brings one disk home.

use crate::args::SyncArgs;
use crate::job::{Asked, Job};
use crate::plan_summary::PlanSummary;
use crate::protection::Protection;
use crate::report::Voice;
use crate::summary::PassSummary;
use crate::transfer::{Unfinished, carry_out};
use failback_image::{FormatName, VmdkType};
use failback_model::{Code, ExitClass, Finding};
use failback_pass::Cancel;

/// Runs the command.
pub(crate) fn run(args: &SyncArgs, cancel: &Cancel) -> ExitClass {
    // A plan is what a dry run was asked for: --quiet silences progress alone.
    let quiet = args.progress.quiet && !args.dry_run;
    let voice = Voice { command: "sync", json: args.output.json, quiet };
    let mut job = Job::prepare(&asked(args), cancel);
    let protection = protect(args, &mut job);
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
    match carry_out(job, &args.create, &args.progress, Unfinished::Keep, protection.as_ref(), cancel) {
        Ok((summary, findings)) => voice.finish("done", &summary, &findings),
        Err(findings) => voice.finish("done", &not_started(), &findings),
    }
}

/// Opens the journal, if there is to be one, and judges the target by it. A dry run makes none.
fn protect(args: &SyncArgs, job: &mut Job) -> Option<Protection> {
    let folder = args.journal.as_deref()?;
    let is_once = job.target.format_by_name() == Some(FormatName::Vmdk)
        && args.create.vmdk_type == Some(VmdkType::StreamOptimized);
    if is_once {
        let evidence = "a streamOptimized image is written in one go, and --journal says nothing about it";
        job.findings.push(Finding::warning(Code::Usage, evidence));
        return None;
    }
    if args.dry_run && !folder.is_dir() || job.is_refused() {
        return None;
    }
    let protection = Protection::open(folder).map_err(|finding| job.findings.push(finding)).ok()?;
    if let Some(image) = &job.existing {
        match protection.check(&**image, args.remote.accept_divergence && !args.dry_run) {
            Ok(found) => job.findings.extend(found),
            Err(finding) => job.findings.push(finding),
        }
    }
    Some(protection)
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
