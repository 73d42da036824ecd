//! A daemon's status for people.

use failback_model::PointLabel;
use failback_service::control::RecoveryStatus;
use failback_service::report::printable;
use failback_service::size::{counted, grouped, human, spoken};
use failback_service::status::{
    CycleStatus, DaemonStatus, DiskStage, DiskStatus, LinkStatus, Live, MachineStatus, PaceStatus,
};
use std::fmt::Write as _;

/// Rates that are shown while they are not zero, and what they are called.
const RATES: [(&str, &str); 6] = [
    ("scanned_source_bytes", "source scanned"),
    ("scanned_target_bytes", "target scanned"),
    ("bytes_to_target", "to the target"),
    ("tls_bytes_to_target", "on the wire"),
    ("bytes_written", "written"),
    ("verified_bytes", "verified"),
];

/// All of it.
pub(super) fn of(status: &DaemonStatus) -> String {
    let mut text = head(status);
    for machine in &status.machines {
        write_machine(&mut text, machine, status.now_unix_ms);
    }
    if status.machines.is_empty() {
        text.push_str("no machine is registered\n");
    }
    text
}

fn head(status: &DaemonStatus) -> String {
    let up = spoken(status.now_unix_ms.saturating_sub(status.started_unix_ms) / 1000);
    let draining = if status.draining { ", draining" } else { "" };
    let memory = (human(status.memory.granted_bytes), human(status.memory.total_bytes));
    let mut text = format!(
        "{} {}, up {up}{draining}; memory {} of {}",
        status.daemon, status.version, memory.0, memory.1
    );
    if let Some(certificate) = &status.certificate {
        let left = certificate.expires_unix_ms.saturating_sub(status.now_unix_ms) / 1000;
        let left = if left == 0 { "HAS EXPIRED".into() } else { format!("expires in {}", spoken(left)) };
        let _ = write!(text, "; {} {left}", printable(&certificate.identity));
    }
    if let Some(key) = &status.receipt_key {
        let _ = write!(text, "\nreceipts are signed by {}", printable(key));
    }
    if let Some(error) = status.certificate.as_ref().and_then(|certificate| certificate.error.as_ref()) {
        let why = printable(&error.evidence.replace('\n', ", "));
        let _ = write!(
            text,
            "\ncertificates could not be read again, the old ones are in force: {} {why}",
            error.code
        );
        let _ = write!(text, "\nremedy: {}", printable(&error.remedy));
    }
    let errors: Vec<_> =
        status.errors.iter().map(|(code, count)| format!("{code} {}", grouped(*count))).collect();
    if !errors.is_empty() {
        let _ = write!(text, "\nerrors since the start: {}", errors.join(", "));
    }
    text + "\n"
}

fn write_machine(text: &mut String, machine: &MachineStatus, now_ms: u64) {
    let is_home =
        !machine.disks.is_empty() && machine.disks.iter().all(|disk| disk.stage == DiskStage::Sealed);
    let wanted = match machine.wanted {
        failback_service::registry::Wanted::Idle => "",
        failback_service::registry::Wanted::Running if is_home => ", all disks sealed",
        failback_service::registry::Wanted::Running => ", running",
        failback_service::registry::Wanted::Stopped => ", stopped until it is resumed",
    };
    let _ = writeln!(text, "{} ({}){wanted}", printable(&machine.id), printable(&machine.peer));
    for line in machine.recovery.iter().flat_map(|recovery| recovery_lines(recovery, now_ms)) {
        let _ = writeln!(text, "  {line}");
    }
    let pace = machine.pace.iter().flat_map(|pace| pace_lines(pace, now_ms));
    for line in machine.cycle.iter().flat_map(|cycle| cycle_lines(cycle, now_ms)).chain(pace) {
        let _ = writeln!(text, "  {}", printable(&line));
    }
    let width = machine.disks.iter().map(|disk| disk.id.len()).max().unwrap_or(0);
    for disk in &machine.disks {
        let _ = writeln!(text, "  {:width$}  {}", printable(&disk.id), first_line(disk, now_ms));
        for line in more_lines(disk) {
            let _ = writeln!(text, "  {:width$}  {}", "", printable(&line));
        }
    }
}

