//! Disks made from a seed: holes, contents like those of files, and contents that no compressor shortens, in the
//! shares that real disks showed.
//!
//! **Invariant**: every byte depends on the seed, the slot size and its offset alone, so any part of a disk can be made
//! by itself, in any order and by any thread, and a longer disk begins like a shorter one of the same seed.

use crate::Random;
use failback_model::limits::PAGE_BYTES;
use std::ops::Range;

/// What one slot of a disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing: reads as zero.
    Hole,
    /// Words from a vocabulary; zstd at level 1 halves it.
    FileLike,
    /// Incompressible.
    Random,
}

/// A disk that a seed describes.
#[derive(Debug, Clone)]
pub struct GeneratedDisk {
    seed: u64,
    length_bytes: u64,
    slot_bytes: u64,
    words: Vec<[u8; WORD_BYTES]>,
}

const WORD_BYTES: usize = 8;
const WORDS: u64 = 4096;
const HOLE_PERCENT: u64 = 41;
const FILE_LIKE_PERCENT: u64 = 44;

impl GeneratedDisk {
    /// Contents change every mebibyte.
    pub const SLOT_DEFAULT_BYTES: u64 = 1 << 20;

    /// The disk of this seed; its content changes kind every `slot_bytes`, a multiple of 8.
    pub fn new(seed: u64, length_bytes: u64, slot_bytes: u64) -> Self {
        assert!(slot_bytes > 0 && slot_bytes.is_multiple_of(8), "slots are made of 8-byte steps");
        let mut random = Random::part(seed, u64::MAX);
        let words = (0..WORDS).map(|_| word(&mut random)).collect();
        Self { seed, length_bytes, slot_bytes, words }
    }

    /// Its length.
    pub const fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Its slots in order: where each lies and what it holds.
    pub fn slots(&self) -> impl Iterator<Item = (Range<u64>, Content)> {
        (0..self.length_bytes.div_ceil(self.slot_bytes)).map(|slot| {
            let start = slot * self.slot_bytes;
            (start..(start + self.slot_bytes).min(self.length_bytes), self.content(slot))
        })
    }

    /// The bytes of one of its slots, by where it lies.
    pub fn slot(&self, range: &Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let slot = range.start / self.slot_bytes;
        let mut random = Random::part(self.seed, slot);
        match self.content(slot) {
            Content::Hole => {}
            Content::FileLike => self.write_words(&mut random, &mut bytes),
            Content::Random => random.fill(&mut bytes),
        }
        bytes
    }

    /// The whole disk. For small ones.
    pub fn bytes(&self) -> Vec<u8> {
        self.slots().flat_map(|(range, _)| self.slot(&range)).collect()
    }

    fn content(&self, slot: u64) -> Content {
        // Another stream than the slot's bytes come from.
        match Random::part(!self.seed, slot).below(100) {
            percent if percent < HOLE_PERCENT => Content::Hole,
            percent if percent < HOLE_PERCENT + FILE_LIKE_PERCENT => Content::FileLike,
            _ => Content::Random,
        }
    }

    /// Frequent words often and rare words seldom, with a number in between that never repeats.
    fn write_words(&self, random: &mut Random, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(WORD_BYTES) {
            let draw = random.next();
            let word = if draw.is_multiple_of(8) {
                draw.to_le_bytes()
            } else {
                // The product of two uniform numbers leans toward the first words.
                let rank = ((draw >> 8) % WORDS) * ((draw >> 32) % WORDS) / WORDS;
                self.words[rank as usize]
            };
            part.copy_from_slice(&word[..part.len()]);
        }
    }
}

/// Lower-case letters with a space behind, like text and tables have them.
fn word(random: &mut Random) -> [u8; WORD_BYTES] {
    let mut word = [b' '; WORD_BYTES];
    let letters = 3 + random.below(5) as usize;
    for letter in &mut word[..letters] {
        *letter = b'a' + random.below(26) as u8;
    }
    word
}

/// What a running machine changed: pages chosen by chance, rewritten whole with random bytes.
#[derive(Debug, Clone, Copy)]
pub struct Mutation {
    /// Another seed, other pages and other bytes.
    pub seed: u64,
    /// Pages of a thousand that change.
    pub permille: u64,
}

impl Mutation {
    /// Where each changed page of a disk lies, with its new bytes.
    pub fn pages(self, length_bytes: u64) -> impl Iterator<Item = (u64, Vec<u8>)> {
        (0..length_bytes.div_ceil(PAGE_BYTES)).filter_map(move |page| {
            let mut random = Random::part(self.seed, page);
            (random.below(1000) < self.permille).then(|| {
                let offset_bytes = page * PAGE_BYTES;
                let mut bytes = vec![0; PAGE_BYTES.min(length_bytes - offset_bytes) as usize];
                random.fill(&mut bytes);
                (offset_bytes, bytes)
            })
        })
    }

    /// Changes a disk that is held in memory; how many pages changed.
    pub fn apply(self, disk: &mut [u8]) -> usize {
        let mut changed = 0;
        for (offset_bytes, bytes) in self.pages(disk.len() as u64) {
            let at = offset_bytes as usize;
            disk[at..at + bytes.len()].copy_from_slice(&bytes);
            changed += 1;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_near_those_of_real_disks() {
        let disk = GeneratedDisk::new(1, 4 << 30, GeneratedDisk::SLOT_DEFAULT_BYTES);
        let count = |content| disk.slots().filter(|slot| slot.1 == content).count() * 100 / 4096;
        assert!((39..=43).contains(&count(Content::Hole)), "{}", count(Content::Hole));
        assert!((42..=46).contains(&count(Content::FileLike)), "{}", count(Content::FileLike));
        assert!((13..=17).contains(&count(Content::Random)), "{}", count(Content::Random));
    }

    #[test]
    fn a_longer_disk_begins_like_a_shorter_one() {
        let short = GeneratedDisk::new(9, 100_003, 4096).bytes();
        let long = GeneratedDisk::new(9, 300_000, 4096).bytes();
        assert_eq!(short.len(), 100_003);
        assert!(long.starts_with(&short[..98_304]) && long[98_304..].iter().any(|&byte| byte != 0));
        assert_ne!(GeneratedDisk::new(10, 100_003, 4096).bytes(), short);
    }

    #[test]
    fn mutation_changes_only_its_pages() {
        let before = GeneratedDisk::new(3, 4 << 20, 65536).bytes();
        let mut after = before.clone();
        let changed = Mutation { seed: 4, permille: 100 }.apply(&mut after);
        let differing =
            before.chunks(4096).zip(after.chunks(4096)).filter(|(before, after)| before != after).count();
        assert_eq!(differing, changed);
        assert!((70..=135).contains(&changed), "{changed} of 1024");
    }
}
