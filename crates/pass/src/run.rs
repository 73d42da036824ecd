//! A whole pass in one process, and hashing one disk.

use crate::api::{Cancel, Outcome, PassError, PassOptions, Progress, Target};
use crate::guarded::guarded_end;
use crate::image_sink::ImageSink;
use crate::link::Link;
use crate::plan::plan;
use crate::planned::Plan;
use crate::receiving::{ReceivingEnd, is_written_once};
use crate::sending::SendingEnd;
use crate::stage::Stage;
use failback_blockio::{DiskError, Operation, UnitSource};
use failback_engine::manifest::Manifest;
use failback_engine::seed::SeedIndex;
use failback_engine::{DigestSource, Known, Meter, Scan, ScanEnd, Sink};
use failback_image::Image;
use failback_model::{BlockSize, Code, Finding, Layout};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Brings `target` to the state of `source`; returns once that is durable at the target.
///
/// Plans first and refuses before anything is written. On an error or a cancel the target holds a mixture that a
/// second run completes.
pub fn run(
    source: Arc<dyn Image>,
    target: Target,
    options: &PassOptions,
    progress: &Arc<Progress>,
    cancel: &Cancel,
) -> Result<Outcome, PassError> {
    let plan = plan(&source, &target, options, cancel)?;
    run_planned(source, target, plan, options, progress, cancel)
}

/// The same by a plan that was made with these disks and options just before.
pub fn run_planned(
    source: Arc<dyn Image>,
    target: Target,
    plan: Plan,
    options: &PassOptions,
    progress: &Arc<Progress>,
    cancel: &Cancel,
) -> Result<Outcome, PassError> {
    let plain = |image: &Arc<dyn Image>, _, _| {
        Ok((Arc::new(ImageSink::new(Arc::clone(image))) as Arc<dyn Sink>, None))
    };
    run_into(source, target, &plain, plan, options, progress, cancel)
}

/// Where a pass writes to, and what is known of the disk; asked once the image has the pass's length, with that layout and
/// whether the image is new.
pub type OpenSink<'a> =
    dyn Fn(&Arc<dyn Image>, Layout, bool) -> Result<(Arc<dyn Sink>, Option<Known>), PassError> + 'a;

/// The same into a sink of the caller's, such as a journal's. The image is closed when it returns.
pub fn run_into(
    source: Arc<dyn Image>,
    target: Target,
    open_sink: &OpenSink<'_>,
    plan: Plan,
    options: &PassOptions,
    progress: &Arc<Progress>,
    cancel: &Cancel,
) -> Result<Outcome, PassError> {
    let started = Instant::now();
    let layout = plan.layout;
    if plan.is_refused() {
        return Err(PassError::Refused(plan.findings));
    }
    let (image, is_new) = match target {
        Target::Existing(image) => (image, false),
        Target::New(Some(image)) => (image, true),
        Target::New(None) => {
            return Err(PassError::Failed(Finding::error(
                Code::Internal,
                "a pass needs a target that was created",
            )));
        }
    };
    let mut findings = plan.findings;
    let seeds = if is_written_once(&*image) {
        findings.extend(unused_seeds(&*image, options));
        None
    } else {
        index_seeds(options, progress, cancel)?
    };
    findings.extend(seeds.iter().flat_map(|seeds| seeds.failures()).map(failed_seed));
    if image.geometry().length_bytes < layout.length_bytes() {
        image.grow(layout.length_bytes())?;
    }
    let (sink, known) = open_sink(&image, layout, is_new)?;
    let sending = SendingEnd {
        source,
        layout,
        options,
        ships_everything: is_new && seeds.is_none(),
        expects_changes: false,
        base: None,
        scan_log: None,
        progress: Arc::clone(progress),
        cancel: cancel.clone(),
    };
    let receiving = ReceivingEnd {
        sink,
        image: Arc::clone(&image),
        layout,
        is_new,
        is_at_seal: false,
        seeds,
        options,
        progress: Arc::clone(progress),
        cancel: cancel.clone(),
    };
    let outcome = run_both(&sending, &receiving, known);
    let closed = close(&*image, outcome.is_ok());
    let root = match (outcome, closed) {
        // Stopping on request promises that what was written is durable.
        (Ok(_) | Err(PassError::Cancelled), Err(error)) => return Err(error.into()),
        (outcome, _) => outcome?,
    };
    Ok(Outcome {
        virtual_size_bytes: layout.length_bytes(),
        block_size: options.block_size,
        blocks_total: layout.block_count(),
        root,
        verified: options.verify,
        elapsed: started.elapsed(),
        findings,
    })
}

/// A seed that fails while it is indexed is used as far as it was read.
fn failed_seed(error: &DiskError) -> Finding {
    let evidence = format!("{error}; of this seed only what was read before is used");
    Finding::warning(Code::SeedUnusable, evidence)
}

/// What no seed holds would come too late for an image that is written from front to back.
fn unused_seeds(image: &dyn Image, options: &PassOptions) -> Option<Finding> {
    let evidence = format!("{} is written in one go, so that no seed is used", image.name().display());
    (!options.seeds.is_empty()).then(|| Finding::warning(Code::SeedUnusable, evidence))
}

