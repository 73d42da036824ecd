//! An image against what a receipt says of a disk.

use crate::progress::show;
use crate::receipt_args::CheckReceiptArgs;
use crate::transfer::open_to_read;
use failback_blockio::UnitSource;
use failback_format::receipt::{Receipt, ReceiptDisk};
use failback_image::Image;
use failback_model::{Code, Digest, Finding};
use failback_pass::{Cancel, PassOptions, Progress, Totals};
use std::sync::Arc;

/// A disk of the receipt, and the image that shall be it.
pub(super) struct Pair<'a> {
    pub(super) disk: &'a ReceiptDisk,
    pub(super) image: Arc<dyn Image>,
}

/// Opens every image that was named.
pub(super) fn open<'a>(
    args: &CheckReceiptArgs,
    receipt: &'a Receipt,
    findings: &mut Vec<Finding>,
) -> Vec<Pair<'a>> {
    let mut pairs = Vec::new();
    for named in &args.images {
        let Some(disk) = receipt.disks.iter().find(|disk| disk.id == named.disk) else {
            let ids: Vec<_> = receipt.disks.iter().map(|disk| disk.id.as_str()).collect();
            let evidence = format!("{} is none of {}", named.disk, ids.join(", "));
            findings.push(Finding::error(Code::ReceiptDiskUnknown, evidence));
            continue;
        };
        match open_to_read(&named.image) {
            Ok(image) => pairs.push(Pair { disk, image }),
            Err(finding) => findings.push(finding),
        }
    }
    pairs
}

/// Reads an image from its medium and compares it; everything in which it differs.
pub(super) fn compare(args: &CheckReceiptArgs, pair: &Pair<'_>, cancel: &Cancel) -> Vec<Finding> {
    let (disk, name) = (pair.disk, pair.image.name().display().to_string());
    let differs = |what: String| {
        let evidence = format!("{name} as {}: {what}", disk.id);
        Finding::error(Code::ReceiptDiskDiffers, evidence).about(pair.image.name())
    };
    let length_bytes = pair.image.geometry().length_bytes;
    let mut findings = Vec::new();
    if length_bytes != disk.image_bytes {
        findings
            .push(differs(format!("it has {length_bytes} bytes, and the receipt says {}", disk.image_bytes)));
    }
    if length_bytes < disk.length_bytes {
        return findings;
    }
    pair.image.drop_cached();
    match root(args, pair, cancel) {
        Ok(found) if found == disk.root => {}
        Ok(found) => {
            findings.push(differs(format!("its root is {found}, and the receipt says {}", disk.root)))
        }
        Err(failed) => findings.extend(failed),
    }
    findings
}

fn root(args: &CheckReceiptArgs, pair: &Pair<'_>, cancel: &Cancel) -> Result<Digest, Vec<Finding>> {
    let layout = pair.disk.layout().map_err(|error| {
        vec![Finding::error(Code::Internal, format!("a layout that was checked: {error}"))]
    })?;
    let threads = args.threads.unwrap_or_else(|| PassOptions::default().threads);
    let totals = Totals { disk_bytes: layout.length_bytes(), threads, ..Totals::default() };
    let progress = Arc::new(Progress::default());
    let _shown = show(&args.progress, totals, &progress);
    let source: Arc<dyn UnitSource> = Arc::clone(&pair.image) as _;
    let outcome = failback_pass::hash(source, layout, threads, None, &progress, cancel);
    outcome.map(|outcome| outcome.root).map_err(|error| error.findings())
}
