//! Whether cycles come to an end: what changes in a cycle's time must ship in less than that.
//!
//! Pure arithmetic over what closed cycles came to. The first cycle of a job, which brings the whole disk, says nothing of churn.
//!
//! **Invariant**: no verdict without two cycles that show it.

use failback_service::registry::CycleOutcome;

/// What is known of a machine's cycles.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Convergence {
    /// Bytes that ship for what changes in a second.
    pub(crate) churn_per_second: Option<f64>,
    /// Bytes that ship in a second while a cycle runs.
    pub(crate) ship_per_second: Option<f64>,
    /// Seconds that a cycle takes however little changed.
    pub(crate) overhead_seconds: f64,
    /// What a cycle that began now, so long after the last one, would take, seconds.
    pub(crate) final_seconds: Option<f64>,
    /// Whether two cycles in a row took longer than the time in which what they shipped had changed.
    pub(crate) diverges: bool,
}

/// Cycles that the averages are taken over: what was an hour ago says little of now.
const LOOK_BACK: usize = 6;

/// Judges what closed cycles came to; the last one began so many milliseconds ago.
pub(crate) fn judge(outcomes: &[CycleOutcome], since_last_ms: u64) -> Convergence {
    let later: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.since_last_ms.is_some_and(|ms| ms > 0)).collect();
    let recent = &later[later.len().saturating_sub(LOOK_BACK)..];
    if recent.is_empty() {
        return Convergence::default();
    }
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let shipped: f64 = recent.iter().map(|outcome| outcome.shipped_bytes as f64).sum();
    let took: f64 = recent.iter().map(|outcome| seconds(outcome.took_ms)).sum();
    let changed: f64 = recent.iter().filter_map(|outcome| outcome.since_last_ms).map(seconds).sum();
    let churn = shipped / changed;
    // The quickest cycle bounds what a cycle costs besides shipping.
    let overhead = recent.iter().map(|outcome| seconds(outcome.took_ms)).fold(f64::INFINITY, f64::min);
    let average = took / recent.len() as f64;
    let rate = (took > 0.0).then(|| shipped / took);
    let churned = churn * seconds(since_last_ms);
    let shipping = rate.filter(|rate| *rate > 0.0).map_or(0.0, |rate| churned / rate);
    let is_late =
        |outcome: &&&CycleOutcome| outcome.since_last_ms.is_some_and(|since| outcome.took_ms >= since);
    Convergence {
        churn_per_second: Some(churn),
        ship_per_second: rate,
        overhead_seconds: overhead,
        final_seconds: Some(shipping.max(overhead.min(average))),
        diverges: recent.len() >= 2 && recent.iter().rev().take(2).filter(is_late).count() == 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(since_last_ms: Option<u64>, took_ms: u64, shipped_bytes: u64) -> CycleOutcome {
        CycleOutcome { number: 1, began_unix_ms: 0, took_ms, since_last_ms, read_bytes: 0, shipped_bytes }
    }

    #[test]
    fn the_first_cycle_says_nothing_of_churn() {
        assert_eq!(judge(&[], 1000), Convergence::default());
        assert_eq!(judge(&[outcome(None, 90_000, 1 << 40)], 1000), Convergence::default());
    }

    #[test]
    fn a_final_cycle_takes_what_its_churn_takes_and_no_less_than_any() {
        // 10 MB change in 100 s and ship in 2 s.
        let steady = [outcome(None, 90_000, 1 << 40), outcome(Some(100_000), 2_000, 10_000_000)];
        let now = judge(&steady, 100_000);
        assert!((now.final_seconds.expect("known") - 2.0).abs() < 0.01, "{now:?}");
        assert!((now.churn_per_second.expect("known") - 100_000.0).abs() < 1.0);
        assert!(!now.diverges, "{now:?}");
        assert!((judge(&steady, 1_000_000).final_seconds.expect("known") - 20.0).abs() < 0.01);
        assert!((judge(&steady, 0).final_seconds.expect("known") - 2.0).abs() < 0.01, "what any takes");
    }

    #[test]
    fn two_late_cycles_are_a_verdict_and_one_is_none() {
        let (late, fine) = (outcome(Some(60_000), 70_000, 1 << 30), outcome(Some(60_000), 4_000, 1 << 20));
        assert!(!judge(std::slice::from_ref(&late), 0).diverges);
        assert!(!judge(&[late.clone(), fine.clone()], 0).diverges);
        assert!(judge(&[fine, late.clone(), late], 0).diverges);
    }
}
