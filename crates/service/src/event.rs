//! What happens, as it happens: the stream that the control socket gives, the log lines, the counts of errors.
//!
//! docs/control.md shows one example of each event. A field is never removed or renamed; new ones may come.
//!
//! **Invariant**: publishing never waits for a subscriber: one that lags is told how many events it missed.

mod stream;

pub use stream::{Events, Subscription};

use crate::registry::CycleOutcome;
use crate::report::FindingLine;
use crate::status::{Comparison, LinkStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// An event with its number and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope {
    /// Number within this run of the daemon, from 1.
    pub seq: u64,
    /// When, milliseconds since 1970.
    pub time_unix_ms: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Who asked for something on the control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id, where the system knows it.
    pub pid: Option<i32>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The daemon is ready.
    DaemonStarted {
        /// Which daemon.
        daemon: String,
        /// Its version.
        version: String,
    },
    /// The daemon drains and stops.
    DaemonStopping {
        /// Why.
        reason: String,
    },
    /// The configuration was read again.
    ConfigReloaded {
        /// What is worth knowing; errors: the old one stays.
        findings: Vec<FindingLine>,
    },
    /// Certificates were read again.
    CertificatesReloaded {
        /// When the daemon's own expires.
        expires_unix_ms: Option<u64>,
        /// Errors: the old ones stay.
        findings: Vec<FindingLine>,
    },
    /// A machine was registered, or its definition replaced.
    MachineRegistered {
        /// Machine.
        machine: String,
    },
    /// A machine was released.
    MachineReleased {
        /// Machine.
        machine: String,
    },
    /// A disk was registered, or its definition replaced.
    DiskRegistered {
        /// Machine.
        machine: String,
        /// Disk.
        disk: String,
    },
    /// A disk was released.
    DiskReleased {
        /// Machine.
        machine: String,
        /// Disk.
        disk: String,
    },
    /// A request that changes something was carried out, or refused: the audit line.
    Job {
        /// The request's job.
        job: String,
        /// Kind of request.
        request: String,
        /// Machine, where it is about one.
        machine: Option<String>,
        /// Who asked.
        caller: Caller,
        /// `done` or `refused`.
        outcome: String,
        /// Why it was refused.
        findings: Vec<FindingLine>,
    },
    /// A process server's job knows what its passes bring: the machine's hooks have run, if it has any.
    SourceTaken {
        /// Machine.
        machine: String,
        /// The job.
        job: String,
        /// What the state is worth: `per-disk`, `crash-consistent`, `app-consistent` or `final`.
        point_label: String,
        /// Why it is worth no more; none: nothing to say.
        point_reason: Option<String>,
        /// When the source was like that.
        source_unix_ms: u64,
        /// Warnings: hooks that failed.
        findings: Vec<FindingLine>,
    },
    /// A process server knows how its pass comes to know the source: by a feed, or why not.
    SourceCompared {
        /// Machine.
        machine: String,
        /// Disk.
        disk: String,
        /// How.
        comparison: Comparison,
    },
    /// All disks of a machine were sealed in a cycle.
    CycleClosed {
        /// Machine.
        machine: String,
        /// What it came to.
        outcome: CycleOutcome,
        /// The same in words, with what comes next.
        said: String,
        /// What went wrong beside it, and whether cycles converge.
        findings: Vec<FindingLine>,
    },
    /// A cycle was given up, or a final one not made.
    CycleFailed {
        /// Machine.
        machine: String,
        /// Which.
        number: u64,
        /// Why.
        finding: FindingLine,
    },
    /// A session's connections stand.
    Connected {
        /// Machine.
        machine: String,
        /// Disk.
        disk: String,
        /// The connection.
        link: LinkStatus,
    },
    /// A pass begins.
    PassStarted {
        /// Machine.
        machine: String,
        /// Disk.
        disk: String,
        /// Number of the session.
        session: u64,
        /// Number of the job.
        epoch: u64,
        /// `original-location` or `alternate-location`.
        strategy: String,
        /// Whether it goes on with an earlier pass's work.
        resumed: bool,
        /// Memory it may hold.
        window_bytes: u64,
        /// Warnings: what was accepted for it.
        #[serde(default)]
        findings: Vec<FindingLine>,
    },
    /// A pass ended well: the target is the source's state.
    PassSealed {
        /// Machine.
        machine: String,
        /// Disk.
        disk: String,
        /// Number of the state.
        generation: u64,
        /// Root of the state.
        root: String,
        /// Whether the target was read back from its medium.
        verified: bool,
        /// What the state is worth by its process server: `per-disk`, `crash-consistent`, `app-consistent` or `final`.
        #[serde(default)]
        point_label: Option<String>,
        /// Why it is worth no more; none: nothing to say.
        #[serde(default)]
        point_reason: Option<String>,
        /// When its source was like that, by the process server's clock.
        #[serde(default)]
        source_unix_ms: Option<u64>,
        /// From the session's start.
        elapsed_seconds: f64,
        /// The pass's counters.
        counters: BTreeMap<String, u64>,
    },
    /// A pass broke off and will be tried again, by this end or by the other; or, where the finding is a warning, it waits and
    /// goes on.
    PassInterrupted {
        /// Machine.
        machine: String,
        /// Disk.
        disk: String,
        /// Why.
        finding: FindingLine,
        /// Tries that failed since the last one that got through.
        failed_tries: u32,
        /// When the next try comes; none: when the other end makes one, or the wait is over.
        next_try_unix_ms: Option<u64>,
    },
    /// A pass failed and needs an operator.
    PassFailed {
        /// Machine.
        machine: String,
        /// Disk.
        disk: String,
        /// Why.
        finding: FindingLine,
    },
    /// A pass stopped on request.
    PassStopped {
        /// Machine.
        machine: String,
        /// Disk.
        disk: String,
    },
    /// A target was read back from its medium.
    Verified {
        /// Machine.
        machine: String,
        /// Disk.
        disk: String,
        /// Root of what was read.
        root: String,
        /// Errors: it is not what was sealed.
        findings: Vec<FindingLine>,
    },
    /// All disks that a `verify` was asked for were read back from their media.
    MachineVerified {
        /// Machine.
        machine: String,
        /// The request's job.
        job: String,
        /// Where its receipt lies; none where a disk is not what was sealed, or not all disks were asked for.
        receipt: Option<String>,
        /// Number of the receipt.
        number: Option<u64>,
        /// Errors: why there is no receipt. Warnings: what is wrong with those before it.
        findings: Vec<FindingLine>,
    },
    /// A recovery point is durable: all disks of the machine can be had back as they are in it.
    PointRecorded {
        /// Machine.
        machine: String,
        /// Number of the point.
        point: u64,
        /// What it is worth.
        label: String,
        /// When the source was in that state.
        source_unix_ms: u64,
    },
    /// Recovery points are gone: by retention, or because an operator asked for that.
    PointsDropped {
        /// Machine.
        machine: String,
        /// Their numbers.
        points: Vec<u64>,
        /// Space that it gave back.
        freed_bytes: u64,
        /// Why.
        reason: String,
    },
    /// A cut-over, cancel or commit begins.
    OperationStarted {
        /// Machine.
        machine: String,
        /// The request's job.
        job: String,
        /// `cutover`, `cancel` or `commit`.
        verb: String,
        /// The point that the disks go to.
        point: Option<u64>,
    },
    /// A cut-over, cancel or commit is over.
    OperationEnded {
        /// Machine.
        machine: String,
        /// The request's job.
        job: String,
        /// `cutover`, `cancel` or `commit`.
        verb: String,
        /// The point that the disks are at; none where it failed.
        point: Option<u64>,
        /// `done` or `failed`.
        outcome: String,
        /// What was done, in words.
        said: String,
        /// Errors: why it failed. Warnings: what is worth knowing.
        findings: Vec<FindingLine>,
    },
    /// A peer was sent away.
    PeerRefused {
        /// Its address, where it is known.
        address: Option<String>,
        /// Name that its certificate proves, where it got that far.
        peer: Option<String>,
        /// Why.
        finding: FindingLine,
    },
    /// Events that this subscriber was too slow for.
    Missed {
        /// How many.
        count: u64,
    },
}

