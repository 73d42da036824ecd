//! Turns a pass's counters into rates, time left and the stage that limits. Time is passed in: no clock here.

use failback_pass::{Progress, Stage};
use failback_service::size::{grouped, human};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Rates are taken over at least this long.
const WINDOW: Duration = Duration::from_secs(1);
/// Below this share of its threads' time a stage is idle, and none is named.
const IDLE: f64 = 0.01;

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Length of the source's disk.
    pub(crate) source_bytes: u64,
    /// Length of the part of the target that is scanned; 0 for a new one.
    pub(crate) target_bytes: u64,
    /// Bytes of the seeds that are read before anything else.
    pub(crate) seeds_bytes: u64,
    /// Bytes that `--verify` re-reads.
    pub(crate) verify_bytes: u64,
    /// Reader threads at each end.
    pub(crate) threads: usize,
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
pub(crate) struct View {
    /// Bytes scanned and verified so far, of `total_bytes`.
    pub(crate) done_bytes: u64,
    /// Bytes to scan and verify.
    pub(crate) total_bytes: u64,
    /// At the average rate so far.
    pub(crate) left: Option<Duration>,
    /// The stage whose threads are busiest.
    pub(crate) limiting: Option<Stage>,
    /// *scanned, differing, shipped, written, verified*, with rates.
    pub(crate) counters: Vec<String>,
}

/// Remembers the last second.
pub(crate) struct Pace {
    totals: Totals,
    start: Instant,
    recent: VecDeque<Sample>,
}

impl Pace {
    pub(crate) fn new(totals: Totals, start: Instant) -> Self {
        let zero = Sample::take(start, &Progress::default());
        Self { totals, start, recent: VecDeque::from([zero]) }
    }

    /// Looks at the counters. Called at any intervals; long ones give rates over the whole interval.
    pub(crate) fn observe(&mut self, now: Instant, progress: &Progress) -> View {
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

    fn counters(&self, before: &Sample, sample: &Sample) -> Vec<String> {
        let seconds = (sample.at - before.at).as_secs_f64();
        let rated = |name: &str, value: fn(&Sample) -> u64| {
            let grown = value(sample).saturating_sub(value(before)) as f64;
            let rate = if seconds > 0.0 { (grown / seconds) as u64 } else { 0 };
            format!("{name} {} ({}/s)", human(value(sample)), human(rate))
        };
        let mut parts = vec![
            rated("scanned", |sample| sample.scanned_bytes),
            format!("differing {} blocks", grouped(sample.blocks_differing)),
            rated("shipped", |sample| sample.shipped_bytes),
            rated("written", |sample| sample.written_bytes),
        ];
        if self.totals.seeds_bytes > 0 {
            parts.insert(0, rated("seeds", |sample| sample.seeds_bytes));
        }
        if self.totals.verify_bytes > 0 {
            parts.push(rated("verified", |sample| sample.verified_bytes));
        }
        parts
    }
}

impl View {
    /// One plain line: share, counters, time left, what limits.
    pub(crate) fn line(&self) -> String {
        let percent = (self.done_bytes * 100).checked_div(self.total_bytes).unwrap_or(100);
        format!("{percent} %: {}{}", self.counters.join(", "), self.tail())
    }

    /// `; 00:12 left; limited by scan_source`, each part only where it is known.
    pub(crate) fn tail(&self) -> String {
        let left = self.left.map_or_else(String::new, |left| format!("; {} left", clock(left)));
        let limiting =
            self.limiting.map_or_else(String::new, |stage| format!("; limited by {}", stage.as_str()));
        left + &limiting
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
pub(crate) fn limiting(spent: impl Fn(Stage) -> Duration, wall: Duration, readers: usize) -> Option<Stage> {
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

/// `00:12`, `1:02:03`.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTALS: Totals =
        Totals { source_bytes: 3 << 30, target_bytes: 1 << 30, seeds_bytes: 0, verify_bytes: 0, threads: 2 };

    #[test]
    fn rates_time_left_and_the_limiting_stage_come_from_the_last_second() {
        let (start, progress) = (Instant::now(), Progress::default());
        let mut pace = Pace::new(TOTALS, start);
        Progress::add(&progress.scanned_source_bytes, 1 << 30);
        progress.times.add(Stage::ScanSource, Duration::from_secs(4));
        let line = pace.observe(start + Duration::from_secs(2), &progress).line();
        assert_eq!(
            line,
            "25 %: scanned 1 GiB (512 MiB/s), differing 0 blocks, shipped 0 B (0 B/s), written 0 B (0 B/s); \
             00:06 left; limited by scan_source"
        );
        Progress::add(&progress.bytes_written, 10 << 20);
        progress.times.add(Stage::Write, Duration::from_millis(900));
        let view = pace.observe(start + Duration::from_secs(3), &progress);
        assert_eq!(view.limiting, Some(Stage::Write));
        assert!(view.line().contains("scanned 1 GiB (0 B/s)"), "{}", view.line());
        assert!(view.line().contains("written 10 MiB (10 MiB/s)"), "{}", view.line());
        let view = pace.observe(start + Duration::from_secs(9), &progress);
        assert_eq!(view.limiting, Some(Stage::Flush), "a pass that stands still says what it waits for");
    }

    #[test]
    fn frequent_looks_still_measure_over_a_second() {
        let (start, progress) = (Instant::now(), Progress::default());
        let mut pace = Pace::new(TOTALS, start);
        for tick in 1..=20 {
            Progress::add(&progress.scanned_source_bytes, 20 << 20);
            let view = pace.observe(start + Duration::from_millis(tick * 200), &progress);
            assert!(view.line().contains("(100 MiB/s)"), "tick {tick}: {}", view.line());
        }
        assert!(pace.recent.len() <= 7, "samples are forgotten");
    }

    #[test]
    fn seeds_count_like_every_other_reading() {
        let (start, progress) = (Instant::now(), Progress::default());
        let mut pace = Pace::new(Totals { seeds_bytes: 4 << 30, ..TOTALS }, start);
        Progress::add(&progress.bytes_read_seeds, 4 << 30);
        let line = pace.observe(start + Duration::from_secs(4), &progress).line();
        assert!(line.starts_with("50 %: seeds 4 GiB (1 GiB/s), scanned 0 B"), "{line}");
    }

    #[test]
    fn an_empty_disk_and_an_idle_pass_divide_by_nothing() {
        let nothing = Totals { source_bytes: 0, target_bytes: 0, ..TOTALS };
        let start = Instant::now();
        let view = Pace::new(nothing, start).observe(start, &Progress::default());
        assert!(view.line().starts_with("100 %: "), "{}", view.line());
        assert_eq!((view.left, view.limiting), (None, None));
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
