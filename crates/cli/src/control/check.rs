//! `failback status --check`: one line and an exit code, as monitoring plugins have them.

use crate::control_args::StatusArgs;
use crate::report::{print, warn};
use failback_model::{ExitClass, Finding};
use failback_service::report::printable;
use failback_service::size::spoken;
use failback_service::status::{DaemonStatus, DiskStage, DiskStatus};
use serde::Serialize;
use std::time::Duration;

/// Days before its end from which a certificate is a warning.
const CERTIFICATE_WARNING_DAYS: u64 = 30;
/// Failed tries from which a lost connection is more than a warning.
const TRIES_CRITICAL: u32 = 20;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Critical,
    Unknown,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Monitoring's own numbers: here 1 is a warning and 3 means that nobody knows.
    const fn exit(self) -> ExitClass {
        match self {
            Self::Ok => ExitClass::Success,
            Self::Warning => ExitClass::Failure,
            Self::Critical => ExitClass::Usage,
            Self::Unknown => ExitClass::Refused,
        }
    }
}

/// The outcome.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Checked {
    command: &'static str,
    level: Level,
    exit_code: u8,
    disks: usize,
    reasons: Vec<String>,
}

/// Says how a look turned out.
pub(super) fn run(args: &StatusArgs, looked: Result<DaemonStatus, Vec<Finding>>) -> ExitClass {
    let checked = match looked {
        Ok(status) => judge(&status, args.lag_warning.map(|p| p.0), args.lag_critical.map(|p| p.0)),
        Err(findings) => {
            let reasons = findings.into_iter().map(|finding| finding.evidence).collect();
            Checked::new(Level::Unknown, 0, reasons)
        }
    };
    let line = if args.output.json {
        serde_json::to_string(&checked).unwrap_or_default() + "\n"
    } else {
        checked.line()
    };
    match print(&line) {
        Ok(()) => checked.level.exit(),
        Err(error) => {
            warn(&format!("cannot write to standard output: {error}\n"));
            Level::Unknown.exit()
        }
    }
}

impl Checked {
    fn new(level: Level, disks: usize, reasons: Vec<String>) -> Self {
        Self { command: "status", level, exit_code: level.exit().code(), disks, reasons }
    }

    fn line(&self) -> String {
        let reasons = if self.reasons.is_empty() { "all is well".into() } else { self.reasons.join("; ") };
        format!(
            "FAILBACK {} - {} disks: {} | disks={}\n",
            self.level.as_str(),
            self.disks,
            printable(&reasons),
            self.disks
        )
    }
}

fn judge(status: &DaemonStatus, warning: Option<Duration>, critical: Option<Duration>) -> Checked {
    let mut found = Vec::new();
    if let Some(certificate) = &status.certificate {
        if let Some(error) = &certificate.error {
            let reason = format!("certificates could not be read again: {} {}", error.code, error.title);
            found.push((Level::Warning, reason));
        }
        let left_days = certificate.expires_unix_ms.saturating_sub(status.now_unix_ms) / 86_400_000;
        if certificate.expires_unix_ms <= status.now_unix_ms {
            found.push((Level::Critical, format!("certificate {} has expired", certificate.identity)));
        } else if left_days < CERTIFICATE_WARNING_DAYS {
            found.push((
                Level::Warning,
                format!("certificate {} expires in {left_days} days", certificate.identity),
            ));
        }
    }
    let disks: Vec<_> = status
        .machines
        .iter()
        .flat_map(|machine| machine.disks.iter().map(|disk| (format!("{}/{}", machine.id, disk.id), disk)))
        .collect();
    for (name, disk) in &disks {
        found.extend(judge_stage(name, disk));
        found.extend(judge_lag(name, disk, status.now_unix_ms, warning, critical));
    }
    for machine in &status.machines {
        let findings = machine.recovery.iter().flat_map(|recovery| &recovery.findings);
        found.extend(findings.map(|finding| {
            let level = if finding.severity == "warning" { Level::Warning } else { Level::Critical };
            (level, format!("{}: {} {}", machine.id, finding.code, finding.title))
        }));
    }
    let level = found.iter().map(|(level, _)| *level).max().unwrap_or(Level::Ok);
    // The gravest first: a pager shows the first words.
    found.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    Checked::new(level, disks.len(), found.into_iter().map(|(_, reason)| reason).collect())
}

fn judge_stage(name: &str, disk: &DiskStatus) -> Option<(Level, String)> {
    let why =
        disk.error.as_ref().map_or_else(String::new, |error| format!(": {} {}", error.code, error.title));
    match disk.stage {
        DiskStage::Failed => Some((Level::Critical, format!("{name} failed{why}"))),
        DiskStage::Retrying if disk.failed_tries >= TRIES_CRITICAL => {
            Some((Level::Critical, format!("{name} failed {} tries{why}", disk.failed_tries)))
        }
        DiskStage::Retrying | DiskStage::Waiting => {
            Some((Level::Warning, format!("{name} is interrupted{why}")))
        }
        DiskStage::Stopped => Some((Level::Warning, format!("{name} is stopped"))),
        _ => None,
    }
}

