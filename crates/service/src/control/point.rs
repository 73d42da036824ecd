//! Recovery points and the verbs that act on them, as the control socket tells them.

use crate::report::FindingLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which recovery point is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointChoice {
    /// The newest one; of a group, each machine's own.
    Latest,
    /// The newest one whose applications were quiesced; of a group, the newest that all of them have in common.
    AppConsistent,
    /// The one of this number.
    Number(u64),
    /// The newest one whose source is no younger than this, milliseconds since 1970.
    Time(u64),
}

impl fmt::Display for PointChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::AppConsistent => f.write_str("app-consistent"),
            Self::Number(number) => number.fmt(f),
            Self::Time(unix_ms) => f.write_str(&crate::clock::time_text(*unix_ms)),
        }
    }
}

impl FromStr for PointChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Self::Latest),
            "app-consistent" => Ok(Self::AppConsistent),
            number if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map(Self::Number).map_err(|_| format!("{number} is no number of a point"))
            }
            time => crate::clock::parse_time(time).map(Self::Time).ok_or_else(|| {
                format!(
                    "{time:?} is no point: latest, app-consistent, a number as 'failback points list' gives it, or a \
                     time in UTC such as 2026-11-24T13:30:00Z"
                )
            }),
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_word_a_number_or_a_time() {
        for text in ["latest", "app-consistent", "0", "17", "2026-11-24T13:30:00Z"] {
            assert_eq!(text.parse::<PointChoice>().map(|choice| choice.to_string()), Ok(text.into()));
        }
        let minute: PointChoice = "2026-11-24T13:30Z".parse().expect("seconds may be left out");
        assert_eq!(minute, PointChoice::Time(1_795_527_000_000));
        for text in ["", "newest", "-1", "2026-11-24", "2026-13-24T13:30:00Z", "99999999999999999999"] {
            assert!(text.parse::<PointChoice>().is_err(), "{text}");
        }
    }
}
