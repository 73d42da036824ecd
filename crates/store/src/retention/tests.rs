use super::*;
use failback_model::PointClaim;
use proptest::prelude::*;

const NOW: u64 = 1_795_500_000_000;
const MINUTE: u64 = 60_000;

fn point(number: u64, label: PointLabel, age_ms: u64, undo_bytes: u64) -> Point {
    let claim = PointClaim::new(7, label, "");
    Point { number, claim, sealed_unix_ms: NOW - age_ms, restored: None, disks: Vec::new(), undo_bytes }
}

/// The original and a point every five minutes for so long, each with a unit of undo.
fn every_five_minutes(hours: u64) -> Vec<Point> {
    let count = hours * 12;
    let age = |number: u64| (count - number) * 5 * MINUTE;
    let label = |number: u64| {
        if number.is_multiple_of(12) { PointLabel::AppConsistent } else { PointLabel::CrashConsistent }
    };
    (0..=count).map(|number| point(number, label(number), age(number), 1)).collect()
}

fn rest(points: &[Point], dropped: &[u64]) -> Vec<Point> {
    points.iter().filter(|point| !dropped.contains(&point.number)).cloned().collect()
}

fn kept(points: &[Point], policy: &Policy, used_bytes: u64) -> Vec<Point> {
    rest(points, &to_drop(points, NOW, policy, used_bytes))
}

#[test]
fn points_get_scarcer_with_age_and_are_gone_after_a_day() {
    let points = every_five_minutes(20 * 24);
    let left = kept(&points, &Policy::default(), 0);
    let younger =
        |hours: u64| left.iter().filter(|point| NOW - point.sealed_unix_ms <= hours * HOUR_MS).count();
    assert_eq!(younger(2), 25, "all for two hours");
    assert_eq!(left.len() - 1, younger(24), "nothing older but the original");
    assert!((22..=23).contains(&(younger(24) - younger(2))), "one an hour: {}", younger(24));
    let hourly = left.iter().filter(|point| NOW - point.sealed_unix_ms > 2 * HOUR_MS && point.number > 0);
    assert!(hourly.clone().filter(|point| point.claim.label == PointLabel::AppConsistent).count() >= 22);
    assert_eq!((left[0].number, left[left.len() - 1].number), (0, 20 * 24 * 12));
}

#[test]
fn kept_for_longer_they_are_scarcer_still() {
    let points = every_five_minutes(20 * 24);
    let policy = Policy { keep: Duration::from_secs(400 * 24 * 3600), ..Policy::default() };
    let left = kept(&points, &policy, 0);
    let between = |from: u64, to: u64| {
        let ages = from * HOUR_MS + 1..=to * HOUR_MS;
        left.iter().filter(|point| point.number > 0 && ages.contains(&(NOW - point.sealed_unix_ms))).count()
    };
    assert!((72..=73).contains(&between(24, 7 * 24)), "{}", between(24, 7 * 24));
    assert!((48..=49).contains(&between(7 * 24, 15 * 24)), "{}", between(7 * 24, 15 * 24));
    assert_eq!(between(15 * 24, 20 * 24), 0, "no policy keeps them longer");
}

