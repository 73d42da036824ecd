//! What a pass will read and ship, from hole maps and a sample.

use crate::api::{Cancel, PassError, PassOptions, Refinement};
use crate::planned::{ASSUMED_READ_BYTES_PER_SECOND, ASSUMED_WRITE_BYTES_PER_SECOND, ShipEstimate};
use crate::wrong_disk::Sample;
use failback_blockio::UnitSource;
use failback_model::limits::{DIGEST_WINDOW_BLOCKS, PAGE_BYTES};
use failback_model::{ByteRange, Layout};

/// Greeting, first credit and seal.
const SESSION_BYTES: u64 = 1 << 10;
/// Everything about one block of contents but its pages: a frame of its own, its patch (digest and two sets of up to 256
/// pages), a request for its page digests, an offer to seeds.
const BLOCK_OVERHEAD_BYTES: u64 = 256;
/// A message that makes one block zero.
const ZERO_OVERHEAD_BYTES: u64 = 64;
/// A frame that returns credit for digests, and how many blocks it returns at least.
const CREDIT_BYTES: u64 = 32;
const CREDIT_BLOCKS: u64 = DIGEST_WINDOW_BLOCKS / 4;

/// What of a disk is no hole.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Data {
    /// Blocks with any data in them.
    pub(crate) blocks: u64,
    /// Bytes of those blocks: what may travel.
    pub(crate) bytes: u64,
    /// Bytes that are no holes: what a scan reads.
    pub(crate) read_bytes: u64,
}

/// Walks a disk's hole map.
pub(crate) fn data_of(disk: &dyn UnitSource, layout: Layout, cancel: &Cancel) -> Result<Data, PassError> {
    let whole = ByteRange::new(0, layout.length_bytes().min(disk.geometry().length_bytes));
    let mut found = Data::default();
    let mut next_block = 0;
    let mut at = 0;
    while at < whole.end() {
        cancel.check()?;
        let Some(data) = disk.next_data(at)?.and_then(|data| data.intersection(whole)) else { break };
        found.read_bytes += data.length_bytes();
        let covered = layout.blocks_covering(data);
        let first = covered.start.0.max(next_block);
        if first < covered.end.0 {
            let blocks = failback_model::BlockRange::new(first, covered.end.0);
            found.blocks += blocks.count();
            found.bytes += layout.bytes_of(blocks).length_bytes();
            next_block = covered.end.0;
        }
        at = data.end().max(at + 1);
    }
    Ok(found)
}

/// Most encoded bytes toward the target.
pub(crate) fn ship_at_most(layout: Layout, source: Data, target: Data) -> u64 {
    SESSION_BYTES
        + source.bytes
        + source.blocks * BLOCK_OVERHEAD_BYTES
        + (source.blocks + target.blocks) * ZERO_OVERHEAD_BYTES
        + layout.block_count() / CREDIT_BLOCKS * CREDIT_BYTES
}

/// What the sample's share of pages (or blocks, where they travel whole) makes of the disks. What the target holds less
/// than the source travels in any case.
pub(crate) fn ship_estimate(
    sample: Sample,
    source: Data,
    target: Data,
    options: &PassOptions,
    at_most_bytes: u64,
) -> Option<ShipEstimate> {
    let changed_pages = match options.refinement {
        Refinement::Off => sample.touched_pages,
        Refinement::Auto | Refinement::On => sample.differing_pages,
    };
    let common_bytes = source.bytes.min(target.bytes);
    let changed_bytes =
        (u128::from(common_bytes) * u128::from(changed_pages)).checked_div(sample.pages.into())? as u64;
    let bytes = changed_bytes + (source.bytes - common_bytes);
    let frames = bytes / PAGE_BYTES * 12 + SESSION_BYTES;
    Some(ShipEstimate { bytes: (bytes + frames).min(at_most_bytes), sampled_blocks: sample.blocks })
}

/// Both ends are read at once, contents are written meanwhile, `verify` comes last.
pub(crate) fn seconds(
    source: Data,
    target: Data,
    seeds_bytes: u64,
    verify_bytes: u64,
    written_bytes: u64,
) -> f64 {
    let read = |bytes: u64| bytes as f64 / ASSUMED_READ_BYTES_PER_SECOND as f64;
    let write = written_bytes as f64 / ASSUMED_WRITE_BYTES_PER_SECOND as f64;
    read(seeds_bytes) + read(source.read_bytes.max(target.read_bytes)).max(write) + read(verify_bytes)
}
