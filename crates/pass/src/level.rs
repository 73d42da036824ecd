//! Which zstd level a pack is compressed with: fixed, or following the link.
//!
//! What waits to go out says how far the link is behind: the more waits, the more time there is to make packs smaller. Where
//! nothing waits, and has not for some packs, the processors or the source are behind, and packs go as they are. So they do
//! on a link that carries more than compressing could save, however much waits: there the processors are behind at the other
//! end.
//!
//! **Invariant**: below that rate the level rises with what waits and with nothing else, so it settles where link and
//! processors are both busy.

use crate::api::{Compression, Progress};
use crate::link::Pressure;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Share of the window that waits, in percent, from which a level is used. The window counts contents before they are
/// compressed, and what the network holds does not wait: half of the window is about as much as ever does. Levels above 3
/// take much more time for a few percent, and from the same processors that keep the connections busy, so they are for links
/// that leave all of that waiting.
const STEPS: [(u64, i32); 4] = [(2, 1), (10, 3), (42, 6), (60, 9)];
/// Level while it is not yet known that nothing waits: a pass begins with an empty queue whatever the link.
const UNSURE_LEVEL: i32 = 1;
/// Packs in a row that find nothing waiting until the link counts as idle.
const IDLE_PACKS: u32 = 16;

/// Bytes a second that a link may carry for each processor before compressing costs more than it saves: zstd's level 1
/// takes 550 MB/s a processor and saves two fifths of what disks hold.
const PAYS_BELOW: u64 = 200_000_000;
/// How long a link's rate is measured at a time.
const MEASURED_FOR: Duration = Duration::from_millis(50);

/// How levels are chosen in one pass. A clone is the same.
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
    /// Packs in a row that found nothing waiting.
    idle_packs: AtomicU32,
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
            idle_packs: AtomicU32::new(0),
            progress: Arc::clone(progress),
            pays_below: PAYS_BELOW * processors,
            rate: Mutex::new(Rate { since: Instant::now(), gone_bytes: 0, bytes_per_second: 0 }),
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
        if self.carries(now, queued_bytes) >= self.pays_below {
            return None;
        }
        let level = level_for(queued_bytes, self.window_bytes);
        if level.is_some() {
            self.idle_packs.store(0, Ordering::Relaxed);
            return level;
        }
        let idle = self.idle_packs.load(Ordering::Relaxed);
        self.idle_packs.store(idle.saturating_add(1), Ordering::Relaxed);
        (idle < IDLE_PACKS).then_some(UNSURE_LEVEL)
    }

    /// Bytes a second that leave.
    fn carries(&self, now: Instant, queued_bytes: u64) -> u64 {
        let handed_over = self.progress.bytes_to_target.load(Ordering::Relaxed);
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.measure(now, handed_over.saturating_sub(queued_bytes))
    }
}

fn level_for(queued_bytes: u64, window_bytes: u64) -> Option<i32> {
    let percent = queued_bytes.saturating_mul(100) / window_bytes;
    STEPS.iter().rev().find(|(from, _)| percent >= *from).map(|&(_, level)| level)
}

/// How fast bytes leave.
struct Rate {
    since: Instant,
    gone_bytes: u64,
    bytes_per_second: u64,
}

impl Rate {
    /// The rate of the last whole stretch, given what has left until now.
    fn measure(&mut self, now: Instant, gone_bytes: u64) -> u64 {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= MEASURED_FOR {
            let bytes = u128::from(gone_bytes.saturating_sub(self.gone_bytes));
            let rate = bytes * 1_000_000 / elapsed.as_micros().max(1);
            self.bytes_per_second = u64::try_from(rate).unwrap_or(u64::MAX);
            (self.since, self.gone_bytes) = (now, gone_bytes);
        }
        self.bytes_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn policy(compression: Compression, queued: &Arc<AtomicU64>, progress: &Arc<Progress>) -> LevelPolicy {
        let queued = Arc::clone(queued);
        LevelPolicy::new(compression, Some(Arc::new(move || queued.load(Ordering::Relaxed))), 100, progress)
    }

    /// Levels of so many packs, each once.
    fn levels(policy: &LevelPolicy, packs: u32) -> Vec<Option<i32>> {
        let mut levels: Vec<_> = (0..packs).map(|_| policy.choose()).collect();
        levels.dedup();
        levels
    }

    #[test]
    fn the_more_waits_the_smaller_packs_become() {
        let queued = Arc::new(AtomicU64::new(0));
        let policy = policy(Compression::Auto, &queued, &Arc::default());
        for (waits, level) in [(2, 1), (9, 1), (10, 3), (42, 6), (60, 9), (100, 9), (u64::MAX, 9), (3, 1)] {
            queued.store(waits, Ordering::Relaxed);
            assert_eq!(policy.choose(), Some(level), "{waits} %");
        }
    }

    #[test]
    fn an_idle_wire_gets_packs_as_they_are_once_it_is_known_to_be_idle() {
        let queued = Arc::new(AtomicU64::new(0));
        let policy = policy(Compression::Auto, &queued, &Arc::default());
        assert_eq!(levels(&policy, IDLE_PACKS), [Some(UNSURE_LEVEL)]);
        assert_eq!(levels(&policy, 100), [None]);
        queued.store(60, Ordering::Relaxed);
        assert_eq!(policy.choose(), Some(9));
        queued.store(0, Ordering::Relaxed);
        assert_eq!(levels(&policy, 100), [Some(UNSURE_LEVEL), None]);
    }

    #[test]
    fn only_a_link_that_says_what_waits_is_followed() {
        let (queued, progress) = (Arc::new(AtomicU64::new(100)), Arc::default());
        assert_eq!(LevelPolicy::new(Compression::Auto, None, 100, &progress).choose(), None);
        assert_eq!(policy(Compression::Off, &queued, &progress).choose(), None);
        assert_eq!(policy(Compression::Level(5), &queued, &progress).choose(), Some(5));
    }

    #[test]
    fn a_link_that_is_faster_than_compression_gets_packs_as_they_are_however_much_waits() {
        let (queued, progress) = (Arc::new(AtomicU64::new(100)), Arc::<Progress>::default());
        let LevelPolicy::Follow(link) = policy(Compression::Auto, &queued, &progress) else {
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
