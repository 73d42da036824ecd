//! A set of a disk's blocks: a word for each chunk of 1024, and bits only for chunks that are in it partly.
//!
//! **Invariant**: a chunk that is in the set whole has no bits; so a disk of any size costs 4 bytes a chunk, and
//! 136 more for each chunk with a border in it.

use failback_model::BlockRange;
use failback_model::limits::CHUNK_BLOCKS;

const WORD_BITS: u64 = u64::BITS as u64;
const WORDS: usize = (CHUNK_BLOCKS / WORD_BITS) as usize;
const NONE: u32 = 0;
const WHOLE: u32 = 1;
/// Slots from here on name bits.
const FIRST_BITS: u32 = 2;

type Words = [u64; WORDS];

/// Blocks of one chunk.
#[derive(Debug, Clone, Copy)]
struct Bits {
    words: Words,
    /// How many there are.
    held: u64,
}

/// Some of a disk's blocks.
#[derive(Debug, Clone)]
pub(crate) struct BlockSet {
    slots: Vec<u32>,
    bits: Vec<Bits>,
    free: Vec<u32>,
    block_count: u64,
    held: u64,
}

/// The part of a range that lies in one chunk.
struct Piece {
    chunk: usize,
    /// First block and one past the last, from the chunk's start.
    from: u64,
    to: u64,
    /// Whether it is all of the chunk.
    is_whole: bool,
}

impl BlockSet {
    /// None of the blocks of a disk of `block_count`.
    pub(crate) fn empty(block_count: u64) -> Self {
        let chunks = block_count.div_ceil(CHUNK_BLOCKS) as usize;
        Self { slots: vec![NONE; chunks], bits: Vec::new(), free: Vec::new(), block_count, held: 0 }
    }

    /// Number of blocks in it.
    pub(crate) fn count(&self) -> u64 {
        self.held
    }

