//! Which recovery point a machine, or each machine of a group, goes to, and why none newer.

use failback_model::{Code, Finding, MachineId};
use failback_service::clock::time_text;
use failback_service::control::PointChoice;
use failback_store::Point;

/// A point that was chosen.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    /// It. Where the newest point came to be by going back to the one that was meant, that newest one.
    pub(crate) point: Point,
    /// What is lost with it, and why none is newer.
    pub(crate) why: Vec<String>,
}

/// The points of a machine that a cut-over may go to: not the original, which is what `cancel` goes back to.
fn choosable(points: &[Point]) -> impl Iterator<Item = &Point> + Clone {
    points.iter().filter(|point| point.number > 0)
}

/// A choice for each machine; where any has none, all findings.
pub(crate) fn choose(
    choice: PointChoice,
    machines: &[(MachineId, Vec<Point>)],
) -> Result<Vec<Chosen>, Vec<Finding>> {
    let empty: Vec<Finding> = machines
        .iter()
        .filter(|(_, points)| choosable(points).next().is_none())
        .map(|(machine, _)| Finding::error(Code::NoPoint, format!("{machine} has no recovery point yet")))
        .collect();
    if !empty.is_empty() {
        return Err(empty);
    }
    let chosen: Vec<Result<Chosen, Finding>> = match (choice, machines) {
        (PointChoice::AppConsistent, [_, _, ..]) => return common(machines),
        (PointChoice::Number(_), [_, _, ..]) => {
            let evidence = "points of different machines have numbers of their own";
            let finding = Finding::error(Code::RequestInvalid, evidence);
            return Err(vec![finding.with_remedy("choose latest, app-consistent or a time for a group")]);
        }
        _ => machines.iter().map(|(machine, points)| choose_one(choice, machine, points)).collect(),
    };
    let (chosen, refused): (Vec<_>, Vec<_>) = chosen.into_iter().partition(Result::is_ok);
    match refused.into_iter().filter_map(Result::err).collect::<Vec<_>>() {
        findings if findings.is_empty() => Ok(chosen.into_iter().filter_map(Result::ok).collect()),
        findings => Err(findings),
    }
}

fn choose_one(choice: PointChoice, machine: &MachineId, points: &[Point]) -> Result<Chosen, Finding> {
    let newest = |found: &dyn Fn(&&Point) -> bool| {
        choosable(points)
            .filter(found)
            .max_by_key(|point| (point.claim.source_unix_ms, point.number))
            .cloned()
    };
    let missing = |what: String| Finding::error(Code::PointUnknown, format!("{machine} has no {what}"));
    let (found, asked) = match choice {
        PointChoice::Latest => (newest(&|_| true), String::new()),
        PointChoice::AppConsistent => {
            let found = newest(&|point| point.claim.label.is_app_consistent());
            (found, "app-consistent recovery point".into())
        }
        PointChoice::Number(0) => {
            let finding = missing("point 0 to cut over to: it is the original".into());
            return Err(finding.with_remedy(format!("'failback cancel {machine}' goes back to the original")));
        }
        PointChoice::Number(number) => (
            choosable(points).find(|point| point.number == number).cloned(),
            format!("recovery point {number}"),
        ),
        PointChoice::Time(unix_ms) => (
            newest(&|point| point.claim.source_unix_ms <= unix_ms),
            format!("recovery point of {} or before", time_text(unix_ms)),
        ),
    };
    let point = found.ok_or_else(|| missing(asked))?;
    Ok(explained(machine, as_it_is(point, points), points))
}

/// Where the newest point is this one again, nothing has to be written.
fn as_it_is(point: Point, points: &[Point]) -> Point {
    match points.last() {
        Some(last) if last.restored == Some(point.number) => last.clone(),
        _ => point,
    }
}

fn explained(machine: &MachineId, point: Point, points: &[Point]) -> Chosen {
    let mut why = vec![format!(
        "{machine}: point {}, {}{}, its source as of {}",
        point.number,
        point.claim.label,
        if point.claim.reason.is_empty() { String::new() } else { format!(" ({})", point.claim.reason) },
        time_text(point.claim.source_unix_ms)
    )];
    let newest = choosable(points).max_by_key(|other| other.claim.source_unix_ms);
    if let Some(newest) = newest {
        let lost_ms =
            newest.claim.source_unix_ms - point.claim.source_unix_ms.min(newest.claim.source_unix_ms);
        why.push(match lost_ms {
            0 => format!("{machine}: no point is of a newer state of the source"),
            _ => format!(
                "{machine}: {} s are lost against point {}, the newest, which stays in reach until commit",
                lost_ms.div_ceil(1000),
                newest.number
            ),
        });
    }
    Chosen { point, why }
}

