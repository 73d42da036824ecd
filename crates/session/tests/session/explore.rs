//! Events in any order: seeded walks through both machines, which must always end in the same seal.

use crate::disk::{HIDDEN, PAGES, layout, pair};
use crate::walk::Walk;
use crate::world::{Setup, Troubles};
use failback_model::{BlockIndex, Code};
use failback_session::{RefinementMode, SessionError};
use failback_testkit::Random;

/// Seeds of each kind of walk.
const SEEDS: u64 = 200;

/// A walk of a seed: sizes, contents, options and the order of events all come from it.
pub(crate) fn walk(seed: u64, prepare: impl FnOnce(&mut Setup, &mut Random)) -> Walk {
    let mut random = Random::part(seed, 1);
    let blocks = random.below(200);
    let layout = layout(blocks, random.below(4 * 4096));
    let differing_percent = [0, 5, 40, 100][random.below(4) as usize];
    let (source, target) = pair(&mut random, layout, differing_percent);
    let window_bytes = (1 << 10) << random.below(12);
    let refinement =
        [RefinementMode::Auto, RefinementMode::On, RefinementMode::Off][random.below(3) as usize];
    let troubles = Troubles::default();
    let mut setup = Setup {
        layout,
        source,
        target,
        window_bytes,
        refinement,
        has_seeds: false,
        is_at_seal: false,
        base: None,
        troubles,
    };
    prepare(&mut setup, &mut random);
    Walk::new(setup, random)
}

/// Walks; names the seed of a walk that fails.
pub(crate) fn run(seed: u64, walk: &mut Walk) -> Result<(), SessionError> {
    naming(&format!("seed {seed}"), || walk.run())
}

/// Does something, and names it if it panics.
pub(crate) fn naming<T>(what: &str, act: impl FnOnce() -> T) -> T {
    struct Named<'a>(&'a str);
    impl Drop for Named<'_> {
        fn drop(&mut self) {
            eprintln!("{}", self.0);
        }
    }
    let named = Named(what);
    let outcome = act();
    std::mem::forget(named);
    outcome
}

/// Blocks that differ between two disks.
fn differing(walk: &Walk) -> Vec<BlockIndex> {
    let pairs = walk.world.source.iter().zip(&walk.world.target);
    (0..).zip(pairs).filter(|(_, (source, target))| source != target).map(|(i, _)| BlockIndex(i)).collect()
}

