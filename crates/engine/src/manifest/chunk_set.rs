//! A set of chunks as bits: at most 512 KiB for the largest disk with the smallest blocks.

use failback_model::ChunkIndex;

const WORD_BITS: u64 = u64::BITS as u64;

/// Some of a manifest's chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChunkSet {
    words: Vec<u64>,
    count: u64,
}

impl ChunkSet {
    /// None of `count` chunks.
    pub(super) fn empty(count: u64) -> Self {
        Self { words: vec![0; count.div_ceil(WORD_BITS) as usize], count }
    }

    /// Adds a chunk. Panics where there is no such chunk.
    pub(super) fn insert(&mut self, chunk: ChunkIndex) {
        assert!(chunk.0 < self.count, "a chunk of the manifest");
        self.words[(chunk.0 / WORD_BITS) as usize] |= 1 << (chunk.0 % WORD_BITS);
    }

    /// Whether it holds a chunk. Panics where there is no such chunk.
    pub(super) fn contains(&self, chunk: ChunkIndex) -> bool {
        assert!(chunk.0 < self.count, "a chunk of the manifest");
        self.words[(chunk.0 / WORD_BITS) as usize] >> (chunk.0 % WORD_BITS) & 1 == 1
    }

    /// The first chunk at or after `from`.
    pub(super) fn next(&self, from: ChunkIndex) -> Option<ChunkIndex> {
        let first = (from.0 / WORD_BITS) as usize;
        let mut mask = u64::MAX << (from.0 % WORD_BITS);
        for (index, word) in self.words.iter().enumerate().skip(first) {
            let bits = word & mask;
            if bits != 0 {
                return Some(ChunkIndex(index as u64 * WORD_BITS + u64::from(bits.trailing_zeros())));
            }
            mask = u64::MAX;
        }
        None
    }

    /// The chunks in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = ChunkIndex> + '_ {
        std::iter::successors(self.next(ChunkIndex(0)), |last| self.next(ChunkIndex(last.0 + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_in_order_across_words_and_none_comes_past_the_end() {
        let mut set = ChunkSet::empty(130);
        assert_eq!(set.next(ChunkIndex(0)), None);
        for chunk in [0, 63, 64, 129] {
            set.insert(ChunkIndex(chunk));
        }
        assert_eq!(set.iter().map(|chunk| chunk.0).collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert_eq!(set.next(ChunkIndex(65)), Some(ChunkIndex(129)));
        assert_eq!(set.next(ChunkIndex(130)), None);
    }
}
