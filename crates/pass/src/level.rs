//! Which zstd level a pack is compressed with: fixed, or following the link.
//!
//! The more waits to go out, the more time there is to make it smaller. What waits is bounded by the window, so its share of
//! the window says how far the link is behind. An idle wire wants bytes at once, so they go as they are once it is known to
//! be idle: every pass begins with nothing that waits. A link that
//! carries more than the processors could save it is never worth their time, however much waits: then it is they who are
//! behind.

use crate::api::{Compression, Progress};
use crate::link::Pressure;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Share of the window that waits, in percent, from which a level is used: levels rise while the link is behind and fall
/// when the processors are, so that both end up busy. The window counts contents before they are compressed, and what the
/// network holds does not wait: half of the window is about as much as ever does. Levels above 3 take much more time for a
/// few percent, and from the same processors that keep the connections busy, so they are for links that leave all of that
/// waiting.
const STEPS: [(u64, i32); 4] = [(2, 1), (10, 3), (42, 6), (60, 9)];

/// Level while it is not yet known that nothing waits.
const UNSURE_LEVEL: i32 = 1;

/// Packs in a row that find nothing waiting until the link counts as idle.
const IDLE_PACKS: u32 = 16;

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
    /// Packs in a row that found nothing waiting.
    idle_packs: AtomicU32,
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
            idle_packs: AtomicU32::new(0),
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
        if carries >= self.pays_below {
            return None;
        }
        let level = level_for(queued_bytes, self.window_bytes);
        // One more or less by another thread's choice does not matter.
        let idle = if level.is_some() { 0 } else { self.idle_packs.load(Ordering::Relaxed) };
        self.idle_packs.store(idle.saturating_add(1), Ordering::Relaxed);
        level.or_else(|| (idle < IDLE_PACKS).then_some(UNSURE_LEVEL))
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
    fn the_more_waits_the_more_work_is_done() {
        for (waits, level) in
            [(0, None), (1, None), (2, Some(1)), (10, Some(3)), (42, Some(6)), (u64::MAX, Some(9))]
        {
            assert_eq!(level_for(waits, 100), level, "{waits} %");
        }
    }

    #[test]
    fn an_idle_wire_gets_bytes_as_they_are_once_it_is_known_to_be_idle() {
        let queued = Arc::new(AtomicU32::new(0));
        let asked = Arc::clone(&queued);
        let queue = Some(Arc::new(move || u64::from(asked.load(Ordering::Relaxed))) as Pressure);
        let policy = LevelPolicy::new(Compression::Auto, queue, 100, &Arc::default());
        let levels = |packs: u32| {
            let mut levels: Vec<_> = (0..packs).map(|_| policy.choose()).collect();
            levels.dedup();
            levels
        };
        assert_eq!(levels(IDLE_PACKS), [Some(UNSURE_LEVEL)]);
        assert_eq!(levels(100), [None]);
        queued.store(60, Ordering::Relaxed);
        assert_eq!(levels(10), [Some(9)]);
        queued.store(0, Ordering::Relaxed);
        assert_eq!(levels(100), [Some(UNSURE_LEVEL), None]);
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