/// The newest app-consistent points that all machines have: of one time, or of times that no other app-consistent point of
/// any of them lies between. Who has none newer is named.
fn common(machines: &[(MachineId, Vec<Point>)]) -> Result<Vec<Chosen>, Vec<Finding>> {
    let of = |points: &[Point]| -> Vec<Point> {
        choosable(points).filter(|point| point.claim.label.is_app_consistent()).cloned().collect()
    };
    let consistent: Vec<(&MachineId, &Vec<Point>, Vec<Point>)> =
        machines.iter().map(|(machine, points)| (machine, points, of(points))).collect();
    let latest = |points: &[Point]| points.iter().map(|point| point.claim.source_unix_ms).max();
    let lacking: Vec<Finding> = consistent
        .iter()
        .filter(|(_, _, own)| own.is_empty())
        .map(|(machine, ..)| {
            Finding::error(Code::PointUnknown, format!("{machine} has no app-consistent recovery point"))
        })
        .collect();
    if !lacking.is_empty() {
        return Err(lacking);
    }
    // The machine whose newest is oldest sets the time for all.
    let Some((blocker, time)) = consistent
        .iter()
        .filter_map(|(machine, _, own)| latest(own).map(|time| (*machine, time)))
        .min_by_key(|(_, time)| *time)
    else {
        return Err(Vec::new());
    };
    let mut refused = Vec::new();
    let mut chosen = Vec::new();
    for (machine, points, own) in &consistent {
        let within = own.iter().filter(|point| point.claim.source_unix_ms <= time);
        match within.max_by_key(|point| (point.claim.source_unix_ms, point.number)).cloned() {
            Some(point) => {
                let mut one = explained(machine, as_it_is(point, points), points);
                if machine != &blocker && latest(own) > Some(time) {
                    one.why.push(format!(
                        "{machine}: {blocker} has no app-consistent point newer than {}, so none newer is taken here",
                        time_text(time)
                    ));
                }
                chosen.push(one);
            }
            None => {
                let evidence =
                    format!("{machine} has no app-consistent point of {} or before", time_text(time));
                refused.push(Finding::error(Code::PointUnknown, evidence));
            }
        }
    }
    if refused.is_empty() { Ok(chosen) } else { Err(refused) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::{PointClaim, PointLabel};

    fn point(number: u64, seconds: u64, label: PointLabel) -> Point {
        let claim = PointClaim { source_unix_ms: seconds * 1000, label, reason: String::new() };
        Point { number, claim, sealed_unix_ms: 0, restored: None, disks: Vec::new(), undo_bytes: 0 }
    }

    fn machine(id: &str, points: Vec<Point>) -> (MachineId, Vec<Point>) {
        (id.parse().expect("an id"), points)
    }

    fn numbers(chosen: &[Chosen]) -> Vec<u64> {
        chosen.iter().map(|chosen| chosen.point.number).collect()
    }

    fn choose_number(choice: PointChoice, points: &[Point]) -> Result<u64, Vec<Code>> {
        let chosen = choose(choice, &[machine("web01", points.to_vec())]);
        chosen.map(|chosen| numbers(&chosen)[0]).map_err(|found| found.iter().map(|f| f.code).collect())
    }

    #[test]
    fn one_machine_takes_its_own() {
        use PointLabel::{AppConsistent, CrashConsistent, Final};
        let mut points = vec![
            point(0, 0, Final),
            point(1, 100, CrashConsistent),
            point(2, 200, AppConsistent),
            point(3, 300, CrashConsistent),
        ];
        assert_eq!(choose_number(PointChoice::Latest, &points), Ok(3));
        assert_eq!(choose_number(PointChoice::AppConsistent, &points), Ok(2));
        assert_eq!(choose_number(PointChoice::Number(1), &points), Ok(1));
        assert_eq!(choose_number(PointChoice::Time(250_000), &points), Ok(2));
        for choice in [PointChoice::Number(0), PointChoice::Number(9), PointChoice::Time(99_000)] {
            assert_eq!(choose_number(choice, &points), Err(vec![Code::PointUnknown]), "{choice}");
        }
        // Gone back to 1: that is point 4 now, and forward again is still 3.
        points.push(Point { restored: Some(1), ..point(4, 100, CrashConsistent) });
        assert_eq!(choose_number(PointChoice::Number(1), &points), Ok(4));
        assert_eq!(choose_number(PointChoice::Latest, &points), Ok(3));
        assert_eq!(choose_number(PointChoice::Latest, &points[..1]), Err(vec![Code::NoPoint]));
        let why =
            choose(PointChoice::Number(2), &[machine("web01", points)]).expect("it is there").remove(0).why;
        assert!(why[1].contains("100 s are lost against point 3"), "{why:?}");
    }

    #[test]
    fn a_group_takes_the_latest_common_and_names_who_blocks_a_newer() {
        use PointLabel::{AppConsistent, CrashConsistent};
        let web = machine("web", vec![point(1, 100, AppConsistent), point(2, 200, AppConsistent)]);
        let db = machine("db", vec![point(5, 100, AppConsistent), point(6, 250, CrashConsistent)]);
        let group = [web, db];
        let chosen = choose(PointChoice::AppConsistent, &group).expect("they have one");
        assert_eq!(numbers(&chosen), [1, 5]);
        assert!(chosen[0].why[2].contains("db has no app-consistent point newer"), "{:?}", chosen[0].why);
        assert_eq!(numbers(&choose(PointChoice::Latest, &group).expect("each has one")), [2, 6]);
        let lone = machine("new", Vec::new());
        let refused = choose(PointChoice::Latest, &[group[0].clone(), lone]).expect_err("one has none");
        assert_eq!((refused.len(), refused[0].code), (1, Code::NoPoint));
        assert!(refused[0].evidence.starts_with("new "), "it is named");
    }
}
