//! Digests of blocks and pages, as BLAKE3 defines them.
//!
//! A block's digest is BLAKE3-256 of its bytes. A page's digest is the chaining value of the page's subtree within
//! its block (BLAKE3 specification, section 2.1 and 2.4), so the page digests of a block give the block's digest
//! without its bytes: a patched block is verified by hashing only its new pages.
//!
//! **Invariant**: a block of zeros has the all-zero digest; no other block has it (that would be a preimage of zero).

use crate::limits::{PAGE_BYTES, PAGES_PER_BLOCK_MAX};
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use std::fmt;
use std::sync::LazyLock;

/// BLAKE3-256 of a block, a chunk or a manifest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// First 16 bytes of a block's digest: what the target sends while it scans.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TruncatedDigest(pub [u8; 16]);

/// Chaining value of a page's subtree within its block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageDigest(pub [u8; 32]);

impl Digest {
    /// The digest of zeros, by definition.
    pub const ZERO: Self = Self([0; 32]);

    /// Whether it stands for zeros.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Its first half.
    pub fn truncated(&self) -> TruncatedDigest {
        TruncatedDigest(*self.0.first_chunk().expect("32 bytes hold 16"))
    }
}

impl PageDigest {
    /// Its first half, as it crosses the wire.
    pub fn truncated(&self) -> TruncatedDigest {
        TruncatedDigest(*self.0.first_chunk().expect("32 bytes hold 16"))
    }
}

impl TruncatedDigest {
    /// The digest of zeros, truncated.
    pub const ZERO: Self = Self([0; 16]);
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether every byte is zero. Looks at all of them: a block whose last byte alone is set is not zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    let mut words = bytes.chunks_exact(128);
    words.by_ref().all(|chunk| chunk.iter().fold(0, |or, byte| or | byte) == 0)
        && words.remainder().iter().all(|&byte| byte == 0)
}

/// Digest of a block's bytes; all-zero for zeros and for no bytes at all.
pub fn block_digest(block: &[u8]) -> Digest {
    if is_zero(block) { Digest::ZERO } else { Digest(*blake3::hash(block).as_bytes()) }
}

/// Digests of a block's pages in order, the last page being as long as the block leaves it.
///
/// A block of one page has one page digest, which is its block digest before the rule for zeros.
pub fn page_digests(block: &[u8]) -> impl ExactSizeIterator<Item = PageDigest> + '_ {
    (0..block.len().div_ceil(PAGE_BYTES as usize)).map(move |page| page_digest(block, page))
}

/// Digest of page `page` (from 0) of a block. Panics where the block has no such page.
pub fn page_digest(block: &[u8], page: usize) -> PageDigest {
    let start = page * PAGE_BYTES as usize;
    let bytes = &block[start..block.len().min(start + PAGE_BYTES as usize)];
    page_digest_alone(bytes, page, block.len().div_ceil(PAGE_BYTES as usize))
}

/// Digest of a page that is page `page` of a block of `pages` pages.
///
/// A page of zeros costs a look-up: there are many of them, and only 256 places for them.
pub fn page_digest_alone(bytes: &[u8], page: usize, pages: usize) -> PageDigest {
    if pages == 1 {
        return PageDigest(*blake3::hash(bytes).as_bytes());
    }
    if bytes.len() as u64 == PAGE_BYTES && is_zero(bytes) {
        return zero_page_digest(page);
    }
    subtree_digest(bytes, page)
}

fn subtree_digest(bytes: &[u8], page: usize) -> PageDigest {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(page as u64 * PAGE_BYTES);
    PageDigest(hasher.update(bytes).finalize_non_root())
}

/// Digest of a whole page of zeros that is page `page` (0..256) of a block of several pages.
pub fn zero_page_digest(page: usize) -> PageDigest {
    static TABLE: LazyLock<Box<[PageDigest]>> = LazyLock::new(|| {
        (0..PAGES_PER_BLOCK_MAX).map(|page| subtree_digest(&[0; PAGE_BYTES as usize], page)).collect()
    });
    TABLE[page]
}

/// The block's digest from its page digests in order. Zeros are the caller's to name: pages do not tell.
///
/// Panics on no page.
pub fn block_digest_of_pages(pages: &[PageDigest]) -> Digest {
    assert!(!pages.is_empty(), "a block has at least one page");
    if let [only] = pages {
        return Digest(only.0);
    }
    let (left, right) = pages.split_at(left_pages(pages.len()));
    Digest(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes())
}

/// BLAKE3 trees are left-complete: the left child takes the largest power of two below the whole.
fn left_pages(count: usize) -> usize {
    count.next_power_of_two() / 2
}

fn subtree(pages: &[PageDigest]) -> [u8; 32] {
    if let [only] = pages {
        return only.0;
    }
    let (left, right) = pages.split_at(left_pages(pages.len()));
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_digests_give_the_block_digest_at_every_length() {
        let bytes: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for length in [1, 4095, 4096, 4097, 8192, 12_288, 65_535, 65_536, 70_001, 1 << 20] {
            let mut block = bytes[..length].to_vec();
            // A page of zeros among others takes its digest from the table.
            block[length / 2 / 4096 * 4096..length / 2].fill(0);
            block[length.min(8192) / 2..length.min(8192)].fill(0);
            block[0] = 1;
            let pages: Vec<_> = page_digests(&block).collect();
            assert_eq!(pages.len(), length.div_ceil(4096));
            assert_eq!(block_digest_of_pages(&pages), block_digest(&block), "length {length}");
        }
    }

    #[test]
    fn only_zeros_are_zero() {
        let mut block = vec![0; 65_536];
        assert!(block_digest(&block).is_zero() && block_digest(&[]).is_zero());
        for position in [0, 127, 128, 65_407, 65_535] {
            block[position] = 1;
            assert!(!block_digest(&block).is_zero(), "byte {position}");
            block[position] = 0;
        }
        assert!(is_zero(&block[..1000]) && !is_zero(&[0, 0, 1]));
    }
}
