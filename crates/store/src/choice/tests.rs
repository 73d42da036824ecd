use super::*;
use failback_model::limits::GROUP_POINT_SPREAD_MAX;
use failback_model::{MachineId, PointClaim};
use proptest::prelude::*;

/// 2026-11-24T10:00:00Z.
const TEN: u64 = 1_795_514_400_000;
const SPREAD_MS: u64 = GROUP_POINT_SPREAD_MAX.as_millis() as u64;
use PointLabel::{AppConsistent, CrashConsistent, Final, PerDisk};

fn point(number: u64, label: PointLabel, source_unix_ms: u64) -> Point {
    let reason = if label == PerDisk { "2 disks" } else { "" };
    let claim = PointClaim::new(source_unix_ms, label, reason);
    Point { number, claim, sealed_unix_ms: TEN, restored: None, disks: Vec::new(), undo_bytes: 0 }
}

/// The original and points a minute apart, from ten o'clock on.
fn history(labels: &[PointLabel]) -> Vec<Point> {
    let original = point(0, Final, 0);
    let points =
        labels.iter().zip(1..).map(|(&label, number)| point(number, label, TEN + (number - 1) * 60_000));
    std::iter::once(original).chain(points).collect()
}

fn restored(number: u64, of: &Point) -> Point {
    Point { number, restored: Some(of.number), ..of.clone() }
}

fn taken(points: &[Point], wish: &str) -> Result<u64, ChoiceError> {
    choose(points, wish.parse().expect("a wish")).map(|choice| choice.point.number)
}

#[test]
fn wishes_are_words_numbers_and_times() {
    let wish = |text: &str| text.parse::<Wish>();
    assert_eq!(wish("latest"), Ok(Wish::Latest));
    assert_eq!(wish("app-consistent"), Ok(Wish::AppConsistent));
    assert_eq!((wish("0"), wish("999999999")), (Ok(Wish::Number(0)), Ok(Wish::Number(999_999_999))));
    for text in [
        "2026-11-24T10:00:00Z",
        "2026-11-24T11:00:00+01:00",
        "2026-11-24 10:00:00Z",
        "1795514400",
        "@1795514400",
    ] {
        assert_eq!(wish(text), Ok(Wish::Time(TEN)), "{text}");
    }
    assert_eq!(wish("@5"), Ok(Wish::Time(5_000)));
    for text in [
        "",
        "@",
        "-1",
        "+1",
        "@-1",
        "@+1",
        "Latest",
        "1.5",
        "10:00",
        "2026-11-24",
        "2026-11-24T10:00:00",
        "1960-01-01T00:00:00Z",
        "99999999999999999999",
        "@18446744073709551615",
        "app",
        "crash-consistent",
    ] {
        let error = wish(text).expect_err(text);
        assert!(error.to_string().contains("latest"), "{error}");
    }
    assert!(wish(&"x".repeat(1 << 20)).expect_err("no wish").to_string().len() < 300);
    for text in ["latest", "app-consistent", "17", "2026-11-24T10:00:00Z"] {
        assert_eq!(wish(text).expect("a wish").to_string(), text);
    }
}

#[test]
fn the_original_is_taken_only_by_its_number() {
    let only = history(&[]);
    for wish in ["latest", "app-consistent", "2030-01-01T00:00:00Z"] {
        assert_eq!(
            (taken(&only, wish), taken(&[], wish)),
            (Err(ChoiceError::NoPoint), Err(ChoiceError::NoPoint))
        );
    }
    assert_eq!(taken(&only, "0"), Ok(0));
    let back = [only.clone(), vec![restored(1, &only[0])]].concat();
    assert_eq!(taken(&back, "latest"), Err(ChoiceError::NoPoint), "what was gone back to is the original");
    let points = history(&[CrashConsistent, CrashConsistent]);
    assert!(matches!(
        taken(&points, "app-consistent"),
        Err(ChoiceError::NoneAppConsistent { count: 2, newest: 2, .. })
    ));
    assert!(
        choose(&points, Wish::Number(0)).expect("it is there").to_string().contains("before the first pass")
    );
}

