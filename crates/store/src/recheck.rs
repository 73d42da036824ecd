//! Whether something else wrote to a disk since it was left: looked for before a session, so before anything is written.
//!
//! Where the image's files look as they were left, a fixed number of trusted bytes is read again, going on where the last
//! time ended: what changed without a trace in the times is found within as many passes as the disk has such parts. Where
//! there are no times to look at (a block device in another job), the start of the disk and blocks by chance are read: that
//! is a sample, and what lies beside it is not noticed.
//!
//! **Invariant**: only a disk that was left in good order can have diverged: after a kill nobody noted how it looked. What was
//! found is found again as long as this process runs and nobody accepts it, and nothing here gives up or grants trust.

use crate::disk::{Disk, DiskStore};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::look::{differences, time_text};
use crate::trusted::TrustedState;
use failback_engine::read_digests;
use failback_image::Image;
use failback_model::limits::{RECHECK_BYTES, RECHECK_HEAD_BYTES, RECHECK_STEPS_MAX};
use failback_model::{BlockIndex, BlockRange, ByteRange, Epoch, Generation, Layout};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::PoisonError;

/// What a look at a disk gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rechecked {
    /// What shows that something else wrote to it; `None`: nothing does.
    pub divergence: Option<Divergence>,
    /// Bytes of blocks that were read again.
    pub bytes: u64,
}

/// Something else wrote to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// What differs, in words.
    pub differences: Vec<String>,
    /// When the disk was left, milliseconds since 1970.
    pub left_unix_ms: u64,
    /// Its last sealed state; 0: none.
    pub generation: Generation,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = time_text(self.left_unix_ms);
        write!(f, "{}; it was left at {left}", self.differences.join("; "))?;
        match self.generation {
            Generation(0) => f.write_str(" in the middle of its first pass"),
            generation => write!(f, ", its last sealed generation is {generation}"),
        }
    }
}

impl DiskStore {
    /// Looks whether something else wrote to the disk since it was left. Reads at most [`RECHECK_BYTES`] of it.
    pub fn recheck(&self, image: &dyn Image, epoch: Epoch) -> Result<Rechecked, StoreError> {
        let disk = self.disk();
        let (left, layout, generation) =
            disk.journal.read(disk.slot, |state| (state.left.clone(), state.layout, state.generation));
        let (Some(left), Some(layout)) = (left, layout) else { return Ok(Rechecked::default()) };
        let now = Fingerprint::of_image(image, epoch)?;
        let looks_the_same = now.digest() == left.fingerprint;
        let mut found = if looks_the_same { Vec::new() } else { differences(&left.look, now.text()) };
        let mut bytes = 0;
        if found.is_empty() && image.geometry().length_bytes >= layout.length_bytes() {
            let blocks = Blocks { store: self, image, layout };
            let read = if looks_the_same { blocks.roll()? } else { blocks.sample(epoch)? };
            bytes = read.bytes;
            found.extend(read.difference(layout));
        }
        let divergence = |differences| Divergence { differences, left_unix_ms: left.at_unix_ms, generation };
        Ok(Rechecked { divergence: Some(found).filter(|found| !found.is_empty()).map(divergence), bytes })
    }
}

/// The blocks of a disk that its journal vouches for, and the image.
struct Blocks<'a> {
    store: &'a DiskStore,
    image: &'a dyn Image,
    layout: Layout,
}

/// What reading them gave.
#[derive(Default)]
struct Read {
    bytes: u64,
    blocks: u64,
    differing: Vec<BlockIndex>,
}

impl Read {
    fn difference(&self, layout: Layout) -> Option<String> {
        let first = self.differing.first()?;
        let at = layout.block_bytes(*first).start();
        let (count, of) = (self.differing.len(), self.blocks);
        Some(format!(
            "{count} of {of} blocks that were read again are not what was written, the first at byte {at}"
        ))
    }
}

