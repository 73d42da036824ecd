//! Disks that come, go and change their layout between points: none is left at another state while it is said to be back.

use super::*;

impl Machine {
    fn open(&self, at: &[usize]) -> Vec<OpenDisk> {
        at.iter().map(|at| (self.disk(*at), Arc::clone(&self.images[*at]) as Arc<dyn Image>)).collect()
    }

    fn back(&self, number: u64, at: &[usize]) -> Result<u64, StoreError> {
        let progress = RollbackProgress::default();
        let done = self.store.roll_back(number, &self.open(at), &progress, &|| false);
        done.map(|done| done.point)
    }

    /// A pass of the first disk alone, and the point that comes of it while it is the machine's only one.
    fn cycle_of_one(&mut self, random: &mut Random) -> u64 {
        self.epoch += 1;
        self.pass(0, random, true);
        let point = self.store.record_point(&ids()[..1]).expect("recorded").expect("a point").number;
        self.points.insert(point, self.copies());
        point
    }
}

#[test]
fn a_disk_that_came_after_a_point_has_its_original_back_in_mid_pass() {
    for seed in 0..8 {
        let mut random = Random::new(seed);
        let mut machine = Machine::new(&mut random, 32 << 10);
        machine.cycle_of_one(&mut random);
        machine.epoch += 1;
        machine.pass(0, &mut random, seed % 2 == 0);
        machine.pass(1, &mut random, false);
        assert_eq!(machine.store.record_point(&ids()).expect("looked"), None);
        if seed % 4 < 2 {
            let refused = machine.back(1, &[0, 1]).expect_err("disk1 is not in it");
            assert_eq!(refused.code(), Code::PointUnknown, "{refused}");
        }
        assert_eq!(machine.go_to(0), 2, "seed {seed}");
        assert_eq!(machine.store.record_point(&ids()).expect("looked"), None);
    }
}

#[test]
fn a_disk_that_came_after_a_way_back_to_the_original_has_its_own_back() {
    let mut random = Random::new(5);
    let mut machine = Machine::new(&mut random, 32 << 10);
    machine.cycle_of_one(&mut random);
    assert_eq!(machine.back(0, &[0]).expect("gone back"), 2);
    machine.epoch += 1;
    machine.pass(0, &mut random, true);
    machine.pass(1, &mut random, false);
    machine.go_to(0);
}

#[test]
fn a_point_without_a_disk_is_gone_back_to_only_without_it() {
    let mut random = Random::new(6);
    let mut machine = Machine::new(&mut random, 32 << 10);
    assert_eq!((machine.cycle_of_one(&mut random), machine.cycle(&mut random)), (1, 2));
    let before = machine.copies();
    let refused = machine.back(1, &[0, 1]).expect_err("disk1 is not in it");
    assert_eq!(refused.code(), Code::PointUnknown, "{refused}");
    assert!(machine.copies() == before);
    assert_eq!(machine.go_to(0), 3);
    assert_eq!(machine.go_to(2), 4);
}

#[test]
fn undo_of_a_disk_that_was_taken_out_stays_until_it_is_back() {
    for with_point in [false, true] {
        let mut random = Random::new(7);
        let mut machine = Machine::new(&mut random, 32 << 10);
        if with_point {
            machine.cycle_of_one(&mut random);
        }
        machine.epoch += 1;
        machine.pass(0, &mut random, true);
        machine.pass(1, &mut random, false);
        machine.back(0, &[0]).expect("gone back without it");
        let mut machine = machine.reopen();
        machine.go_to(0);
    }
}
