//! A plan: both ends, what a pass between them would read, ship and take, and everything that speaks against it.
//!
//! **Invariant**: numbers that end in `_estimate` are guesses and say from what; `ship_at_most_bytes` is a bound.

use failback_image::{Image, ImageIdentity, Provisioning};
use failback_model::{BlockSize, DiskGeometry, Finding, Layout, Severity};
use std::path::PathBuf;

/// How fast disks are taken to be where a time is predicted: a lone hard disk reads slower, a flash disk faster.
pub const ASSUMED_READ_BYTES_PER_SECOND: u64 = 400 << 20;
/// How fast contents are taken to arrive on the target's medium.
pub const ASSUMED_WRITE_BYTES_PER_SECOND: u64 = 200 << 20;

/// What a pass would do, found without writing a byte.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How the bytes that travel are cut: the source's disk, without an excess of zeros that stays away.
    pub layout: Layout,
    /// Length of what travels, bytes; the same in an [`crate::Outcome`].
    pub virtual_size_bytes: u64,
    /// Unit of comparison.
    pub block_size: BlockSize,
    /// Blocks of what travels.
    pub blocks_total: u64,
    /// `original-location` or `alternate-location`.
    pub strategy: &'static str,
    /// Where the bytes come from.
    pub source: End,
    /// Where they go; `None` where it does not exist yet.
    pub target: Option<End>,
    /// Length of the target's disk after the pass, bytes.
    pub target_size_bytes: u64,
    /// Bytes of the source's blocks that are not holes: what its scan reads. Blocks that differ are read once more.
    pub read_source_bytes: u64,
    /// The same of the target.
    pub read_target_bytes: u64,
    /// The same of all seeds.
    pub read_seeds_bytes: u64,
    /// Bytes of the target that `verify` reads at the end, at most.
    pub read_verify_bytes: u64,
    /// No pass without repairs sends more encoded bytes to the target.
    pub ship_at_most_bytes: u64,
    /// What it probably sends, judged by the blocks that were sampled; `None` where none were.
    pub ship_estimate: Option<ShipEstimate>,
    /// How long it takes, at the assumed rates.
    pub seconds_estimate: f64,
    /// Everything found, errors first.
    pub findings: Vec<Finding>,
}

/// A guess and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShipEstimate {
    /// Bytes to the target.
    pub bytes: u64,
    /// Blocks that both disks hold data in and that were compared.
    pub sampled_blocks: u64,
}

/// One end of a pass.
#[derive(Debug, Clone)]
pub struct End {
    /// As it was named.
    pub name: PathBuf,
    /// Format and ids of the container.
    pub identity: ImageIdentity,
    /// Id of the partition table, such as `GPT` and a GUID.
    pub disk_id: Option<String>,
    /// Length and sector size.
    pub geometry: DiskGeometry,
    /// How it takes space.
    pub provisioning: Provisioning,
}

impl End {
    pub(crate) fn of(image: &dyn Image, disk_id: Option<String>) -> Self {
        Self {
            name: image.name().into(),
            identity: image.identity(),
            disk_id,
            geometry: image.geometry(),
            provisioning: image.provisioning(),
        }
    }
}

impl Plan {
    /// Whether a finding forbids the pass.
    pub fn is_refused(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}
