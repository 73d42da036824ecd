//! What a process server remembers of a machine's cycles.
//!
//! **Invariant**: a cycle's number is never used twice for a machine, whatever jobs and runs of the daemon come and go, unless
//! the state folder is lost.

use failback_model::limits::CYCLES_KEPT;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A wish for the next cycle that nobody has begun yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CycleWish {
    /// One more cycle.
    Next,
    /// The last one: the source is stopped for it.
    Final,
}

/// A machine's cycles.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cycles {
    /// The cycle that is under way or was the last, from 1; 0: there was none.
    pub number: u64,
    /// When it began.
    pub began_unix_ms: u64,
    /// When all disks were sealed in it, and what it no longer needs was given up; none: it is under way.
    pub closed_unix_ms: Option<u64>,
    /// What was asked for and not begun.
    pub wish: Option<CycleWish>,
    /// Our hook stopped the source for it: it is started again where the cycle is not made.
    pub source_stopped: bool,
    /// Why the final cycle is not made: nothing of it goes on, and its source is to be started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// Cycles whose snapshots may still be there, ascending.
    pub held: Vec<u64>,
    /// Snapshots that were taken and not removed.
    pub snapshots: Vec<Snapshot>,
    /// What closed cycles came to, the oldest first.
    pub outcomes: Vec<CycleOutcome>,
}

/// A snapshot of a disk in the cloud.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Snapshot {
    /// Which disk.
    pub disk: String,
    /// How the cloud calls it; no secret.
    pub name: String,
}

/// What a closed cycle came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CycleOutcome {
    /// Which.
    pub number: u64,
    /// When it began: its state of the source is of then.
    pub began_unix_ms: u64,
    /// From there until all disks were sealed, milliseconds.
    pub took_ms: u64,
    /// From the beginning of the cycle before, milliseconds; none where that is not known, as for a job's first one.
    pub since_last_ms: Option<u64>,
    /// Bytes read from the sources.
    pub read_bytes: u64,
    /// Encoded frames toward the target.
    pub shipped_bytes: u64,
}

impl Cycles {
    /// Begins the next cycle; what was wished for is fulfilled.
    pub(super) fn begin(&mut self, now_unix_ms: u64) {
        self.number += 1;
        (self.began_unix_ms, self.closed_unix_ms, self.wish) = (now_unix_ms, None, None);
        (self.source_stopped, self.failing) = (false, None);
        self.held.push(self.number);
    }

    /// The cycle is done; of the snapshots, only these are still there.
    pub fn close(&mut self, now_unix_ms: u64, outcome: CycleOutcome, held: Vec<u64>) {
        self.closed_unix_ms = Some(now_unix_ms);
        self.held = held;
        self.outcomes.push(outcome);
        let surplus = self.outcomes.len().saturating_sub(CYCLES_KEPT);
        self.outcomes.drain(..surplus);
    }
}
