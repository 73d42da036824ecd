//! The fast path gives what the reference path gives, and the edges that other tools got wrong.

use crate::memory_image::MemoryImage;
use crate::{assert_same, options, pass, pass_ok};
use failback_blockio::UnitSource;
use failback_engine::manifest::Manifest;
use failback_engine::reference::reference_pass;
use failback_model::{BlockSize, Digest, Layout};
use failback_pass::{Cancel, Compression, PassOptions, Progress, Refinement, hash};
use failback_testkit::{MemoryDevice, Random};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A disk of runs: zeros, repeated text and noise, cut anywhere.
fn disk(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = vec![0; length];
    let mut at = 0;
    while at < length {
        let end = length.min(at + 1 + random.below(200_000) as usize);
        match random.below(3) {
            0 => {}
            1 => bytes[at..end].fill(b'a' + random.below(26) as u8),
            _ => random.fill(&mut bytes[at..end]),
        }
        at = end;
    }
    bytes
}

/// Changes of every size, some of them to zeros.
fn mutate(seed: u64, bytes: &mut [u8]) {
    let mut random = Random::new(seed);
    for _ in 0..random.below(40) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len() as u64) as usize;
        let most = [1, 4096, 100_000][random.below(3) as usize];
        let end = bytes.len().min(at + 1 + random.below(most) as usize);
        match random.below(3) {
            0 => bytes[at..end].fill(0),
            _ => random.fill(&mut bytes[at..end]),
        }
    }
}

/// One comparison of the fast path with the reference path.
#[derive(Debug, Clone)]
struct Case {
    seed: u64,
    length: usize,
    /// How much longer the target is.
    excess: usize,
    block_log: u32,
    refinement: Refinement,
    is_new: bool,
    level: Option<i32>,
    window_bytes: u64,
    /// The target may look blocks up in an old copy.
    has_seed: bool,
}

fn cases(
    length: impl Strategy<Value = usize>,
    block_log: std::ops::RangeInclusive<u32>,
) -> impl Strategy<Value = Case> {
    let refinement = prop_oneof![Just(Refinement::On), Just(Refinement::Off), Just(Refinement::Auto)];
    let excess = prop_oneof![Just(0usize), 1usize..300_000];
    let level = prop_oneof![Just(None), Just(Some(1))];
    let window_bytes = prop_oneof![Just(64u64 << 10), Just(64 << 20)];
    let flags = (any::<bool>(), any::<bool>());
    (any::<u64>(), length, excess, block_log, refinement, level, window_bytes, flags).prop_map(
        |(seed, length, excess, block_log, refinement, level, window_bytes, (is_new, has_seed))| Case {
            seed,
            length,
            excess,
            block_log,
            refinement,
            is_new,
            level,
            window_bytes,
            has_seed,
        },
    )
}

