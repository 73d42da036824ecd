//! What a pass needs before it starts: both ends, options, a plan, and everything that speaks against it.
//!
//! **Invariant**: all findings are told at once, those of a dry run are those of the real run, and nothing was made or
//! written when they are.

use crate::args::{NewImageArgs, PassArgs};
use crate::report::is_refused;
use crate::transfer::{block_size, collect, create_options, open_source, open_to_read};
use crate::without_effect;
use failback_blockio::{DiskError, Operation};
use failback_image::{Access, Image, ImageSpec, check_create, is_file_of};
use failback_model::{BlockSize, Code, Finding};
use failback_pass::{Cancel, PassOptions, Plan, Target};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

/// The command line's part of a job.
pub(crate) struct Asked<'a> {
    /// Where the bytes come from.
    pub(crate) source: &'a OsStr,
    /// Where they go.
    pub(crate) target: &'a OsStr,
    /// How the pass works.
    pub(crate) pass: &'a PassArgs,
    /// What a new target is like.
    pub(crate) create: &'a NewImageArgs,
    /// Extend a target that is too short.
    pub(crate) grow: bool,
    /// Overwrite what looks like another disk.
    pub(crate) accept_mismatch: bool,
    /// Whether a target that exists is what this command is for.
    pub(crate) in_place: bool,
}

/// A pass about to start, opened as far as it could be.
pub(crate) struct Job {
    /// The target as it was named.
    pub(crate) target: ImageSpec,
    /// The source, where it could be opened.
    pub(crate) source: Option<Arc<dyn Image>>,
    /// The target, where it exists and could be opened.
    pub(crate) existing: Option<Arc<dyn Image>>,
    /// Options with every seed that could be opened.
    pub(crate) options: PassOptions,
    /// The plan, where both ends are known.
    pub(crate) plan: Option<Plan>,
    /// Everything found.
    pub(crate) findings: Vec<Finding>,
}

impl Job {
    /// Opens everything, plans, and keeps what is wrong.
    pub(crate) fn prepare(asked: &Asked<'_>, cancel: &Cancel) -> Self {
        let mut findings = Vec::new();
        let target = ImageSpec::parse(asked.target);
        let source = collect(open_source(asked.source, cancel), &mut findings);
        let is_there =
            collect(failback_image::exists(&target).map_err(|error| error.to_finding()), &mut findings);
        let existing = match is_there {
            Some(true) if asked.in_place => collect(open_to_write(&target, source.as_deref()), &mut findings),
            _ => None,
        };
        let size = collect(block_size(asked.pass.scan.block_size), &mut findings);
        // Once the target is open: what it is made of is known then.
        let mut seeds = Vec::new();
        for seed in &asked.pass.seed {
            match open_seed(seed, &target, source.as_deref(), existing.as_deref()) {
                Ok((image, warning)) => {
                    seeds.push(image);
                    findings.extend(warning);
                }
                Err(finding) => findings.push(finding),
            }
        }
        let options = options_of(asked, size.unwrap_or(BlockSize::DEFAULT), seeds);
        let mut job = Self { target, source, existing, options, plan: None, findings };
        match is_there {
            Some(true) if asked.in_place => {
                job.findings.extend(without_effect::on_existing(asked.target, asked.create))
            }
            Some(true) => job.findings.push(exists_already(asked.target)),
            Some(false) => job.judge_new(asked.create),
            None => {}
        }
        if let Some(goal) = job.goal(is_there) {
            job.plan(&goal, cancel);
        }
        job
    }

    /// Whether an error among the findings forbids the pass.
    pub(crate) fn is_refused(&self) -> bool {
        is_refused(&self.findings)
    }

    fn judge_new(&mut self, create: &NewImageArgs) {
        let length_bytes = self.source.as_ref().map_or(0, |source| source.geometry().length_bytes);
        self.findings.extend(check_create(&self.target, &create_options(create, length_bytes)));
        self.findings.extend(without_effect::on_format(&self.target, create));
    }

    /// Where the pass would go, without making anything; `None` where that is not known.
    fn goal(&self, is_there: Option<bool>) -> Option<Target> {
        match (&self.existing, is_there) {
            (Some(image), _) => Some(Target::Existing(Arc::clone(image))),
            (None, Some(false)) => Some(Target::New(None)),
            _ => None,
        }
    }

    fn plan(&mut self, goal: &Target, cancel: &Cancel) {
        let Some(source) = &self.source else { return };
        match failback_pass::plan(source, goal, &self.options, cancel) {
            Ok(mut plan) => {
                self.findings.append(&mut plan.findings);
                self.plan = Some(plan);
            }
            Err(error) => self.findings.extend(error.findings()),
        }
    }
}

fn options_of(asked: &Asked<'_>, block_size: BlockSize, seeds: Vec<Arc<dyn Image>>) -> PassOptions {
    let args = asked.pass;
    let defaults = PassOptions::default();
    PassOptions {
        block_size,
        refinement: args.page_refinement,
        compression: args.compression,
        threads: args.scan.threads.unwrap_or(defaults.threads),
        verify: args.verify,
        grow: asked.grow,
        accept_mismatch: asked.accept_mismatch,
        seeds: seeds.into_iter().map(|seed| seed as _).collect(),
        ..defaults
    }
}

/// Opens the target, also for a plan: who may not write shall hear it then, and an image that is not written to is
/// not changed.
fn open_to_write(target: &ImageSpec, source: Option<&dyn Image>) -> Result<Arc<dyn Image>, Finding> {
    failback_image::open(target, Access::Write).map_err(|error| {
        // It may be our own lock on the source that is in the way.
        let is_source = source.is_some_and(|source| is_file_of(&source.identity(), &target.path));
        if error.code == Code::InUse && is_source {
            return Finding::error(Code::SameImage, target.path.display().to_string()).about(&target.path);
        }
        error.to_finding()
    })
}

/// A seed, and what is odd about it.
fn open_seed(
    text: &OsStr,
    target: &ImageSpec,
    source: Option<&dyn Image>,
    existing: Option<&dyn Image>,
) -> Result<(Arc<dyn Image>, Option<Finding>), Finding> {
    let path = ImageSpec::parse(text).path;
    let is_part = |image: Option<&dyn Image>| image.is_some_and(|image| is_file_of(&image.identity(), &path));
    if is_part(existing) || path == target.path {
        let evidence = format!("seed {} is the target itself", path.display());
        let remedy = "leave it out: what the target holds is compared anyway";
        return Err(Finding::error(Code::SeedUnusable, evidence).with_remedy(remedy).about(path));
    }
    let image = open_to_read(text).map_err(|finding| {
        let remedy = Code::SeedUnusable.remedy();
        Finding { code: Code::SeedUnusable, ..finding }.with_remedy(remedy)
    })?;
    let warning = is_part(source).then(|| {
        let evidence = format!("seed {} is the source itself: nothing is saved by it", path.display());
        Finding::warning(Code::SeedUnusable, evidence)
            .with_remedy("leave it out, or name a disk that lies with the target")
            .about(&path)
    });
    Ok((image, warning))
}

fn exists_already(target: &OsStr) -> Finding {
    let path = Path::new(target);
    let remedy = "choose another path; 'failback sync' brings an image that exists to the source's bytes";
    let reason = "something of that name is there";
    DiskError::new(Code::ImageExists, Operation::Create, path, reason).with_remedy(remedy).to_finding()
}
