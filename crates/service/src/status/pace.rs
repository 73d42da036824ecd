//! What was predicted, and how a job with a deadline or a budget keeps to it.

use crate::report::FindingLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A job with a deadline or a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaceStatus {
    /// When it shall be done.
    pub finish_by_unix_ms: Option<u64>,
    /// What it may send in all.
    pub max_egress_bytes: Option<u64>,
    /// Bytes of frames that it sent, in all sessions; TLS adds less than 1 %.
    pub sent_bytes: u64,
    /// What is left to send, as far as it can be told.
    pub left_bytes: Option<u64>,
    /// The pace that is held; none: no limit, or it pauses.
    pub bytes_per_second: Option<u64>,
    /// Why it cannot be kept, or why it pauses.
    pub finding: Option<FindingLine>,
}

/// What a pass was expected to cost, before it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Predicted {
    /// Number of the job.
    pub epoch: u64,
    /// Its cycle.
    pub cycle: u64,
    /// Bytes read of the source, what differs not counted twice.
    pub read_bytes: u64,
    /// Bytes to the target, as `bytes_to_target` counts them; none: nothing to judge by.
    pub ship_estimate_bytes: Option<u64>,
    /// No pass without repairs sends more.
    pub ship_at_most_bytes: u64,
}
