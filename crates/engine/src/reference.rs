//! The whole pass in one short function: one thread, no queues, no protocol. Slow on purpose and easy to check by eye.
//!
//! The fast path is proved equal to it: same target, same manifest, same root, same pages shipped.

use crate::refine::{RefinedBlock, refine, whole};
use crate::sink::Sink;
use failback_blockio::{DiskError, UnitSource};
use failback_format::manifest::RootHasher;
use failback_model::limits::PAGE_BYTES;
use failback_model::{
    BlockIndex, ByteRange, ChunkIndex, Digest, Layout, TruncatedDigest, block_digest, page_digests,
};
use std::collections::BTreeSet;

/// What a pass came to.
#[derive(Debug, PartialEq, Eq)]
pub struct ReferenceOutcome {
    /// Digest of every block of the source, and now of the target.
    pub entries: Vec<Digest>,
    /// Root over them.
    pub root: Digest,
    /// Pages whose contents travelled: block, and page within it.
    pub shipped: BTreeSet<(BlockIndex, usize)>,
}

/// Brings `target` to the state of `source`, block after block.
pub fn reference_pass(
    source: &dyn UnitSource,
    target: &dyn Sink,
    layout: Layout,
    refines: bool,
) -> Result<ReferenceOutcome, DiskError> {
    let mut entries = Vec::new();
    let mut shipped = BTreeSet::new();
    target.begin(&[layout.blocks()], &[layout.bytes_of(layout.blocks())])?;
    for block in layout.blocks().iter() {
        let bytes = layout.block_bytes(block);
        let mut new = vec![0; bytes.length_bytes() as usize];
        let mut old = new.clone();
        source.read_at(bytes.start(), &mut new)?;
        target.read_old(bytes.start(), &mut old)?;
        let (digest, old_digest) = (block_digest(&new), block_digest(&old));
        entries.push(digest);
        if digest == old_digest {
            continue;
        }
        if digest.is_zero() {
            target.zero(bytes)?;
            continue;
        }
        let chosen = if refines && !old_digest.is_zero() {
            let theirs: Vec<TruncatedDigest> = page_digests(&old).map(|page| page.truncated()).collect();
            refine(&new, &theirs)
        } else {
            whole(&new)
        };
        ship(target, bytes, &new, &chosen, old_digest.is_zero())?;
        shipped.extend(chosen.data.iter().map(|page| (block, page)));
    }
    target.commit()?;
    let root = root_of(layout, &entries);
    target.seal(root)?;
    Ok(ReferenceOutcome { entries, root, shipped })
}

fn ship(
    target: &dyn Sink,
    bytes: ByteRange,
    new: &[u8],
    chosen: &RefinedBlock,
    is_zero_already: bool,
) -> Result<(), DiskError> {
    for (page, contents) in new.chunks(PAGE_BYTES as usize).enumerate() {
        let start = bytes.start() + page as u64 * PAGE_BYTES;
        if chosen.data.contains(page) {
            target.write(start, contents)?;
        } else if chosen.zero.contains(page) && !is_zero_already {
            target.zero(ByteRange::new(start, start + contents.len() as u64))?;
        }
    }
    Ok(())
}

/// The root of a disk with these digests.
pub fn root_of(layout: Layout, entries: &[Digest]) -> Digest {
    let mut root = RootHasher::new(layout);
    for chunk in 0..layout.chunk_count() {
        let blocks = layout.chunk_blocks(ChunkIndex(chunk));
        let of_chunk = &entries[blocks.start.0 as usize..blocks.end.0 as usize];
        let bytes: Vec<u8> = of_chunk.iter().flat_map(|digest| digest.0).collect();
        root.update(failback_format::manifest::chunk_digest(&bytes));
    }
    root.finish()
}
