//! The pass as its callers use it, on disks in memory: equal to the reference path, safe under faults.

mod endings;
mod equality;
mod faults;
mod guards;
mod known;
mod memory_image;
mod plan;
mod seeds;

use failback_blockio::UnitSource;
use failback_image::Image;
use failback_pass::{Cancel, Outcome, PassError, PassOptions, Progress, Target, run};
use memory_image::MemoryImage;
use std::sync::Arc;

/// Runs a pass between two images; the counters too.
fn pass(
    source: &Arc<MemoryImage>,
    target: &Arc<MemoryImage>,
    is_new: bool,
    options: &PassOptions,
) -> (Result<Outcome, PassError>, Arc<Progress>) {
    let progress = Arc::new(Progress::default());
    let image = Arc::clone(target) as Arc<dyn Image>;
    let target = if is_new { Target::New(Some(image)) } else { Target::Existing(image) };
    let outcome = run(Arc::clone(source) as _, target, options, &progress, &Cancel::default());
    (outcome, progress)
}

/// Runs a pass that must succeed and leave the source's bytes at the target.
fn pass_ok(
    source: &Arc<MemoryImage>,
    target: &Arc<MemoryImage>,
    options: &PassOptions,
) -> (Outcome, Arc<Progress>) {
    let (outcome, progress) = pass(source, target, false, options);
    let outcome = outcome.unwrap_or_else(|error| panic!("a pass without faults: {error}"));
    assert_same(source, target);
    (outcome, progress)
}

/// The target holds the source's bytes, over the source's length.
fn assert_same(source: &MemoryImage, target: &MemoryImage) {
    let (ours, theirs) = (source.bytes(), target.bytes());
    let length = source.geometry().length_bytes as usize;
    let differs = ours.iter().zip(&theirs).position(|(a, b)| a != b);
    assert!(theirs.len() >= length && differs.is_none(), "byte {differs:?} differs");
}

/// Options of most tests: another machine's disks are not guarded against here.
fn options() -> PassOptions {
    PassOptions { accept_mismatch: true, threads: 2, ..PassOptions::default() }
}
