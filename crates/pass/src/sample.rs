//! A sample of a source that fits the request for a session, so that the target judges by itself, and before anything
//! changes, whether it is another disk.
//!
//! The source is cut into strides. Of each that holds data one block is named with its digest; one of which none is named
//! is all holes. Its blocks have 16 KiB whatever the pass's have, and a last one that is shorter is left out.
//!
//! **Invariant**: as for the guard within one process, what counts is what would be lost: a block that holds data at the
//! target. Where the source names a block, that one is looked at; where it has only holes, any data of the target counts
//! as different.

use crate::wrong_disk::{Sample, next_data_block, read, scatter};
use failback_blockio::{DiskError, Operation, UnitSource};
use failback_model::limits::SAMPLE_MAX_BLOCKS;
use failback_model::{BlockIndex, BlockRange, BlockSize, Code, Layout, block_digest};
use failback_wire::SampledBlock;

/// Names blocks of a source. Reads no holes, and at most 4 MiB.
pub(crate) fn sample_of(source: &dyn UnitSource) -> Result<Vec<SampledBlock>, DiskError> {
    let layout = layout_of(source, source.geometry().length_bytes)?;
    let mut named = Vec::new();
    for stride in strides(layout) {
        if let Some(block) = data_block_in(source, layout, stride)? {
            let digest = block_digest(&read(source, layout, block)?).truncated();
            named.push(SampledBlock { block, digest });
        }
    }
    Ok(named)
}

/// Why a target does not look like a source of this length with this sample; `None` where it does.
pub fn is_another_disk(
    target: &dyn UnitSource,
    source_bytes: u64,
    named: &[SampledBlock],
) -> Result<Option<String>, DiskError> {
    let layout = layout_of(target, source_bytes)?;
    let own_blocks = whole_blocks(layout_of(target, target.geometry().length_bytes)?);
    let mut sample = Sample::default();
    for stride in strides(layout) {
        let stride = BlockRange::new(stride.start.0.min(own_blocks), stride.end.0.min(own_blocks));
        let first = named.partition_point(|named| named.block < stride.start);
        let named = named.get(first).filter(|named| named.block < stride.end);
        let block = match named {
            Some(named) => Some(named.block),
            None => data_block_in(target, layout, stride)?,
        };
        if let Some(block) = block {
            let theirs = block_digest(&read(target, layout, block)?);
            let is_same = named.is_some_and(|named| named.digest == theirs.truncated());
            sample.blocks += u64::from(!theirs.is_zero());
            sample.differing_blocks += u64::from(!theirs.is_zero() && !is_same);
        }
    }
    Ok(sample.verdict(target))
}

/// A disk that is as long as `length_bytes` says.
fn layout_of(disk: &dyn UnitSource, length_bytes: u64) -> Result<Layout, DiskError> {
    Layout::new(length_bytes, BlockSize::MIN).map_err(|error| {
        DiskError::new(Code::ImageSizeUnsupported, Operation::Open, disk.name(), error.to_string())
    })
}

/// Blocks that are as long as a block is.
fn whole_blocks(layout: Layout) -> u64 {
    layout.length_bytes() / layout.block_size().bytes()
}

/// The whole blocks of a disk in at most as many parts as blocks may be named.
fn strides(layout: Layout) -> impl Iterator<Item = BlockRange> {
    let count = whole_blocks(layout);
    let step = count.div_ceil(SAMPLE_MAX_BLOCKS as u64).max(1);
    (0..count).step_by(step as usize).map(move |start| BlockRange::new(start, (start + step).min(count)))
}

/// A block of a stride that is no hole: the first behind a place that no regular pattern on the disk can follow, else the
/// first of all.
fn data_block_in(
    disk: &dyn UnitSource,
    layout: Layout,
    stride: BlockRange,
) -> Result<Option<BlockIndex>, DiskError> {
    if stride.is_empty() {
        return Ok(None);
    }
    for from in [stride.start.0 + scatter(stride.start.0) % stride.count(), stride.start.0] {
        let found = next_data_block(disk, layout, from)?.filter(|block| *block < stride.end);
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
