//! `failback receipt check`: signature, key, chain, and images against their roots, without asking any daemon.

use super::{Sound, chain, compare, read};
use crate::receipt_args::CheckReceiptArgs;
use crate::report::{Summary, Voice, is_refused};
use crate::summary::table;
use failback_format::receipt::{Receipt, ReceiptDisk, ReceiptRead, fingerprint};
use failback_model::{Code, ExitClass, Finding};
use failback_pass::Cancel;
use failback_service::size::human;
use jiff::Timestamp;
use serde::Serialize;

/// What the check came to; nothing of a receipt that is not signed.
#[derive(Default, Serialize)]
struct CheckedReceipt {
    file: String,
    receipt: Option<Receipt>,
    key_fingerprint: Option<String>,
    /// Whether it is the key that was asked for; nothing where none was.
    key_matches: Option<bool>,
    /// Earlier receipts that were checked, all of them; nothing where they were not asked for or are not right.
    earlier_receipts: Option<u64>,
    disks: Vec<CheckedDisk>,
}

/// A disk of the receipt.
#[derive(Serialize)]
struct CheckedDisk {
    disk: String,
    image: Option<String>,
    /// `same`, `differs`, or `not-compared`.
    outcome: &'static str,
}

impl Summary for CheckedReceipt {
    fn text(&self) -> String {
        let Some(receipt) = &self.receipt else { return String::new() };
        let date = |ms: u64| {
            let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
            time.map_or_else(|| ms.to_string(), |time| format!("{time:.0}"))
        };
        let (machine, number) = (&receipt.machine, receipt.number);
        let head = format!(
            "{machine}: receipt {number} of {}, failback {}",
            date(receipt.issued_unix_ms),
            receipt.product_version
        );
        let key = self.key_fingerprint.as_deref().unwrap_or_default();
        let is_asked = if self.key_matches == Some(true) { " (as asked for)" } else { "" };
        let before = match (&receipt.previous, self.earlier_receipts) {
            (None, _) => "none: it is the first".into(),
            (Some(previous), None) => format!("{previous} (not looked at)"),
            (Some(previous), Some(count)) => format!("{previous} (all {count} checked)"),
        };
        let mut rows = vec![("key", format!("{key}{is_asked}")), ("before it", before)];
        for (disk, checked) in receipt.disks.iter().zip(&self.disks) {
            let (size, root) = (human(disk.length_bytes), disk.root);
            let (format, image, generation) = (&disk.format, &disk.image, disk.generation);
            rows.push((
                disk.id.as_str(),
                format!("{format} {image}, {size}, generation {generation}, root {root}"),
            ));
            let (read, finished) = (disk.read.as_str(), date(disk.finished_unix_ms));
            rows.push(("", format!("read {} ({read}) until {finished}", human(disk.bytes_read))));
            rows.push(("", checked.text()));
        }
        table(&head, &rows)
    }
}

impl CheckedDisk {
    fn new(disk: &ReceiptDisk) -> Self {
        Self { disk: disk.id.to_string(), image: None, outcome: "not-compared" }
    }

    fn text(&self) -> String {
        match (&self.image, self.outcome) {
            (Some(image), "same") => format!("the same as {image}"),
            (Some(image), "differs") => format!("NOT the same as {image}"),
            _ => "not compared with any image".into(),
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &CheckReceiptArgs, voice: Voice, cancel: &Cancel) -> ExitClass {
    let mut summary = CheckedReceipt { file: args.file.display().to_string(), ..CheckedReceipt::default() };
    let findings = check(args, &mut summary, cancel);
    Voice { quiet: args.progress.quiet, ..voice }.finish("done", &summary, &findings)
}

fn check(args: &CheckReceiptArgs, summary: &mut CheckedReceipt, cancel: &Cancel) -> Vec<Finding> {
    let sound = match read(&args.file) {
        Ok(sound) => sound,
        Err(finding) => return vec![finding],
    };
    let mut findings = Vec::new();
    check_key(args, &sound, summary, &mut findings);
    if args.chain {
        match chain::check(&args.file, &sound) {
            Ok(count) => summary.earlier_receipts = Some(count),
            Err(finding) => findings.push(finding),
        }
    }
    let receipt = &sound.receipt;
    findings.extend(receipt.disks.iter().filter(|disk| disk.read == ReceiptRead::Cached).map(|disk| {
        let evidence = format!("{} was read through a cache that the file system would not drop", disk.id);
        Finding::warning(Code::ReceiptWeak, evidence)
            .with_remedy("compare the image itself: 'failback receipt check FILE DISK=IMAGE'")
    }));
    let pairs = compare::open(args, receipt, &mut findings);
    summary.disks = receipt.disks.iter().map(CheckedDisk::new).collect();
    // Nobody waits for disks to be read for a receipt that is not believed.
    let pairs = if is_refused(&findings) { Vec::new() } else { pairs };
    for pair in &pairs {
        let found = compare::compare(args, pair, cancel);
        if let Some(checked) = summary.disks.iter_mut().find(|checked| checked.disk == pair.disk.id.as_str())
        {
            checked.image = Some(pair.image.name().display().to_string());
            let differs = found.iter().any(|finding| finding.code == Code::ReceiptDiskDiffers);
            checked.outcome = match (differs, found.is_empty()) {
                (true, _) => "differs",
                (false, true) => "same",
                // It could not be read to its end.
                (false, false) => "not-compared",
            };
        }
        findings.extend(found);
    }
    summary.receipt = Some(sound.receipt);
    findings
}

fn check_key(
    args: &CheckReceiptArgs,
    sound: &Sound,
    summary: &mut CheckedReceipt,
    findings: &mut Vec<Finding>,
) {
    let own = fingerprint(&sound.signed.public_key);
    summary.key_fingerprint = Some(own.to_string());
    summary.key_matches = args.key.map(|key| key == own);
    match args.key {
        Some(key) if key == own => {}
        Some(key) => {
            let evidence = format!("{}: signed by {own}, and {key} was asked for", args.file.display());
            findings.push(Finding::error(Code::ReceiptKeyDiffers, evidence).about(&args.file));
        }
        None => {
            let evidence = format!("{}: signed by {own}, whoever that is", args.file.display());
            let remedy = "name the master target's own fingerprint ('failback receipt key') with --key";
            findings
                .push(Finding::warning(Code::ReceiptWeak, evidence).with_remedy(remedy).about(&args.file));
        }
    }
}
