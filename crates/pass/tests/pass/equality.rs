//! The fast path gives what the reference path gives, and the edges that other tools got wrong.

use crate::memory_image::MemoryImage;
use crate::{assert_same, options, pass, pass_ok};
use failback_blockio::UnitSource;
use failback_engine::reference::reference_pass;
use failback_model::{BlockSize, Layout};
use failback_pass::{Compression, PassOptions, Progress, Refinement};
use failback_testkit::{MemoryDevice, Random};
use proptest::prelude::*;
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fast_path_equals_reference_path(
        seed in any::<u64>(),
        length in prop_oneof![0usize..20_000, 60_000usize..70_000, 0usize..3_000_000],
        block_log in 14u32..=20,
        refines in any::<bool>(),
        is_new in any::<bool>(),
        level in prop_oneof![Just(None), Just(Some(1))],
        window_bytes in prop_oneof![Just(64u64 << 10), Just(64 << 20)],
    ) {
        let block_size = BlockSize::new(1 << block_log).unwrap();
        let mut new = disk(seed, length);
        let old = if is_new { vec![0; length] } else { new.clone() };
        mutate(seed ^ 1, &mut new);
        let source = MemoryImage::new(&new, []);
        let (fast, slow) = (MemoryImage::new(&old, []), MemoryImage::new(&old, []));

        let layout = Layout::new(length as u64, block_size).unwrap();
        let reference = reference_pass(&*source, &*slow, layout, refines).unwrap();
        let options = PassOptions {
            block_size,
            refinement: if refines { Refinement::On } else { Refinement::Off },
            compression: level.map_or(Compression::Off, Compression::Level),
            window_bytes,
            verify: true,
            ..options()
        };
        let (outcome, progress) = pass(&source, &fast, is_new, &options);
        let outcome = outcome.unwrap();

        prop_assert_eq!(outcome.root, reference.root);
        assert_same(&source, &fast);
        assert_same(&source, &slow);
        let pages_per_block = block_size.pages() as u64;
        let shipped = reference.shipped.iter().map(|&(block, page)| block.0 * pages_per_block + page as u64);
        prop_assert_eq!(fast.written_pages(), shipped.collect());
        prop_assert_eq!(fast.zeroed_bytes(), slow.zeroed_bytes());
        prop_assert_eq!(Progress::get(&progress.pages_shipped), reference.shipped.len() as u64);
        prop_assert_eq!(Progress::get(&progress.blocks_repaired), 0);
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
    let mut changed = std::collections::BTreeSet::new();
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
