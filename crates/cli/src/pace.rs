//! A pass's pace in words: one line, or the lines below a bar.

use failback_pass::{Counter, View};
use failback_service::size::{grouped, human};
use std::time::Duration;

/// One plain line: share, counters, time left, what limits.
pub(crate) fn line(view: &View) -> String {
    let percent = (view.done_bytes * 100).checked_div(view.total_bytes).unwrap_or(100);
    format!("{percent} %: {}{}", counters(view).join(", "), tail(view))
}

/// Each counter with its rate.
pub(crate) fn counters(view: &View) -> Vec<String> {
    let text = |counter: &Counter| match counter.rate_bytes {
        Some(rate) => format!("{} {} ({}/s)", counter.name, human(counter.value), human(rate)),
        None => format!("{} {} blocks", counter.name, grouped(counter.value)),
    };
    view.counters.iter().map(text).collect()
}

/// `; 00:12 left; limited by scan_source`, each part only where it is known.
pub(crate) fn tail(view: &View) -> String {
    let left = view.left.map_or_else(String::new, |left| format!("; {} left", clock(left)));
    let limiting = view.limiting.map_or_else(String::new, |stage| format!("; limited by {}", stage.as_str()));
    left + &limiting
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
    use failback_pass::{Measure, Pace, Progress, Stage, Totals};
    use std::time::Instant;

    const TOTALS: Totals = Totals {
        measure: Measure::Scanned,
        disk_bytes: 4 << 30,
        seeds_bytes: 0,
        verify_bytes: 0,
        threads: 2,
    };

    #[test]
    fn rates_time_left_and_the_limiting_stage_come_from_the_last_second() {
        let (start, progress) = (Instant::now(), Progress::default());
        let mut pace = Pace::new(TOTALS, start);
        Progress::add(&progress.scanned_source_bytes, 1 << 30);
        progress.times.add(Stage::ScanSource, Duration::from_secs(4));
        let said = line(&pace.observe(start + Duration::from_secs(2), &progress));
        assert_eq!(
            said,
            "25 %: scanned 1 GiB (512 MiB/s), differing 0 blocks, shipped 0 B (0 B/s), written 0 B (0 B/s); \
             00:06 left; limited by scan_source"
        );
        Progress::add(&progress.bytes_written, 10 << 20);
        progress.times.add(Stage::Write, Duration::from_millis(900));
        let view = pace.observe(start + Duration::from_secs(3), &progress);
        assert_eq!(view.limiting, Some(Stage::Write));
        assert!(line(&view).contains("scanned 1 GiB (0 B/s)"), "{}", line(&view));
        assert!(line(&view).contains("written 10 MiB (10 MiB/s)"), "{}", line(&view));
        let _inside = progress.times.enter(Stage::Flush);
        let view = pace.observe(start + Duration::from_secs(9), &progress);
        assert_eq!(view.limiting, Some(Stage::Flush), "a pass that stands still says what it waits for");
    }

    #[test]
    fn seeds_count_like_every_other_reading() {
        let (start, progress) = (Instant::now(), Progress::default());
        let mut pace = Pace::new(Totals { seeds_bytes: 4 << 30, ..TOTALS }, start);
        Progress::add(&progress.bytes_read_seeds, 4 << 30);
        let said = line(&pace.observe(start + Duration::from_secs(4), &progress));
        assert!(said.starts_with("50 %: seeds 4 GiB (1 GiB/s), scanned 0 B"), "{said}");
    }

    #[test]
    fn an_empty_disk_and_an_idle_pass_divide_by_nothing() {
        let nothing = Totals { disk_bytes: 0, ..TOTALS };
        let start = Instant::now();
        let view = Pace::new(nothing, start).observe(start, &Progress::default());
        assert!(line(&view).starts_with("100 %: "), "{}", line(&view));
        assert_eq!((view.left, view.limiting), (None, None));
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
