//! The stages of the pipeline, and how long threads are at each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A stage of the pipeline, for times and for naming what limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading and hashing the source.
    ScanSource,
    /// Reading and hashing the target.
    ScanTarget,
    /// Reading and hashing seeds: to index them, and to copy what they hold.
    Seeds,
    /// Re-reading blocks that differ, hashing and choosing their pages, at both ends.
    Refine,
    /// Re-reading blocks that ship whole; collecting, probing and compressing pages.
    Pack,
    /// Decompressing and verifying.
    Unpack,
    /// Writing to the target.
    Write,
    /// Making the target durable.
    Flush,
    /// Re-reading the target with `verify`.
    Verify,
}

impl Stage {
    /// Every stage in the order of the data path.
    pub const ALL: [Self; 9] = [
        Self::ScanSource,
        Self::ScanTarget,
        Self::Seeds,
        Self::Refine,
        Self::Pack,
        Self::Unpack,
        Self::Write,
        Self::Flush,
        Self::Verify,
    ];

    /// The name used in text and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScanSource => "scan_source",
            Self::ScanTarget => "scan_target",
            Self::Seeds => "seeds",
            Self::Refine => "refine",
            Self::Pack => "pack",
            Self::Unpack => "unpack",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Verify => "verify",
        }
    }
}

/// Thread time spent in each stage; stages overlap, so the sum may exceed the elapsed time.
#[derive(Debug, Default)]
pub struct StageTimes {
    spent: [AtomicU64; Stage::ALL.len()],
    /// Threads that are inside, of stages that are entered.
    inside: [AtomicU64; Stage::ALL.len()],
}

impl StageTimes {
    /// Adds time that one thread spent.
    pub fn add(&self, stage: Stage, spent: Duration) {
        self.spent[stage as usize]
            .fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A thread is at it until the value is dropped: for calls that may last longer than anyone looks.
    pub fn enter(&self, stage: Stage) -> Inside<'_> {
        self.inside[stage as usize].fetch_add(1, Ordering::Relaxed);
        Inside { times: self, stage, since: Instant::now() }
    }

    /// Whether a thread is at it now.
    pub fn is_inside(&self, stage: Stage) -> bool {
        self.inside[stage as usize].load(Ordering::Relaxed) > 0
    }

    /// Thread time spent so far.
    pub fn get(&self, stage: Stage) -> Duration {
        Duration::from_nanos(self.spent[stage as usize].load(Ordering::Relaxed))
    }
}

/// A thread that is at a stage; its time counts when this is dropped.
#[derive(Debug)]
pub struct Inside<'a> {
    times: &'a StageTimes,
    stage: Stage,
    since: Instant,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.times.inside[self.stage as usize].fetch_sub(1, Ordering::Relaxed);
        self.times.add(self.stage, self.since.elapsed());
    }
}
