//! Which zstd level a pack is compressed with: fixed, or following the link.
//!
//! An idle wire wants bytes at once, so they go as they are; the more waits to go out, the more time there is to make it
//! smaller. What waits is bounded by the window, so its share of the window says how far the link is behind.

use crate::api::Compression;
use crate::link::Pressure;

/// Share of the window that waits, in percent, from which a level is used: levels rise while the link is behind and fall
/// when the processors are, so that both end up busy.
const STEPS: [(u64, i32); 5] = [(4, -1), (12, 1), (40, 3), (60, 6), (80, 9)];

/// How levels are chosen in one pass.
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
    },
}

impl LevelPolicy {
    /// Automatic compression follows a link that says what waits; in one process nothing ever does.
    pub(crate) fn new(compression: Compression, queued_bytes: Option<Pressure>, window_bytes: u64) -> Self {
        match (compression, queued_bytes) {
            (Compression::Level(level), _) => Self::Fixed(Some(level)),
            (Compression::Auto, Some(queued_bytes)) => Self::Follow { queued_bytes, window_bytes },
            (Compression::Auto, None) | (Compression::Off, _) => Self::Fixed(None),
        }
    }

    /// The level of the next pack; `None`: as it is.
    pub(crate) fn choose(&self) -> Option<i32> {
        match self {
            Self::Fixed(level) => *level,
            Self::Follow { queued_bytes, window_bytes } => level_for(queued_bytes(), (*window_bytes).max(1)),
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

    #[test]
    fn an_idle_wire_gets_bytes_as_they_are_and_a_full_one_the_most_work() {
        assert_eq!(level_for(0, 100), None);
        assert_eq!(level_for(12, 100), Some(1));
        assert_eq!(level_for(100, 100), Some(9));
        assert_eq!(level_for(u64::MAX, 100), Some(9));
    }

    #[test]
    fn only_a_link_that_says_what_waits_is_followed() {
        let queue = || Some(std::sync::Arc::new(|| 1u64 << 20) as Pressure);
        assert_eq!(LevelPolicy::new(Compression::Auto, None, 1 << 20).choose(), None);
        assert_eq!(LevelPolicy::new(Compression::Auto, queue(), 1 << 20).choose(), Some(9));
        assert_eq!(LevelPolicy::new(Compression::Off, queue(), 1 << 20).choose(), None);
        assert_eq!(LevelPolicy::new(Compression::Level(5), queue(), 1 << 20).choose(), Some(5));
    }
}
