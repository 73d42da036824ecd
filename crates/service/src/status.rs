//! What a daemon says of itself: the types behind `failback status --json`, the control socket and the metrics.
//!
//! Docs/control.md describes them for whoever reads the JSON. Times are milliseconds since 1970.
//!
//! **Invariant**: a status is a copy: nobody who reads it can hold up a pass.

mod board;
mod cycle;
mod handle;
mod kept;
mod link;
mod pace;
mod probe;

pub use board::Board;
pub use cycle::{Comparison, CycleStatus, How};
pub use handle::{DiskHandle, PassFacts, Probe, Sealed};
pub use pace::{PaceStatus, Predicted};
pub use probe::{LinkBytes, LinkLook, PassEnd, PassProbe};

use crate::budget::BudgetStatus;
use crate::control::RecoveryStatus;
use crate::registry::Wanted;
use crate::report::FindingLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStatus {
    /// `process-server` or `master-target`.
    pub daemon: String,
    /// Its version.
    pub version: String,
    /// When it started; also tells two runs apart.
    pub started_unix_ms: u64,
    /// When this was said.
    pub now_unix_ms: u64,
    /// Whether it is stopping.
    pub draining: bool,
    /// Its memory for contents under way.
    pub memory: BudgetStatus,
    /// Its own certificate.
    pub certificate: Option<CertificateStatus>,
    /// Fingerprint of the key that signs receipts; none at a process server.
    #[serde(default)]
    pub receipt_key: Option<String>,
    /// Sessions that are open.
    pub sessions: u64,
    /// Errors since the start, by code.
    pub errors: BTreeMap<String, u64>,
    /// Its machines.
    pub machines: Vec<MachineStatus>,
}

/// The daemon's own certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateStatus {
    /// The name it proves.
    pub identity: String,
    /// When it expires.
    pub expires_unix_ms: u64,
    /// Why its files could not be used when they were last read again: what was loaded before is in force. None once a
    /// reload succeeds.
    pub error: Option<Box<FindingLine>>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineStatus {
    /// Its id.
    pub id: String,
    /// What was asked for.
    pub wanted: Wanted,
    /// The other end: where a process server connects to; who may write at a master target.
    pub peer: String,
    /// Its recovery; none at a process server.
    #[serde(default)]
    pub recovery: Option<Box<RecoveryStatus>>,
    /// Its cycles; none at a master target, and before the first job.
    #[serde(default)]
    pub cycle: Option<Box<CycleStatus>>,
    /// How its job keeps its deadline or budget; none where it has neither.
    #[serde(default)]
    pub pace: Option<Box<PaceStatus>>,
    /// Its disks.
    pub disks: Vec<DiskStatus>,
}

/// Where a disk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskStage {
    /// Nothing was asked for since the daemon started.
    #[default]
    Idle,
    /// Stopped on request.
    Stopped,
    /// The last pass is sealed.
    Sealed,
    /// Runs the machine's hooks around its snapshot.
    Snapshot,
    /// Waits for memory.
    Queued,
    /// Opens the connection to the other end.
    Connecting,
    /// Opens the disk, looks for what speaks against a pass.
    Planning,
    /// Compares, ships and writes.
    Replicating,
    /// Compares roots, makes the end durable.
    Sealing,
    /// Reads the target from its medium.
    Verifying,
    /// Goes back to a recovery point.
    RollingBack,
    /// Handed over to the hypervisor, or brought back to its original.
    Released,
    /// A try failed; the next one has a time.
    Retrying,
    /// The session broke off; the other end makes the next try.
    Waiting,
    /// Needs an operator.
    Failed,
}

