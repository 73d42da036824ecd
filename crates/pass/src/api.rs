//! What a caller of a pass sees: options in, a plan, counters while it runs, an outcome.

use crate::stage::StageTimes;
use failback_blockio::{DiskError, UnitSource};
use failback_image::Image;
use failback_model::limits::{PACK_MAX_BYTES, REREAD_POOL_MAX_BYTES, THREADS_MAX, WINDOW_DEFAULT_BYTES};
use failback_model::{BlockSize, Code, Digest, Finding};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Whether a block that differs is narrowed to its pages before it ships.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refinement {
    /// On, but off for a while where most pages of recent blocks differ.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: whole blocks ship.
    Off,
}

/// Whether packed pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// By the link; off in one process.
    #[default]
    Auto,
    /// Never.
    Off,
    /// At this zstd level, except where a probe finds the data incompressible.
    Level(i32),
}

/// Options of a pass.
#[derive(Clone)]
pub struct PassOptions {
    /// Unit of comparison.
    pub block_size: BlockSize,
    /// Narrowing to pages.
    pub refinement: Refinement,
    /// Compression of packed pages.
    pub compression: Compression,
    /// Reader threads at each end, 1..=64.
    pub threads: usize,
    /// Re-read the whole target from its medium at the end and compare roots.
    pub verify: bool,
    /// Extend a target file that is too short.
    pub grow: bool,
    /// Overwrite a target that looks like another disk.
    pub accept_mismatch: bool,
    /// Bytes on their way from source to target at any time.
    pub window_bytes: u64,
    /// Disks whose blocks the target may copy instead of receiving them.
    pub seeds: Vec<Arc<dyn UnitSource>>,
}

impl PassOptions {
    /// Reader threads, within what is possible.
    pub(crate) fn reader_threads(&self) -> usize {
        self.threads.clamp(1, THREADS_MAX)
    }

    /// Memory for reading blocks that differ a second time, at one end.
    pub(crate) fn reread_pool_bytes(&self) -> usize {
        (self.reader_threads() * 4 * PACK_MAX_BYTES).min(REREAD_POOL_MAX_BYTES)
    }
}

impl Default for PassOptions {
    fn default() -> Self {
        Self {
            block_size: BlockSize::DEFAULT,
            refinement: Refinement::Auto,
            compression: Compression::Auto,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            verify: false,
            grow: false,
            accept_mismatch: false,
            window_bytes: WINDOW_DEFAULT_BYTES,
            seeds: Vec::new(),
        }
    }
}

/// Where a pass goes.
#[derive(Clone)]
pub enum Target {
    /// Original-location recovery: the disk exists.
    Existing(Arc<dyn Image>),
    /// Alternate-location recovery: it will be created, or just was, and reads as zero.
    New(Option<Arc<dyn Image>>),
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of a running pass, read by whoever shows progress. All only ever grow.
        #[derive(Debug, Default)]
        pub struct Progress {
            $($(#[$doc])* pub $name: AtomicU64,)*
            /// Thread time of each stage.
            pub times: StageTimes,
            /// Contents that were sent and are not written at the other end: the one number that also falls.
            pub credit_used_bytes: AtomicU64,
        }

        impl Progress {
            /// Every counter with its name.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), Self::get(&self.$name)),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Bytes of the source's disk accounted for by its scan, holes included; ends at the disk's length.
    scanned_source_bytes,
    /// Bytes of the target's disk accounted for by its scan, holes included.
    scanned_target_bytes,
    /// Bytes read from the source.
    bytes_read_source,
    /// Bytes read from the target (and not from seeds).
    bytes_read_target,
    /// Bytes of trusted blocks that were read again before the pass, to notice what else wrote to the target.
    bytes_rechecked_target,
    /// Bytes read from seeds to index them.
    bytes_read_seeds,
    /// Blocks compared.
    blocks_compared,
    /// Blocks that differ.
    blocks_differing,
    /// Blocks that differed and that the target has written.
    blocks_settled,
    /// Messages with contents that the target said are durable.
    messages_acknowledged,
    /// Pages shipped with their contents.
    pages_shipped,
    /// Bytes made zero by a message instead of contents.
    zero_bytes,
    /// Bytes that came from a seed.
    seed_bytes,
    /// Encoded frames toward the target, bytes.
    bytes_to_target,
    /// Encoded frames toward the source, bytes.
    bytes_to_source,
    /// Bytes written to the target, zeroing included.
    bytes_written,
    /// How far in the target what was written reaches.
    written_end_bytes,
    /// Bytes re-read and proven by `verify`.
    verified_bytes,
    /// Blocks fetched whole because what arrived did not verify, or repaired after a root mismatch.
    blocks_repaired,
}

impl Progress {
    /// Adds to one counter.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Reads one counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Asks a running pass to stop; it flushes what it wrote and returns `Code::Cancelled`.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    is_cancelled: AtomicBool,
    reason: OnceLock<Finding>,
}

impl Cancel {
    /// Asks. May be called from any thread, any number of times.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// Asks, and says what the other end is told; the first reason counts.
    pub fn cancel_because(&self, reason: Finding) {
        self.0.reason.get_or_init(|| reason);
        self.cancel();
    }

    /// Whether it was asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::Relaxed)
    }

    /// What the other end is told about a pass that ends by this error.
    pub(crate) fn told(&self, error: &PassError) -> Option<Finding> {
        match (error, self.0.reason.get()) {
            (PassError::Cancelled, Some(reason)) => Some(reason.clone()),
            // The other end said so itself.
            (PassError::Failed(finding), _) if finding.code.is_orderly_stop() => None,
            _ => error.findings().into_iter().next(),
        }
    }

    /// The error to return where it was asked.
    pub(crate) fn check(&self) -> Result<(), PassError> {
        if self.is_cancelled() { Err(PassError::Cancelled) } else { Ok(()) }
    }
}

/// What a finished pass did; the counters are final in the [`Progress`] that was passed in.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Length of the source's disk, bytes.
    pub virtual_size_bytes: u64,
    /// Unit of comparison.
    pub block_size: BlockSize,
    /// Blocks of the source.
    pub blocks_total: u64,
    /// Root of the source's bytes, and now of the target's.
    pub root: Digest,
    /// Whether the target was re-read from its medium.
    pub verified: bool,
    /// From start to durable end.
    pub elapsed: Duration,
    /// Warnings met on the way.
    pub findings: Vec<Finding>,
}

/// Why a pass did not finish. The target holds a mixture that a second run completes.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A disk failed.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// Refused before anything was written; all reasons.
    #[error("refused: {}", .0.iter().map(|finding| finding.evidence.as_str()).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Finding>),
    /// Stopped on request.
    #[error("stopped on request; what was written is durable")]
    Cancelled,
    /// The other end is gone without a word; whoever has the connection knows why.
    #[error("the other end stopped")]
    PeerGone,
    /// Anything else, as a finding.
    #[error("{}", .0.evidence)]
    Failed(Finding),
}

impl PassError {
    /// Everything to report.
    pub fn findings(&self) -> Vec<Finding> {
        match self {
            Self::Disk(error) => vec![error.to_finding()],
            Self::Refused(findings) => findings.clone(),
            Self::Cancelled => vec![Finding::error(Code::Cancelled, self.to_string())],
            Self::PeerGone => vec![Finding::error(Code::PeerFailed, self.to_string())],
            Self::Failed(finding) => vec![finding.clone()],
        }
    }
}