fn judge_lag(
    name: &str,
    disk: &DiskStatus,
    now_ms: u64,
    warning: Option<Duration>,
    critical: Option<Duration>,
) -> Option<(Level, String)> {
    // What was handed over follows its source no more.
    let sealed_unix_ms = disk.sealed_unix_ms.filter(|_| disk.stage != DiskStage::Released)?;
    let lag = Duration::from_millis(now_ms.saturating_sub(sealed_unix_ms));
    let above = |bound: Option<Duration>| bound.is_some_and(|bound| lag > bound);
    let level = match (above(critical), above(warning)) {
        (true, _) => Level::Critical,
        (false, true) => Level::Warning,
        (false, false) => return None,
    };
    Some((level, format!("{name} was sealed {} ago", spoken(lag.as_secs()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::Code;
    use failback_service::control::RecoveryStatus;
    use failback_service::status::{CertificateStatus, MachineStatus};

    fn status(disks: Vec<DiskStatus>) -> DaemonStatus {
        let machine = MachineStatus {
            pace: None,
            cycle: None,
            recovery: None,
            id: "web01".into(),
            wanted: failback_service::registry::Wanted::Running,
            peer: String::new(),
            disks,
        };
        DaemonStatus {
            daemon: "process-server".into(),
            version: "1".into(),
            started_unix_ms: 0,
            now_unix_ms: 10_000_000,
            draining: false,
            memory: failback_service::budget::BudgetStatus::default(),
            certificate: None,
            receipt_key: None,
            sessions: 0,
            errors: std::collections::BTreeMap::new(),
            machines: vec![machine],
        }
    }

    #[test]
    fn space_that_runs_short_is_told_and_a_released_disk_has_no_lag() {
        let mut status = status(vec![DiskStatus { sealed_unix_ms: Some(1), ..disk(DiskStage::Released) }]);
        let hour = Some(Duration::from_secs(1));
        assert_eq!(judge(&status, hour, hour).level, Level::Ok);
        let low = Finding::warning(Code::UndoLow, "/undo has 1.5 GiB left");
        let full = Finding::error(Code::UndoSpace, "/undo has 10 MiB left");
        for (finding, expected) in [(low, Level::Warning), (full, Level::Critical)] {
            let findings = vec![failback_service::report::FindingLine::from(&finding)];
            status.machines[0].recovery = Some(Box::new(RecoveryStatus { findings, ..Default::default() }));
            assert_eq!(level(&status), expected);
        }
    }

    fn disk(stage: DiskStage) -> DiskStatus {
        DiskStatus { id: "d".into(), stage, ..DiskStatus::default() }
    }

    fn level(status: &DaemonStatus) -> Level {
        judge(status, Some(Duration::from_secs(60)), Some(Duration::from_secs(600))).level
    }

    #[test]
    fn the_gravest_decides_and_comes_first() {
        let many = status(vec![disk(DiskStage::Retrying), disk(DiskStage::Failed), disk(DiskStage::Sealed)]);
        let checked = judge(&many, None, None);
        assert_eq!(
            checked.line(),
            "FAILBACK CRITICAL - 3 disks: web01/d failed; web01/d is interrupted | disks=3\n"
        );
        assert_eq!((checked.level.exit().code(), checked.exit_code), (2, 2));
        assert_eq!(
            judge(&status(Vec::new()), None, None).line(),
            "FAILBACK OK - 0 disks: all is well | disks=0\n"
        );
    }

    #[test]
    fn stages_lag_tries_and_certificates_have_levels() {
        assert_eq!(level(&status(vec![disk(DiskStage::Replicating)])), Level::Ok);
        assert_eq!(level(&status(vec![disk(DiskStage::Stopped)])), Level::Warning);
        let tries = DiskStatus { failed_tries: TRIES_CRITICAL, ..disk(DiskStage::Retrying) };
        assert_eq!(level(&status(vec![tries])), Level::Critical);
        for (sealed, expected) in
            [(9_990_000, Level::Ok), (9_900_000, Level::Warning), (9_000_000, Level::Critical)]
        {
            let late = DiskStatus { sealed_unix_ms: Some(sealed), ..disk(DiskStage::Sealed) };
            assert_eq!(level(&status(vec![late])), expected);
        }
        for (expires, expected) in [(10_000_000, Level::Critical), (90_000_000, Level::Warning)] {
            let certificate =
                CertificateStatus { identity: "x".into(), expires_unix_ms: expires, error: None };
            let status = DaemonStatus { certificate: Some(certificate), ..status(Vec::new()) };
            assert_eq!(level(&status), expected);
        }
        let error = Finding::error(Code::TlsFailed, "cert.pem: it is empty");
        let certificate = CertificateStatus {
            identity: "x".into(),
            expires_unix_ms: u64::MAX,
            error: Some(Box::new((&error).into())),
        };
        let status = DaemonStatus { certificate: Some(certificate), ..status(Vec::new()) };
        assert_eq!(level(&status), Level::Warning);
    }
}
