//! From a block that differs to the pages that differ.

use failback_model::limits::PAGE_BYTES;
use failback_model::{
    Digest, PageDigest, PageSet, TruncatedDigest, block_digest, block_digest_of_pages, is_zero, page_digests,
};

/// What of a block must travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefinedBlock {
    /// The block's digest as it was read now.
    pub digest: Digest,
    /// Pages whose contents travel.
    pub data: PageSet,
    /// Pages that become zero.
    pub zero: PageSet,
}

/// Compares a block's pages with the target's page digests. `target` holds one for each page.
pub fn refine(block: &[u8], target: &[TruncatedDigest]) -> RefinedBlock {
    let own: Vec<PageDigest> = page_digests(block).collect();
    debug_assert_eq!(own.len(), target.len(), "one digest a page");
    let digest = if is_zero(block) { Digest::ZERO } else { block_digest_of_pages(&own) };
    let (mut data, mut zero) = (PageSet::EMPTY, PageSet::EMPTY);
    for (page, (bytes, (own, theirs))) in
        block.chunks(PAGE_BYTES as usize).zip(own.iter().zip(target)).enumerate()
    {
        if own.truncated() == *theirs {
            continue;
        }
        if is_zero(bytes) { &mut zero } else { &mut data }.insert(page);
    }
    RefinedBlock { digest, data, zero }
}

/// All of a block: its zero pages as zeros, the others as contents.
pub fn whole(block: &[u8]) -> RefinedBlock {
    let (data, zero) = choose_pages(block);
    // Where most pages are zero, hashing the others one by one is less work than hashing all at once.
    let digest = if !data.is_empty() && zero.count() > data.count() {
        block_digest_of_pages(&page_digests(block).collect::<Vec<_>>())
    } else {
        block_digest(block)
    };
    RefinedBlock { digest, data, zero }
}

/// A block's pages with contents, and its zero pages.
pub fn choose_pages(block: &[u8]) -> (PageSet, PageSet) {
    let (mut data, mut zero) = (PageSet::EMPTY, PageSet::EMPTY);
    for (page, bytes) in block.chunks(PAGE_BYTES as usize).enumerate() {
        if is_zero(bytes) { &mut zero } else { &mut data }.insert(page);
    }
    (data, zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_differ_are_named_and_zero_pages_apart() {
        let old = vec![7u8; 5 * 4096 + 100];
        let theirs: Vec<_> = page_digests(&old).map(|page| page.truncated()).collect();
        let mut new = old.clone();
        new[2 * 4096] = 1;
        new[3 * 4096..4 * 4096].fill(0);
        new[5 * 4096 + 99] = 2;
        let refined = refine(&new, &theirs);
        assert_eq!(refined.data.iter().collect::<Vec<_>>(), [2, 5]);
        assert_eq!(refined.zero.iter().collect::<Vec<_>>(), [3]);
        assert_eq!(refined.digest, block_digest(&new));
        assert_eq!(refine(&old, &theirs).data, PageSet::EMPTY);
        assert_eq!(whole(&new).data.count() + whole(&new).zero.count(), 6);
    }
}
