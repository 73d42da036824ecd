//! Made-up histories of a machine against a model that keeps full copies: cycles, seals, ways back and forward again,
//! releases, commits, thinning, kills, and power cuts from which the same history goes on.

use crate::judge::judge;
use crate::machine_model::{Site, original};
use crate::player::Player;
use crate::undo_crash::{Recorded, carried};
use failback_testkit::{Random, asked};
use std::collections::BTreeMap;

const ROUNDS: u64 = 4;

#[test]
fn any_history_is_as_the_model_says() {
    let (cases, first) = (asked("FAILBACK_HISTORIES", 200), asked("FAILBACK_SEED", 1000));
    let mut done = BTreeMap::new();
    let mut cuts = 0;
    for seed in first..first + cases {
        let mut random = Random::new(seed);
        let mut site = Recorded::new(seed);
        let mut player = Player::new(&site, original(), seed);
        for round in 0..ROUNDS {
            player.play(10 + random.below(20));
            player.done.iter().for_each(|(what, count)| *done.entry(*what).or_insert(0) += count);
            // The machine loses power somewhere in this round; what it did behind that is forgotten.
            let position = random.below(site.position() + 1);
            let what = format!("seed {seed}, round {round}, cut after {position} of {}", site.position());
            let notes = std::mem::take(&mut player.notes);
            drop(player);
            let left = site.cut(position, &mut random);
            site = Recorded::over(&left, seed);
            let opened = site.open();
            let more = judge(&site, &opened, &notes, position, &mut random, &what);
            cuts += 1;
            let notes = carried(&notes, position, more);
            match Player::resume(&site, opened, &notes, seed * ROUNDS + round) {
                Some(resumed) => player = resumed,
                // Nothing happened yet, or all was committed for good.
                None => break,
            }
        }
    }
    println!("{cases} histories of {done:?}, with {cuts} power cuts");
}