impl DiskStage {
    /// The name in JSON and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Stopped => "stopped",
            Self::Sealed => "sealed",
            Self::Snapshot => "snapshot",
            Self::Queued => "queued",
            Self::Connecting => "connecting",
            Self::Planning => "planning",
            Self::Replicating => "replicating",
            Self::Sealing => "sealing",
            Self::Verifying => "verifying",
            Self::RollingBack => "rolling_back",
            Self::Released => "released",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }

    /// Whether a pass is at work or about to be.
    pub const fn is_active(self) -> bool {
        !matches!(self, Self::Idle | Self::Stopped | Self::Sealed | Self::Released | Self::Failed)
    }
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DiskStatus {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub stage: DiskStage,
    /// Since when.
    pub stage_since_unix_ms: u64,
    /// Why it failed, or why the last try did.
    pub error: Option<FindingLine>,
    /// Tries that failed since the last one that got through.
    pub failed_tries: u32,
    /// When the next try comes.
    pub next_try_unix_ms: Option<u64>,
    /// The connection, while there is one.
    pub link: Option<LinkStatus>,
    /// Number of the session that is open or was the last.
    pub session: Option<u64>,
    /// Number of the job.
    pub epoch: Option<u64>,
    /// The target's sealed state: its number, its root and when it was sealed.
    pub generation: Option<u64>,
    /// Root of the sealed state.
    pub root: Option<String>,
    /// When it was sealed.
    pub sealed_unix_ms: Option<u64>,
    /// What the sealed state is worth by its process server: `per-disk`, `crash-consistent`, `app-consistent` or `final`.
    #[serde(default)]
    pub point_label: Option<String>,
    /// Why it is worth no more; none: nothing to say.
    #[serde(default)]
    pub point_reason: Option<String>,
    /// When its source was like that, by the process server's clock.
    #[serde(default)]
    pub source_unix_ms: Option<u64>,
    /// `original-location` or `alternate-location`.
    pub strategy: Option<String>,
    /// How the process server knows what its source holds, since the last session.
    #[serde(default)]
    pub comparison: Option<Box<Comparison>>,
    /// Whether the pass goes on with an earlier one's work.
    pub resumed: bool,
    /// Memory that the pass may hold.
    pub window_bytes: Option<u64>,
    /// What the pass was expected to cost; none at a master target.
    #[serde(default)]
    pub predicted: Option<Box<Predicted>>,
    /// The pass that runs, or the last one.
    pub pass: Option<Live>,
}

/// A connection as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LinkStatus {
    /// Name that the peer's certificate proves.
    pub peer: String,
    /// Address of the peer.
    pub address: String,
    /// Data connections beside the control connection; in the event `connected`, those that had joined by then.
    pub data_connections: u32,
    /// Socket options that were chosen, by name.
    pub sockets: BTreeMap<String, String>,
    /// How far the peer's clock was ahead of this host's when the session was opened, milliseconds: behind is negative, and
    /// the time on the way counts in. Beyond 5 minutes no session is opened (FB508).
    pub clock_offset_ms: i64,
    /// The rate that is in force, bytes a second; none: no limit.
    pub bandwidth_bytes_per_second: Option<u64>,
}

/// A pass in numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Live {
    /// What of the disk is done. `settled`, at a process server: the same at both ends, found equal or written by the
    /// other end. At a master target, which does not know what else will come: `received`, how far in a new disk what
    /// was written reaches; `scanned`, of an existing one.
    pub measure: String,
    /// Bytes of the disk that are done, and bytes that were read back to prove them.
    pub done_bytes: u64,
    /// Bytes to do and to read back.
    pub total_bytes: u64,
    /// Time left at the average rates so far; none where `measure` is `scanned`.
    pub left_seconds: Option<u64>,
    /// What holds it up most.
    pub limiting: Option<Limiting>,
    /// Counters since the pass began. `bytes_to_target` and `bytes_to_source` are frames as they were encoded;
    /// `tls_bytes_…` is what was written to and read from the sockets, handshakes and TLS records included.
    pub counters: BTreeMap<String, u64>,
    /// The same names over the last second, per second; only those that count bytes.
    pub rates: BTreeMap<String, u64>,
    /// Thread time of each stage.
    pub stage_seconds: BTreeMap<String, f64>,
    /// Contents under way: started or sent, and not yet written; 0 at a master target.
    pub credit_used_bytes: u64,
}

/// What holds a pass up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limiting {
    /// `source_read`, `target_read`, `cpu`, `link`, `target_write`, or `peer`: the other end, or the link to it.
    pub cause: String,
    /// The stage that is busiest.
    pub stage: Option<String>,
    /// Why this is said, in words.
    pub why: String,
}
