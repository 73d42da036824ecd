//! Which points are dropped as they age and as space runs out, and when space will run out.
//!
//! Points are as old as their record: a source's own time may be long past when it comes home. **Invariant**: the newest point
//! and the original are never named; the newest app-consistent one only when nothing else is left to drop and the budget is
//! exceeded. Once what is named is gone, the same question has the answer: nothing.

mod forecast;

pub use forecast::{Forecast, UsedSample, forecast};

use crate::choice::origin;
use crate::point::Point;
use failback_model::PointLabel;
use failback_model::limits::{
    KEEP_ALL_DEFAULT, KEEP_FOUR_HOURLY_MAX, KEEP_HOURLY_DEFAULT, KEEP_TWO_HOURLY_MAX,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const HOUR_MS: u64 = 3_600_000;

/// How long points are kept, and how much undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long they are kept at all.
    pub keep: Duration,
    /// Age up to which all are kept; then one an hour up to a day, one in two hours up to a week, one in four hours.
    pub keep_all: Duration,
    /// Bytes of undo above which the oldest go; none: no bound but the volume's.
    pub max_bytes: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { keep: KEEP_HOURLY_DEFAULT, keep_all: KEEP_ALL_DEFAULT, max_bytes: None }
    }
}

impl Policy {
    /// The longest time that points can be kept.
    pub const KEEP_MAX: Duration = KEEP_FOUR_HOURLY_MAX;

    /// What becomes of a point of this age.
    fn stage(&self, age: Duration) -> Stage {
        if age > self.keep || age > Self::KEEP_MAX {
            Stage::Over
        } else if age <= self.keep_all {
            Stage::All
        } else if age <= KEEP_HOURLY_DEFAULT {
            Stage::OneIn(HOUR_MS)
        } else if age <= KEEP_TWO_HOURLY_MAX {
            Stage::OneIn(2 * HOUR_MS)
        } else {
            Stage::OneIn(4 * HOUR_MS)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    All,
    /// One in so many milliseconds.
    OneIn(u64),
    Over,
}

/// Numbers of the points to be dropped, ascending: by age, then the oldest until `used_bytes` is within the budget. What a point
/// frees is counted as all its undo, which is the most it can be: ask again once they are gone.
pub fn to_drop(points: &[Point], now_unix_ms: u64, policy: &Policy, used_bytes: u64) -> Vec<u64> {
    let Some(newest) = points.iter().map(|point| point.number).max() else { return Vec::new() };
    let mut droppable: Vec<&Point> =
        points.iter().filter(|point| point.number != 0 && point.number != newest).collect();
    droppable.sort_unstable_by_key(|point| point.number);
    let spared = last_quiesced(points);
    let by_age = too_many(points, &droppable, spared, now_unix_ms, policy);
    let mut dropped: BTreeSet<u64> = by_age.iter().map(|point| point.number).collect();
    if let Some(max_bytes) = policy.max_bytes {
        let freed = |freed: u64, point: &&Point| freed.saturating_add(point.undo_bytes);
        let mut left_bytes = used_bytes.saturating_sub(by_age.iter().fold(0, freed));
        let (last, others): (Vec<&Point>, Vec<&Point>) =
            droppable.into_iter().partition(|point| Some(point.number) == spared);
        for point in others.into_iter().chain(last) {
            if left_bytes <= max_bytes {
                break;
            }
            if dropped.insert(point.number) {
                left_bytes = left_bytes.saturating_sub(point.undo_bytes);
            }
        }
    }
    dropped.into_iter().collect()
}

/// The newest point that an application-consistent start is possible from; the original is none of the source's states.
fn last_quiesced(points: &[Point]) -> Option<u64> {
    let is_quiesced = |point: &&Point| point.claim.label.is_app_consistent() && origin(points, point) > 0;
    let quiesced = points.iter().filter(is_quiesced);
    quiesced.map(|point| point.number).max()
}

/// Points beyond their time, and all but the best of each slot; the newest of equally good ones is the best.
fn too_many<'a>(
    points: &[Point],
    droppable: &[&'a Point],
    spared: Option<u64>,
    now_unix_ms: u64,
    policy: &Policy,
) -> Vec<&'a Point> {
    let mut best: BTreeMap<(u64, u64), &Point> = BTreeMap::new();
    let mut over = Vec::new();
    for point in droppable.iter().copied() {
        let age = Duration::from_millis(now_unix_ms.saturating_sub(point.sealed_unix_ms));
        match policy.stage(age) {
            Stage::All => {}
            Stage::Over if Some(point.number) == spared => {}
            Stage::Over => over.push(point),
            Stage::OneIn(step_ms) => {
                let slot = (step_ms, point.sealed_unix_ms / step_ms);
                let worse = match best.insert(slot, point) {
                    Some(before) if rank(points, before) > rank(points, point) => {
                        best.insert(slot, before);
                        point
                    }
                    Some(before) => before,
                    None => continue,
                };
                over.push(worse);
            }
        }
    }
    over
}

/// What is kept of several in one slot; two that an application-consistent start is possible from are equally good.
fn rank(points: &[Point], point: &Point) -> (PointLabel, u64) {
    let is_original = origin(points, point) == 0;
    let label = if is_original { PointLabel::PerDisk } else { point.claim.label };
    (label.min(PointLabel::AppConsistent), point.number)
}

#[cfg(test)]
mod tests;
