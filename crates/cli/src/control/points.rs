//! `failback points list`, `show` and `verify`.

use super::orders::voice;
use super::text::recovery_lines;
use super::{ask, unexpected, verify};
use crate::report::Summary;
use crate::verb_args::{PointsListArgs, PointsShowArgs, PointsVerifyArgs, SiteArgs};
use failback_model::{Code, ExitClass, Finding, MachineId};
use failback_service::clock::{time_text, unix_ms};
use failback_service::control::{MachinePoints, PointStatus, Reply, Request};
use failback_service::report::printable;
use failback_service::size::human;
use serde::Serialize;
use std::fmt::Write as _;

/// All points of a machine.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    points: MachinePoints,
}

impl Summary for Listed {
    fn text(&self) -> String {
        list(&self.points, unix_ms())
    }
}

/// One of them.
#[derive(Serialize)]
struct Shown {
    machine: String,
    point: PointStatus,
}

impl Summary for Shown {
    fn text(&self) -> String {
        let point = &self.point;
        let mut text = format!("{} point {}: {}\n", printable(&self.machine), point.number, label(point));
        let _ = writeln!(text, "  source    {}", time(point.source_unix_ms));
        let _ = writeln!(text, "  sealed    {}", time(point.sealed_unix_ms));
        if let Some(restored) = point.restored {
            let _ = writeln!(text, "  restored  it is what point {restored} is");
        }
        let _ = writeln!(text, "  undo      {} until the next point, or now", human(point.undo_bytes));
        for disk in &point.disks {
            let root = disk.root.as_deref().unwrap_or("not known: the original");
            let (id, generation, length) = (printable(&disk.id), disk.generation, human(disk.length_bytes));
            let _ = writeln!(text, "  disk      {id}: generation {generation}, {length}, root {root}");
        }
        text
    }
}

/// Runs `failback points list`.
pub(crate) fn list_points(args: &PointsListArgs) -> ExitClass {
    let voice = voice("points list", &args.output);
    match fetch(&args.site, &args.machine) {
        Ok(points) => voice.finish("done", &Listed { points }, &[]),
        Err(findings) => voice.fail(&findings),
    }
}

/// Runs `failback points show`.
pub(crate) fn show(args: &PointsShowArgs) -> ExitClass {
    let voice = voice("points show", &args.output);
    let found = fetch(&args.site, &args.machine).and_then(|points| {
        let point = points.points.into_iter().find(|point| point.number == args.number);
        point.ok_or_else(|| vec![unknown(&args.machine, args.number)])
    });
    match found {
        Ok(point) => voice.finish("done", &Shown { machine: args.machine.to_string(), point }, &[]),
        Err(findings) => voice.fail(&findings),
    }
}

/// Runs `failback points verify`.
pub(crate) fn verify_point(args: &PointsVerifyArgs) -> ExitClass {
    let voice = voice("points verify", &args.output);
    let verified = newest(args).and_then(|_| verify::prove(&args.site.socket(), &args.machine, None));
    match verified {
        Ok((verified, findings)) => voice.finish("done", &verified, &findings),
        Err(findings) => voice.fail(&findings),
    }
}

/// The newest point, which is the one that was asked for and what the disks hold.
fn newest(args: &PointsVerifyArgs) -> Result<u64, Vec<Finding>> {
    let points = fetch(&args.site, &args.machine)?;
    let Some(newest) = points.points.last().filter(|newest| newest.number > 0) else {
        return Err(vec![Finding::error(
            Code::PointUnknown,
            format!("{} has no recovery point yet", args.machine),
        )]);
    };
    match args.number {
        Some(number) if !points.points.iter().any(|point| point.number == number) => {
            Err(vec![unknown(&args.machine, number)])
        }
        Some(number) if number != newest.number => {
            let evidence = format!("the disks hold point {}, not {number}", newest.number);
            Err(vec![Finding::error(Code::OldPoint, evidence)])
        }
        _ if points.recovery.standing.is_partial => {
            let evidence = format!("a pass since point {} is not sealed", newest.number);
            Err(vec![Finding::error(Code::OldPoint, evidence)])
        }
        _ => Ok(newest.number),
    }
}

