//! Seeds: disks whose blocks the target may copy instead of receiving them.
//!
//! The index is a mapped file of (digest prefix, place), sorted, so that templates of any size cost no heap.
//!
//! **Invariant**: a block is only handed out after the bytes handed out were hashed; the index is a hint. A seed that
//! fails, changes or ends early costs what it would have saved, and nothing else.

use crate::digest_source::{DigestSource, ScanEnd};
use crate::scan::{Meter, Scan};
use failback_blockio::{DiskError, MappedFile, Operation, UnitSource, temp_folder};
use failback_model::{BlockSize, ByteRange, Code, Digest, Layout, block_digest};
use rayon::slice::ParallelSliceMut;
use std::ops::ControlFlow;
use std::sync::Arc;

/// 16 bytes of digest, 2 of seed number, 6 of block number, both big-endian so that entries sort as bytes.
type Entry = [u8; 24];
/// Bytes of an entry that are the digest's.
const KEY_BYTES: usize = 16;
/// Places looked at for one digest: the same block may lie in many seeds.
const CANDIDATES_MAX: usize = 4;
/// Most seeds of one pass.
const SEEDS_MAX: usize = u16::MAX as usize;

/// Where to find which block.
pub struct SeedIndex {
    seeds: Vec<(Arc<dyn UnitSource>, Layout)>,
    map: MappedFile,
    count: usize,
    failures: Vec<DiskError>,
}

impl SeedIndex {
    /// Scans the seeds and sorts what they hold. `keep_going` is asked between runs. Of a seed that fails, what was read
    /// before is used: [`Self::failures`].
    pub fn build(
        seeds: &[Arc<dyn UnitSource>],
        block_size: BlockSize,
        threads: usize,
        meter: &Meter,
        keep_going: &dyn Fn() -> bool,
    ) -> Result<Self, ScanEnd> {
        if let Some(excess) = seeds.get(SEEDS_MAX) {
            let reason = format!("more than {SEEDS_MAX} seeds");
            return Err(DiskError::new(Code::SeedUnusable, Operation::Open, excess.name(), reason).into());
        }
        let mut failures = Vec::new();
        let mut usable = Vec::new();
        for seed in seeds {
            match layout_of(&**seed, block_size) {
                Ok(layout) => usable.push((Arc::clone(seed), layout)),
                Err(error) => failures.push(error),
            }
        }
        let blocks: u64 = usable.iter().map(|(_, layout)| layout.block_count()).sum();
        let mut map = MappedFile::create_temp(&temp_folder(), blocks * size_of::<Entry>() as u64)?;
        let mut count = 0;
        for (number, (seed, layout)) in usable.iter().enumerate() {
            let (source, layout) = (Arc::clone(seed), *layout);
            let blocks = layout.blocks();
            let mut scan = Scan { source, layout, blocks, threads, keep: None, meter: Arc::clone(meter) };
            let mut failure = None;
            let scanned = scan.deliver(&mut |run| {
                let digests = run.digests.unwrap_or_default();
                match append(&mut map, &mut count, number as u16, run.blocks.start.0, &digests) {
                    Ok(()) if keep_going() => ControlFlow::Continue(()),
                    Ok(()) => ControlFlow::Break(()),
                    Err(error) => {
                        failure = Some(error);
                        ControlFlow::Break(())
                    }
                }
            });
            match (failure, scanned) {
                (Some(error), _) | (None, Err(ScanEnd::Disk(error))) => failures.push(error),
                (None, Err(ScanEnd::Stopped)) => return Err(ScanEnd::Stopped),
                (None, Ok(())) => {}
            }
        }
        entries_mut(&mut map)[..count].par_sort_unstable();
        Ok(Self { seeds: usable, map, count, failures })
    }

    /// Why some of the seeds are not used, or not all of them.
    pub fn failures(&self) -> &[DiskError] {
        &self.failures
    }

    /// Fills `block` with the bytes of this digest, read and hashed now; false where no seed holds them (any more), and
    /// then `block` may hold anything.
    pub fn find(&self, digest: Digest, block: &mut [u8]) -> bool {
        let entries = &self.map.as_slice().as_chunks::<{ size_of::<Entry>() }>().0[..self.count];
        let key = &digest.0[..KEY_BYTES];
        let first = entries.partition_point(|entry| &entry[..KEY_BYTES] < key);
        let candidates = entries[first..].iter().take_while(|entry| &entry[..KEY_BYTES] == key);
        candidates.take(CANDIDATES_MAX).any(|entry| self.read(entry, block) && block_digest(block) == digest)
    }

    /// A seed that fails to read is a miss: it may not stop a pass that can do without.
    fn read(&self, entry: &Entry, block: &mut [u8]) -> bool {
        let place = u64::from_be_bytes(*entry.last_chunk().expect("an entry holds a place"));
        let Some((seed, layout)) = self.seeds.get((place >> 48) as usize) else { return false };
        let start = (place & ((1 << 48) - 1)) * layout.block_size().bytes();
        start + block.len() as u64 <= layout.length_bytes() && seed.read_at(start, block).is_ok()
    }
}

fn layout_of(seed: &dyn UnitSource, block_size: BlockSize) -> Result<Layout, DiskError> {
    Layout::new(seed.geometry().length_bytes, block_size)
        .map_err(|error| DiskError::new(Code::SeedUnusable, Operation::Open, seed.name(), error.to_string()))
}

fn entries_mut(map: &mut MappedFile) -> &mut [Entry] {
    map.as_mut_slice().as_chunks_mut().0
}

/// Appends a run's blocks, zeros left out. The space is reserved first: a full disk is an error, not a signal.
fn append(
    map: &mut MappedFile,
    count: &mut usize,
    seed: u16,
    first: u64,
    digests: &[Digest],
) -> Result<(), DiskError> {
    let start = (*count * size_of::<Entry>()) as u64;
    map.reserve(ByteRange::new(start, start + (digests.len() * size_of::<Entry>()) as u64))?;
    let entries = entries_mut(map);
    for (block, digest) in (first..).zip(digests).filter(|(_, digest)| !digest.is_zero()) {
        let entry = &mut entries[*count];
        entry[..KEY_BYTES].copy_from_slice(&digest.0[..KEY_BYTES]);
        entry[KEY_BYTES..].copy_from_slice(&(u64::from(seed) << 48 | block).to_be_bytes());
        *count += 1;
    }
    Ok(())
}