impl Event {
    /// The word in the `event` field.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::DaemonStarted { .. } => "daemon_started",
            Self::DaemonStopping { .. } => "daemon_stopping",
            Self::ConfigReloaded { .. } => "config_reloaded",
            Self::CertificatesReloaded { .. } => "certificates_reloaded",
            Self::MachineRegistered { .. } => "machine_registered",
            Self::MachineReleased { .. } => "machine_released",
            Self::DiskRegistered { .. } => "disk_registered",
            Self::DiskReleased { .. } => "disk_released",
            Self::Job { .. } => "job",
            Self::SourceTaken { .. } => "source_taken",
            Self::SourceCompared { .. } => "source_compared",
            Self::CycleClosed { .. } => "cycle_closed",
            Self::CycleFailed { .. } => "cycle_failed",
            Self::Connected { .. } => "connected",
            Self::PassStarted { .. } => "pass_started",
            Self::PassSealed { .. } => "pass_sealed",
            Self::PassInterrupted { .. } => "pass_interrupted",
            Self::PassFailed { .. } => "pass_failed",
            Self::PassStopped { .. } => "pass_stopped",
            Self::Verified { .. } => "verified",
            Self::MachineVerified { .. } => "machine_verified",
            Self::PointRecorded { .. } => "point_recorded",
            Self::PointsDropped { .. } => "points_dropped",
            Self::OperationStarted { .. } => "operation_started",
            Self::OperationEnded { .. } => "operation_ended",
            Self::PeerRefused { .. } => "peer_refused",
            Self::Missed { .. } => "missed",
        }
    }

    /// What went wrong with it.
    pub fn findings(&self) -> &[FindingLine] {
        match self {
            Self::ConfigReloaded { findings }
            | Self::CertificatesReloaded { findings, .. }
            | Self::Job { findings, .. }
            | Self::SourceTaken { findings, .. }
            | Self::CycleClosed { findings, .. }
            | Self::PassStarted { findings, .. }
            | Self::Verified { findings, .. }
            | Self::MachineVerified { findings, .. }
            | Self::OperationEnded { findings, .. } => findings,
            Self::SourceCompared { comparison, .. } => comparison.finding.as_slice(),
            Self::PassInterrupted { finding, .. }
            | Self::CycleFailed { finding, .. }
            | Self::PassFailed { finding, .. }
            | Self::PeerRefused { finding, .. } => std::slice::from_ref(finding),
            _ => &[],
        }
    }

    /// The machine it is about.
    pub fn machine(&self) -> Option<&str> {
        match self {
            Self::MachineRegistered { machine }
            | Self::MachineReleased { machine }
            | Self::DiskRegistered { machine, .. }
            | Self::DiskReleased { machine, .. }
            | Self::SourceTaken { machine, .. }
            | Self::SourceCompared { machine, .. }
            | Self::CycleClosed { machine, .. }
            | Self::CycleFailed { machine, .. }
            | Self::Connected { machine, .. }
            | Self::PassStarted { machine, .. }
            | Self::PassSealed { machine, .. }
            | Self::PassInterrupted { machine, .. }
            | Self::PassFailed { machine, .. }
            | Self::PassStopped { machine, .. }
            | Self::Verified { machine, .. }
            | Self::MachineVerified { machine, .. }
            | Self::PointRecorded { machine, .. }
            | Self::PointsDropped { machine, .. }
            | Self::OperationStarted { machine, .. }
            | Self::OperationEnded { machine, .. } => Some(machine),
            Self::Job { machine, .. } => machine.as_deref(),
            _ => None,
        }
    }

    fn disk(&self) -> Option<&str> {
        match self {
            Self::DiskRegistered { disk, .. }
            | Self::DiskReleased { disk, .. }
            | Self::SourceCompared { disk, .. }
            | Self::Connected { disk, .. }
            | Self::PassStarted { disk, .. }
            | Self::PassSealed { disk, .. }
            | Self::PassInterrupted { disk, .. }
            | Self::PassFailed { disk, .. }
            | Self::PassStopped { disk, .. }
            | Self::Verified { disk, .. } => Some(disk),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    /// One line of the log: where, what, and what went wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.machine(), self.disk()) {
            (Some(machine), Some(disk)) => write!(f, "{machine}/{disk}: ")?,
            (Some(machine), None) => write!(f, "{machine}: ")?,
            _ => {}
        }
        f.write_str(&self.name().replace('_', " "))?;
        match self {
            Self::DaemonStarted { daemon, version } => write!(f, ": {daemon} {version}")?,
            Self::DaemonStopping { reason } => write!(f, ": {reason}")?,
            Self::Job { job, request, caller, outcome, .. } => {
                write!(f, " {job}: {request} by uid {} {outcome}", caller.uid)?;
            }
            Self::Connected { link, .. } => write!(f, " with {} at {}", link.peer, link.address)?,
            Self::PassStarted { session, epoch, strategy, resumed, .. } => {
                let how = if *resumed { "resumed, " } else { "" };
                write!(f, ": {how}{strategy}, session {session}, epoch {epoch}")?;
            }
            Self::PassSealed { generation, root, elapsed_seconds, point_label, .. } => {
                let label = point_label.as_deref().map_or(String::new(), |label| format!(", {label}"));
                write!(f, ": generation {generation}{label}, root {root}, {elapsed_seconds:.1} s")?;
            }
            Self::SourceTaken { job, point_label, point_reason, .. } => {
                let why = point_reason.as_deref().map_or(String::new(), |why| format!(" ({why})"));
                write!(f, " for job {job}: {point_label}{why}")?;
            }
            Self::SourceCompared { comparison, .. } => write!(f, ": {comparison}")?,
            Self::CycleClosed { said, .. } => write!(f, ": {said}")?,
            Self::CycleFailed { number, .. } => write!(f, ": {number}")?,
            Self::PassInterrupted { failed_tries, .. } if *failed_tries > 0 => {
                write!(f, " (try {failed_tries})")?
            }
            Self::PeerRefused { address, peer, .. } => {
                let (peer, address) = (peer.as_deref(), address.as_deref());
                write!(f, ": {} at {}", peer.unwrap_or("unknown"), address.unwrap_or("unknown"))?;
            }
            Self::MachineVerified { receipt: Some(receipt), .. } => write!(f, ": {receipt}")?,
            Self::PointRecorded { point, label, .. } => write!(f, ": {point}, {label}")?,
            Self::PointsDropped { points, freed_bytes, reason, .. } => {
                write!(f, ": {points:?}, {freed_bytes} bytes freed: {reason}")?;
            }
            Self::OperationStarted { job, verb, point, .. } => {
                write!(f, ": {verb} {job}")?;
                point.map_or(Ok(()), |point| write!(f, " to point {point}"))?;
            }
            Self::OperationEnded { job, verb, outcome, said, .. } => {
                write!(f, ": {verb} {job} {outcome}")?;
                if !said.is_empty() {
                    write!(f, ": {said}")?;
                }
            }
            Self::Missed { count } => write!(f, ": {count}")?,
            _ => {}
        }
        for finding in self.findings() {
            write!(f, "; {}[{}] {}", finding.severity, finding.code, finding.title)?;
            write!(f, ": {}; remedy: {}", finding.evidence.replace('\n', ", "), finding.remedy)?;
        }
        Ok(())
    }
}
