//! When the undo log's volume will be full if it goes on like this.

use failback_model::limits::FORECAST_MAX;
use std::fmt;
use std::time::Duration;

/// So much was used at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedSample {
    /// When, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// How much.
    pub used_bytes: u64,
}

/// What is to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// Nothing is free any more after this time.
    pub full_in: Duration,
    /// How fast it grows.
    pub bytes_per_second: u64,
}

/// The forecast by the straight line that fits the samples best; none where it does not grow, or is full in a year only.
pub fn forecast(samples: &[UsedSample], free_bytes: u64) -> Option<Forecast> {
    let first = samples.first()?;
    let count = samples.len() as f64;
    let at =
        |sample: &UsedSample| (i128::from(sample.at_unix_ms) - i128::from(first.at_unix_ms)) as f64 / 1000.0;
    let used = |sample: &UsedSample| (i128::from(sample.used_bytes) - i128::from(first.used_bytes)) as f64;
    let (mean_at, mean_used) =
        (samples.iter().map(at).sum::<f64>() / count, samples.iter().map(used).sum::<f64>() / count);
    let spread: f64 = samples.iter().map(|sample| (at(sample) - mean_at).powi(2)).sum();
    let common: f64 = samples.iter().map(|sample| (at(sample) - mean_at) * (used(sample) - mean_used)).sum();
    let bytes_per_second = common / spread;
    // Samples of one moment have no rate, and what shrinks is never full.
    if !bytes_per_second.is_finite() || bytes_per_second <= 0.0 {
        return None;
    }
    let full_in = Duration::try_from_secs_f64(free_bytes as f64 / bytes_per_second).ok()?;
    (full_in <= FORECAST_MAX).then_some(Forecast { full_in, bytes_per_second: bytes_per_second as u64 })
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.full_in.as_secs() / 60;
        match (minutes / 1440, minutes / 60, minutes % 60) {
            (0, 0, 0) => f.write_str("full in less than a minute at this rate"),
            (0, 0, minutes) => write!(f, "full in {minutes} min at this rate"),
            (0..=1, hours, minutes) => write!(f, "full in {hours} h {minutes:02} at this rate"),
            (days, ..) => write!(f, "full in {days} d at this rate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(count: u64, step_ms: u64, step_bytes: i64) -> Vec<UsedSample> {
        let sample = |at: u64| UsedSample {
            at_unix_ms: 1_795_500_000_000 + at * step_ms,
            used_bytes: (1_u64 << 40).saturating_add_signed(at as i64 * step_bytes),
        };
        (0..count).map(sample).collect()
    }

    #[test]
    fn a_journal_that_grows_is_full_some_time() {
        let told = forecast(&line(7, 10_000, 10 << 20), 12_000 << 20).expect("it grows");
        assert_eq!((told.full_in, told.bytes_per_second), (Duration::from_secs(12_000), 1 << 20));
        assert_eq!(told.to_string(), "full in 3 h 20 at this rate");
        assert_eq!(forecast(&line(7, 10_000, 10 << 20), 0).expect("it grows").full_in, Duration::ZERO);
        let said =
            |seconds| Forecast { full_in: Duration::from_secs(seconds), bytes_per_second: 1 }.to_string();
        assert_eq!(said(59), "full in less than a minute at this rate");
        assert_eq!(
            (said(3_599), said(86_400)),
            ("full in 59 min at this rate".into(), "full in 24 h 00 at this rate".into())
        );
        assert_eq!(said(200_000), "full in 2 d at this rate");
    }

    #[test]
    fn one_that_does_not_is_never() {
        assert_eq!(forecast(&[], 1), None);
        assert_eq!(forecast(&line(1, 1, 1), 1), None);
        assert_eq!(forecast(&line(9, 0, 1 << 20), 1), None, "all at one moment");
        assert_eq!(forecast(&line(9, 1_000, 0), 1), None);
        assert_eq!(forecast(&line(9, 1_000, -5), 1), None);
        assert_eq!(forecast(&line(9, 1_000, 1), u64::MAX), None, "not in a lifetime");
    }

    #[test]
    fn one_thinning_does_not_turn_growth_round() {
        let mut samples = line(20, 60_000, 60 << 20);
        for sample in &mut samples[19..] {
            sample.used_bytes -= 300 << 20;
        }
        assert!(forecast(&samples, 1 << 30).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_straight_line_is_told_exactly_and_nothing_panics(
            count in 2_u64..50, step_s in 1_u64..10_000, rate in 1_u64..1 << 30, free in 0_u64..1 << 50,
        ) {
            let samples = line(count, step_s * 1000, (rate * step_s) as i64);
            let expected = free / rate;
            match forecast(&samples, free) {
                Some(told) => {
                    prop_assert!(told.full_in.as_secs().abs_diff(expected) <= 1 + expected / 1_000_000);
                    prop_assert!(told.bytes_per_second.abs_diff(rate) <= 1 + rate / 1_000_000);
                }
                None => prop_assert!(expected + 1 + expected / 1_000_000 >= FORECAST_MAX.as_secs()),
            }
        }

        #[test]
        fn any_samples_at_all(
            samples in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20), free in any::<u64>(),
        ) {
            let samples: Vec<_> = samples
                .into_iter()
                .map(|(at_unix_ms, used_bytes)| UsedSample { at_unix_ms, used_bytes })
                .collect();
            let told = forecast(&samples, free);
            prop_assert!(told.is_none_or(|told| told.full_in <= FORECAST_MAX));
        }
    }
}