/// Where a machine's recovery stands: phase and points, undo and how long it has space, what is under way, what is wrong.
pub(super) fn recovery_lines(recovery: &RecoveryStatus, now_ms: u64) -> Vec<String> {
    let ago = |unix_ms: u64| spoken(now_ms.saturating_sub(unix_ms) / 1000);
    let standing = &recovery.standing;
    let mut first = standing.phase.clone();
    if let Some(point) = standing.released_point {
        let _ = write!(first, " at point {point}");
    }
    if standing.since_unix_ms > 0 {
        let _ = write!(first, " since {}", ago(standing.since_unix_ms));
    }
    let points = counted(recovery.points, "recovery point");
    let newest =
        recovery.newest_source_unix_ms.map(|newest| format!(", the newest state {} old", ago(newest)));
    let _ = write!(first, "; {points}{}", newest.unwrap_or_default());
    if standing.is_partial {
        first += ", a pass since then is not sealed";
    }
    if let Some(group) = &recovery.group {
        let _ = write!(first, "; group {group}");
    }
    let undo = &recovery.undo;
    let (used, free) = (human(undo.used_bytes), human(undo.free_bytes));
    let mut space = format!("undo {used} in {}, {free} free", undo.folder);
    if let (Some(seconds), Some(rate)) = (undo.full_in_seconds, undo.bytes_per_hour) {
        let _ = write!(space, "; full in {} at {} an hour", spoken(seconds), human(rate));
    }
    let mut lines = vec![first, space];
    if let Some(operation) = &recovery.operation {
        let far = match operation.total_bytes {
            0 => String::new(),
            total => {
                format!(", {} written, {} of undo to put back", human(operation.done_bytes), human(total))
            }
        };
        let to = operation.point.map_or_else(String::new, |point| format!(" to point {point}"));
        let since = ago(operation.since_unix_ms);
        lines.push(format!("{}{to} since {since}: {}{far}", operation.verb, operation.step));
    }
    for finding in &recovery.findings {
        lines.push(format!("{} {}: {}", finding.code, finding.title, finding.evidence.replace('\n', ", ")));
        lines.push(format!("remedy: {}", finding.remedy));
    }
    lines.iter().map(|line| printable(line)).collect()
}

/// Where a machine's cycles stand, and whether they come to an end.
fn cycle_lines(cycle: &CycleStatus, now_ms: u64) -> Vec<String> {
    let mut first = match &cycle.last {
        Some(last) if cycle.closed_unix_ms.is_some() => format!(
            "cycle {}: {} in {:.1} s",
            cycle.number,
            human(last.shipped_bytes),
            last.took_ms as f64 / 1000.0
        ),
        _ => format!(
            "cycle {} for {}",
            cycle.number,
            spoken(now_ms.saturating_sub(cycle.began_unix_ms) / 1000)
        ),
    };
    if cycle.is_final {
        first += ", the final one";
    } else if let Some(next) = cycle.next_unix_ms {
        let _ = write!(first, "; next in {}", spoken(next.saturating_sub(now_ms) / 1000));
    }
    if cycle.wish.is_some() {
        first += "; another one was asked for";
    }
    if let Some(seconds) = cycle.final_seconds.filter(|_| !cycle.is_final) {
        let _ = write!(first, "; final cycle would take about {}", spoken(seconds));
    }
    if let Some(lag) = cycle.lag_seconds {
        let _ = write!(first, "; what is home is {} old", spoken(lag));
    }
    let verdict = cycle.verdict.iter().flat_map(|finding| {
        [
            format!("{} {}: {}", finding.code, finding.title, finding.evidence),
            format!("remedy: {}", finding.remedy),
        ]
    });
    std::iter::once(first).chain(verdict).collect()
}

