//! The set against the plain one.

use super::*;
use failback_testkit::Random;
use std::collections::BTreeSet;

#[test]
fn it_is_the_plain_set() {
    const BLOCKS: u64 = 5 * CHUNK_BLOCKS + 77;
    let mut random = Random::new(3);
    let (mut set, mut plain) = (BlockSet::empty(BLOCKS), BTreeSet::new());
    for round in 0..2000 {
        let start = random.below(BLOCKS);
        let longest = if round % 3 == 0 { BLOCKS } else { 90 };
        let end = (start + 1 + random.below(longest)).min(BLOCKS);
        let start = if random.below(4) == 0 { start / CHUNK_BLOCKS * CHUNK_BLOCKS } else { start };
        let range = BlockRange::new(start, end);
        if random.below(2) == 0 {
            set.insert(range);
            plain.extend(start..end);
        } else {
            set.remove(range);
            plain.retain(|block| !(start..end).contains(block));
        }
        assert_eq!(set.count(), plain.len() as u64);
        let start = random.below(BLOCKS);
        let within = BlockRange::new(start, start + random.below(BLOCKS - start + 1));
        let held: Vec<u64> = set.runs_in(within).into_iter().flat_map(|run| run.start.0..run.end.0).collect();
        let expected: Vec<u64> = plain.range(within.start.0..within.end.0).copied().collect();
        assert_eq!(held, expected);
        let gaps: u64 = set.gaps_in(within).into_iter().map(BlockRange::count).sum();
        assert_eq!(gaps + held.len() as u64, within.count());
    }
    set.insert(set.all());
    assert!(set.is_full() && set.runs() == [BlockRange::new(0, BLOCKS)] && set.bits.len() == set.free.len());
    set.clear();
    assert!(set.is_empty() && set.runs().is_empty());
}

#[test]
fn runs_are_united_however_they_lie() {
    let range = BlockRange::new;
    let runs = vec![range(7, 9), range(0, 2), range(2, 3), range(1, 2), range(8, 12), range(20, 21)];
    assert_eq!(united(runs), [range(0, 3), range(7, 12), range(20, 21)]);
}

#[test]
fn no_disk_makes_it_large() {
    let mut set = BlockSet::empty(1 << 32);
    set.insert(set.all());
    set.remove(BlockRange::new(5, 6));
    assert_eq!((set.slots.len(), set.bits.len(), set.count()), (1 << 22, 1, (1 << 32) - 1));
    assert_eq!(set.runs(), [BlockRange::new(0, 5), BlockRange::new(6, 1 << 32)]);
}