    /// Whether every block of the disk is in it.
    pub(crate) fn is_full(&self) -> bool {
        self.held == self.block_count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// All blocks of the disk.
    pub(crate) fn all(&self) -> BlockRange {
        BlockRange::new(0, self.block_count)
    }

    /// Adds blocks. Panics past the disk's last block.
    pub(crate) fn insert(&mut self, blocks: BlockRange) {
        self.for_each_piece(blocks, Self::insert_piece);
    }

    /// Takes blocks out. Panics past the disk's last block.
    pub(crate) fn remove(&mut self, blocks: BlockRange) {
        self.for_each_piece(blocks, Self::remove_piece);
    }

    /// Takes all blocks out.
    pub(crate) fn clear(&mut self) {
        if !self.is_empty() {
            *self = Self::empty(self.block_count);
        }
    }

    /// The runs of blocks among `within` that are in it, in order.
    pub(crate) fn runs_in(&self, within: BlockRange) -> Vec<BlockRange> {
        let mut runs = Vec::new();
        self.for_each_run(within, |run, is_held| {
            if is_held {
                push_joined(&mut runs, run);
            }
        });
        runs
    }

    /// The runs of blocks among `within` that are not in it, in order.
    pub(crate) fn gaps_in(&self, within: BlockRange) -> Vec<BlockRange> {
        let mut runs = Vec::new();
        self.for_each_run(within, |run, is_held| {
            if !is_held {
                push_joined(&mut runs, run);
            }
        });
        runs
    }

    /// All runs, in order.
    pub(crate) fn runs(&self) -> Vec<BlockRange> {
        self.runs_in(self.all())
    }

    pub(crate) fn contains_all(&self, blocks: BlockRange) -> bool {
        self.gaps_in(blocks).is_empty()
    }

    fn for_each_piece(&mut self, blocks: BlockRange, mut apply: impl FnMut(&mut Self, Piece)) {
        assert!(blocks.end.0 <= self.block_count, "a set holds blocks of its disk");
        let mut at = blocks.start.0;
        while at < blocks.end.0 {
            let chunk = at / CHUNK_BLOCKS;
            let start = chunk * CHUNK_BLOCKS;
            let end = (start + CHUNK_BLOCKS).min(self.block_count);
            let until = end.min(blocks.end.0);
            let is_whole = at == start && until == end;
            apply(self, Piece { chunk: chunk as usize, from: at - start, to: until - start, is_whole });
            at = until;
        }
    }

    fn insert_piece(&mut self, piece: Piece) {
        let slot = self.slots[piece.chunk];
        if slot == WHOLE {
            return;
        }
        let length = self.chunk_length(piece.chunk);
        if piece.is_whole {
            self.held += length - self.held_in(slot);
            self.release(slot);
            self.slots[piece.chunk] = WHOLE;
            return;
        }
        let slot = if slot == NONE { self.take(Bits { words: [0; WORDS], held: 0 }) } else { slot };
        self.slots[piece.chunk] = slot;
        let bits = &mut self.bits[(slot - FIRST_BITS) as usize];
        let before = bits.held;
        for_each_mask(piece.from, piece.to, |word, mask| {
            bits.held += u64::from((mask & !bits.words[word]).count_ones());
            bits.words[word] |= mask;
        });
        let after = bits.held;
        self.held += after - before;
        if after == length {
            self.release(slot);
            self.slots[piece.chunk] = WHOLE;
        }
    }

    fn remove_piece(&mut self, piece: Piece) {
        let slot = self.slots[piece.chunk];
        if slot == NONE {
            return;
        }
        let length = self.chunk_length(piece.chunk);
        if piece.is_whole {
            self.held -= if slot == WHOLE { length } else { self.held_in(slot) };
            self.release(slot);
            self.slots[piece.chunk] = NONE;
            return;
        }
        let slot = if slot == WHOLE {
            let mut words = [0; WORDS];
            for_each_mask(0, length, |word, mask| words[word] |= mask);
            self.take(Bits { words, held: length })
        } else {
            slot
        };
        self.slots[piece.chunk] = slot;
        let bits = &mut self.bits[(slot - FIRST_BITS) as usize];
        let before = bits.held;
        for_each_mask(piece.from, piece.to, |word, mask| {
            bits.held -= u64::from((mask & bits.words[word]).count_ones());
            bits.words[word] &= !mask;
        });
        let after = bits.held;
        self.held -= before - after;
        if after == 0 {
            self.release(slot);
            self.slots[piece.chunk] = NONE;
        }
    }

    fn for_each_run(&self, within: BlockRange, mut call: impl FnMut(BlockRange, bool)) {
        assert!(within.end.0 <= self.block_count, "a set holds blocks of its disk");
        let mut at = within.start.0;
        while at < within.end.0 {
            let chunk = at / CHUNK_BLOCKS;
            let start = chunk * CHUNK_BLOCKS;
            let until = (start + CHUNK_BLOCKS).min(within.end.0);
            match self.slots[chunk as usize] {
                slot @ (NONE | WHOLE) => call(BlockRange::new(at, until), slot == WHOLE),
                slot => for_each_bit_run(
                    &self.bits_of(slot).words,
                    at - start,
                    until - start,
                    |from, to, is_held| {
                        call(BlockRange::new(start + from, start + to), is_held);
                    },
                ),
            }
            at = until;
        }
    }

    fn chunk_length(&self, chunk: usize) -> u64 {
        (self.block_count - chunk as u64 * CHUNK_BLOCKS).min(CHUNK_BLOCKS)
    }

    /// Blocks that a slot's bits hold.
    fn held_in(&self, slot: u32) -> u64 {
        if slot < FIRST_BITS { 0 } else { self.bits_of(slot).held }
    }

    fn bits_of(&self, slot: u32) -> &Bits {
        &self.bits[(slot - FIRST_BITS) as usize]
    }

    fn take(&mut self, bits: Bits) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.bits[(slot - FIRST_BITS) as usize] = bits;
                slot
            }
            None => {
                self.bits.push(bits);
                self.bits.len() as u32 - 1 + FIRST_BITS
            }
        }
    }

    fn release(&mut self, slot: u32) {
        if slot >= FIRST_BITS {
            self.free.push(slot);
        }
    }
}

/// Calls with each word that bits `from..to` touch, and their mask in it.
fn for_each_mask(from: u64, to: u64, mut call: impl FnMut(usize, u64)) {
    let mut at = from;
    while at < to {
        let word = at / WORD_BITS;
        let until = ((word + 1) * WORD_BITS).min(to);
        let low = u64::MAX << (at % WORD_BITS);
        let high = u64::MAX >> ((word + 1) * WORD_BITS - until);
        call(word as usize, low & high);
        at = until;
    }
}

/// Calls with runs of equal bits among `from..to`.
fn for_each_bit_run(bits: &Words, from: u64, to: u64, mut call: impl FnMut(u64, u64, bool)) {
    let mut at = from;
    while at < to {
        let word = bits[(at / WORD_BITS) as usize] >> (at % WORD_BITS);
        let is_held = word & 1 == 1;
        let equal = if is_held { word.trailing_ones() } else { word.trailing_zeros() };
        let until = (at + u64::from(equal)).min((at / WORD_BITS + 1) * WORD_BITS).min(to);
        call(at, until, is_held);
        at = until;
    }
}

/// Appends a run, joined to the last where they touch.
pub(crate) fn push_joined(runs: &mut Vec<BlockRange>, run: BlockRange) {
    match runs.last_mut() {
        Some(last) if last.end == run.start => last.end = run.end,
        _ => runs.push(run),
    }
}

/// The same blocks as runs that ascend and do not touch.
pub(crate) fn united(mut runs: Vec<BlockRange>) -> Vec<BlockRange> {
    runs.sort_by_key(|run| run.start);
    let mut united: Vec<BlockRange> = Vec::with_capacity(runs.len());
    for run in runs {
        match united.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => united.push(run),
        }
    }
    united
}

#[cfg(test)]
mod tests;
