//! Turns a pass's counters into rates, time left and the stage that limits: for terminals, status and metrics. Time is
//! passed in: no clock here.

use crate::api::{Progress, Stage};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Rates are taken over at least this long.
const WINDOW: Duration = Duration::from_secs(1);
/// Below this share of its threads' time a stage is idle, and none is named.
const IDLE: f64 = 0.01;

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Length of the source's disk.
    pub source_bytes: u64,
    /// Length of the part of the target that is scanned; 0 for a new one.
    pub target_bytes: u64,
    /// Bytes of the seeds that are read before anything else.
    pub seeds_bytes: u64,
    /// Bytes that `--verify` re-reads.
    pub verify_bytes: u64,
    /// Reader threads at each end.
    pub threads: usize,
}

/// One look at the counters.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    scanned_bytes: u64,
    shipped_bytes: u64,
    written_bytes: u64,
    verified_bytes: u64,
    seeds_bytes: u64,
    blocks_differing: u64,
    times: [Duration; Stage::ALL.len()],
}

/// What to show.
#[derive(Debug)]
pub struct View {
    /// Bytes scanned and verified so far, of `total_bytes`.
    pub done_bytes: u64,
    /// Bytes to scan and verify.
    pub total_bytes: u64,
    /// At the average rate so far.
    pub left: Option<Duration>,
    /// The stage whose threads are busiest.
    pub limiting: Option<Stage>,
    /// *seeds, scanned, differing, shipped, written, verified*, as far as the pass has them.
    pub counters: Vec<Counter>,
}

/// One counter of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// What it counts.
    pub name: &'static str,
    /// How much so far: bytes, or blocks where there is no rate.
    pub value: u64,
    /// Bytes a second of late.
    pub rate_bytes: Option<u64>,
}

/// Remembers the last second.
pub struct Pace {
    totals: Totals,
    start: Instant,
    recent: VecDeque<Sample>,
}

impl Pace {
    /// Of a pass that began at `start`.
    pub fn new(totals: Totals, start: Instant) -> Self {
        let zero = Sample::take(start, &Progress::default());
        Self { totals, start, recent: VecDeque::from([zero]) }
    }

    /// Looks at the counters. Called at any intervals; long ones give rates over the whole interval.
    pub fn observe(&mut self, now: Instant, progress: &Progress) -> View {
        let sample = Sample::take(now, progress);
        self.recent.push_back(sample);
        // The oldest kept sample is the youngest that is at least a window old.
        while self.recent.len() > 2 && now.saturating_duration_since(self.recent[1].at) >= WINDOW {
            self.recent.pop_front();
        }
        let before = self.recent[0];
        let Totals { source_bytes, target_bytes, seeds_bytes, verify_bytes, .. } = self.totals;
        let total_bytes = source_bytes + target_bytes + seeds_bytes + verify_bytes;
        let done_bytes = (sample.seeds_bytes + sample.scanned_bytes + sample.verified_bytes).min(total_bytes);
        View {
            done_bytes,
            total_bytes,
            left: time_left(now.saturating_duration_since(self.start), done_bytes, total_bytes),
            limiting: limiting(|stage| sample.since(&before, stage), now - before.at, self.totals.threads)
                .or_else(|| sample.is_flushing()),
            counters: self.counters(&before, &sample),
        }
    }

    fn counters(&self, before: &Sample, sample: &Sample) -> Vec<Counter> {
        let seconds = (sample.at - before.at).as_secs_f64();
        let rated = |name, value: fn(&Sample) -> u64| {
            let grown = value(sample).saturating_sub(value(before)) as f64;
            let rate = if seconds > 0.0 { (grown / seconds) as u64 } else { 0 };
            Counter { name, value: value(sample), rate_bytes: Some(rate) }
        };
        let mut counters = vec![
            rated("scanned", |sample| sample.scanned_bytes),
            Counter { name: "differing", value: sample.blocks_differing, rate_bytes: None },
            rated("shipped", |sample| sample.shipped_bytes),
            rated("written", |sample| sample.written_bytes),
        ];
        if self.totals.seeds_bytes > 0 {
            counters.insert(0, rated("seeds", |sample| sample.seeds_bytes));
        }
        if self.totals.verify_bytes > 0 {
            counters.push(rated("verified", |sample| sample.verified_bytes));
        }
        counters
    }
}

impl Sample {
    fn take(at: Instant, progress: &Progress) -> Self {
        let get = Progress::get;
        Self {
            at,
            scanned_bytes: get(&progress.scanned_source_bytes) + get(&progress.scanned_target_bytes),
            shipped_bytes: get(&progress.bytes_to_target),
            written_bytes: get(&progress.bytes_written),
            verified_bytes: get(&progress.verified_bytes),
            seeds_bytes: get(&progress.bytes_read_seeds),
            blocks_differing: get(&progress.blocks_differing),
            times: Stage::ALL.map(|stage| progress.times.get(stage)),
        }
    }

    /// A call's time counts when it returns. Where none returns for as long as we look, it is a flush that lasts.
    fn is_flushing(&self) -> Option<Stage> {
        (self.written_bytes > 0).then_some(Stage::Flush)
    }

    fn since(&self, before: &Self, stage: Stage) -> Duration {
        self.times[stage as usize].saturating_sub(before.times[stage as usize])
    }
}

/// The stage that spent most of the time its threads had.
pub fn limiting(spent: impl Fn(Stage) -> Duration, wall: Duration, readers: usize) -> Option<Stage> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = |stage| match stage {
        Stage::ScanSource | Stage::ScanTarget | Stage::Seeds | Stage::Verify => readers,
        Stage::Refine | Stage::Pack | Stage::Unpack => processors,
        Stage::Write | Stage::Flush => 1,
    };
    let busy = |stage| spent(stage).as_secs_f64() / (wall.as_secs_f64() * threads(stage).max(1) as f64);
    let shares = Stage::ALL.into_iter().map(|stage| (stage, busy(stage)));
    let most = shares.filter(|(_, busy)| *busy >= IDLE).max_by(|a, b| a.1.total_cmp(&b.1));
    most.map(|(stage, _)| stage)
}

/// Unknown in the first second and when nothing is left.
fn time_left(elapsed: Duration, done_bytes: u64, total_bytes: u64) -> Option<Duration> {
    if elapsed < WINDOW || done_bytes == 0 || done_bytes >= total_bytes {
        return None;
    }
    let seconds = elapsed.as_secs_f64() * (total_bytes - done_bytes) as f64 / done_bytes as f64;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTALS: Totals =
        Totals { source_bytes: 3 << 30, target_bytes: 1 << 30, seeds_bytes: 0, verify_bytes: 0, threads: 2 };

    #[test]
    fn frequent_looks_still_measure_over_a_second() {
        let (start, progress) = (Instant::now(), Progress::default());
        let mut pace = Pace::new(TOTALS, start);
        for tick in 1..=20 {
            Progress::add(&progress.scanned_source_bytes, 20 << 20);
            let view = pace.observe(start + Duration::from_millis(tick * 200), &progress);
            assert_eq!(view.counters[0].rate_bytes, Some(100 << 20), "tick {tick}");
        }
        assert!(pace.recent.len() <= 7, "samples are forgotten");
    }
}
