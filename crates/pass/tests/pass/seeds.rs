//! Seeds: found blocks never travel, and a seed that changes under us costs time, never correctness.

use crate::memory_image::MemoryImage;
use crate::{assert_same, options, pass};
use failback_blockio::{DiskError, UnitSource};
use failback_model::{ByteRange, Code, DiskGeometry};
use failback_pass::{PassOptions, Progress};
use failback_testkit::{Call, Damage, Fault, MemoryDevice, Random, When};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const LENGTH: usize = 4 << 20;

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    Random::new(seed).fill(&mut bytes);
    bytes
}

fn with_seed(seed: Arc<dyn UnitSource>) -> PassOptions {
    PassOptions { seeds: vec![seed], verify: true, ..options() }
}

#[test]
fn blocks_of_a_seed_do_not_travel() {
    let mut new = noise(1);
    let seed = Arc::new(MemoryDevice::from_bytes(&new));
    new[100_000] ^= 1;
    new.truncate(LENGTH - 1000);
    let (source, target) = (MemoryImage::new(&new, []), MemoryImage::new(&vec![0; new.len()], []));
    let (outcome, progress) = pass(&source, &target, true, &with_seed(seed));
    outcome.expect("a seed helps");
    assert_same(&source, &target);
    // One block was changed; the short last block is no whole block of the seed.
    assert_eq!(Progress::get(&progress.seed_bytes), LENGTH as u64 - 2 * 65_536);
    assert!(Progress::get(&progress.bytes_to_target) < 3 * 65_536);
}

#[test]
fn neighbours_that_a_seed_holds_are_written_together() {
    let new = noise(1);
    for (at, expected) in [(LENGTH, 4), (5 << 16, 5)] {
        // Where the seed lacks a block, its neighbours still are two runs.
        let mut holds = new.clone();
        if at < LENGTH {
            holds[at] ^= 1;
        }
        let seed = Arc::new(MemoryDevice::from_bytes(&holds));
        let (source, target) = (MemoryImage::new(&new, []), MemoryImage::new(&vec![0; LENGTH], []));
        let (outcome, _) = pass(&source, &target, true, &with_seed(seed));
        outcome.expect("a seed helps");
        assert_same(&source, &target);
        let shipped = u64::from(at < LENGTH);
        assert_eq!(target.write_calls(), expected + shipped, "a megabyte a write, cut at what is missing");
    }
}

#[test]
fn a_seed_that_changes_or_fails_costs_time_only() {
    let new = noise(1);
    let fault = Fault { call: Call::Read, when: When::From((LENGTH >> 18) as u64 + 3), damage: Damage::Io };
    let failing = failback_testkit::Faulty::new(MemoryDevice::from_bytes(&new), [fault]);
    let changing = Fickle { disk: MemoryDevice::from_bytes(&new), reads: AtomicU64::new(0) };
    for seed in [Arc::new(failing) as Arc<dyn UnitSource>, Arc::new(changing)] {
        let (source, target) = (MemoryImage::new(&new, []), MemoryImage::new(&vec![0; LENGTH], []));
        let (outcome, progress) = pass(&source, &target, true, &with_seed(seed));
        outcome.expect("the source can do without");
        assert_same(&source, &target);
        assert!(Progress::get(&progress.seed_bytes) < LENGTH as u64);
    }
}

#[test]
fn a_seed_that_fails_while_it_is_indexed_is_used_as_far_as_it_was_read() {
    // Three segments of the scan, of 16 reads each.
    let mut new = vec![0; 3 * LENGTH];
    Random::new(1).fill(&mut new);
    let once = Fault { call: Call::Read, when: When::Nth(20), damage: Damage::Io };
    let broken = Arc::new(failback_testkit::Faulty::new(MemoryDevice::from_bytes(&new), [once]));
    let disk = MemoryDevice::from_bytes(&new[..LENGTH * 3 / 2]);
    let cut = Arc::new(Cut { disk, length_bytes: new.len() as u64 });
    let mut other = new.clone();
    other[..2 * LENGTH].fill(7);
    let healthy = Arc::new(MemoryDevice::from_bytes(&other)) as Arc<dyn UnitSource>;
    for seed in [broken as Arc<dyn UnitSource>, cut] {
        let (source, target) = (MemoryImage::new(&new, []), MemoryImage::new(&vec![0; new.len()], []));
        let seeds = vec![seed, Arc::clone(&healthy)];
        let (outcome, progress) =
            pass(&source, &target, true, &PassOptions { seeds, threads: 1, ..options() });
        let findings = outcome.expect("the source can do without").findings;
        assert_eq!(findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), [Code::SeedUnusable]);
        assert_same(&source, &target);
        // The first segment of the one that failed, and the last of the healthy one.
        assert_eq!(Progress::get(&progress.seed_bytes), 2 * LENGTH as u64);
    }
}

/// Says it is as long as it once was.
struct Cut {
    disk: MemoryDevice,
    length_bytes: u64,
}

impl UnitSource for Cut {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.length_bytes, ..UnitSource::geometry(&self.disk) }
    }

    fn name(&self) -> &Path {
        UnitSource::name(&self.disk)
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        UnitSource::read_at(&self.disk, offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        let rest = ByteRange::new(from_bytes.min(self.length_bytes), self.length_bytes);
        Ok((!rest.is_empty()).then_some(rest))
    }
}

/// Reads differently once it has been indexed.
struct Fickle {
    disk: MemoryDevice,
    reads: AtomicU64,
}

impl UnitSource for Fickle {
    fn geometry(&self) -> DiskGeometry {
        UnitSource::geometry(&self.disk)
    }

    fn name(&self) -> &Path {
        UnitSource::name(&self.disk)
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        UnitSource::read_at(&self.disk, offset_bytes, buffer)?;
        if self.reads.fetch_add(1, Ordering::Relaxed) > (LENGTH >> 18) as u64 {
            buffer[17] ^= 1;
        }
        Ok(())
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        UnitSource::next_data(&self.disk, from_bytes)
    }
}
