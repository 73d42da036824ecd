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
use failback_pass::{Outcome, PassError, PassOptions, Progress, Target};
use std::ffi::OsStr;
use std::fs;
use std::io;
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

/// Checks a block size.
pub(crate) fn block_size(bytes: u64) -> Result<BlockSize, Finding> {
    BlockSize::new(bytes).map_err(|error| Finding::error(Code::BlockSizeInvalid, error.to_string()))
}

/// Keeps a value or collects its finding: all findings are told at once.
pub(crate) fn collect<T>(result: Result<T, Finding>, findings: &mut Vec<Finding>) -> Option<T> {
    result.map_err(|finding| findings.push(finding)).ok()
}

/// Options of the pass from the command line, with every seed opened.
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

/// Creates the target with the source's length, once the plan allows it.
pub(crate) fn create_new(
    source: &Arc<dyn Image>,
    target: &ImageSpec,
    args: &NewImageArgs,
    options: &PassOptions,
) -> Result<Target, Vec<Finding>> {
    let plan = failback_pass::plan(source, &Target::New(None), options).map_err(|error| error.findings())?;
    if plan.is_refused() {
        return Err(plan.findings);
    }
    let image = failback_image::create(target, &create_options(args, source.geometry().length_bytes))
        .map_err(|error| vec![error.to_finding()])?;
    Ok(Target::New(Some(image)))
}

/// Runs the pass, shows its progress, closes the target and cleans up what this command created.
pub(crate) fn carry_out(
    source: Arc<dyn Image>,
    target: Target,
    options: &PassOptions,
    shown: &ProgressArgs,
    unfinished: Unfinished,
) -> Result<(PassSummary, Vec<Finding>), Vec<Finding>> {
    let cancel = cancel_on_signal().map_err(|finding| vec![finding])?;
    let (image, is_new) = match &target {
        Target::Existing(image) => (Arc::clone(image), false),
        Target::New(Some(image)) => (Arc::clone(image), true),
        Target::New(None) => return Err(vec![Finding::error(Code::Internal, "the target was not created")]),
    };
    let facts = facts(&*source, &*image, is_new, options)?;
    let totals = Totals {
        source_bytes: facts.virtual_size_bytes,
        target_bytes: if is_new { 0 } else { facts.virtual_size_bytes.min(image.geometry().length_bytes) },
        verify_bytes: if options.verify { facts.virtual_size_bytes } else { 0 },
        threads: options.threads,
    };
    let (progress, start) = (Arc::new(Progress::default()), Instant::now());
    let ended = {
        let _shown = show(shown, totals, &progress);
        failback_pass::run(source, target, options, &progress, &cancel)
    };
    let mut findings = after_the_end(&ended, &*image, is_new, &progress, unfinished);
    let summary = PassSummary::new(facts, ended.as_ref().ok(), &progress, start.elapsed());
    findings.splice(0..0, ended.map_or_else(|error| error.findings(), |outcome| outcome.findings));
    Ok((summary, findings))
}

fn facts(
    source: &dyn Image,
    target: &dyn Image,
    is_new: bool,
    options: &PassOptions,
) -> Result<Facts, Vec<Finding>> {
    Ok(Facts {
        source: source.name().display().to_string(),
        target: target.name().display().to_string(),
        strategy: Some(if is_new { "alternate-location" } else { "original-location" }),
        virtual_size_bytes: source.geometry().length_bytes,
        block_size_bytes: options.block_size.bytes(),
        full_copy_bytes: data_bytes(source).map_err(|error| vec![error.to_finding()])?,
        threads: options.threads,
    })
}

/// Bytes that are not holes.
fn data_bytes(source: &dyn UnitSource) -> Result<u64, DiskError> {
    let (mut from, mut bytes) = (0, 0);
    while let Some(run) = source.next_data(from)? {
        bytes += run.length_bytes();
        from = run.end();
    }
    Ok(bytes)
}

/// Closes the target, or removes it where it is of no use.
fn after_the_end(
    ended: &Result<Outcome, PassError>,
    image: &dyn Image,
    is_new: bool,
    progress: &Progress,
    unfinished: Unfinished,
) -> Vec<Finding> {
    let one_go = image.identity().format == ImageFormat::VmdkStreamOptimized;
    let nothing_written = Progress::get(&progress.bytes_written) == 0;
    if ended.is_err() && is_new && (nothing_written || one_go || unfinished == Unfinished::Remove) {
        let mut findings = remove(image);
        if !nothing_written {
            findings.push(removed(image, one_go));
        }
        return findings;
    }
    // A pass that failed on the target's medium has latched it; closing says so once more, which does no harm.
    image.close().err().map(|error| error.to_finding()).into_iter().collect()
}

fn removed(image: &dyn Image, one_go: bool) -> Finding {
    let why =
        if one_go { "a streamOptimized image is written in one go" } else { "only whole images are made" };
    let evidence = format!("the partly written {} was removed: {why}", image.name().display());
    Finding::info(Code::Cancelled, evidence).with_remedy("run the same command again; it starts from nothing")
}

/// Removes every file of an image that this command created.
fn remove(image: &dyn Image) -> Vec<Finding> {
    let failed = |path: &std::path::Path, error: io::Error| {
        Finding::warning(Code::WriteFailed, format!("cannot remove {}: {error}", path.display()))
            .with_remedy("remove it by hand before the next run")
    };
    let files = image.identity().files;
    files.iter().filter_map(|path| fs::remove_file(path).err().map(|error| failed(path, error))).collect()
}