fn unknown(machine: &MachineId, number: u64) -> Finding {
    Finding::error(Code::PointUnknown, format!("{machine} has no recovery point {number}"))
}

fn fetch(site: &SiteArgs, machine: &MachineId) -> Result<MachinePoints, Vec<Finding>> {
    match ask(&site.socket(), &Request::Points { machine: machine.clone() })? {
        Reply::Points { points } => Ok(points),
        reply => Err(unexpected(&reply)),
    }
}

fn time(unix_ms: u64) -> String {
    match unix_ms {
        0 => "-".into(),
        unix_ms => time_text(unix_ms),
    }
}

fn label(point: &PointStatus) -> String {
    match point.reason.as_str() {
        "" => point.label.clone(),
        reason => format!("{} ({})", point.label, printable(reason)),
    }
}

fn list(points: &MachinePoints, now_ms: u64) -> String {
    let mut text = format!("{}\n", printable(&points.machine));
    for line in recovery_lines(&points.recovery, now_ms) {
        let _ = writeln!(text, "  {line}");
    }
    if points.points.is_empty() {
        text.push_str("  no recovery point yet\n");
        return text;
    }
    let _ = writeln!(text, "  {:>6}  {:20}  {:20}  {:>9}  what", "point", "source", "sealed", "undo");
    let newest = points.points.last().map(|point| point.number);
    for point in &points.points {
        let mut what = label(point);
        if let Some(restored) = point.restored {
            let _ = write!(what, ", as point {restored}");
        }
        if newest == Some(point.number) {
            what += ", newest";
        }
        let (source, sealed, undo) =
            (time(point.source_unix_ms), time(point.sealed_unix_ms), human(point.undo_bytes));
        let _ = writeln!(text, "  {:>6}  {source:20}  {sealed:20}  {undo:>9}  {what}", point.number);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_service::control::{RecoveryStatus, StandingStatus, UndoStatus};

    #[test]
    fn points_read_well() {
        let point = |number, label: &str, restored| PointStatus {
            number,
            label: label.into(),
            reason: String::new(),
            source_unix_ms: if number == 0 { 0 } else { 1_795_527_000_000 },
            sealed_unix_ms: 1_795_527_060_000,
            restored,
            undo_bytes: 300 << 20,
            disks: Vec::new(),
        };
        let per_disk =
            PointStatus { reason: "no snapshot of all disks".into(), ..point(1, "per-disk", None) };
        let recovery = RecoveryStatus {
            standing: StandingStatus {
                phase: "released".into(),
                since_unix_ms: 1_795_527_100_000,
                released_point: Some(3),
                at_point: Some(3),
                is_partial: false,
            },
            points: 4,
            newest_source_unix_ms: Some(1_795_527_000_000),
            undo: UndoStatus {
                folder: "/undo/web01".into(),
                used_bytes: 900 << 20,
                free_bytes: 90 << 30,
                bytes_per_hour: Some(27 << 30),
                full_in_seconds: Some(12_000),
            },
            ..RecoveryStatus::default()
        };
        let points = vec![
            point(0, "original", None),
            per_disk,
            point(2, "app-consistent", None),
            point(3, "per-disk", Some(1)),
        ];
        let points = MachinePoints { machine: "web01".into(), recovery, points };
        insta::assert_snapshot!(list(&points, 1_795_527_400_000), @r"
        web01
          released at point 3 since 5 min; 4 recovery points, the newest state 6 min old
          undo 900 MiB in /undo/web01, 90 GiB free; full in 3 h 20 min at 27 GiB an hour
           point  source                sealed                     undo  what
               0  -                     2026-11-24T13:31:00Z    300 MiB  original
               1  2026-11-24T13:30:00Z  2026-11-24T13:31:00Z    300 MiB  per-disk (no snapshot of all disks)
               2  2026-11-24T13:30:00Z  2026-11-24T13:31:00Z    300 MiB  app-consistent
               3  2026-11-24T13:30:00Z  2026-11-24T13:31:00Z    300 MiB  per-disk, as point 1, newest
        ");
    }
}
