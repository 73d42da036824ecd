//! From a data message to verified writes.
//!
//! **Invariant**: nothing is written of a block whose digest, as it will stand, is not the one the source named.

use crate::compression::decompress;
use crate::pack::page_runs;
use bytes::Bytes;
use failback_model::limits::{PACK_MAX_BYTES, PAGE_BYTES};
use failback_model::{
    BlockIndex, ByteRange, Digest, Layout, PageDigest, block_digest, block_digest_of_pages,
    page_digest_alone, page_digests, zero_page_digest,
};
use failback_wire::{BlockPatch, Data, Encoding};

/// Bytes for one place of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where, from the disk's start.
    pub offset_bytes: u64,
    /// What.
    pub bytes: Bytes,
}

/// What a message came to.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Ascending; neighbours are one write where their bytes are neighbours too.
    pub writes: Vec<Write>,
    /// Ascending.
    pub zeros: Vec<ByteRange>,
    /// Digests of the blocks as they will stand, ascending.
    pub digests: Vec<(BlockIndex, Digest)>,
    /// Blocks that did not verify, ascending: nothing of them is in the lists above.
    pub failed: Vec<BlockIndex>,
}

/// Page digests of a block of the target, known from refining it or read again.
pub type OldPages<'a> = dyn Fn(BlockIndex) -> Box<[PageDigest]> + 'a;

/// Decompresses, verifies and sorts a message that the session has checked against the disk's layout.
///
/// `old_pages` is asked for blocks of which only some pages came; where it knows too few, the block fails. A payload
/// that does not decompress fails all blocks.
pub fn unpack(layout: Layout, data: &Data, old_pages: &OldPages<'_>) -> Unpacked {
    let mut unpacked = Unpacked::default();
    let Some(content) = content(data) else {
        unpacked.failed = data.patches.iter().map(|patch| patch.block).collect();
        return unpacked;
    };
    let mut at = 0;
    for patch in &data.patches {
        let length: usize = patch.data.iter().map(|page| layout.page_bytes(patch.block, page).len()).sum();
        let pages = content.slice(at..at + length);
        at += length;
        if digest_as_it_will_stand(layout, patch, &pages, old_pages) == Some(patch.digest) {
            unpacked.digests.push((patch.block, patch.digest));
            place(layout, patch, &pages, &mut unpacked);
        } else {
            unpacked.failed.push(patch.block);
        }
    }
    join_neighbours(&mut unpacked.writes, &content);
    unpacked
}

/// The pages of a message; `None` where they do not decompress to the length that the message names.
fn content(data: &Data) -> Option<Bytes> {
    let Encoding::Zstd { content_bytes } = data.encoding else { return Some(data.payload.clone()) };
    let expected = content_bytes as usize;
    if expected > PACK_MAX_BYTES {
        return None;
    }
    decompress(&data.payload, expected)
}

/// `None` where the old pages are not known.
fn digest_as_it_will_stand(
    layout: Layout,
    patch: &BlockPatch,
    pages: &[u8],
    old_pages: &OldPages<'_>,
) -> Option<Digest> {
    let count = layout.pages_of(patch.block);
    if patch.data.count() == count {
        return Some(block_digest(pages));
    }
    if patch.zero.count() == count {
        return Some(Digest::ZERO);
    }
    let is_covered = patch.data.count() + patch.zero.count() == count;
    let mut all = if is_covered { vec![zero_page_digest(0); count].into() } else { old_pages(patch.block) };
    if all.len() != count {
        return None;
    }
    let zeros = [0; PAGE_BYTES as usize];
    for page in patch.zero.iter() {
        let length = layout.page_bytes(patch.block, page).len();
        all[page] = page_digest_alone(&zeros[..length], page, count);
    }
    let mut at = 0;
    for page in patch.data.iter() {
        let length = layout.page_bytes(patch.block, page).len();
        all[page] = page_digest_alone(&pages[at..at + length], page, count);
        at += length;
    }
    Some(block_digest_of_pages(&all))
}

fn place(layout: Layout, patch: &BlockPatch, pages: &Bytes, unpacked: &mut Unpacked) {
    let base = layout.block_bytes(patch.block);
    let byte = |page: usize| (base.start() + page as u64 * PAGE_BYTES).min(base.end());
    let mut at = 0;
    for run in page_runs(&patch.data) {
        let length = (byte(run.end) - byte(run.start)) as usize;
        unpacked.writes.push(Write { offset_bytes: byte(run.start), bytes: pages.slice(at..at + length) });
        at += length;
    }
    unpacked.zeros.extend(page_runs(&patch.zero).map(|run| ByteRange::new(byte(run.start), byte(run.end))));
}

/// Makes one write of writes that touch on the disk: their bytes touch in `content` too, since both ascend.
fn join_neighbours(writes: &mut Vec<Write>, content: &Bytes) {
    let mut joined: Vec<Write> = Vec::with_capacity(writes.len());
    for write in writes.drain(..) {
        match joined.last_mut() {
            Some(last) if last.offset_bytes + last.bytes.len() as u64 == write.offset_bytes => {
                let start = last.bytes.as_ptr() as usize - content.as_ptr() as usize;
                last.bytes = content.slice(start..start + last.bytes.len() + write.bytes.len());
            }
            _ => joined.push(write),
        }
    }
    *writes = joined;
}

/// Page digests of a block's bytes, for [`OldPages`].
pub fn old_pages_of(block: &[u8]) -> Box<[PageDigest]> {
    page_digests(block).collect()
}