#[test]
fn the_last_that_can_be_started_cleanly_outlives_its_time_but_not_the_space() {
    let days = 24 * HOUR_MS;
    let points = vec![
        point(0, PointLabel::PerDisk, 9 * days, 50),
        point(1, PointLabel::AppConsistent, 8 * days, 10),
        point(2, PointLabel::AppConsistent, 7 * days, 10),
        point(3, PointLabel::CrashConsistent, 6 * days, 10),
        point(4, PointLabel::CrashConsistent, MINUTE, 10),
        point(5, PointLabel::PerDisk, 0, 10),
    ];
    let drop = |max_bytes| to_drop(&points, NOW, &Policy { max_bytes, ..Policy::default() }, 100);
    assert_eq!(drop(None), [1, 3]);
    assert_eq!(drop(Some(80)), [1, 3]);
    assert_eq!(drop(Some(79)), [1, 3, 4], "another one goes first");
    assert_eq!(drop(Some(69)), [1, 2, 3, 4]);
    assert_eq!(drop(Some(0)), [1, 2, 3, 4], "never the newest, never the original");
    let gone_back = [
        &points[..3],
        &[Point { restored: Some(0), ..point(4, PointLabel::Final, MINUTE, 10) }],
        &points[5..],
    ];
    assert_eq!(
        to_drop(&gone_back.concat(), NOW, &Policy::default(), 0),
        [1],
        "the original is no younger one"
    );
    let newest_is = [&points[..5], &[point(5, PointLabel::Final, 0, 10)]].concat();
    assert_eq!(to_drop(&newest_is, NOW, &Policy::default(), 0), [1, 2, 3], "there is a younger one");
}

#[test]
fn nothing_is_dropped_of_nothing() {
    let policy = Policy { max_bytes: Some(0), ..Policy::default() };
    assert_eq!(to_drop(&[], NOW, &policy, 9), [0; 0]);
    let old = 99 * 24 * HOUR_MS;
    for number in [0, 4] {
        assert_eq!(to_drop(&[point(number, PointLabel::PerDisk, old, 9)], NOW, &policy, 9), [0; 0]);
    }
    let future = [0, 1, 2]
        .map(|number| Point { sealed_unix_ms: u64::MAX, ..point(number, PointLabel::PerDisk, 0, 1) });
    assert_eq!(
        to_drop(&future, NOW, &Policy::default(), 9),
        [0; 0],
        "a clock that was set back ages nothing"
    );
    assert_eq!(to_drop(&future, NOW, &policy, u64::MAX), [1]);
}