/// Every seed seals, and writes exactly these blocks, each once; how many digests came, and how many were left out.
fn every_seed_seals(prepare: impl Fn(&mut Setup, &mut Random)) -> (u64, u64) {
    let (mut streamed, mut left_out) = (0, 0);
    for seed in 0..SEEDS {
        let mut walk = walk(seed, &prepare);
        let differing = differing(&walk);
        run(seed, &mut walk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        walk.assert_sealed();
        let mut written: Vec<_> = walk.world.writes.iter().map(|(&block, &times)| (block, times)).collect();
        written.sort_unstable();
        assert_eq!(written, differing.iter().map(|&block| (block, 1)).collect::<Vec<_>>(), "seed {seed}");
        (streamed, left_out) = (streamed + walk.streamed, left_out + walk.left_out);
    }
    (streamed, left_out)
}

#[test]
fn any_order_of_events_seals_and_writes_each_differing_block_once() {
    every_seed_seals(|_, _| {});
}

#[test]
fn where_both_ends_know_the_digests_few_come_and_the_same_blocks_are_written() {
    let streamed = |is_at_seal, holds_base| {
        every_seed_seals(|setup, random| {
            setup.is_at_seal = is_at_seal;
            setup.base = Some(setup.target.clone()).filter(|_| holds_base);
            setup.has_seeds = random.below(2) == 0;
            setup.troubles.seed_misses = random.below(101);
            setup.troubles.failures = random.below(60);
        })
    };
    let (digests, left_out) = streamed(true, true);
    assert!(left_out > 4 * digests && digests > 0, "{digests} digests, {left_out} left out");
    // One end alone changes nothing.
    assert_eq!((streamed(true, false).1, streamed(false, true).1), (0, 0));
}

#[test]
fn a_base_that_is_not_what_the_target_holds_costs_a_repair_and_no_byte() {
    let mut repaired = 0;
    for seed in 0..SEEDS {
        let mut walk = walk(seed, |setup, random| {
            setup.is_at_seal = true;
            let (mut base, count) = (setup.target.clone(), setup.target.len() as u64);
            for _ in 0..random.below(20).min(count) {
                let block = random.below(count) as usize;
                // Old contents, those of the source, or zeros.
                base[block] = [[77; PAGES], setup.source[block], [0; PAGES]][random.below(3) as usize];
            }
            setup.base = Some(base);
        });
        run(seed, &mut walk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        walk.assert_sealed();
        repaired += walk.world.roots - 1;
    }
    assert!(repaired > SEEDS / 10, "{repaired} repairs");
}

#[test]
fn seeds_that_miss_cost_no_block() {
    every_seed_seals(|setup, random| {
        setup.has_seeds = true;
        setup.troubles.seed_misses = random.below(101);
    });
}

#[test]
fn credit_of_offers_and_page_requests_returns() {
    for seed in 0..4 {
        let mut walk = walk(seed, |setup, _| {
            setup.layout = layout(6000, 0);
            (setup.source, setup.target) = (vec![[1; PAGES]; 6000], vec![[2, 1, 1, 1]; 6000]);
            setup.refinement = RefinementMode::On;
            setup.has_seeds = seed % 2 == 0;
            setup.troubles.seed_misses = 10;
        });
        run(seed, &mut walk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        walk.assert_sealed();
    }
}

#[test]
fn blocks_that_do_not_verify_come_again_whole() {
    let mut resent = 0;
    for has_seeds in [false, true] {
        every_seed_seals(|setup, random| {
            setup.has_seeds = has_seeds;
            // With seeds a block may fail as an offer too; it then ships, which is no second chance used up.
            setup.troubles.failures = random.below(60);
        });
    }
    for seed in 0..SEEDS {
        let mut walk = walk(seed, |setup, _| setup.troubles.failures = 50);
        run(seed, &mut walk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(walk.world.sender.resent_blocks(), walk.world.failed_once.len() as u64, "seed {seed}");
        resent += walk.world.sender.resent_blocks();
    }
    assert!(resent > 100, "{resent} blocks failed: the walks meet failures");
}

#[test]
fn a_block_that_never_verifies_fails_the_pass() {
    let mut met = 0;
    for seed in 0..SEEDS {
        let mut walk = walk(seed, |setup, random| {
            setup.has_seeds = random.below(2) == 0;
            let blocks = setup.source.iter().zip(&setup.target);
            let first = blocks.clone().position(|(source, target)| source != target);
            setup.troubles.broken_block = first.map(|block| BlockIndex(block as u64));
        });
        let Some(broken) = walk.world.troubles.broken_block else { continue };
        met += 1;
        let error = run(seed, &mut walk).expect_err("a block that never verifies");
        assert_eq!(error.code, Code::VerifyFailed, "seed {seed}: {error}");
        assert!(error.reason.contains(&format!("block {} ", broken.0)), "{error}");
        assert!(walk.world.sealed.iter().all(Option::is_none));
    }
    assert!(met > SEEDS / 2, "{met} walks had a block that differs");
}

#[test]
fn what_truncated_digests_do_not_show_is_repaired() {
    let mut repaired = 0;
    for seed in 0..SEEDS {
        let mut walk = walk(seed, hide_differences);
        let hidden = walk.world.target.iter().flatten().filter(|&&value| value & HIDDEN != 0).count();
        run(seed, &mut walk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        walk.assert_sealed();
        repaired += u64::from(hidden > 0 && walk.world.roots == 2);
    }
    assert!(repaired > SEEDS / 4, "{repaired} walks were repaired");
}

#[test]
fn a_second_mismatch_fails_the_pass_and_names_the_blocks() {
    let mut met = 0;
    for seed in 0..SEEDS {
        let mut walk = walk(seed, |setup, random| {
            hide_differences(setup, random);
            setup.troubles.wrong_roots_from = Some(random.below(2));
        });
        // Where chunks agree although the roots do not, there is nothing to repair.
        let outcome = run(seed, &mut walk);
        let Err(error) = outcome else {
            assert_eq!(walk.world.roots, 1, "seed {seed}: only a first root can be right");
            continue;
        };
        if walk.world.layout.block_count() == 0 {
            continue;
        }
        met += 1;
        assert_eq!(error.code, Code::RootMismatch, "seed {seed}: {error}");
    }
    assert!(met > SEEDS / 2, "{met} walks met a second mismatch");
}

/// Gives some pages of the target a value whose truncated digests are those of another.
fn hide_differences(setup: &mut Setup, random: &mut Random) {
    for _ in 0..random.below(5) {
        let Some(block) = setup.target.len().checked_sub(1) else { return };
        let block = random.below(block as u64 + 1) as usize;
        let page = random.below(PAGES as u64) as usize;
        if setup.target[block][page] != 0 {
            setup.target[block][page] |= HIDDEN;
        }
    }
}
