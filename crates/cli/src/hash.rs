//! `failback hash`: the root of a disk. Its output names nothing but the bytes, so two outputs can be compared.

use crate::args::HashArgs;
use crate::pace::{Totals, limiting};
use crate::progress::show;
use crate::report::{Summary, Voice};
use crate::signals::cancel_on_signal;
use crate::transfer::{block_size, collect, open_to_read};
use failback_blockio::UnitSource;
use failback_model::{ExitClass, Finding};
use failback_pass::{Outcome, PassOptions, Progress, Stage};
use serde::Serialize;
use std::sync::Arc;

#[derive(Serialize)]
struct HashSummary {
    image: String,
    format: &'static str,
    root: String,
    block_size_bytes: u64,
    length_bytes: u64,
    blocks_total: u64,
    bytes_read: u64,
    manifest: Option<String>,
    elapsed_seconds: f64,
    limiting_stage: Option<&'static str>,
}

impl Summary for HashSummary {
    fn text(&self) -> String {
        format!(
            "root {}\nblock_size_bytes {}\nlength_bytes {}\n",
            self.root, self.block_size_bytes, self.length_bytes
        )
    }
}

/// Runs the command.
pub(crate) fn run(args: &HashArgs) -> ExitClass {
    // The root is what was asked for: --quiet silences progress alone.
    let voice = Voice { command: "hash", json: args.output.json, quiet: false };
    match hash(args) {
        Ok((summary, findings)) => voice.finish("done", &summary, &findings),
        Err(findings) => voice.fail(&findings),
    }
}

fn hash(args: &HashArgs) -> Result<(HashSummary, Vec<Finding>), Vec<Finding>> {
    let mut findings = Vec::new();
    let size = collect(block_size(args.scan.block_size), &mut findings);
    let image = collect(open_to_read(&args.image), &mut findings);
    let (Some(size), Some(image)) = (size, image) else { return Err(findings) };
    let cancel = cancel_on_signal().map_err(|finding| vec![finding])?;
    let threads = args.scan.threads.unwrap_or_else(|| PassOptions::default().threads);
    let length_bytes = image.geometry().length_bytes;
    let progress = Arc::new(Progress::default());
    let ended = {
        let totals = Totals { source_bytes: length_bytes, target_bytes: 0, verify_bytes: 0, threads };
        let _shown = show(&args.progress, totals, &progress);
        let source: Arc<dyn UnitSource> = image.clone();
        failback_pass::hash(source, size, threads, args.manifest.as_deref(), &progress, &cancel)
    };
    let outcome: Outcome = ended.map_err(|error| error.findings())?;
    let slowest = limiting(|stage| progress.times.get(stage), outcome.elapsed, threads);
    let summary = HashSummary {
        image: image.name().display().to_string(),
        format: image.identity().format.as_str(),
        root: outcome.root.to_string(),
        block_size_bytes: outcome.block_size.bytes(),
        length_bytes: outcome.virtual_size_bytes,
        blocks_total: outcome.blocks_total,
        bytes_read: Progress::get(&progress.bytes_read_source),
        manifest: args.manifest.as_ref().map(|path| path.display().to_string()),
        elapsed_seconds: outcome.elapsed.as_secs_f64(),
        limiting_stage: slowest.map(Stage::as_str),
    };
    Ok((summary, outcome.findings))
}