/// Where it stands, with what a reader looks for first.
fn first_line(disk: &DiskStatus, now_ms: u64) -> String {
    let mut line = disk.stage.as_str().to_string();
    match (disk.stage, &disk.pass) {
        (stage, Some(pass)) if stage.is_active() && disk.link.is_some() => line += &progress(pass),
        (DiskStage::Retrying, _) => {
            let next = disk.next_try_unix_ms.unwrap_or(now_ms).saturating_sub(now_ms) / 1000;
            let _ = write!(line, ": try {} failed, the next one in {}", disk.failed_tries, spoken(next));
        }
        _ => {
            let since = spoken(now_ms.saturating_sub(disk.stage_since_unix_ms) / 1000);
            let _ = write!(line, " since {since}");
        }
    }
    if let Some(generation) = disk.generation {
        let _ = write!(line, "; generation {generation}");
    }
    if let (Some(sealed), true) = (disk.sealed_unix_ms, disk.stage != DiskStage::Sealed) {
        let _ = write!(line, " sealed {} ago", spoken(now_ms.saturating_sub(sealed) / 1000));
    }
    if let Some(label) = &disk.point_label {
        let _ = write!(line, ", {}", printable(label));
    }
    if let Some(source) = disk.source_unix_ms {
        let _ = write!(line, ", its source of {} ago", spoken(now_ms.saturating_sub(source) / 1000));
    }
    line
}

fn progress(pass: &Live) -> String {
    let percent = (pass.done_bytes * 100).checked_div(pass.total_bytes).unwrap_or(100);
    let left = pass.left_seconds.map_or_else(String::new, |left| format!(", {} left", spoken(left)));
    // At a master target the share is of something less than the whole pass.
    let of = match pass.measure.as_str() {
        "scanned" => ", scanned",
        "received" => ", received",
        _ => "",
    };
    let counter = |name: &str| pass.counters.get(name).copied().unwrap_or(0);
    let received = match of {
        "" => String::new(),
        _ => {
            let (came, written) = (human(counter("bytes_to_target")), human(counter("bytes_written")));
            format!("; {came} came, {written} written")
        }
    };
    format!("{of} {percent} % of {}{left}{received}", human(pass.total_bytes))
}

/// How a job keeps its deadline or budget.
fn pace_lines(pace: &PaceStatus, now_ms: u64) -> Vec<String> {
    let mut first = format!("sent {}", human(pace.sent_bytes));
    if let Some(most) = pace.max_egress_bytes {
        let _ = write!(first, " of {}", human(most));
    }
    if let Some(left) = pace.left_bytes {
        let _ = write!(first, ", about {} left", human(left));
    }
    if let Some(end) = pace.finish_by_unix_ms {
        let _ = match end.checked_sub(now_ms) {
            Some(left) => write!(first, ", to be done in {}", spoken(left / 1000)),
            None => write!(first, ", its time is over"),
        };
    }
    if let Some(rate) = pace.bytes_per_second {
        let _ = write!(first, ", paced at {}/s", human(rate));
    }
    let finding = pace.finding.iter();
    let said = finding.map(|finding| format!("{} {}: {}", finding.code, finding.title, finding.evidence));
    std::iter::once(first).chain(said).collect()
}

/// What was expected of a pass, beside what became of it.
fn predicted_line(disk: &DiskStatus) -> Option<String> {
    let predicted = disk.predicted.as_ref()?;
    let about = match predicted.ship_estimate_bytes {
        Some(bytes) => format!("{} to ship", human(bytes)),
        None => format!("{} at most to ship", human(predicted.ship_at_most_bytes)),
    };
    let mut line = format!("predicted: {} to read, {about}", human(predicted.read_bytes));
    if let Some(pass) = disk.pass.as_ref().filter(|_| disk.epoch == Some(predicted.epoch)) {
        let counter = |name: &str| pass.counters.get(name).copied().unwrap_or(0);
        let (read, shipped) = (human(counter("bytes_read_source")), human(counter("bytes_to_target")));
        let _ = write!(line, "; so far {read} read, {shipped} shipped");
    }
    Some(line)
}

