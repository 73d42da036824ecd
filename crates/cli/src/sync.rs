//! `failback sync`: brings one disk home.

use crate::args::SyncArgs;
use crate::report::Voice;
use crate::summary::{PassSummary, PlanSummary};
use crate::transfer::{Unfinished, carry_out, collect, create_new, open_to_read, pass_options};
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
        let options = pass_options(&args.pass, &mut findings);
        let options = PassOptions { grow: args.grow, accept_mismatch: args.accept_mismatch, ..options };
        let (source, target) = (ImageSpec::parse(&args.source), ImageSpec::parse(&args.target));
        if failback_image::same_disk(&source, &target) {
            let evidence = format!("{} and {}", args.source.display(), args.target.display());
            findings.push(Finding::error(Code::SameImage, evidence));
            return Err(findings);
        }
        let source = collect(open_to_read(&args.source), &mut findings);
        let existing = if failback_image::exists(&target) {
            let access = if args.dry_run { Access::Read } else { Access::Write };
            collect(failback_image::open(&target, access).map_err(|error| error.to_finding()), &mut findings)
        } else {
            None
        };
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
        let target = match self.existing {
            Some(image) => Target::Existing(image),
            None => create_new(&self.source, &self.target, &args.create, &self.options)?,
        };
        let (summary, mut findings) =
            carry_out(self.source, target, &self.options, &args.progress, Unfinished::Keep)?;
        findings.extend(self.warnings);
        Ok((summary, findings))
    }
}

/// An option that is silently ignored is a trap.
fn options_without_effect(args: &SyncArgs) -> Option<Finding> {
    let asked = args.create.provisioning.is_some() || args.create.vmdk_type.is_some();
    let evidence = format!("{} exists and stays as it is made", args.target.display());
    let remedy = "leave out --provisioning and --vmdk-type, which are for created images";
    asked.then(|| Finding::warning(Code::Usage, evidence).with_remedy(remedy))
}
