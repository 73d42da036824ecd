//! `failback hash`: the root of a disk. Its text names nothing but the bytes, so two outputs can be compared.

use crate::args::HashArgs;
use crate::draft::Draft;
use crate::progress::show;
use crate::report::{Summary, Voice, is_refused};
use crate::summary::StageSeconds;
use crate::transfer::{block_size, collect, open_source};
use failback_blockio::UnitSource;
use failback_image::{Image, check_new_file};
use failback_model::{BlockSize, Code, ExitClass, Finding};
use failback_pass::{Cancel, Outcome, PassError, PassOptions, Progress, Totals, layout_of, limiting};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The fields of `hash --json`, the same however it ends.
#[derive(Serialize)]
struct HashSummary {
    image: String,
    format: Option<&'static str>,
    root: Option<String>,
    block_size_bytes: u64,
    virtual_size_bytes: u64,
    /// The same; its name in the text.
    length_bytes: u64,
    blocks_total: u64,
    /// The same as below.
    bytes_read: u64,
    bytes_read_source: u64,
    manifest: Option<String>,
    elapsed_seconds: f64,
    seconds_per_stage: StageSeconds,
    limiting_stage: Option<&'static str>,
}

impl HashSummary {
    fn not_started(args: &HashArgs) -> Self {
        Self {
            image: args.image.display().to_string(),
            format: None,
            root: None,
            block_size_bytes: args.scan.block_size,
            virtual_size_bytes: 0,
            length_bytes: 0,
            blocks_total: 0,
            bytes_read: 0,
            bytes_read_source: 0,
            manifest: args.manifest.as_ref().map(|path| path.display().to_string()),
            elapsed_seconds: 0.0,
            seconds_per_stage: StageSeconds::of(&Progress::default()),
            limiting_stage: None,
        }
    }

    fn add_image(&mut self, image: &dyn Image, size: BlockSize) {
        let length_bytes = image.geometry().length_bytes;
        self.image = image.name().display().to_string();
        self.format = Some(image.identity().format.as_str());
        (self.virtual_size_bytes, self.length_bytes) = (length_bytes, length_bytes);
        self.blocks_total = length_bytes.div_ceil(size.bytes());
    }

    fn add_counters(&mut self, progress: &Progress, elapsed: Duration, threads: usize) {
        let read_bytes = Progress::get(&progress.bytes_read_source);
        (self.bytes_read, self.bytes_read_source) = (read_bytes, read_bytes);
        self.elapsed_seconds = elapsed.as_secs_f64();
        self.seconds_per_stage = StageSeconds::of(progress);
        self.limiting_stage =
            limiting(|stage| progress.times.get(stage), elapsed, threads).map(|(stage, _)| stage.as_str());
    }
}

impl Summary for HashSummary {
    fn text(&self) -> String {
        self.root.as_ref().map_or_else(String::new, |root| {
            format!(
                "root {root}\nblock_size_bytes {}\nlength_bytes {}\n",
                self.block_size_bytes, self.length_bytes
            )
        })
    }
}

/// Runs the command.
pub(crate) fn run(args: &HashArgs, cancel: &Cancel) -> ExitClass {
    // The root is what was asked for: --quiet silences progress alone.
    let voice = Voice { command: "hash", json: args.output.json, quiet: false };
    let mut summary = HashSummary::not_started(args);
    let findings = hash(args, &mut summary, cancel);
    voice.finish("done", &summary, &findings)
}

fn hash(args: &HashArgs, summary: &mut HashSummary, cancel: &Cancel) -> Vec<Finding> {
    let mut findings = Vec::new();
    let size = collect(block_size(args.scan.block_size), &mut findings);
    let image = collect(open_source(&args.image, cancel), &mut findings);
    findings.extend(args.manifest.iter().flat_map(|path| check_new_file(path)));
    let (Some(size), Some(image)) = (size, image) else { return findings };
    summary.add_image(&*image, size);
    findings.extend(image.warnings().into_iter().filter(|finding| finding.code == Code::ImageUnclean));
    if is_refused(&findings) {
        return findings;
    }
    match scan(args, image, size, summary, cancel) {
        Ok(outcome) => {
            summary.root = Some(outcome.root.to_string());
            findings.extend(outcome.findings);
        }
        Err(failed) => findings.extend(failed),
    }
    findings
}

fn scan(
    args: &HashArgs,
    image: Arc<dyn Image>,
    size: BlockSize,
    summary: &mut HashSummary,
    cancel: &Cancel,
) -> Result<Outcome, Vec<Finding>> {
    let threads = args.scan.threads.unwrap_or_else(|| PassOptions::default().threads);
    let totals = Totals { disk_bytes: image.geometry().length_bytes, threads, ..Totals::default() };
    let draft = args.manifest.as_ref().map(|path| Draft::of(path));
    let (progress, start) = (Arc::new(Progress::default()), Instant::now());
    let ended = {
        let _shown = show(&args.progress, totals, &progress);
        let source: Arc<dyn UnitSource> = image;
        layout_of(&*source, size).map_err(PassError::from).and_then(|layout| {
            let draft = draft.as_ref().map(Draft::draft);
            failback_pass::hash(source, layout, threads, draft, &progress, cancel)
        })
    };
    summary.add_counters(&progress, start.elapsed(), threads);
    let outcome = ended.map_err(|error| error.findings())?;
    draft.map_or(Ok(()), Draft::publish).map_err(|error| vec![error.to_finding()])?;
    Ok(outcome)
}
