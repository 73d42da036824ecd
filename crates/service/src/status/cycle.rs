//! A machine's cycles, and how a disk's changes are known, as status shows them.

use crate::registry::{CycleOutcome, CycleWish};
use crate::report::FindingLine;
use crate::size::human;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A machine's cycles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CycleStatus {
    /// The cycle that is under way or was the last, from 1; counts up over all jobs.
    pub number: u64,
    /// The source is off for it: nothing follows it.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// When it began: its state of the source is of then.
    pub began_unix_ms: u64,
    /// When all disks were sealed in it; none: it is under way.
    pub closed_unix_ms: Option<u64>,
    /// What was asked for and is not begun.
    pub wish: Option<CycleWish>,
    /// Seconds from the beginning of a cycle to the next; none: only when asked.
    pub every_seconds: Option<u64>,
    /// When the next one begins; none: nobody asked.
    pub next_unix_ms: Option<u64>,
    /// Age of the newest state that the target sealed whole, seconds; none: there is none.
    pub lag_seconds: Option<u64>,
    /// The last one that closed.
    pub last: Option<CycleOutcome>,
    /// What cycles ship for what changes in an hour; none: not known yet.
    pub churn_bytes_per_hour: Option<u64>,
    /// What a final cycle would take if it began now, seconds; none: not known yet.
    pub final_seconds: Option<u64>,
    /// Why cycles do not converge; none: they do, or that is not known yet.
    pub verdict: Option<FindingLine>,
}

/// How a source's digests are known in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// All of it is scanned.
    Scan,
    /// What an earlier try of this state scanned is not scanned again.
    Resumed,
    /// Only what its feed names, and a sample of the rest, is read.
    Feed,
}

/// How a pass knows what its source holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// How.
    pub how: How,
    /// The cycle whose state the feed starts from.
    pub base_cycle: Option<u64>,
    /// Bytes of blocks that may differ from that state.
    pub named_bytes: Option<u64>,
    /// Bytes of other blocks that were read again and found as they were.
    pub checked_bytes: u64,
    /// Why no feed is used, or what is worth knowing.
    pub finding: Option<FindingLine>,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            How::Scan => f.write_str("all of the source is scanned"),
            How::Resumed => f.write_str("what was scanned before is not scanned again"),
            How::Feed => {
                let (named, checked) =
                    (human(self.named_bytes.unwrap_or_default()), human(self.checked_bytes));
                write!(f, "{named} named by the feed")?;
                self.base_cycle.map_or(Ok(()), |base| write!(f, " since cycle {base}"))?;
                write!(f, ", {checked} of the rest checked")
            }
        }
    }
}
