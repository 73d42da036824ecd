//! The search for a deadlock: every order in which the eight kinds of events can be preferred to each other, with windows so
//! small that each message waits for the credit of the one before. A walk that has nothing to do before its seal panics.

use crate::disk::{HIDDEN, layout, layout_of, pair};
use crate::explore::{naming, run, walk};
use crate::walk::EVENTS;
use failback_model::limits::{DIGEST_WINDOW_BLOCKS, GROUP_MAX_BYTES};
use failback_session::RefinementMode;
use failback_testkit::Random;

/// The order of this number among all orders of the events: 0 is the first, and there are `EVENTS.len()!` of them.
fn order(mut number: usize) -> [usize; EVENTS.len()] {
    let mut left: Vec<usize> = (0..EVENTS.len()).collect();
    std::array::from_fn(|_| {
        let at = number % left.len();
        number /= left.len();
        left.remove(at)
    })
}

/// Weights by which the first event of an order nearly always comes before the others, and so on.
fn eagerness(order: [usize; EVENTS.len()]) -> [u64; EVENTS.len()] {
    let mut eagerness = [0; EVENTS.len()];
    for (rank, event) in order.into_iter().enumerate() {
        eagerness[event] = 1 << (7 * (EVENTS.len() - 1 - rank));
    }
    eagerness
}

#[test]
fn no_order_of_credit_is_a_deadlock() {
    let orders: usize = (1..=EVENTS.len()).product();
    for number in 0..orders {
        let seed = number as u64;
        let mut walk = walk(seed, |setup, random| {
            let block_bytes = (16 << 10) << (2 * random.below(2));
            setup.layout = layout_of(block_bytes, 1 + random.below(7), random.below(4096));
            (setup.source, setup.target) = pair(random, setup.layout, 90);
            // At most one message of small ones, or one block, or two.
            setup.window_bytes = [1, 4096, block_bytes, 2 * block_bytes][random.below(4) as usize];
            setup.has_seeds = random.below(2) == 0;
            setup.troubles.seed_misses = 50;
            if random.below(4) == 0 {
                setup
                    .target
                    .iter_mut()
                    .flatten()
                    .filter(|value| **value > 3)
                    .for_each(|value| *value |= HIDDEN);
                setup.refinement = RefinementMode::Off;
            }
        });
        walk.eagerness = eagerness(order(number));
        // A group that each block fills lets nothing be written until its commit has ended.
        walk.world.group_scale = (number % 2 == 0).then_some(GROUP_MAX_BYTES / (16 << 10));
        naming(&format!("order {number}"), || {
            run(seed, &mut walk).expect("neither end fails");
            walk.assert_sealed();
        });
    }
}

#[test]
fn digests_beyond_their_window_come_as_credit_returns() {
    let blocks = 2 * DIGEST_WINDOW_BLOCKS + 5000;
    for seed in 0..6 {
        let mut walk = walk(seed, |setup, random| {
            setup.layout = layout(blocks, 0);
            setup.source = vec![[1; 4]; blocks as usize];
            setup.target = setup.source.clone();
            for _ in 0..20 {
                setup.target[random.below(blocks) as usize][0] = 2;
            }
            setup.window_bytes = 16 << 10;
        });
        walk.eagerness = eagerness(order(Random::part(seed, 9).below(40_320) as usize));
        run(seed, &mut walk).expect("neither end fails");
        walk.assert_sealed();
    }
}