fn more_lines(disk: &DiskStatus) -> Vec<String> {
    let mut lines: Vec<String> = predicted_line(disk).into_iter().collect();
    if let (Some(pass), true) = (&disk.pass, disk.stage.is_active() && disk.link.is_some()) {
        let rates: Vec<_> = RATES
            .iter()
            .filter_map(|(name, word)| {
                pass.rates.get(*name).filter(|rate| **rate > 0).map(|rate| (word, rate))
            })
            .map(|(word, rate)| format!("{word} {}/s", human(*rate)))
            .collect();
        if !rates.is_empty() {
            lines.push(rates.join(", "));
        }
        if let Some(limiting) = &pass.limiting {
            lines.push(format!("limited by {}: {}", limiting.cause.replace('_', " "), limiting.why));
        }
    }
    // The other labels are what was to be expected, and stand in the JSON with their reasons.
    if disk.point_label.as_deref() == Some(PointLabel::PerDisk.as_str()) {
        lines.extend(disk.point_reason.as_ref().map(|reason| format!("not even crash-consistent: {reason}")));
    }
    lines.extend(disk.link.as_ref().map(link));
    if let Some(error) = &disk.error {
        lines.push(format!("{} {}: {}", error.code, error.title, error.evidence.replace('\n', ", ")));
        lines.push(format!("remedy: {}", error.remedy));
    }
    lines
}

