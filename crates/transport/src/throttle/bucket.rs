//! A token bucket that may run into debt: a frame leaves whole, and the next one waits until it is paid for.
//!
//! **Invariant**: the balance is exact: no byte is lost to rounding, however small the steps of time.

use super::schedule::Rate;
use failback_model::limits::THROTTLE_BURST;
use std::time::Duration;
use tokio::time::Instant;

/// Nanobytes: a byte per second is one of them per nanosecond.
const BYTE: i128 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    balance: i128,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, balance: 0, at: now }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    pub(super) fn set_rate(&mut self, rate: Rate, now: Instant) {
        self.pay(now);
        if rate != self.rate {
            self.rate = rate;
            // What was saved up at a higher rate is not spent at a lower one.
            self.balance = self.balance.min(0);
        }
        if rate == Rate::Unlimited {
            self.balance = 0;
        }
    }

    fn pay(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        if let Rate::BytesPerSecond(rate) = self.rate {
            let rate = i128::from(rate.get());
            let most = rate * THROTTLE_BURST.as_nanos() as i128;
            self.balance = (self.balance + rate * elapsed.as_nanos() as i128).min(most);
        }
    }

    /// Time until the debt is paid.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        self.pay(now);
        match self.rate {
            Rate::BytesPerSecond(rate) if self.balance < 0 => {
                let rate = i128::from(rate.get());
                let nanos = (-self.balance + rate - 1) / rate;
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
            _ => Duration::ZERO,
        }
    }

    pub(super) fn charge(&mut self, bytes: u64, now: Instant) {
        self.pay(now);
        if self.rate != Rate::Unlimited {
            self.balance -= i128::from(bytes) * BYTE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bytes: u64) -> Rate {
        Rate::bytes_per_second(bytes).expect("above zero")
    }

    #[test]
    fn what_leaves_is_the_rate_times_the_time() {
        let start = Instant::now();
        for (bytes_per_second, frame) in [(1, 1), (1000, 7), (20 << 20, 256 << 10), (1 << 40, 2 << 20)] {
            let mut bucket = Bucket::new(rate(bytes_per_second), start);
            let (mut now, mut sent) = (start, 0);
            for _ in 0..1000 {
                now += bucket.wait(now);
                bucket.charge(frame, now);
                sent += frame;
            }
            now += bucket.wait(now);
            let took = (now - start).as_secs_f64();
            let expected = sent as f64 / bytes_per_second as f64;
            assert!((took / expected - 1.0).abs() < 0.001, "{bytes_per_second}: {took} s, not {expected}");
        }
    }

    #[test]
    fn a_rest_saves_up_a_moment_and_no_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(1000), start);
        let later = start + Duration::from_secs(3600);
        let saved = (1000.0 * THROTTLE_BURST.as_secs_f64()) as u64;
        bucket.charge(saved + 1000, later);
        assert_eq!(bucket.wait(later), Duration::from_secs(1));
    }

    #[test]
    fn a_new_rate_counts_from_now_on() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(1000), start);
        bucket.charge(10_000, start);
        assert_eq!(bucket.wait(start), Duration::from_secs(10));
        bucket.set_rate(rate(2000), start + Duration::from_secs(4));
        assert_eq!(bucket.wait(start + Duration::from_secs(4)), Duration::from_secs(3));
        bucket.set_rate(Rate::Unlimited, start + Duration::from_secs(4));
        bucket.charge(1 << 40, start + Duration::from_secs(4));
        assert_eq!(bucket.wait(start + Duration::from_secs(4)), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_stands_still_pays_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(1000), start);
        bucket.charge(500, start);
        for _ in 0..10 {
            assert_eq!(bucket.wait(start), Duration::from_millis(500));
        }
    }
}
