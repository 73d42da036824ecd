//! Turns a pass's counters into rates, time left and the stage that limits: for terminals, status and metrics. Time is
//! passed in: no clock here.

use crate::api::Progress;
use crate::stage::Stage;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Rates are taken over at least this long.
const WINDOW: Duration = Duration::from_secs(1);
/// Below this share of its threads' time a stage is idle, and none is named.
const IDLE: f64 = 0.01;

/// What of the disk counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Measure {
    /// What was scanned: where nothing else is done, or nobody here knows what else there is to do.
    #[default]
    Scanned,
    /// What is the same at both ends: found equal, or written by the other end.
    Settled {
        /// Unit of comparison.
        block_bytes: u64,
    },
    /// How far in a new disk what was written reaches.
    Received,
}

impl Measure {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scanned => "scanned",
            Self::Settled { .. } => "settled",
            Self::Received => "received",
        }
    }
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// What of the disk counts.
    pub measure: Measure,
    /// Length of the pass's disk, as far as it has to be done.
    pub disk_bytes: u64,
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
    written_end_bytes: u64,
    verified_bytes: u64,
    seeds_bytes: u64,
    blocks_compared: u64,
    blocks_differing: u64,
    blocks_settled: u64,
    times: [Duration; Stage::ALL.len()],
}

/// What to show.
#[derive(Debug)]
pub struct View {
    /// Bytes of the disk that are done, of seeds that are read and of the target that are proven, of `total_bytes`.
    pub done_bytes: u64,
    /// Bytes to do, to read and to prove.
    pub total_bytes: u64,
    /// At the average rates so far.
    pub left: Option<Duration>,
    /// The stage whose threads are busiest.
    pub limiting: Option<Stage>,
    /// The share of their time that its threads are busy, 0 to 1.
    pub busy: f64,
    /// Blocks that differ and that the other end has not written.
    pub unsettled_blocks: u64,
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
        let Totals { disk_bytes, seeds_bytes, verify_bytes, threads, .. } = self.totals;
        let total_bytes = disk_bytes + seeds_bytes + verify_bytes;
        let done_bytes = sample.seeds_bytes + self.disk_done_bytes(&sample) + sample.verified_bytes;
        let done_bytes = done_bytes.min(total_bytes);
        let elapsed = now.saturating_duration_since(self.start);
        let busiest = limiting(|stage| sample.since(&before, stage), now - before.at, threads);
        View {
            done_bytes,
            total_bytes,
            left: time_left(elapsed, done_bytes as f64, total_bytes as f64)
                .zip(self.time_to_send(elapsed, &sample))
                .map(|(all, sending)| all.max(sending)),
            limiting: busiest.map(|(stage, _)| stage).or_else(|| lasting(progress)),
            busy: busiest.map_or(0.0, |(_, busy)| busy),
            unsettled_blocks: sample.unsettled_blocks(),
            counters: self.counters(&before, &sample),
        }
    }

    fn disk_done_bytes(&self, sample: &Sample) -> u64 {
        let done_bytes = match self.totals.measure {
            Measure::Scanned => sample.scanned_bytes,
            Measure::Settled { block_bytes } => {
                sample.blocks_compared.saturating_sub(sample.unsettled_blocks()).saturating_mul(block_bytes)
            }
            Measure::Received => sample.written_end_bytes,
        };
        done_bytes.min(self.totals.disk_bytes)
    }

    /// Blocks that are equal are done at the pace of the scans; those that differ at the pace at which they are written.
    /// What is not compared yet is taken to differ as often as what is.
    fn time_to_send(&self, elapsed: Duration, sample: &Sample) -> Option<Duration> {
        let Measure::Settled { block_bytes } = self.totals.measure else { return Some(Duration::ZERO) };
        if sample.blocks_differing == 0 {
            return Some(Duration::ZERO);
        }
        let blocks = self.totals.disk_bytes as f64 / block_bytes.max(1) as f64;
        let share = sample.blocks_differing as f64 / sample.blocks_compared.max(1) as f64;
        let expected = (share * blocks).max(sample.blocks_differing as f64);
        if sample.unsettled_blocks() == 0 {
            return Some(Duration::ZERO);
        }
        time_left(elapsed, sample.blocks_settled as f64, expected)
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
            written_end_bytes: get(&progress.written_end_bytes),
            verified_bytes: get(&progress.verified_bytes),
            seeds_bytes: get(&progress.bytes_read_seeds),
            blocks_compared: get(&progress.blocks_compared),
            blocks_differing: get(&progress.blocks_differing),
            blocks_settled: get(&progress.blocks_settled),
            times: Stage::ALL.map(|stage| progress.times.get(stage)),
        }
    }

    fn unsettled_blocks(&self) -> u64 {
        self.blocks_differing.saturating_sub(self.blocks_settled)
    }

    fn since(&self, before: &Self, stage: Stage) -> Duration {
        self.times[stage as usize].saturating_sub(before.times[stage as usize])
    }
}