#[test]
fn a_choice_says_what_is_lost_and_why_nothing_newer() {
    let points = history(&[CrashConsistent, AppConsistent, CrashConsistent, PerDisk]);
    let choice = choose(&points, Wish::AppConsistent).expect("there is one");
    assert_eq!((choice.point.number, choice.lost_ms), (2, 120_000));
    assert_eq!(
        choice.to_string(),
        "point 2: app-consistent, source of 2026-11-24T10:01:00Z, 120 s lost against the newest\n  \
         not point 4 of 2026-11-24T10:03:00Z: per-disk (2 disks)\n  \
         not point 3 of 2026-11-24T10:02:00Z: crash-consistent"
    );
    let latest = choose(&points, Wish::Latest).expect("there is one");
    assert_eq!((latest.point.number, latest.lost_ms, latest.passed.len()), (4, 0, 0));
    let before = choose(&points, Wish::Time(TEN + 60_000)).expect("there is one");
    assert_eq!((before.point.number, before.passed[0].why.as_str()), (2, "after the time asked for"));
    let first = choose(&points, Wish::Number(1)).expect("there is one");
    assert_eq!((first.lost_ms, first.passed.len(), first.passed[0].number), (180_000, 3, 4));
}

#[test]
fn what_is_not_there_is_refused_with_what_is() {
    let points = history(&[CrashConsistent, PerDisk]);
    let said = |wish| choose(&points, wish).expect_err("there is none").to_finding();
    assert_eq!(said(Wish::Number(7)).evidence, "there is no point 7; there are 0, 1, 2");
    assert!(said(Wish::Time(TEN - 1)).evidence.contains("the oldest is 1, of 2026-11-24T10:00:00Z"));
    let finding = said(Wish::AppConsistent);
    assert!(finding.evidence.ends_with("the newest, 2, is per-disk (2 disks)"), "{finding:?}");
    assert!(finding.code == Code::PointUnknown && finding.remedy.contains("hooks"), "{finding:?}");
}

#[test]
fn a_point_that_was_gone_back_to_is_not_newer_than_what_came_after_it() {
    let mut points = history(&[AppConsistent, CrashConsistent]);
    points.push(restored(3, &points[1]));
    assert_eq!(taken(&points, "latest"), Ok(2), "forward again");
    assert_eq!(taken(&points, "app-consistent"), Ok(3), "the same state, and nearer");
    points.push(restored(4, &points[2]));
    assert_eq!(taken(&points, "latest"), Ok(4));
    let dropped: Vec<_> = points.iter().filter(|point| point.number != 3).cloned().collect();
    let mut forth = dropped.clone();
    forth.push(restored(5, &restored(3, &points[1])));
    assert_eq!(taken(&forth, "latest"), Ok(4), "its way back to point 1 is known by what was claimed");
    forth.retain(|point| point.number != 1);
    assert_eq!((taken(&forth, "latest"), taken(&forth, "app-consistent")), (Ok(4), Ok(5)));
    forth.retain(|point| point.number == 0 || point.number == 5);
    assert_eq!(taken(&forth, "latest"), Ok(5));
    let original = [points[0].clone(), restored(7, &restored(6, &points[0]))];
    assert_eq!(
        taken(&original, "latest"),
        Err(ChoiceError::NoPoint),
        "the original by way of one that is gone"
    );
    points.push(point(5, CrashConsistent, TEN - 1));
    assert_eq!(taken(&points, "latest"), Ok(5), "a later pass, whatever its source's clock says");
}

fn ids(count: usize) -> Vec<MachineId> {
    (0..count).map(|at| format!("m{at}").parse().expect("an id")).collect()
}

fn members<'a>(ids: &'a [MachineId], points: &'a [Vec<Point>]) -> Vec<Member<'a>> {
    ids.iter().zip(points).map(|(machine, points)| Member { machine, points }).collect()
}

fn numbers_of(choice: &GroupChoice) -> Vec<u64> {
    choice.picked.iter().map(|picked| picked.choice.point.number).collect()
}

