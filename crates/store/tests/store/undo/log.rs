//! An undo log that is not the one which the journal's points lead back through: said, and nothing is called the original.

use super::*;

/// Opens a machine's journal with this undo.
fn reopened(machine: Machine, undo: &MemoryMedium) -> Result<Arc<MachineStore>, StoreError> {
    let Machine { journal, store, .. } = machine;
    drop(store);
    MachineStore::open_on(Box::new(journal), Some(Box::new(undo.clone())), &crate::support::machine())
}

#[test]
fn points_whose_undo_is_elsewhere_are_refused() {
    let mut random = Random::new(1);
    let mut machine = Machine::new(&mut random, 32 << 10);
    machine.cycle(&mut random);
    let refused = reopened(machine, &MemoryMedium::new()).map(drop).expect_err("a volume is not mounted");
    assert_eq!(refused.code(), Code::JournalDamaged, "{refused}");
}

#[test]
fn a_copy_of_undo_from_before_the_newest_point_is_refused() {
    let mut random = Random::new(2);
    let mut machine = Machine::new(&mut random, 32 << 10);
    machine.cycle(&mut random);
    let older = MemoryMedium::new();
    older.files().extend(machine.undo.files().clone());
    machine.cycle(&mut random);
    let refused = reopened(machine, &older).map(drop).expect_err("it ends too early");
    assert_eq!(refused.code(), Code::JournalDamaged, "{refused}");
}

#[test]
fn a_machine_that_wrote_nothing_yet_opens_again_and_again() {
    let mut random = Random::new(3);
    let mut machine = Machine::new(&mut random, 32 << 10);
    for _ in 0..4 {
        machine.epoch += 1;
        let fingerprint = Fingerprint::of_text("an image");
        machine
            .disk(0)
            .open_session(Epoch(machine.epoch), layout(BLOCKS), false, &fingerprint)
            .expect("begun");
        machine = machine.reopen();
        assert_eq!(machine.numbers(), [0]);
    }
}

#[test]
fn a_segment_that_lost_its_header_is_not_taken_for_an_empty_one() {
    let mut random = Random::new(4);
    let mut machine = Machine::new(&mut random, 32 << 10);
    (0..3).for_each(|_| assert!(machine.cycle(&mut random) > 0));
    let first = machine.undo.files().values().next().map(Arc::clone).expect("a segment");
    first.set_length(0).expect("cut off");
    let machine = machine.reopen();
    let gone = machine.store.roll_back(0, &machine.open_disks(), &RollbackProgress::default(), &|| false);
    assert_eq!(gone.map(drop).expect_err("a part of the original is gone").code(), Code::UndoDamaged);
}