/// A call's time counts when it returns: where none returns for as long as we look, one that lasts is what is waited for.
fn lasting(progress: &Progress) -> Option<Stage> {
    [Stage::Flush, Stage::Write].into_iter().find(|&stage| progress.times.is_inside(stage))
}

/// The stage that spent most of the time its threads had, and the share.
pub fn limiting(spent: impl Fn(Stage) -> Duration, wall: Duration, readers: usize) -> Option<(Stage, f64)> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = |stage| match stage {
        Stage::ScanSource | Stage::ScanTarget | Stage::Seeds | Stage::Verify => readers,
        Stage::Refine | Stage::Pack | Stage::Unpack => processors,
        Stage::Write | Stage::Flush => 1,
    };
    let busy = |stage| spent(stage).as_secs_f64() / (wall.as_secs_f64() * threads(stage).max(1) as f64);
    let shares = Stage::ALL.into_iter().map(|stage| (stage, busy(stage)));
    shares.filter(|(_, busy)| *busy >= IDLE).max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Unknown in the first second, before anything is done and when nothing is left.
fn time_left(elapsed: Duration, done: f64, total: f64) -> Option<Duration> {
    if elapsed < WINDOW || done <= 0.0 || done >= total {
        return None;
    }
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * (total - done) / done).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_BYTES: u64 = 64 << 10;
    const TOTALS: Totals = Totals {
        measure: Measure::Settled { block_bytes: BLOCK_BYTES },
        disk_bytes: 4 << 30,
        seeds_bytes: 0,
        verify_bytes: 0,
        threads: 2,
    };

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

    #[test]
    fn what_was_scanned_and_waits_to_be_sent_is_not_done() {
        let (start, progress) = (Instant::now(), Progress::default());
        let mut pace = Pace::new(TOTALS, start);
        let blocks = TOTALS.disk_bytes / BLOCK_BYTES;
        // Everything is scanned and compared, a tenth differs, and a quarter of that is written.
        Progress::add(&progress.scanned_source_bytes, TOTALS.disk_bytes);
        Progress::add(&progress.scanned_target_bytes, TOTALS.disk_bytes);
        Progress::add(&progress.blocks_compared, blocks);
        Progress::add(&progress.blocks_differing, blocks / 10);
        Progress::add(&progress.blocks_settled, blocks / 40);
        let view = pace.observe(start + Duration::from_secs(4), &progress);
        assert_eq!(view.done_bytes * 1000 / view.total_bytes, 925);
        assert_eq!(view.left.map(|left| left.as_secs()), Some(12), "three quarters at the pace of the first");
        Progress::add(&progress.blocks_settled, blocks / 10 - blocks / 40);
        let view = pace.observe(start + Duration::from_secs(16), &progress);
        assert_eq!((view.done_bytes, view.left), (view.total_bytes, None));
    }

    #[test]
    fn a_flush_limits_while_it_lasts_and_not_because_something_was_written() {
        let (start, progress) = (Instant::now(), Progress::default());
        let mut pace = Pace::new(TOTALS, start);
        Progress::add(&progress.bytes_written, 1);
        assert_eq!(pace.observe(start + Duration::from_secs(2), &progress).limiting, None);
        let _inside = progress.times.enter(Stage::Flush);
        assert_eq!(pace.observe(start + Duration::from_secs(4), &progress).limiting, Some(Stage::Flush));
    }
}
