//! One pass from a command's arguments to its summary: what `sync` and `image convert` share.
//!
//! **Invariant**: a file that this command created stays only if a second run can continue it; one that was there
//! before is never removed.

use crate::args::{NewImageArgs, PassArgs, ProgressArgs};
use crate::pace::Totals;
use crate::progress::show;
use crate::signals::cancel_on_signal;
use crate::summary::{Facts, PassSummary};
use failback_blockio::{DiskError, UnitSource};
use failback_image::{Access, CreateOptions, Image, ImageFormat, ImageSpec};
use failback_model::{BlockSize, Code, Finding};
use failback_pass::{Cancel, PassOptions, Progress, Target};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What to do about a created image that the pass did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// A second run goes on from there.
    Keep,
    /// The command only makes whole images.
    Remove,
}

/// Opens an image to be read.
pub(crate) fn open_to_read(text: &OsStr) -> Result<Arc<dyn Image>, Finding> {
    failback_image::open(&ImageSpec::parse(text), Access::Read).map_err(|error| error.to_finding())
}

/// Whether something lies where an image is to be.
pub(crate) fn exists(spec: &ImageSpec) -> Result<bool, Finding> {
    failback_image::exists(spec).map_err(|error| error.to_finding())
}

/// Checks a block size.
pub(crate) fn block_size(bytes: u64) -> Result<BlockSize, Finding> {
    BlockSize::new(bytes).map_err(|error| Finding::error(Code::BlockSizeInvalid, error.to_string()))
}

/// Keeps a value or collects its finding: all findings are told at once.
pub(crate) fn collect<T>(result: Result<T, Finding>, findings: &mut Vec<Finding>) -> Option<T> {
    result.map_err(|finding| findings.push(finding)).ok()
}

/// Options of the pass from the command line, with every seed opened.
///
/// Called once the target is open: a seed that is the target is then refused as being in use.
pub(crate) fn pass_options(args: &PassArgs, findings: &mut Vec<Finding>) -> PassOptions {
    let mut options = PassOptions {
        refinement: args.page_refinement,
        compression: args.compression,
        verify: args.verify,
        ..PassOptions::default()
    };
    if let Some(size) = collect(block_size(args.scan.block_size), findings) {
        options.block_size = size;
    }
    if let Some(threads) = args.scan.threads {
        options.threads = threads;
    }
    for seed in &args.seed {
        match open_to_read(seed) {
            Ok(image) => options.seeds.push(image),
            Err(finding) => findings.push(Finding::error(Code::SeedUnusable, finding.evidence)),
        }
    }
    options
}

/// What a created image is to be like.
pub(crate) fn create_options(args: &NewImageArgs, length_bytes: u64) -> CreateOptions {
    CreateOptions {
        provisioning: args.provisioning,
        vmdk_type: args.vmdk_type.unwrap_or_default(),
        ..CreateOptions::new(length_bytes)
    }
}

/// A pass about to start: everything that can fail without a target has been done.
pub(crate) struct Pass {
    source: Arc<dyn Image>,
    options: PassOptions,
    cancel: Cancel,
    full_copy_bytes: u64,
}

/// Where it goes, opened for writing.
pub(crate) struct Goal {
    image: Arc<dyn Image>,
    /// Created by this command, so this command's to remove.
    is_new: bool,
}

impl Goal {
    /// A disk that was there before.
    pub(crate) fn existing(image: Arc<dyn Image>) -> Self {
        Self { image, is_new: false }
    }

    fn target(&self) -> Target {
        let image = Arc::clone(&self.image);
        if self.is_new { Target::New(Some(image)) } else { Target::Existing(image) }
    }
}

impl Pass {
    /// Listens for signals and looks for holes.
    pub(crate) fn prepare(source: Arc<dyn Image>, options: PassOptions) -> Result<Self, Vec<Finding>> {
        let cancel = cancel_on_signal().map_err(|finding| vec![finding])?;
        let full_copy_bytes = data_bytes(&*source).map_err(|error| vec![error.to_finding()])?;
        Ok(Self { source, options, cancel, full_copy_bytes })
    }

