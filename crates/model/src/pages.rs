//! A set of pages within one block.

use crate::limits::PAGES_PER_BLOCK_MAX;

const WORDS: usize = PAGES_PER_BLOCK_MAX / 64;

/// Pages of one block, by their position from the block's start (0..256).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct PageSet([u64; WORDS]);

impl PageSet {
    /// No page.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Pages `0..count`.
    pub fn first(count: usize) -> Self {
        let mut set = Self::EMPTY;
        for page in 0..count {
            set.insert(page);
        }
        set
    }

    /// Adds a page. Panics at 256 and above.
    pub fn insert(&mut self, page: usize) {
        self.0[page / 64] |= 1 << (page % 64);
    }

    /// Whether the page is in the set.
    pub fn contains(&self, page: usize) -> bool {
        page < PAGES_PER_BLOCK_MAX && self.0[page / 64] >> (page % 64) & 1 == 1
    }

    /// Number of pages.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it holds no page.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// Whether the two share a page.
    pub fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// Highest page plus one; 0 for the empty set.
    pub fn end(&self) -> usize {
        (0..WORDS)
            .rev()
            .find(|&w| self.0[w] != 0)
            .map_or(0, |w| w * 64 + 64 - self.0[w].leading_zeros() as usize)
    }

    /// The pages in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(w, &word)| {
            std::iter::successors((word != 0).then_some(word), |bits| {
                let rest = bits & (bits - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |bits| w * 64 + bits.trailing_zeros() as usize)
        })
    }

    /// The set as `count.div_ceil(8)` bytes, page 0 in the lowest bit of the first.
    pub fn to_bytes(&self, count: usize) -> impl Iterator<Item = u8> + '_ {
        (0..count.div_ceil(8)).map(|i| (self.0[i / 8] >> (i % 8 * 8)) as u8)
    }

    /// The inverse of [`Self::to_bytes`]; `None` where there are too many bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > WORDS * 8 {
            return None;
        }
        let mut set = Self::EMPTY;
        for (i, &byte) in bytes.iter().enumerate() {
            set.0[i / 8] |= u64::from(byte) << (i % 8 * 8);
        }
        Some(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_in_order_and_through_bytes() {
        let mut set = PageSet::EMPTY;
        for page in [255, 0, 63, 64, 130] {
            set.insert(page);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 130, 255]);
        assert_eq!((set.count(), set.end()), (5, 256));
        let bytes: Vec<u8> = set.to_bytes(256).collect();
        assert_eq!(PageSet::from_bytes(&bytes), Some(set));
        assert_eq!(PageSet::from_bytes(&[0; 33]), None);
        assert_eq!(PageSet::first(16).to_bytes(16).collect::<Vec<_>>(), [255, 255]);
    }
}