/// Whatever happened, what was written is made durable and the image is left as clean as it can be. Only a stream that is
/// not complete stays without its end, so that nobody takes it for a smaller disk.
fn close(image: &dyn Image, is_complete: bool) -> Result<(), DiskError> {
    if !is_complete && is_written_once(image) {
        return Ok(());
    }
    image.close()
}

/// Runs the two ends against each other. Where both fail, the one that failed by itself says why.
fn run_both(
    sending: &SendingEnd<'_>,
    receiving: &ReceivingEnd<'_>,
    known: Option<Known>,
) -> Result<failback_model::Digest, PassError> {
    let (left, right) = Link::pair();
    let (sent, received) = std::thread::scope(|scope| {
        let sender = std::thread::Builder::new()
            .name("sending".into())
            .spawn_scoped(scope, || guarded_end(|| sending.run(left, None)))
            .expect("a thread can be started");
        let received = guarded_end(|| receiving.run(right, known));
        let sent = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (sent, received)
    });
    match (sent, received) {
        (Ok(root), Ok(sealed)) if root == sealed.root => Ok(root),
        (Ok(_), Ok(_)) => {
            Err(PassError::Failed(Finding::error(Code::Internal, "the ends sealed different roots")))
        }
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(sent), Err(received)) => Err(if is_echo(&sent) { received } else { sent }),
    }
}

/// Whether an error only says that the other end stopped.
fn is_echo(error: &PassError) -> bool {
    match error {
        PassError::PeerGone => true,
        PassError::Failed(finding) => finding.code == Code::PeerFailed,
        _ => false,
    }
}

/// Indexes the seeds of the options, where there are any.
pub fn index_seeds(
    options: &PassOptions,
    progress: &Arc<Progress>,
    cancel: &Cancel,
) -> Result<Option<Arc<SeedIndex>>, PassError> {
    if options.seeds.is_empty() {
        return Ok(None);
    }
    let times = Arc::clone(progress);
    let meter: Meter = Arc::new(move |bytes, spent| {
        Progress::add(&times.bytes_read_seeds, bytes);
        times.times.add(Stage::Seeds, spent);
    });
    let index = SeedIndex::build(&options.seeds, options.block_size, options.threads, &meter, &|| {
        !cancel.is_cancelled()
    });
    index.map(|index| Some(Arc::new(index))).map_err(stopped)
}

fn stopped(end: ScanEnd) -> PassError {
    match end {
        ScanEnd::Disk(error) => error.into(),
        ScanEnd::Stopped => PassError::Cancelled,
    }
}

/// The layout of a whole disk in blocks of this size.
pub fn layout_of(disk: &dyn UnitSource, block_size: BlockSize) -> Result<Layout, DiskError> {
    Layout::new(disk.geometry().length_bytes, block_size).map_err(|error| {
        DiskError::new(Code::ImageSizeUnsupported, Operation::Open, disk.name(), error.to_string())
    })
}

/// Hashes a disk as far as the layout goes: its root, and its manifest at a path where one is given (which must not
/// exist).
pub fn hash(
    source: Arc<dyn UnitSource>,
    layout: Layout,
    threads: usize,
    manifest: Option<&Path>,
    progress: &Arc<Progress>,
    cancel: &Cancel,
) -> Result<Outcome, PassError> {
    let started = Instant::now();
    let mut entries = match manifest {
        Some(path) => Manifest::create(path, layout)?,
        None => Manifest::create_temp(layout)?,
    };
    let meters = Arc::clone(progress);
    let mut scan = Scan {
        source,
        layout,
        blocks: layout.blocks(),
        threads,
        keep: None,
        meter: Arc::new(move |bytes, spent| {
            Progress::add(&meters.bytes_read_source, bytes);
            meters.times.add(Stage::ScanSource, spent);
        }),
    };
    let mut failure = None;
    let scanned = scan.deliver(&mut |run| {
        if let Some(digests) = &run.digests
            && let Err(error) = entries.set_run(run.blocks.start, digests)
        {
            failure = Some(error);
            return ControlFlow::Break(());
        }
        progress.scanned_source_bytes.store(layout.bytes_of(run.blocks).end(), Ordering::Relaxed);
        if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let sealed = match (failure, scanned) {
        (Some(error), _) => Err(error.into()),
        (None, Err(end)) => Err(stopped(end)),
        (None, Ok(())) => entries.seal(1).map_err(PassError::from),
    };
    if let (Err(_), Some(path)) = (&sealed, manifest) {
        // A manifest that was not finished is of no use to anyone; the error that stopped it is what matters.
        let _ = std::fs::remove_file(path);
    }
    Ok(Outcome {
        virtual_size_bytes: layout.length_bytes(),
        block_size: layout.block_size(),
        blocks_total: layout.block_count(),
        root: sealed?,
        verified: false,
        elapsed: started.elapsed(),
        findings: Vec::new(),
    })
}