    /// Creates the target with the source's length, once the plan allows it.
    pub(crate) fn create(&self, target: &ImageSpec, args: &NewImageArgs) -> Result<Goal, Vec<Finding>> {
        let plan = failback_pass::plan(&self.source, &Target::New(None), &self.options)
            .map_err(|error| error.findings())?;
        if plan.is_refused() {
            return Err(plan.findings);
        }
        let options = create_options(args, self.source.geometry().length_bytes);
        let image = failback_image::create(target, &options).map_err(|error| vec![error.to_finding()])?;
        Ok(Goal { image, is_new: true })
    }

    /// Runs the pass, which also closes the target, shows its progress and cleans up what this command created.
    pub(crate) fn carry_out(
        self,
        goal: &Goal,
        shown: &ProgressArgs,
        unfinished: Unfinished,
    ) -> (PassSummary, Vec<Finding>) {
        let facts = self.facts(goal);
        let (progress, start) = (Arc::new(Progress::default()), Instant::now());
        let ended = {
            let _shown = show(shown, self.totals(goal), &progress);
            failback_pass::run(self.source, goal.target(), &self.options, &progress, &self.cancel)
        };
        let summary = PassSummary::new(facts, ended.as_ref().ok(), &progress, start.elapsed());
        let findings = match ended {
            Ok(outcome) => outcome.findings,
            Err(error) => [error.findings(), clean_up(goal, &progress, unfinished)].concat(),
        };
        (summary, findings)
    }

    fn facts(&self, goal: &Goal) -> Facts {
        Facts {
            source: self.source.name().display().to_string(),
            target: goal.image.name().display().to_string(),
            strategy: Some(if goal.is_new { "alternate-location" } else { "original-location" }),
            virtual_size_bytes: self.source.geometry().length_bytes,
            block_size_bytes: self.options.block_size.bytes(),
            full_copy_bytes: self.full_copy_bytes,
            threads: self.options.threads,
        }
    }

    fn totals(&self, goal: &Goal) -> Totals {
        let source_bytes = self.source.geometry().length_bytes;
        Totals {
            source_bytes,
            target_bytes: if goal.is_new { 0 } else { source_bytes.min(goal.image.geometry().length_bytes) },
            verify_bytes: if self.options.verify { source_bytes } else { 0 },
            threads: self.options.threads,
        }
    }
}

/// Bytes that are not holes.
fn data_bytes(source: &dyn UnitSource) -> Result<u64, DiskError> {
    let (mut from, mut bytes) = (0, 0);
    while let Some(run) = source.next_data(from)? {
        bytes += run.length_bytes();
        from = run.end().max(from + 1);
    }
    Ok(bytes)
}

/// Removes a created target where it is of no use.
fn clean_up(goal: &Goal, progress: &Progress, unfinished: Unfinished) -> Vec<Finding> {
    let image = &*goal.image;
    let one_go = image.identity().format == ImageFormat::VmdkStreamOptimized;
    let nothing_written = Progress::get(&progress.bytes_written) == 0;
    if !goal.is_new || !(nothing_written || one_go || unfinished == Unfinished::Remove) {
        return Vec::new();
    }
    let mut findings = remove(image);
    if !nothing_written {
        findings.push(removed(image, one_go));
    }
    findings
}

fn removed(image: &dyn Image, one_go: bool) -> Finding {
    let why =
        if one_go { "a streamOptimized image is written in one go" } else { "only whole images are made" };
    let evidence = format!("the partly written {} was removed: {why}", image.name().display());
    Finding::info(Code::Cancelled, evidence).with_remedy("run the same command again; it starts from nothing")
}

/// Removes every file of an image that this command created.
fn remove(image: &dyn Image) -> Vec<Finding> {
    let failed = |path: &Path, error: io::Error| {
        Finding::warning(Code::WriteFailed, format!("cannot remove {}: {error}", path.display()))
            .with_remedy("remove it by hand before the next run")
    };
    let files = image.identity().files;
    files.iter().filter_map(|path| fs::remove_file(path).err().map(|error| failed(path, error))).collect()
}
