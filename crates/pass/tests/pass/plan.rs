//! A plan says what a pass then does, and never less than it ships.

use crate::memory_image::MemoryImage;
use crate::{options, pass};
use failback_blockio::UnitSource;
use failback_model::{BlockSize, Code};
use failback_pass::{Cancel, Compression, PassError, PassOptions, Plan, Progress, Refinement, Target, plan};
use failback_testkit::{MemoryDevice, Random};
use proptest::prelude::*;
use std::sync::Arc;

fn planned(source: &Arc<MemoryImage>, target: Option<&Arc<MemoryImage>>, options: &PassOptions) -> Plan {
    let target = target.map_or(Target::New(None), |target| Target::Existing(Arc::clone(target) as _));
    let source = Arc::clone(source) as _;
    plan(&source, &target, options, &Cancel::default()).expect("planned")
}

/// A disk of holes and noise, in runs from a page to a few blocks.
fn disk(seed: u64, length: u64) -> Arc<MemoryImage> {
    let image = MemoryImage::over(MemoryDevice::new(length), []);
    let mut random = Random::new(seed);
    let mut at = random.below(300_000);
    while at < length {
        let mut bytes = vec![0; (length - at).min(1 + random.below(200_000)) as usize];
        random.fill(&mut bytes);
        image.tamper(at, &bytes);
        at += bytes.len() as u64 + random.below(400_000);
    }
    image
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_planned_bounds_what_is_done(
        seed in any::<u64>(),
        length in prop_oneof![1u64..70_000, 1u64..4_000_000],
        block_log in 14u32..=20,
        refinement in prop_oneof![Just(Refinement::Auto), Just(Refinement::On), Just(Refinement::Off)],
        compression in prop_oneof![Just(Compression::Off), Just(Compression::Level(1))],
        is_new in any::<bool>(),
        has_seed in any::<bool>(),
    ) {
        let options = PassOptions {
            block_size: BlockSize::new(1 << block_log).unwrap(),
            refinement,
            compression,
            verify: true,
            seeds: if has_seed { vec![disk(seed ^ 2, length) as _] } else { Vec::new() },
            ..options()
        };
        let source = disk(seed, length);
        let target = if is_new { MemoryImage::over(MemoryDevice::new(length), []) } else { disk(seed ^ 1, length) };
        let plan = planned(&source, (!is_new).then_some(&target), &options);
        let (outcome, progress) = pass(&source, &target, is_new, &options);
        let outcome = outcome.unwrap();
        let get = Progress::get;
        prop_assert_eq!((plan.virtual_size_bytes, plan.blocks_total), (outcome.virtual_size_bytes, outcome.blocks_total));
        prop_assert!(get(&progress.bytes_to_target) <= plan.ship_at_most_bytes);
        prop_assert!(get(&progress.bytes_read_source) >= plan.read_source_bytes);
        prop_assert!(get(&progress.bytes_read_target) >= plan.read_target_bytes);
        prop_assert_eq!(get(&progress.bytes_read_seeds), plan.read_seeds_bytes);
        prop_assert!(plan.ship_estimate.is_none_or(|estimate| estimate.bytes <= plan.ship_at_most_bytes));
    }
}

#[test]
fn the_bound_is_near_for_a_new_disk_and_counts_what_a_terabyte_of_holes_costs() {
    let mut bytes = vec![0; 8 << 20];
    Random::new(3).fill(&mut bytes);
    let source = MemoryImage::new(&bytes, []);
    let plan = planned(&source, None, &options());
    assert!(plan.ship_at_most_bytes < bytes.len() as u64 * 102 / 100, "{}", plan.ship_at_most_bytes);
    let holes = MemoryImage::over(MemoryDevice::new(64 << 40), []);
    let target = MemoryImage::over(MemoryDevice::new(64 << 40), []);
    let plan = planned(&holes, Some(&target), &options());
    let (_, progress) = pass(&holes, &target, false, &options());
    assert!(Progress::get(&progress.bytes_to_target) <= plan.ship_at_most_bytes);
}

#[test]
fn what_will_ship_is_estimated_from_the_sample() {
    let old = vec![7u8; 16 << 20];
    let mut new = old.clone();
    // One page of every fourth block.
    for block in (0..256).step_by(4) {
        Random::new(block as u64).fill(&mut new[block * 65_536..][..4096]);
    }
    let (source, target) = (MemoryImage::new(&new, []), MemoryImage::new(&old, []));
    let plan = planned(&source, Some(&target), &options());
    let estimate = plan.ship_estimate.expect("blocks were sampled");
    let (_, progress) = pass(&source, &target, false, &options());
    let shipped = Progress::get(&progress.bytes_to_target);
    assert!(estimate.sampled_blocks >= 64, "{estimate:?}");
    assert!((shipped / 2..shipped * 2).contains(&estimate.bytes), "{estimate:?}, shipped {shipped}");
    assert!(plan.seconds_estimate > 0.0);
    assert_eq!(planned(&source, None, &options()).ship_estimate, None);
}

#[test]
fn a_plan_tells_both_ends_apart_by_what_they_are() {
    let mut bytes = vec![1; 1 << 20];
    bytes[440..444].copy_from_slice(&[1, 2, 3, 4]);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let (source, target) = (MemoryImage::new(&bytes, []), MemoryImage::new(&bytes[..700_000], []));
    let plan = planned(&source, Some(&target), &PassOptions { grow: true, ..options() });
    assert_eq!(plan.source.disk_id.as_deref(), Some("MBR 01020304"));
    let end = plan.target.expect("it exists");
    assert_eq!((end.disk_id, end.geometry.length_bytes), (Some("MBR 01020304".into()), 700_000));
    assert_eq!((plan.virtual_size_bytes, plan.target_size_bytes), (1 << 20, 1 << 20));
    // An excess of zeros stays away: then less travels, and the target keeps its length.
    bytes[700_000..].fill(0);
    let plan = planned(&MemoryImage::new(&bytes, []), Some(&target), &options());
    assert_eq!(plan.findings[0].code, Code::ExcessTrimmed);
    assert_eq!((plan.virtual_size_bytes, plan.target_size_bytes), (700_000, 700_000));
}

#[test]
fn a_plan_can_be_stopped() {
    let source = disk(1, 1 << 20);
    let cancel = Cancel::default();
    cancel.cancel();
    let target = Target::Existing(disk(2, 1 << 20) as _);
    let ended = plan(&(Arc::clone(&source) as _), &target, &options(), &cancel);
    assert!(matches!(ended, Err(PassError::Cancelled)), "{ended:?}");
    assert_eq!(source.geometry().length_bytes, 1 << 20);
}
