//! Recovery points and the verbs that act on them, as the control socket tells them.

use crate::report::FindingLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A disk in a recovery point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PointDiskStatus {
    /// Its id.
    pub id: String,
    /// Number of its sealed state.
    pub generation: u64,
    /// Root of that state; none: of the original, before the first pass.
    pub root: Option<String>,
    /// Length of that state.
    pub length_bytes: u64,
}

/// A state of all disks of a machine that can be had back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PointStatus {
    /// Its number; 0: the original, before the first pass.
    pub number: u64,
    /// `per-disk`, `crash-consistent`, `app-consistent` or `final`.
    pub label: String,
    /// Why it is worth no more.
    pub reason: String,
    /// When the source was in that state, by the process server's clock.
    pub source_unix_ms: u64,
    /// When it was sealed here.
    pub sealed_unix_ms: u64,
    /// The point that it was made from by going back to that one.
    pub restored: Option<u64>,
    /// Undo between it and the next point, or now.
    pub undo_bytes: u64,
    /// Its disks.
    pub disks: Vec<PointDiskStatus>,
}

/// Where a machine stands between its first pass and its commit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StandingStatus {
    /// `replicating`, `released` (cut over: the disks are the hypervisor's), `cancelled` or `committed`.
    pub phase: String,
    /// Since when.
    pub since_unix_ms: u64,
    /// The point that the disks were released at.
    pub released_point: Option<u64>,
    /// The last recovery point.
    pub at_point: Option<u64>,
    /// Whether a disk is no longer what it is in that point: a pass is under way or was cut off.
    pub is_partial: bool,
}

/// What is kept of the bytes that were overwritten.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UndoStatus {
    /// Where it lies.
    pub folder: String,
    /// What the machine's undo takes.
    pub used_bytes: u64,
    /// What its file system has left.
    pub free_bytes: u64,
    /// What it grew by, an hour, over the last day or as long as there are points; none: not known yet.
    pub bytes_per_hour: Option<u64>,
    /// When passes pause for lack of space, at that rate; none: the rate is not known, or nothing grows.
    pub full_in_seconds: Option<u64>,
}

/// A verb that is under way, or that was cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationStatus {
    /// `cutover`, `cancel` or `commit`.
    pub verb: String,
    /// Its job.
    pub job: String,
    /// The point that the disks go to.
    pub point: Option<u64>,
    /// When it began.
    pub since_unix_ms: u64,
    /// The daemon ended in the middle of it: the same command finishes it. Until then no pass begins.
    pub is_cut_off: bool,
    /// What it does at the moment, in words.
    pub step: String,
    /// Bytes of the disks that were restored so far.
    pub done_bytes: u64,
    /// Undo to be put back, as it is stored: more than is written where pages changed often. 0: not known yet.
    pub total_bytes: u64,
}

/// A machine's recovery, in short: in the status, and at the head of its points.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryStatus {
    /// Its replication group.
    pub group: Option<String>,
    /// Where it stands.
    pub standing: StandingStatus,
    /// How many points can be had back.
    pub points: u64,
    /// When the source was as in the newest of them.
    pub newest_source_unix_ms: Option<u64>,
    /// Space for undo.
    pub undo: UndoStatus,
    /// A verb that is under way, or that was cut off.
    pub operation: Option<OperationStatus>,
    /// What is worth knowing: space that runs short, a point that could not be recorded, a verb that was cut off.
    pub findings: Vec<FindingLine>,
}

/// All points of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachinePoints {
    /// Machine.
    pub machine: String,
    /// Where it stands.
    pub recovery: RecoveryStatus,
    /// The points, oldest first.
    pub points: Vec<PointStatus>,
}

/// What a verb would do to one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachinePlan {
    /// Machine.
    pub machine: String,
    /// The point that its disks come to.
    pub point: Option<u64>,
    /// From where to where, in words.
    pub direction: String,
    /// Why this point: what is lost with it, and why none is newer.
    pub choice: Vec<String>,
    /// What is destroyed for ever, or no longer what the disks hold.
    pub destroyed: Vec<String>,
    /// How it can be taken back.
    pub way_back: String,
    /// The images that are written.
    pub images: Vec<String>,
    /// Undo that is restored.
    pub restore_bytes: u64,
    /// Space that it takes at most beside what is there: a rollback can be rolled back, too.
    pub needed_bytes: u64,
    /// Space that there is.
    pub free_bytes: u64,
}

/// What a verb would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The request.
    pub verb: String,
    /// Each machine.
    pub machines: Vec<MachinePlan>,
    /// What is worth knowing before.
    pub findings: Vec<FindingLine>,
}
