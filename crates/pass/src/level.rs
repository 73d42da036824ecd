//! Which zstd level a pack is compressed with: fixed, or following the link.
//!
//! An idle wire wants bytes at once, so they go as they are; the more waits to go out, the more time there is to make it
//! smaller. What waits is bounded by the window, so its share of the window says how far the link is behind. A link that
//! carries more than the processors could save it is never worth their time, however much waits: then it is they who are
//! behind.

use crate::api::{Compression, Progress};
use crate::link::Pressure;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Share of the window that waits, in percent, from which a level is used: levels rise while the link is behind and fall
/// when the processors are, so that both end up busy.
const STEPS: [(u64, i32); 5] = [(4, -1), (12, 1), (40, 3), (60, 6), (80, 9)];

/// Bytes a second that a link may carry for each processor before compressing costs more than it saves: zstd's level 1
/// takes 550 MB/s a processor and saves two fifths of what disks hold.
const PAYS_BELOW: u64 = 200_000_000;

/// How long a link's rate is measured at a time.
const MEASURED_FOR: Duration = Duration::from_millis(50);

/// How levels are chosen in one pass.
#[derive(Clone)]
pub(crate) enum LevelPolicy {
    /// Always this; `None`: never compress.
    Fixed(Option<i32>),
    /// By what waits to go out, and how fast it goes.
    Follow(Arc<Follow>),
}

/// A link that is followed.
pub(crate) struct Follow {
    queued_bytes: Pressure,
    /// Bytes that may be under way.
    window_bytes: u64,
    progress: Arc<Progress>,
    /// Bytes a second that it may carry at most for compression to pay.
    pays_below: u64,
    rate: Mutex<Rate>,
}

impl LevelPolicy {
    /// Automatic compression follows a link that says what waits; in one process nothing ever does.
    pub(crate) fn new(
        compression: Compression,
        queued_bytes: Option<Pressure>,
        window_bytes: u64,
        progress: &Arc<Progress>,
    ) -> Self {
        let queued_bytes = match (compression, queued_bytes) {
            (Compression::Level(level), _) => return Self::Fixed(Some(level)),
            (Compression::Auto, Some(queued_bytes)) => queued_bytes,
            (Compression::Auto, None) | (Compression::Off, _) => return Self::Fixed(None),
        };
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        Self::Follow(Arc::new(Follow {
            queued_bytes,
            window_bytes: window_bytes.max(1),
            progress: Arc::clone(progress),
            pays_below: PAYS_BELOW * processors,
            rate: Mutex::new(Rate::new(Instant::now())),
        }))
    }

    /// The level of the next pack; `None`: as it is.
    pub(crate) fn choose(&self) -> Option<i32> {
        match self {
            Self::Fixed(level) => *level,
            Self::Follow(link) => link.choose(Instant::now()),
        }
    }
}

impl Follow {
    fn choose(&self, now: Instant) -> Option<i32> {
        let queued_bytes = (self.queued_bytes)();
        let handed_over = self.progress.bytes_to_target.load(Ordering::Relaxed);
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let carries = rate.measure(now, handed_over.saturating_sub(queued_bytes));
        drop(rate);
        if carries >= self.pays_below { None } else { level_for(queued_bytes, self.window_bytes) }
    }
}

fn level_for(queued_bytes: u64, window_bytes: u64) -> Option<i32> {
    let percent = queued_bytes.saturating_mul(100) / window_bytes;
    STEPS.iter().rev().find(|(from, _)| percent >= *from).map(|&(_, level)| level)
}

/// How fast bytes leave.
struct Rate {
    since: Instant,
    gone_then: u64,
    bytes_per_second: u64,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self { since: now, gone_then: 0, bytes_per_second: 0 }
    }

    /// The rate of the last whole stretch, given what has left until now.
    fn measure(&mut self, now: Instant, gone: u64) -> u64 {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= MEASURED_FOR {
            let bytes = u128::from(gone.saturating_sub(self.gone_then));
            let rate = bytes * 1_000_000 / elapsed.as_micros().max(1);
            self.bytes_per_second = u64::try_from(rate).unwrap_or(u64::MAX);
            (self.since, self.gone_then) = (now, gone);
        }
        self.bytes_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_wire_gets_bytes_as_they_are_and_a_full_one_the_most_work() {
        assert_eq!(level_for(0, 100), None);
        assert_eq!(level_for(12, 100), Some(1));
        assert_eq!(level_for(100, 100), Some(9));
        assert_eq!(level_for(u64::MAX, 100), Some(9));
    }

    #[test]
    fn only_a_link_that_says_what_waits_is_followed() {
        let progress = Arc::default();
        let queue = || Some(Arc::new(|| 1u64 << 20) as Pressure);
        let choose = |compression, queue| LevelPolicy::new(compression, queue, 1 << 20, &progress).choose();
        assert_eq!(choose(Compression::Auto, None), None);
        assert_eq!(choose(Compression::Auto, queue()), Some(9));
        assert_eq!(choose(Compression::Off, queue()), None);
        assert_eq!(choose(Compression::Level(5), queue()), Some(5));
    }

    #[test]
    fn a_link_that_is_faster_than_compression_gets_bytes_as_they_are_however_much_waits() {
        let progress: Arc<Progress> = Arc::default();
        let queue = Some(Arc::new(|| 1u64 << 20) as Pressure);
        let LevelPolicy::Follow(link) = LevelPolicy::new(Compression::Auto, queue, 1 << 20, &progress) else {
            panic!("it is followed");
        };
        let begin = Instant::now();
        let choose_after = |millis: u64, bytes_a_second: u64| {
            progress.bytes_to_target.fetch_add(bytes_a_second / 10, Ordering::Relaxed);
            link.choose(begin + Duration::from_millis(millis))
        };
        assert_eq!(choose_after(100, 12_000_000), Some(9), "100 Mbit/s");
        assert_eq!(choose_after(200, 2 * link.pays_below), None, "more than there is to save");
        assert_eq!(choose_after(300, 120_000_000), Some(9), "1 Gbit/s");
    }
}