#[test]
fn latest_of_a_group_is_each_machines_own() {
    let ids = ids(2);
    let points = vec![history(&[CrashConsistent, CrashConsistent]), history(&[CrashConsistent])];
    let choice = choose_for_group(&members(&ids, &points), Wish::Latest).expect("each has one");
    assert_eq!((numbers_of(&choice), choice.spread_ms), (vec![2, 1], 60_000));
    assert!(
        choice.to_string().starts_with("source times 60 s apart\nm0: point 2, crash-consistent"),
        "{choice}"
    );
    let choice = choose_for_group(&members(&ids, &points), Wish::Time(TEN)).expect("each has one");
    assert_eq!(numbers_of(&choice), [1, 1]);
}

#[test]
fn machines_without_a_point_block_the_group_and_are_listed() {
    let ids = ids(3);
    let points = vec![history(&[AppConsistent]), history(&[]), Vec::new()];
    for wish in [Wish::Latest, Wish::AppConsistent, Wish::Time(TEN)] {
        let refusal = choose_for_group(&members(&ids, &points), wish).expect_err("two have none");
        let text = refusal.to_finding().evidence;
        assert!(text.contains("m1 (") && text.contains("m2 (") && !text.contains("m0"), "{text}");
    }
    let points = vec![history(&[AppConsistent]), history(&[AppConsistent, AppConsistent])[..1].to_vec()];
    assert!(matches!(
        choose_for_group(&members(&ids[..2], &points), Wish::Latest),
        Err(GroupRefusal::Without(_))
    ));
    assert_eq!(choose_for_group(&[], Wish::Latest), Err(GroupRefusal::Empty));
    let points = vec![history(&[AppConsistent])];
    assert_eq!(choose_for_group(&members(&ids[..1], &points), Wish::Number(1)), Err(GroupRefusal::Number));
}

#[test]
fn a_common_point_names_who_blocked_a_newer_one() {
    let ids = ids(3);
    let mut points = vec![
        history(&[AppConsistent, AppConsistent, AppConsistent]),
        history(&[AppConsistent, AppConsistent, PerDisk]),
        history(&[AppConsistent, CrashConsistent]),
    ];
    // Snapshots of a group are not taken in the same millisecond.
    points[1][1].claim.source_unix_ms += 2_000;
    let choice = choose_for_group(&members(&ids, &points), Wish::AppConsistent).expect("there is one");
    assert_eq!((numbers_of(&choice), choice.spread_ms), (vec![1, 1, 1], 2_000));
    let lost: Vec<_> = choice.picked.iter().map(|picked| picked.choice.lost_ms).collect();
    assert_eq!(lost, [120_000, 118_000, 60_000]);
    let text = choice.to_string();
    let blocked = "\n  not 2026-11-24T10:02:00Z: m1 (its point 3 is per-disk (2 disks)), m2 (it has no point of that time)\
                   \n  not 2026-11-24T10:01:00Z: m2 (its point 2 is crash-consistent)";
    assert!(text.ends_with(blocked), "{text}");
    assert_eq!(choice.picked[0].choice.passed[0].why, "not common to all machines");
    points[1][1].claim.source_unix_ms += 1;
    let refusal = choose_for_group(&members(&ids, &points), Wish::AppConsistent).expect_err("not together");
    assert!(matches!(&refusal, GroupRefusal::NoneCommon(blocked) if blocked.len() == 4), "{refusal:?}");
}

#[test]
fn a_machine_that_is_off_stays_as_it_was() {
    let ids = ids(2);
    let mut points = vec![history(&[Final]), history(&[AppConsistent, AppConsistent, AppConsistent])];
    let choose = |points: &[Vec<Point>]| {
        choose_for_group(&members(&ids, points), Wish::AppConsistent).map(|choice| numbers_of(&choice))
    };
    assert_eq!(choose(&points), Ok(vec![1, 3]));
    points[0].push(point(2, CrashConsistent, TEN + 90_000));
    assert_eq!(choose(&points), Ok(vec![1, 1]), "it was powered on again");
}