impl Case {
    fn check(&self) {
        let block_size = BlockSize::new(1 << self.block_log).unwrap();
        let mut new = disk(self.seed, self.length);
        let seed = MemoryDevice::from_bytes(&new);
        let mut old = if self.is_new { vec![0; self.length] } else { new.clone() };
        mutate(self.seed ^ 1, &mut new);
        // What lies behind the source's end stays as it is.
        let mut tail = vec![0; self.excess];
        Random::new(self.seed ^ 2).fill(&mut tail);
        if !self.is_new {
            old.extend(&tail);
        }
        let source = MemoryImage::new(&new, []);
        let (fast, slow) = (MemoryImage::new(&old, []), MemoryImage::new(&old, []));

        let layout = Layout::new(self.length as u64, block_size).unwrap();
        let refines = self.refinement != Refinement::Off;
        let reference = reference_pass(&*source, &*slow, layout, refines).unwrap();
        let options = PassOptions {
            block_size,
            refinement: self.refinement,
            compression: self.level.map_or(Compression::Off, Compression::Level),
            window_bytes: self.window_bytes,
            verify: true,
            seeds: if self.has_seed { vec![Arc::new(seed)] } else { Vec::new() },
            ..options()
        };
        let (outcome, progress) = pass(&source, &fast, self.is_new, &options);
        let outcome = outcome.unwrap();

        assert_eq!(outcome.root, reference.root);
        assert_same(&source, &fast);
        assert_same(&source, &slow);
        assert!(fast.bytes()[self.length..] == old[self.length..], "the tail stays");
        assert_eq!(hashed(&fast, layout), (reference.entries, reference.root));
        let pages_per_block = block_size.pages() as u64;
        let shipped: BTreeSet<_> =
            reference.shipped.iter().map(|&(block, page)| block.0 * pages_per_block + page as u64).collect();
        let written = fast.written_pages();
        let pages_shipped = Progress::get(&progress.pages_shipped);
        if self.has_seed || self.refinement == Refinement::Auto {
            // Blocks come whole from a seed, or where refining does not pay.
            assert!(written.is_superset(&shipped));
            let pages_seeded = Progress::get(&progress.seed_bytes).div_ceil(4096);
            assert!(
                pages_shipped + pages_seeded >= written.len() as u64 && pages_shipped <= written.len() as u64
            );
        } else {
            assert_eq!(written, shipped);
            assert_eq!(fast.zeroed_bytes(), slow.zeroed_bytes());
            assert_eq!(pages_shipped, reference.shipped.len() as u64);
        }
        assert_eq!(Progress::get(&progress.blocks_repaired), 0);
    }
}

/// Digests and root of the first bytes of a disk, as a manifest holds them.
fn hashed(image: &Arc<MemoryImage>, layout: Layout) -> (Vec<Digest>, Digest) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifest");
    let bytes = &image.bytes()[..layout.length_bytes() as usize];
    let (progress, cancel) = (Arc::default(), Cancel::default());
    let source = Arc::new(MemoryDevice::from_bytes(bytes));
    let outcome = hash(source, layout, 2, Some(&path), &progress, &cancel).unwrap();
    let manifest = Manifest::open(&path).unwrap();
    let entries = manifest.entries(layout.blocks()).iter().map(|entry| Digest(*entry)).collect();
    (entries, outcome.root)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fast_path_equals_reference_path(
        case in cases(prop_oneof![0usize..20_000, 60_000usize..70_000, 0usize..3_000_000], 14..=20),
    ) {
        case.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    /// Disks of several chunks, of which a few may be all zero.
    #[test]
    fn fast_path_equals_reference_path_over_several_chunks(
        case in cases(20_000_000usize..40_000_000, 14..=14),
    ) {
        case.check();
    }
}

#[test]
fn a_block_zero_but_for_its_last_byte_is_not_taken_for_zero() {
    for length in [65_536, 65_537, 200_000] {
        let mut new = vec![0; length];
        new[length.min(65_536) - 1] = 1;
        *new.last_mut().unwrap() = 1;
        let target = MemoryImage::new(&vec![0; length], []);
        let (_, progress) = pass_ok(&MemoryImage::new(&new, []), &target, &options());
        assert!(Progress::get(&progress.pages_shipped) >= 1);
    }
}

#[test]
fn an_identical_disk_ships_nothing_and_writes_nothing() {
    let bytes = disk(3, 5_000_000);
    let (source, target) = (MemoryImage::new(&bytes, []), MemoryImage::new(&bytes, []));
    let (_, progress) = pass_ok(&source, &target, &options());
    assert_eq!(Progress::get(&progress.pages_shipped), 0);
    assert_eq!(Progress::get(&progress.bytes_written), 0);
    assert!(Progress::get(&progress.bytes_to_target) < 200, "a greeting, credit and a seal");
}

