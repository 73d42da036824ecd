//! `failback sync`: brings one disk home.

use crate::args::SyncArgs;
use crate::report::Voice;
use crate::summary::{PassSummary, PlanSummary};
use crate::transfer::{Goal, Pass, Unfinished, collect, exists, open_to_read, pass_options};
use failback_image::{Access, Image, ImageSpec};
use failback_model::{Code, ExitClass, Finding};
use failback_pass::{PassOptions, Target};
use std::sync::Arc;

/// Runs the command.
pub(crate) fn run(args: &SyncArgs) -> ExitClass {
    let voice = Voice { command: "sync", json: args.output.json, quiet: args.progress.quiet };
    let refused = |findings: Vec<Finding>| {
        voice.finish("done", &PassSummary::not_started(&args.source, &args.target), &findings)
    };
    let ends = match Ends::open(args) {
        Ok(ends) => ends,
        Err(findings) => return refused(findings),
    };
    if !args.dry_run {
        return match ends.sync(args) {
            Ok((summary, findings)) => voice.finish("done", &summary, &findings),
            Err(findings) => refused(findings),
        };
    }
    match failback_pass::plan(&ends.source, &ends.goal(), &ends.options) {
        Ok(plan) => {
            let target = args.target.display().to_string();
            let summary = PlanSummary::new(ends.source.name().display().to_string(), target, &plan);
            voice.finish("planned", &summary, &[plan.findings, ends.warnings].concat())
        }
        Err(error) => refused(error.findings()),
    }
}

/// Both ends of the pass, opened as far as they exist.
struct Ends {
    source: Arc<dyn Image>,
    target: ImageSpec,
    existing: Option<Arc<dyn Image>>,
    options: PassOptions,
    warnings: Vec<Finding>,
}

impl Ends {
    /// Opens everything, and tells everything that is wrong at once.
    fn open(args: &SyncArgs) -> Result<Self, Vec<Finding>> {
        let mut findings = Vec::new();
        let target = ImageSpec::parse(&args.target);
        let source = collect(open_to_read(&args.source), &mut findings);
        let existing = match collect(exists(&target), &mut findings) {
            Some(true) => collect(open_to_write(&target, source.as_deref()), &mut findings),
            _ => None,
        };
        let options = pass_options(&args.pass, &mut findings);
        let options = PassOptions { grow: args.grow, accept_mismatch: args.accept_mismatch, ..options };
        match source {
            Some(source) if findings.is_empty() => {
                let warnings = existing.iter().filter_map(|_| options_without_effect(args)).collect();
                Ok(Self { source, target, existing, options, warnings })
            }
            _ => Err(findings),
        }
    }

    /// Where the pass would go, without creating anything.
    fn goal(&self) -> Target {
        self.existing.clone().map_or(Target::New(None), Target::Existing)
    }

    /// Creates what does not exist, once the plan allows it, and runs the pass.
    fn sync(self, args: &SyncArgs) -> Result<(PassSummary, Vec<Finding>), Vec<Finding>> {
        let pass = Pass::prepare(self.source, self.options)?;
        let goal = match self.existing {
            Some(image) => Goal::existing(image),
            None => pass.create(&self.target, &args.create)?,
        };
        let (summary, mut findings) = pass.carry_out(&goal, &args.progress, Unfinished::Keep);
        findings.extend(self.warnings);
        Ok((summary, findings))
    }
}

/// Opens the target, also for a plan: who may not write shall hear it then, and an image that is not written to is
/// not changed.
fn open_to_write(target: &ImageSpec, source: Option<&dyn Image>) -> Result<Arc<dyn Image>, Finding> {
    failback_image::open(target, Access::Write).map_err(|error| {
        let is_source = |image: Arc<dyn Image>| {
            source.is_some_and(|source| failback_image::same_disk(&source.identity(), &image.identity()))
        };
        // It may be our own lock on the source that is in the way.
        if error.code == Code::InUse && failback_image::open(target, Access::Read).is_ok_and(is_source) {
            return Finding::error(Code::SameImage, target.path.display().to_string());
        }
        error.to_finding()
    })
}

/// An option that is silently ignored is a trap.
fn options_without_effect(args: &SyncArgs) -> Option<Finding> {
    let asked = args.create.provisioning.is_some() || args.create.vmdk_type.is_some();
    let evidence = format!("{} exists and stays as it is made", args.target.display());
    let remedy = "leave out --provisioning and --vmdk-type, which are for created images";
    asked.then(|| Finding::warning(Code::Usage, evidence).with_remedy(remedy))
}
