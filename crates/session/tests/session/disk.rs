//! Disks of a few numbers: a block has four pages that are not always zero, a page is one value, and digests are made up of the values.
//!
//! Values that differ only in their highest bit have the same truncated digests, so that what a truncated comparison
//! misses can be brought about.

use failback_model::{BlockIndex, BlockRange, BlockSize, Digest, Layout, PageSet, TruncatedDigest};
use failback_testkit::Random;

/// Pages of a block that have a value.
pub(crate) const PAGES: usize = 4;
/// The bit that truncated digests do not show.
pub(crate) const HIDDEN: u8 = 0x80;

/// Values of a block's pages; 0 is a page of zeros.
pub(crate) type Block = [u8; PAGES];

/// The layout of so many small blocks, the last one short by `missing_bytes`.
pub(crate) fn layout(blocks: u64, missing_bytes: u64) -> Layout {
    layout_of(16 << 10, blocks, missing_bytes)
}

/// The layout of so many blocks of a size. Where they have more pages than there are values, the rest is zeros for ever.
pub(crate) fn layout_of(block_bytes: u64, blocks: u64, missing_bytes: u64) -> Layout {
    let size = BlockSize::new(block_bytes).expect("a block size");
    Layout::new((blocks * size.bytes()).saturating_sub(missing_bytes), size).expect("a small disk")
}

/// Digest of a block: zero for zeros, and equal in its first half where only hidden bits differ.
pub(crate) fn digest(block: &Block) -> Digest {
    let mut digest = [0; 32];
    if *block != [0; PAGES] {
        digest[0] = 1;
        for (page, &value) in block.iter().enumerate() {
            digest[1 + page] = value & !HIDDEN;
            digest[16 + page] = value;
        }
    }
    Digest(digest)
}

/// Digest of a page as it crosses.
pub(crate) fn page_digest(value: u8) -> TruncatedDigest {
    TruncatedDigest([value & !HIDDEN; 16])
}

/// A digest of digests: the same digests in the same order, and no others, give it.
pub(crate) fn fold<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Digest {
    let mut state = [1u64; 4];
    for digest in digests {
        for (lane, word) in state.iter_mut().zip(digest.0.as_chunks::<8>().0) {
            *lane = Random::part(*lane, u64::from_le_bytes(*word)).next();
        }
    }
    let mut folded = [0; 32];
    state.iter().zip(folded.as_chunks_mut::<8>().0).for_each(|(lane, bytes)| *bytes = lane.to_le_bytes());
    Digest(folded)
}

/// Pages with contents and pages of zeros, among those that `chosen` names.
pub(crate) fn page_sets(block: &Block, chosen: impl Fn(usize) -> bool) -> (PageSet, PageSet) {
    let (mut data, mut zero) = (PageSet::EMPTY, PageSet::EMPTY);
    for (page, &value) in block.iter().enumerate().filter(|(page, _)| chosen(*page)) {
        if value == 0 { &mut zero } else { &mut data }.insert(page);
    }
    (data, zero)
}

/// The blocks of a range.
pub(crate) fn part<T>(all: &[T], blocks: BlockRange) -> &[T] {
    &all[blocks.start.0 as usize..blocks.end.0 as usize]
}

/// Runs of blocks that follow each other.
pub(crate) fn ranges(blocks: impl IntoIterator<Item = BlockIndex>) -> Vec<BlockRange> {
    let mut ranges: Vec<BlockRange> = Vec::new();
    for block in blocks {
        match ranges.last_mut() {
            Some(last) if last.end == block => last.end.0 += 1,
            _ => ranges.push(BlockRange::new(block.0, block.0 + 1)),
        }
    }
    ranges
}

/// A source and a target that differ in some blocks and pages; each page's value is below [`HIDDEN`].
pub(crate) fn pair(random: &mut Random, layout: Layout, differing_percent: u64) -> (Vec<Block>, Vec<Block>) {
    let block = |random: &mut Random| -> Block {
        let is_zero = random.below(4) == 0;
        std::array::from_fn(|_| if is_zero { 0 } else { random.below(6) as u8 })
    };
    let mut source: Vec<Block> = layout.blocks().iter().map(|_| block(random)).collect();
    let mut target = source.clone();
    for block_of in &mut target {
        match random.below(100) {
            percent if percent >= differing_percent => {}
            percent if percent % 3 == 0 => *block_of = block(random),
            percent if percent % 3 == 1 => *block_of = [0; PAGES],
            _ => block_of[random.below(PAGES as u64) as usize] = random.below(6) as u8,
        }
    }
    // Pages past the disk's end do not exist.
    if let Some(last) = layout.block_count().checked_sub(1) {
        let pages = layout.pages_of(BlockIndex(last)).min(PAGES);
        for disk in [&mut source, &mut target] {
            disk[last as usize][pages..].fill(0);
        }
    }
    (source, target)
}
