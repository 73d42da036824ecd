//! One pass from its plan to its summary: what `sync` and `image convert` share.
//!
//! **Invariant**: a file that this command created stays only if a second run can continue it; one that was there
//! before is never removed.

use crate::args::{NewImageArgs, ProgressArgs};
use crate::job::Job;
use crate::progress::show;
use crate::protection::Protection;
use crate::summary::{Facts, PassSummary};
use failback_image::{CreateOptions, Image, ImageFormat, ImageSpec};
use failback_model::{BlockSize, Code, Finding, PointClaim, PointLabel};
use failback_pass::{Cancel, Measure, PassOptions, Plan, Progress, Target, Totals, source_unix_ms};
use failback_process_server::NOT_QUIESCED;
use failback_remote::{OpenOptions, SourceSpec, Waits};
use failback_service::clock::unix_ms;
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

/// Opens an image or a source behind a network to be read.
pub(crate) fn open_to_read(text: &OsStr) -> Result<Arc<dyn Image>, Finding> {
    failback_remote::open(&SourceSpec::parse(text)?, &OpenOptions::default())
}

/// The same for a job: its waits end where it is stopped.
pub(crate) fn open_source(text: &OsStr, cancel: &Cancel) -> Result<Arc<dyn Image>, Finding> {
    let cancel = cancel.clone();
    let waits = Waits { stop: Some(Arc::new(move || cancel.is_cancelled())), heard: None };
    failback_remote::open(&SourceSpec::parse(text)?, &OpenOptions { waits, ..OpenOptions::default() })
}

/// Checks a block size.
pub(crate) fn block_size(bytes: u64) -> Result<BlockSize, Finding> {
    BlockSize::new(bytes).map_err(|error| Finding::error(Code::BlockSizeInvalid, error.to_string()))
}

/// Keeps a value or collects its finding: all findings are told at once.
pub(crate) fn collect<T>(result: Result<T, Finding>, findings: &mut Vec<Finding>) -> Option<T> {
    result.map_err(|finding| findings.push(finding)).ok()
}

/// What a created image is to be like.
pub(crate) fn create_options(args: &NewImageArgs, length_bytes: u64) -> CreateOptions {
    CreateOptions {
        provisioning: args.provisioning,
        vmdk_type: args.vmdk_type.unwrap_or_default(),
        adapter_type: args.adapter_type.unwrap_or_default(),
        uuid: args.uuid,
        ..CreateOptions::new(length_bytes)
    }
}

/// Makes an image, unless it is stopped. If the process is ended meanwhile, what is there of it are drafts, which the
/// next creation removes.
pub(crate) fn create(
    spec: &ImageSpec,
    options: &CreateOptions,
    cancel: &Cancel,
) -> Result<Arc<dyn Image>, Finding> {
    failback_image::create_unless(spec, options, &|| cancel.is_cancelled())
        .map_err(|error| error.to_finding())
}

/// Carries a job out that nothing speaks against; what was found before is told with what is found now.
pub(crate) fn carry_out(
    job: Job,
    args: &NewImageArgs,
    shown: &ProgressArgs,
    unfinished: Unfinished,
    protection: Option<&Protection>,
    cancel: &Cancel,
) -> Result<(PassSummary, Vec<Finding>), Vec<Finding>> {
    let Job { target, source: Some(source), existing, options, plan: Some(plan), mut findings } = job else {
        return Err(vec![Finding::error(Code::Internal, "a pass was started without a plan")]);
    };
    let (image, is_new) = match existing {
        Some(image) => (image, false),
        None => {
            let made = create(&target, &create_options(args, source.geometry().length_bytes), cancel);
            match made {
                Ok(image) => (image, true),
                Err(finding) => {
                    findings.push(finding);
                    return Err(findings);
                }
            }
        }
    };
    let facts = facts(&*source, &*image, is_new, &plan, &options);
    let totals = Totals {
        measure: Measure::Settled { block_bytes: options.block_size.bytes() },
        disk_bytes: plan.virtual_size_bytes,
        seeds_bytes: plan.read_seeds_bytes,
        verify_bytes: if options.verify { plan.virtual_size_bytes } else { 0 },
        threads: options.threads,
    };
    let (progress, start) = (Arc::new(Progress::default()), Instant::now());
    let ended = {
        let _shown = show(shown, totals, &progress);
        let goal =
            if is_new { Target::New(Some(Arc::clone(&image))) } else { Target::Existing(Arc::clone(&image)) };
        match protection {
            None => failback_pass::run_planned(source, goal, plan, &options, &progress, cancel),
            Some(protection) => {
                let claim = claim_of(&*source)?;
                let open = |image: &Arc<dyn Image>, layout, is_new| {
                    protection.begin(image, layout, is_new, claim.clone())
                };
                failback_pass::run_into(source, goal, &open, plan, &options, &progress, cancel)
            }
        }
    };
    let kept = protection.map(|protection| protection.ended(&*image)).transpose();
    let summary = PassSummary::new(facts, ended.as_ref().ok(), &progress, start.elapsed());
    let summary = match (&kept, protection) {
        (Ok(Some(Some(point))), Some(protection)) => summary.with_point(&protection.folder, *point),
        _ => summary,
    };
    findings.extend(kept.err());
    findings.extend(match ended {
        Ok(outcome) => outcome.findings,
        Err(error) if is_new => [error.findings(), clean_up(&*image, &progress, unfinished)].concat(),
        Err(error) => error.findings(),
    });
    Ok((summary, findings))
}

/// What a one-shot pass says of its source: one disk is of one instant.
pub(crate) fn claim_of(source: &dyn Image) -> Result<PointClaim, Vec<Finding>> {
    let taken = source_unix_ms(source, unix_ms()).map_err(|error| vec![error.to_finding()])?;
    Ok(PointClaim::new(taken, PointLabel::CrashConsistent, NOT_QUIESCED))
}

fn facts(source: &dyn Image, target: &dyn Image, is_new: bool, plan: &Plan, options: &PassOptions) -> Facts {
    Facts {
        knows_target: true,
        source: source.name().display().to_string(),
        target: target.name().display().to_string(),
        strategy: Some(if is_new { "alternate-location" } else { "original-location" }),
        virtual_size_bytes: plan.virtual_size_bytes,
        block_size_bytes: options.block_size.bytes(),
        full_copy_bytes: plan.read_source_bytes,
        threads: options.threads,
    }
}

/// Removes a created target where it is of no use.
fn clean_up(image: &dyn Image, progress: &Progress, unfinished: Unfinished) -> Vec<Finding> {
    let one_go = image.identity().format == ImageFormat::VmdkStreamOptimized;
    let nothing_written = Progress::get(&progress.bytes_written) == 0;
    if !(nothing_written || one_go || unfinished == Unfinished::Remove) {
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
    Finding::info(Code::PartRemoved, evidence)
}

/// Removes every file of an image that this command created.
fn remove(image: &dyn Image) -> Vec<Finding> {
    let failed = |path: &Path, error: io::Error| {
        Finding::warning(Code::WriteFailed, format!("cannot remove {}: {error}", path.display()))
            .with_remedy("remove it by hand before the next run")
            .about(path)
    };
    let files = image.identity().files;
    let removed = |path: &Path| match fs::remove_file(path) {
        // What never was an image has no name, and goes with its draft.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Some(failed(path, error)),
        _ => None,
    };
    files.iter().filter_map(|path| removed(path)).collect()
}
