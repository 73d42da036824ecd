//! Which points the policy does not keep.

use crate::config::Retention;
use failback_store::Point;
use std::collections::BTreeSet;

const HOUR_MS: u64 = 3_600_000;

/// Numbers of the points to drop, oldest first: never the newest, never the original.
pub(crate) fn superfluous(points: &[Point], policy: &Retention, now_ms: u64) -> Vec<u64> {
    let Some((newest, older)) = points.split_last() else { return Vec::new() };
    let mut dropped = BTreeSet::new();
    // Newest first, so that of each slot the newest is what stays.
    let mut slots = BTreeSet::new();
    for point in older.iter().rev().filter(|point| point.number > 0) {
        let age_ms = now_ms.saturating_sub(point.sealed_unix_ms);
        let every_ms = match age_ms {
            age if age <= policy.keep_all.as_ms() => continue,
            age if age <= policy.hourly_for.as_ms() => HOUR_MS,
            age if age <= policy.two_hourly_for.as_ms() => 2 * HOUR_MS,
            age if age <= policy.four_hourly_for.as_ms() => 4 * HOUR_MS,
            _ => {
                dropped.insert(point.number);
                continue;
            }
        };
        if !slots.insert((every_ms, point.sealed_unix_ms / every_ms)) {
            dropped.insert(point.number);
        }
    }
    // As long as the original is kept, all undo leads to it: dropping later points frees nothing.
    let has_original = points.first().is_some_and(|first| first.number == 0);
    if let Some(most) = policy.max_bytes.filter(|_| !has_original) {
        let mut total: u64 = points.iter().map(|point| point.undo_bytes).sum();
        for point in older {
            if total <= most.0 {
                break;
            }
            total -= point.undo_bytes;
            dropped.insert(point.number);
        }
    }
    dropped.remove(&newest.number);
    dropped.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::{PointClaim, PointLabel};
    use failback_service::config::ByteSize;

    /// Points of these ages in hours, the oldest first, numbered from `first`.
    fn points(first: u64, ages_hours: &[f64], now_ms: u64) -> Vec<Point> {
        let claim = PointClaim { source_unix_ms: 0, label: PointLabel::PerDisk, reason: String::new() };
        let point = |(at, age): (usize, &f64)| Point {
            number: first + at as u64,
            claim: claim.clone(),
            sealed_unix_ms: now_ms - (age * HOUR_MS as f64) as u64,
            restored: None,
            disks: Vec::new(),
            undo_bytes: 100,
        };
        ages_hours.iter().enumerate().map(point).collect()
    }

    const NOW: u64 = 1_000_000 * HOUR_MS;

    #[test]
    fn ever_fewer_stay_and_the_newest_and_the_original_always() {
        let policy = Retention::default();
        let kept = |points: &[Point]| superfluous(points, &policy, NOW);
        assert_eq!(kept(&points(1, &[1.9, 1.8, 0.1], NOW)), Vec::<u64>::new(), "all of two hours");
        // 3.9 and 3.5 hours lie in one hour: the newer stays.
        assert_eq!(kept(&points(1, &[3.9, 3.5, 2.5, 0.0], NOW)), [1]);
        // 31 and 30.5 in one slot of two hours; 200 and 199 in one of four.
        assert_eq!(kept(&points(1, &[200.0, 199.0, 31.0, 30.5, 0.0], NOW)), [1, 3]);
        assert_eq!(kept(&points(0, &[999.0, 900.0, 800.0], NOW)), [1], "the original and the newest");
        assert_eq!(kept(&points(1, &[999.0], NOW)), Vec::<u64>::new(), "never the only one");
        assert_eq!(kept(&[]), Vec::<u64>::new());
    }

    #[test]
    fn a_budget_drops_the_oldest_but_not_while_the_original_needs_all() {
        let policy = Retention { max_bytes: Some(ByteSize(250)), ..Retention::default() };
        assert_eq!(superfluous(&points(1, &[1.5, 1.0, 0.5, 0.1], NOW), &policy, NOW), [1, 2]);
        assert_eq!(superfluous(&points(0, &[1.5, 1.0, 0.5, 0.1], NOW), &policy, NOW), Vec::<u64>::new());
        let nothing = Retention { max_bytes: Some(ByteSize(0)), ..policy };
        assert_eq!(superfluous(&points(1, &[1.5, 0.1], NOW), &nothing, NOW), [1], "never the newest");
    }
}
