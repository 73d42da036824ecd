//! How long to wait before the next try: longer each time up to a bound, and never the same for two that failed at once.

use failback_model::limits::{BACKOFF_FIRST, BACKOFF_MAX};
use std::time::Duration;

/// Waits that double up to [`BACKOFF_MAX`], each drawn from its upper half. For ever: there is no last try.
#[derive(Debug)]
pub struct Backoff {
    attempts: u32,
    random: u64,
}

impl Backoff {
    /// Starts over; different seeds give different waits.
    pub fn new(seed: u64) -> Self {
        Self { attempts: 0, random: seed }
    }

    /// Tries that failed since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The wait after one more failed try.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = BACKOFF_FIRST.saturating_mul(1 << self.attempts.min(16)).min(BACKOFF_MAX);
        self.attempts = self.attempts.saturating_add(1);
        doubled / 2 + (doubled / 2).mul_f64(self.draw())
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// 0 up to 1 (splitmix64).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_differ() {
        let (mut one, mut other) = (Backoff::new(1), Backoff::new(2));
        let mut equal = 0;
        for attempt in 0..1000_u32 {
            let (a, b) = (one.next_wait(), other.next_wait());
            let most = BACKOFF_FIRST.saturating_mul(1 << attempt.min(16)).min(BACKOFF_MAX);
            assert!(
                (most / 2..=most).contains(&a) && (most / 2..=most).contains(&b),
                "{attempt}: {a:?} {b:?}"
            );
            equal += usize::from(a == b);
        }
        assert_eq!((equal, one.attempts()), (0, 1000));
        one.reset();
        assert!(one.next_wait() <= BACKOFF_FIRST);
    }
}