#[test]
fn overhead_stays_under_a_percent_and_a_half_of_the_changed_pages() {
    let mut new = vec![7u8; 32 << 20];
    let target = MemoryImage::new(&new, []);
    let mut random = Random::new(5);
    let mut changed = BTreeSet::new();
    for _ in 0..80 {
        let page = random.below((32 << 20) / 4096);
        random.fill(&mut new[page as usize * 4096..][..4096]);
        changed.insert(page);
    }
    let (_, progress) = pass_ok(&MemoryImage::new(&new, []), &target, &options());
    assert_eq!(target.written_pages(), changed);
    let bytes = Progress::get(&progress.bytes_to_target) as f64;
    let ratio = bytes / (changed.len() * 4096) as f64;
    assert!(ratio <= 1.015, "{ratio}");
}

#[test]
fn a_sparse_disk_of_64_tib_takes_no_time_and_no_space() {
    let source = MemoryImage::over(MemoryDevice::new(64 << 40), []);
    source.tamper((64 << 40) - 4096, &[9; 4096]);
    source.tamper(5 << 40, &[8; 4096]);
    let target = MemoryImage::over(MemoryDevice::new(64 << 40), []);
    target.tamper(6 << 40, &[7; 4096]);
    let (outcome, progress) = pass(&source, &target, false, &options());
    assert_eq!(outcome.unwrap().blocks_total, 1 << 30);
    let mut page = [0; 4096];
    for (at, value) in [((64 << 40) - 4096, 9), (5 << 40, 8), (6 << 40, 0)] {
        target.read_at(at, &mut page).unwrap();
        assert_eq!(page, [value; 4096]);
    }
    assert_eq!(Progress::get(&progress.blocks_differing), 3);
    let read = Progress::get(&progress.bytes_read_source) + Progress::get(&progress.bytes_read_target);
    assert!(read < 1 << 20, "{read} bytes read");
}

#[test]
fn refinement_by_itself_soon_stops_asking_where_whole_blocks_change() {
    // 5000 blocks of 16 KiB that differ in every page.
    let (old, mut new) = (vec![1u8; 5000 << 14], vec![0; 5000 << 14]);
    Random::new(9).fill(&mut new);
    let source = MemoryImage::new(&new, []);
    let [auto, on, off] = [Refinement::Auto, Refinement::On, Refinement::Off].map(|refinement| {
        let block_size = BlockSize::new(16 << 10).unwrap();
        let options = PassOptions { refinement, block_size, ..options() };
        pass_ok(&source, &MemoryImage::new(&old, []), &options).1
    });
    let asked = |progress: &Arc<Progress>| Progress::get(&progress.bytes_to_source);
    let shipped = |progress: &Arc<Progress>| Progress::get(&progress.bytes_to_target);
    let page_traffic = |progress| asked(progress) - asked(&off);
    // At first 1024 blocks are under way before the first of them is known; then 64 in a thousand are tried.
    assert!(page_traffic(&auto) * 2 < page_traffic(&on), "{} of {}", page_traffic(&auto), page_traffic(&on));
    assert!(shipped(&auto) < shipped(&on) && Progress::get(&auto.pages_shipped) == 20_000);
    // Off asks nothing; what auto asked for is all that it sends more.
    assert!(shipped(&auto) - shipped(&off) < 20_000, "{} and {}", shipped(&auto), shipped(&off));
}

#[test]
fn refinement_by_itself_gives_up_where_whole_blocks_change() {
    let (old, mut new) = (vec![1u8; 16 << 20], vec![0; 16 << 20]);
    Random::new(9).fill(&mut new);
    let target = MemoryImage::new(&old, []);
    let (_, auto) = pass_ok(&MemoryImage::new(&new, []), &target, &options());
    let (_, on) = pass_ok(
        &MemoryImage::new(&new, []),
        &MemoryImage::new(&old, []),
        &PassOptions { refinement: Refinement::On, ..options() },
    );
    let read = |progress: &Arc<Progress>| Progress::get(&progress.bytes_read_target);
    assert!(read(&auto) <= read(&on), "what is not refined is not read again");
    assert_eq!(Progress::get(&auto.pages_shipped), Progress::get(&on.pages_shipped));
}
