//! What the next passes of a machine are expected to cost, before a byte is sent.

use crate::report::FindingLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A machine's next passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    /// Machine.
    pub machine: String,
    /// Its disks.
    pub disks: Vec<DiskForecast>,
    /// What its bandwidth allows now, bytes a second; none: no limit.
    pub bandwidth_bytes_per_second: Option<u64>,
    /// How fast disks are taken to be read, bytes a second.
    pub assumed_read_bytes_per_second: u64,
}

/// One disk. Its chunks have 1024 blocks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DiskForecast {
    /// Disk.
    pub disk: String,
    /// Its source.
    pub source: String,
    /// Its length, bytes.
    pub length_bytes: u64,
    /// What the target is known to hold.
    pub target: String,
    /// Chunks that are not read, because what they hold is known.
    pub chunks_trusted: u64,
    /// Chunks of which something is read.
    pub chunks_scanned: u64,
    /// Chunks without any data.
    pub chunks_absent: u64,
    /// Why chunks are trusted; none: none are.
    pub trusted_why: Option<String>,
    /// Why the others are read.
    pub scanned_why: String,
    /// Bytes read of the source; what differs is read once more where it was not kept.
    pub read_bytes: u64,
    /// Blocks that were read to judge by.
    pub sampled_blocks: u64,
    /// Of those, in percent, blocks that are not as the target sealed them; none: nothing to compare with.
    pub sampled_changed_percent: Option<u64>,
    /// What their contents are compressed to, percent.
    pub sampled_packed_percent: u64,
    /// Bytes to the target, judged by the sample; none: nothing to judge by.
    pub ship_estimate_bytes: Option<u64>,
    /// No pass without repairs sends more.
    pub ship_at_most_bytes: u64,
    /// Space for undo that the target needs, judged by the sample; 0 where it is made anew.
    pub undo_estimate_bytes: Option<u64>,
    /// No pass needs more.
    pub undo_at_most_bytes: u64,
    /// What speaks against it, or is worth knowing.
    pub findings: Vec<FindingLine>,
}