fn history() -> impl Strategy<Value = Vec<Point>> {
    let one = (
        0_u8..5,
        prop_oneof![0..10 * MINUTE, 0..3 * HOUR_MS, (0_u64..40).prop_map(|hours| hours * HOUR_MS)],
        0_u64..100,
    );
    (prop::collection::vec(one, 0..40), any::<bool>()).prop_map(|(parts, has_original)| {
        let mut age: u64 = parts.iter().map(|(_, step, _)| step).sum();
        let mut points = vec![point(0, PointLabel::PerDisk, age, 30)];
        for (number, (label, step, undo_bytes)) in (1..).zip(parts) {
            age -= step;
            // The last of them: the original, gone back to.
            let label = PointLabel::of_number(label);
            let restored = label.is_none().then_some(0);
            points.push(Point {
                restored,
                ..point(number, label.unwrap_or(PointLabel::Final), age, undo_bytes)
            });
        }
        points.drain(..usize::from(!has_original));
        points
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    (0_u64..20 * 24, 0_u64..30, prop::option::of(0_u64..2_000)).prop_map(|(keep, keep_all, max_bytes)| {
        Policy {
            keep: Duration::from_secs(keep * 3600),
            keep_all: Duration::from_secs(keep_all * 3600),
            max_bytes,
        }
    })
}

/// Hours in which one point is kept at an age; 0: all; none: it is over. As RULES of retention have it, by the number.
fn hours_of(age_ms: u64, policy: &Policy) -> Option<u64> {
    let over = |hours: u64| age_ms > hours * HOUR_MS;
    match age_ms {
        _ if u128::from(age_ms) > policy.keep.as_millis() || over(15 * 24) => None,
        _ if u128::from(age_ms) <= policy.keep_all.as_millis() => Some(0),
        _ if over(7 * 24) => Some(4),
        _ if over(24) => Some(2),
        _ => Some(1),
    }
}

/// The same by looking at each point alone and at every other: slow and obvious.
fn slowly(points: &[Point], policy: &Policy, used_bytes: u64) -> Vec<u64> {
    let newest = points.iter().map(|point| point.number).max();
    let is_app = |point: &Point| {
        matches!(point.claim.label, PointLabel::AppConsistent | PointLabel::Final) && point.restored.is_none()
    };
    let last_app =
        points.iter().filter(|point| point.number > 0 && is_app(point)).map(|point| point.number).max();
    let candidates: Vec<_> = points.iter().filter(|p| p.number > 0 && Some(p.number) != newest).collect();
    let goodness = |point: &Point| match point.claim.label {
        _ if point.restored.is_some() => (0, point.number),
        PointLabel::PerDisk => (0, point.number),
        PointLabel::CrashConsistent => (1, point.number),
        _ => (2, point.number),
    };
    let mut dropped = Vec::new();
    for one in &candidates {
        let is_too_many = match hours_of(NOW - one.sealed_unix_ms, policy) {
            None => Some(one.number) != last_app,
            Some(0) => false,
            Some(hours) => candidates.iter().any(|other| {
                hours_of(NOW - other.sealed_unix_ms, policy) == Some(hours)
                    && other.sealed_unix_ms / (hours * HOUR_MS) == one.sealed_unix_ms / (hours * HOUR_MS)
                    && goodness(other) > goodness(one)
            }),
        };
        if is_too_many {
            dropped.push(one.number);
        }
    }
    let freed = |dropped: &[u64]| -> u64 {
        points.iter().filter(|point| dropped.contains(&point.number)).map(|point| point.undo_bytes).sum()
    };
    while policy.max_bytes.is_some_and(|most| used_bytes.saturating_sub(freed(&dropped)) > most) {
        let left: Vec<_> = candidates.iter().filter(|point| !dropped.contains(&point.number)).collect();
        let oldest = left.iter().find(|point| Some(point.number) != last_app).or(left.first());
        let Some(oldest) = oldest else { break };
        dropped.push(oldest.number);
    }
    dropped.sort_unstable();
    dropped
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_dropped_is_what_a_look_at_each_point_alone_says(
        points in history(), policy in policy(), more in 0_u64..500,
    ) {
        let used_bytes = points.iter().map(|point| point.undo_bytes).sum::<u64>() + more;
        let dropped = to_drop(&points, NOW, &policy, used_bytes);
        prop_assert_eq!(&dropped, &slowly(&points, &policy, used_bytes));
    }

    #[test]
    fn once_they_are_gone_nothing_more_is(points in history(), policy in policy(), more in 0_u64..500) {
        let used_bytes = points.iter().map(|point| point.undo_bytes).sum::<u64>() + more;
        let dropped = to_drop(&points, NOW, &policy, used_bytes);
        let freed: u64 =
            points.iter().filter(|point| dropped.contains(&point.number)).map(|point| point.undo_bytes).sum();
        let left = rest(&points, &dropped);
        prop_assert_eq!(to_drop(&left, NOW, &policy, used_bytes - freed), Vec::<u64>::new());
        let mut turned = points.clone();
        turned.reverse();
        prop_assert_eq!(to_drop(&turned, NOW, &policy, used_bytes), dropped, "in whatever order they are told");
    }

    #[test]
    fn what_must_stay_stays(points in history(), policy in policy(), used_bytes in any::<u64>()) {
        let dropped = to_drop(&points, NOW, &policy, used_bytes);
        let newest = points.iter().map(|point| point.number).max();
        prop_assert!(!dropped.contains(&0) && !newest.is_some_and(|newest| dropped.contains(&newest)));
        let can_start = |point: &&Point| {
            point.number > 0 && point.restored.is_none() && point.claim.label.is_app_consistent()
        };
        let left = rest(&points, &dropped);
        let others_left = left.iter().any(|point| point.number > 0 && Some(point.number) != newest);
        if points.iter().any(|point| can_start(&point)) && others_left {
            prop_assert!(left.iter().any(|point| can_start(&point)), "another one had to go first");
        }
    }
}