fn link(link: &LinkStatus) -> String {
    let sockets: Vec<_> = link.sockets.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let rate = link
        .bandwidth_bytes_per_second
        .map_or_else(String::new, |rate| format!(", at most {}/s", human(rate)));
    let clock = match link.clock_offset_ms / 1000 {
        0 => String::new(),
        seconds if seconds > 0 => format!(", its clock {} ahead", spoken(seconds.unsigned_abs())),
        seconds => format!(", its clock {} behind", spoken(seconds.unsigned_abs())),
    };
    let sockets = if sockets.is_empty() { String::new() } else { format!("; {}", sockets.join(", ")) };
    format!(
        "{} at {}, {} data connections{rate}{clock}{sockets}",
        link.peer, link.address, link.data_connections
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::{Code, Finding};
    use failback_service::budget::BudgetStatus;
    use failback_service::registry::Wanted;
    use failback_service::report::FindingLine;
    use failback_service::status::{CertificateStatus, Limiting};
    use std::collections::BTreeMap;

    /// A process server with a disk in each state that has something to say.
    pub(crate) fn sample() -> DaemonStatus {
        let now = 100_000_000;
        let pass = Live {
            done_bytes: 1 << 30,
            total_bytes: 4 << 30,
            left_seconds: Some(75),
            limiting: Some(Limiting {
                cause: "link".into(),
                stage: None,
                why: "40 % of the window wait to go out".into(),
            }),
            measure: "settled".into(),
            rates: BTreeMap::from([
                ("scanned_source_bytes".into(), 200 << 20),
                ("bytes_to_target".into(), 11 << 20),
                ("bytes_written".into(), 0),
            ]),
            ..Live::default()
        };
        let link = LinkStatus {
            peer: "failback://master-target/site-1".into(),
            address: "192.0.2.7:9443".into(),
            data_connections: 4,
            sockets: BTreeMap::from([("congestion".into(), "bbr".into())]),
            clock_offset_ms: -95_400,
            bandwidth_bytes_per_second: Some(20 << 20),
        };
        let at_work = DiskStatus {
            id: "disk0".into(),
            stage: DiskStage::Replicating,
            generation: Some(3),
            sealed_unix_ms: Some(now - 7_200_000),
            point_label: Some("per-disk".into()),
            point_reason: Some("2 disks, and no hook says that their snapshots are one instant".into()),
            source_unix_ms: Some(now - 7_320_000),
            link: Some(link),
            pass: Some(pass),
            ..DiskStatus::default()
        };
        let retrying = DiskStatus {
            id: "disk10".into(),
            stage: DiskStage::Retrying,
            failed_tries: 3,
            next_try_unix_ms: Some(now + 12_000),
            error: Some(FindingLine::from(&Finding::error(Code::ConnectionLost, "reset by peer"))),
            ..DiskStatus::default()
        };
        DaemonStatus {
            daemon: "process-server".into(),
            version: "1.2.3".into(),
            started_unix_ms: now - 11_520_000,
            now_unix_ms: now,
            draining: false,
            memory: BudgetStatus { total_bytes: 128 << 20, granted_bytes: 64 << 20, running_disks: 1 },
            certificate: Some(CertificateStatus {
                identity: "failback://process-server/azure-1".into(),
                expires_unix_ms: now + 364 * 86_400_000,
                error: None,
            }),
            receipt_key: None,
            sessions: 1,
            errors: BTreeMap::from([("FB509".into(), 3)]),
            machines: vec![MachineStatus {
                pace: None,
                cycle: None,
                id: "web01".into(),
                wanted: Wanted::Running,
                peer: "mt.example:9443".into(),
                recovery: None,
                disks: vec![at_work, retrying],
            }],
        }
    }

    #[test]
    fn a_status_reads_well() {
        insta::assert_snapshot!(of(&sample()), @r"
        process-server 1.2.3, up 3 h 12 min; memory 64 MiB of 128 MiB; failback://process-server/azure-1 expires in 364 d
        errors since the start: FB509 3
        web01 (mt.example:9443), running
          disk0   replicating 25 % of 4 GiB, 1 min left; generation 3 sealed 2 h 0 min ago, per-disk, its source of 2 h 2 min ago
                  source scanned 200 MiB/s, to the target 11 MiB/s
                  limited by link: 40 % of the window wait to go out
                  not even crash-consistent: 2 disks, and no hook says that their snapshots are one instant
                  failback://master-target/site-1 at 192.0.2.7:9443, 4 data connections, at most 20 MiB/s, its clock 1 min behind; congestion bbr
          disk10  retrying: try 3 failed, the next one in 12 s
                  FB509 connection was lost: reset by peer
                  remedy: check the network between the ends; the next session goes on from the last durable group
        ");
    }

    #[test]
    fn a_machine_that_is_home_does_not_run() {
        let mut status = sample();
        status.machines[0].disks[1].stage = DiskStage::Sealed;
        assert!(of(&status).contains("\nweb01 (mt.example:9443), running\n"));
        status.machines[0].disks[0].stage = DiskStage::Sealed;
        assert!(of(&status).contains("\nweb01 (mt.example:9443), all disks sealed\n"));
    }

    #[test]
    fn certificates_that_could_not_be_read_again_are_named() {
        let mut status = sample();
        let finding = Finding::error(Code::TlsFailed, "cert.pem: no certificate in it");
        status.certificate.as_mut().expect("it has one").error = Some(Box::new(FindingLine::from(&finding)));
        let text = of(&status);
        let line = "\ncertificates could not be read again, the old ones are in force: FB510 cert.pem: no certificate";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn nothing_is_said_too() {
        let nothing =
            DaemonStatus { machines: Vec::new(), certificate: None, errors: BTreeMap::new(), ..sample() };
        assert!(of(&nothing).ends_with("\nno machine is registered\n"));
        assert_eq!([0, 59, 60, 3600, 200_000].map(spoken), ["0 s", "59 s", "1 min", "1 h 0 min", "2 d"]);
    }

    #[test]
    fn a_master_target_says_of_what_it_knows() {
        let pass = Live {
            measure: "scanned".into(),
            done_bytes: 4 << 30,
            total_bytes: 4 << 30,
            counters: BTreeMap::from([
                ("bytes_to_target".into(), 12 << 20),
                ("bytes_written".into(), 40 << 20),
            ]),
            ..Live::default()
        };
        assert_eq!(progress(&pass), ", scanned 100 % of 4 GiB; 12 MiB came, 40 MiB written");
    }
}
