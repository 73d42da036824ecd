//! Which zstd level a pack is compressed with: fixed, or following the link.
//!
//! What waits to go out says how far the link is behind: the more waits, the more time there is to make packs smaller. Where
//! nothing waits, and has not for some packs, the processors or the source are behind, and packs go as they are.
//!
//! **Invariant**: the level rises with what waits and with nothing else, so it settles where link and processors are both
//! busy; no rate is measured and none has to be guessed.

use crate::api::Compression;
use crate::link::Pressure;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Share of the window that waits, in percent, from which a level is used. The window counts contents before they are
/// compressed, and what the network holds does not wait: half of the window is about as much as ever does. Levels above 3
/// take much more time for a few percent, and from the same processors that keep the connections busy, so they are for links
/// that leave all of that waiting.
const STEPS: [(u64, i32); 4] = [(2, 1), (10, 3), (42, 6), (60, 9)];
/// Level while it is not yet known that nothing waits: a pass begins with an empty queue whatever the link.
const UNSURE_LEVEL: i32 = 1;
/// Packs in a row that find nothing waiting until the link counts as idle.
const IDLE_PACKS: u32 = 16;

/// How levels are chosen in one pass. A clone is the same.
#[derive(Clone)]
pub(crate) enum LevelPolicy {
    /// Always this; `None`: never compress.
    Fixed(Option<i32>),
    /// By what waits to go out.
    Follow {
        /// Bytes that wait.
        queued_bytes: Pressure,
        /// Bytes that may be under way.
        window_bytes: u64,
        /// Packs in a row that found nothing waiting.
        idle_packs: Arc<AtomicU32>,
    },
}

impl LevelPolicy {
    /// Automatic compression follows a link that says what waits; in one process nothing ever does.
    pub(crate) fn new(compression: Compression, queued_bytes: Option<Pressure>, window_bytes: u64) -> Self {
        match (compression, queued_bytes) {
            (Compression::Level(level), _) => Self::Fixed(Some(level)),
            (Compression::Auto, Some(queued_bytes)) => {
                Self::Follow { queued_bytes, window_bytes, idle_packs: Arc::default() }
            }
            (Compression::Auto, None) | (Compression::Off, _) => Self::Fixed(None),
        }
    }

    /// The level of the next pack; `None`: as it is.
    pub(crate) fn choose(&self) -> Option<i32> {
        match self {
            Self::Fixed(level) => *level,
            Self::Follow { queued_bytes, window_bytes, idle_packs } => {
                let level = level_for(queued_bytes(), (*window_bytes).max(1));
                // One more or less by another thread's choice does not matter.
                let idle = if level.is_some() { 0 } else { idle_packs.load(Ordering::Relaxed) };
                idle_packs.store(idle.saturating_add(1), Ordering::Relaxed);
                level.or_else(|| (idle < IDLE_PACKS).then_some(UNSURE_LEVEL))
            }
        }
    }
}

fn level_for(queued_bytes: u64, window_bytes: u64) -> Option<i32> {
    let percent = queued_bytes.saturating_mul(100) / window_bytes;
    STEPS.iter().rev().find(|(from, _)| percent >= *from).map(|&(_, level)| level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn policy(compression: Compression, queued: &Arc<AtomicU64>) -> LevelPolicy {
        let queued = Arc::clone(queued);
        LevelPolicy::new(compression, Some(Arc::new(move || queued.load(Ordering::Relaxed))), 100)
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
        let policy = policy(Compression::Auto, &queued);
        for (waits, level) in [(2, 1), (9, 1), (10, 3), (42, 6), (60, 9), (100, 9), (u64::MAX, 9), (3, 1)] {
            queued.store(waits, Ordering::Relaxed);
            assert_eq!(policy.choose(), Some(level), "{waits} %");
        }
    }

    #[test]
    fn an_idle_wire_gets_packs_as_they_are_once_it_is_known_to_be_idle() {
        let queued = Arc::new(AtomicU64::new(0));
        let policy = policy(Compression::Auto, &queued);
        assert_eq!(levels(&policy, IDLE_PACKS), [Some(UNSURE_LEVEL)]);
        assert_eq!(levels(&policy, 100), [None]);
        queued.store(60, Ordering::Relaxed);
        assert_eq!(policy.choose(), Some(9));
        queued.store(0, Ordering::Relaxed);
        assert_eq!(levels(&policy, 100), [Some(UNSURE_LEVEL), None]);
    }

    #[test]
    fn only_a_link_that_says_what_waits_is_followed() {
        let queued = Arc::new(AtomicU64::new(100));
        assert_eq!(LevelPolicy::new(Compression::Auto, None, 100).choose(), None);
        assert_eq!(policy(Compression::Off, &queued).choose(), None);
        assert_eq!(policy(Compression::Level(5), &queued).choose(), Some(5));
    }
}