impl Blocks<'_> {
    /// Blocks that hold data by the digests or by the hole map, from where the last look ended.
    fn roll(&self) -> Result<Read, StoreError> {
        let trusted = self.store.disk().trusted_state();
        let start = self.store.disk().recheck_from().min(BlockIndex(self.layout.block_count()));
        let (mut at, mut has_wrapped, mut picked) = (start, false, Vec::new());
        let budget = RECHECK_BYTES / self.layout.block_size().bytes();
        for _ in 0..RECHECK_STEPS_MAX {
            match self.next_data(&trusted, at)? {
                Some(block) if has_wrapped && block >= start => break,
                Some(block) => {
                    at = BlockIndex(block.0 + 1);
                    if is_in(&trusted.ranges, block) {
                        picked.push(block);
                    } else {
                        at = next_trusted(&trusted.ranges, block);
                    }
                }
                None if has_wrapped => break,
                None => (at, has_wrapped) = (BlockIndex(0), true),
            }
            if picked.len() as u64 >= budget {
                break;
            }
        }
        self.read(&trusted, &picked, at)
    }

    /// The first blocks, one that was found different before, and blocks by chance that are others in each job.
    fn sample(&self, epoch: Epoch) -> Result<Read, StoreError> {
        let trusted = self.store.disk().trusted_state();
        let total: u64 = trusted.ranges.iter().map(|range| range.count()).sum();
        let head = ByteRange::new(0, RECHECK_HEAD_BYTES.min(self.layout.length_bytes()));
        let suspect = self.store.disk().recheck_from();
        let first = self.layout.blocks_covering(head).iter().chain([suspect]);
        let mut picked: BTreeSet<_> = first.filter(|block| is_in(&trusted.ranges, *block)).collect();
        let budget = RECHECK_BYTES / self.layout.block_size().bytes();
        for draw in 0..2 * budget {
            if total == 0 || picked.len() as u64 >= budget.min(total) {
                break;
            }
            let seed = blake3::hash(format!("{} {epoch} {draw}", self.store.id()).as_bytes());
            let number = u64::from_le_bytes(seed.as_bytes()[..8].try_into().expect("8 bytes"));
            picked.extend(nth(&trusted.ranges, number % total));
        }
        let picked: Vec<_> = picked.into_iter().collect();
        self.read(&trusted, &picked, suspect)
    }

    /// Reads blocks and compares them. Where all are as they should be, the next look begins at `next`.
    fn read(
        &self,
        trusted: &TrustedState,
        picked: &[BlockIndex],
        next: BlockIndex,
    ) -> Result<Read, StoreError> {
        let mut read = Read::default();
        for block in picked {
            let blocks = BlockRange::new(block.0, block.0 + 1);
            let (found, bytes) = read_digests(self.image, self.layout, blocks)?;
            read.bytes += bytes;
            read.blocks += 1;
            if found != trusted.digests.digests(blocks)? {
                read.differing.push(*block);
            }
        }
        if !read.differing.is_empty() {
            // It may be the digests that are wrong: those that can be proven are.
            let proven = self.store.trusted()?.ranges;
            read.differing.retain(|block| is_in(&proven, *block));
        }
        let next = read.differing.first().copied().unwrap_or(next);
        *self.store.disk().recheck_from.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(read)
    }

    /// The first block at or behind `from` that is not zero by the digests, or no hole of the image.
    fn next_data(&self, trusted: &TrustedState, from: BlockIndex) -> Result<Option<BlockIndex>, StoreError> {
        if from.0 >= self.layout.block_count() {
            return Ok(None);
        }
        let start = self.layout.block_bytes(from).start();
        let whole = ByteRange::new(0, self.layout.length_bytes());
        let data = self.image.next_data(start)?.and_then(|data| data.intersection(whole));
        let by_image = data.map(|data| self.layout.blocks_covering(data).start);
        Ok([by_image, trusted.digests.next_data(from)?].into_iter().flatten().min())
    }
}

impl Disk {
    fn recheck_from(&self) -> BlockIndex {
        *self.recheck_from.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_in(ranges: &[BlockRange], block: BlockIndex) -> bool {
    let at = ranges.partition_point(|range| range.end <= block);
    ranges.get(at).is_some_and(|range| range.start <= block)
}

/// The first block of the ranges behind one that is in none.
fn next_trusted(ranges: &[BlockRange], block: BlockIndex) -> BlockIndex {
    let at = ranges.partition_point(|range| range.end <= block);
    ranges.get(at).map_or(BlockIndex(u64::MAX), |range| range.start)
}

fn nth(ranges: &[BlockRange], mut number: u64) -> Option<BlockIndex> {
    for range in ranges {
        if number < range.count() {
            return Some(BlockIndex(range.start.0 + number));
        }
        number -= range.count();
    }
    None
}