/// Points with few distinct times, so that many are near each other.
fn machine() -> impl Strategy<Value = Vec<Point>> {
    let one = (0_u8..4, 0_u64..20, prop::option::weighted(0.2, any::<prop::sample::Index>()));
    prop::collection::vec(one, 1..6).prop_map(|parts| {
        let mut points = vec![point(0, Final, 0)];
        for (label, step, of) in parts {
            let number = points.len() as u64;
            points.push(match of.map(|of| points[of.index(points.len())].clone()) {
                Some(old) => restored(number, &old),
                None => point(number, PointLabel::of_number(label).expect("a label"), TEN + step * 500),
            });
        }
        points
    })
}

/// All ways to take one app-consistent point of each machine, as their source times and whether each stays as it was.
fn ways(points: &[Vec<Point>]) -> Vec<Vec<(u64, bool)>> {
    points.iter().fold(vec![Vec::new()], |ways, points| {
        let last = points.iter().map(|point| origin(points, point)).max();
        let mut next = Vec::new();
        for way in ways {
            for point in points.iter().filter(|point| origin(points, point) > 0) {
                if matches!(point.claim.label, AppConsistent | Final) {
                    let is_off = point.claim.label == Final && Some(origin(points, point)) == last;
                    next.push([way.clone(), vec![(point.claim.source_unix_ms, is_off)]].concat());
                }
            }
        }
        next
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_common_point_is_the_latest_of_all_ways_to_take_one(points in prop::collection::vec(machine(), 1..4)) {
        let ids = ids(points.len());
        let has_all = points.iter().all(|points| points.iter().any(|point| origin(points, point) > 0));
        let moment = |way: &Vec<(u64, bool)>| {
            let newest = way.iter().map(|(time, _)| *time).max()?;
            way.iter().all(|(time, is_off)| *is_off || newest - time <= SPREAD_MS).then_some(newest)
        };
        let best = ways(&points).iter().filter_map(moment).max().filter(|_| has_all);
        match choose_for_group(&members(&ids, &points), Wish::AppConsistent) {
            Ok(choice) => {
                let times = choice.picked.iter().map(|picked| picked.choice.point.claim.source_unix_ms);
                prop_assert_eq!(times.clone().max(), best);
                prop_assert_eq!(choice.spread_ms, times.clone().max().unwrap_or(0) - times.min().unwrap_or(0));
                prop_assert!(choice.blocked.iter().all(|blocked| Some(blocked.source_unix_ms) > best));
                prop_assert!(choice.blocked.iter().all(|blocked| !blocked.by.is_empty()));
            }
            Err(GroupRefusal::Without(without)) => prop_assert!(!has_all && !without.is_empty()),
            Err(error) => prop_assert!(best.is_none() && matches!(error, GroupRefusal::NoneCommon(_))),
        }
    }

    #[test]
    fn a_machines_choice_is_what_a_look_through_all_of_them_finds(points in machine(), step in 0_u64..22) {
        let of_passes: Vec<_> = points.iter().filter(|point| origin(&points, point) > 0).collect();
        let latest = of_passes.iter().map(|point| recency(&points, point)).max().map(|(_, number)| number);
        prop_assert_eq!(taken(&points, "latest").ok(), latest);
        let asked = TEN + step * 500;
        match choose(&points, Wish::Time(asked)) {
            Ok(choice) => {
                let time = choice.point.claim.source_unix_ms;
                prop_assert!(time <= asked && origin(&points, &choice.point) > 0);
                prop_assert!(!of_passes.iter().any(|point| (time + 1..=asked).contains(&point.claim.source_unix_ms)));
            }
            Err(_) => prop_assert!(of_passes.iter().all(|point| point.claim.source_unix_ms > asked)),
        }
        let choice = choose(&points, Wish::AppConsistent);
        let app = of_passes.iter().filter(|point| matches!(point.claim.label, AppConsistent | Final));
        prop_assert_eq!(choice.as_ref().ok().map(|choice| recency(&points, &choice.point)), app.map(|point| recency(&points, point)).max());
        if let Ok(choice) = choice {
            let newer = of_passes.iter().filter(|point| origin(&points, point) > origin(&points, &choice.point)).count();
            prop_assert_eq!(choice.passed.len(), newer, "every newer one is named");
        }
    }
}
