//! Sessions of one disk, one after the other, over a folder of this host.

use crate::support::{
    DeviceImage, claim, contents, digest, disk_id, layout, machine, range, root_of, write_blocks,
};
use failback_model::{BlockIndex, Code, Digest, Epoch, Generation, SessionNumber};
use failback_store::{Fingerprint, MachineStore};

fn fingerprint() -> Fingerprint {
    Fingerprint::of_text("as it was")
}

#[test]
fn a_pass_is_sealed_and_a_killed_one_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("machines/web-1");
    let layout = layout(100);
    let image = DeviceImage::in_memory(layout);
    let store = MachineStore::open(&path, None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let number = disk.open_session(Epoch(3), layout, false, &fingerprint()).expect("a session");
    assert_eq!(number, SessionNumber(1));
    let sink = disk.sink(image.clone(), number, claim());
    sink.scanned(range(0, 60), None).expect("logged");
    write_blocks(&*sink, range(10, 20), 1);
    sink.commit().expect("committed");
    write_blocks(&*sink, range(15, 30), 2);
    drop((sink, disk, store));

    let store = MachineStore::open(&path, None, &machine()).expect("opened");
    assert_eq!((store.recovered().torn_bytes, store.recovered().findings.len()), (0, 0));
    let disk = store.disk(&disk_id()).expect("a disk");
    let state = disk.state();
    assert_eq!((state.epoch, state.session, state.in_pass), (Epoch(3), SessionNumber(1), true));
    assert_eq!(state.trusted_blocks, 15, "10..15 was committed; 15..60 was begun or announced");
    let older = disk.open_session(Epoch(2), layout, false, &fingerprint()).expect_err("refused");
    assert_eq!(older.code(), Code::SourceOlder);
    let number = disk.open_session(Epoch(3), layout, false, &fingerprint()).expect("a session");
    assert_eq!(number, SessionNumber(2));
    let trusted = disk.trusted().expect("known");
    assert_eq!(trusted.ranges, [range(0, 15)]);
    assert_eq!(trusted.digests.digests(range(9, 11)).expect("read"), [Digest::ZERO, digest(1)]);
    let sink = disk.sink(image.clone(), number, claim());
    sink.scanned(range(15, 30), Some(&[digest(2); 15])).expect("logged");
    sink.scanned(range(30, 100), None).expect("logged");
    write_blocks(&*sink, range(99, 100), 9);
    let mut digests = vec![Digest::ZERO; 100];
    digests[10..15].fill(digest(1));
    digests[15..30].fill(digest(2));
    digests[99] = digest(9);
    let root = root_of(layout, &digests);
    assert_eq!(sink.seal(root).expect("sealed"), 1);
    let state = disk.state();
    assert_eq!((state.generation, state.root, state.in_pass), (Generation(1), Some(root), false));
    assert_eq!(state.trusted_blocks, 100);
}

#[test]
fn an_older_session_is_refused_and_what_was_begun_is_not_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = layout(10);
    let image = DeviceImage::in_memory(layout);
    let store = MachineStore::open(folder.path(), None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let first = disk.open_session(Epoch(0), layout, true, &fingerprint()).expect("a session");
    assert_eq!(disk.state().trusted_blocks, 10, "a new disk is known to be zero");
    let old = disk.sink(image.clone(), first, claim());
    write_blocks(&*old, range(0, 4), 1);
    let second = disk.open_session(Epoch(0), layout, false, &fingerprint()).expect("a session");
    for refused in [
        old.write(0, &contents(3)),
        old.begin(&[range(0, 1)], &[]),
        old.applied(&[(BlockIndex(0), digest(3))], &[]),
        old.commit(),
        old.scanned(range(0, 4), None),
        old.seal(Digest::ZERO).map(|_| ()),
    ] {
        assert_eq!(refused.expect_err("refused").code, Code::StaleSession);
    }
    assert_eq!(disk.trusted().expect("known").ranges, [range(4, 10)]);
    let new = disk.sink(image, second, claim());
    assert_eq!(new.write(0, &contents(3)).expect_err("refused").code, Code::Internal);
    disk.fence(SessionNumber(second.0 + 1));
    assert_eq!(new.begin(&[range(0, 1)], &[]).expect_err("refused").code, Code::StaleSession);
    let third = disk.open_session(Epoch(0), layout, false, &fingerprint()).expect("a session");
    assert!(third.0 > second.0);
}

#[test]
fn two_cannot_open_one_machine_and_a_machine_is_not_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = MachineStore::open(folder.path(), None, &machine()).expect("opened");
    let second = MachineStore::open(folder.path(), None, &machine()).expect_err("refused");
    assert_eq!(second.code(), Code::JournalInUse);
    let disk = store.disk(&disk_id()).expect("a disk");
    drop(store);
    assert!(MachineStore::open(folder.path(), None, &machine()).is_err(), "its disk is still in use");
    drop(disk);
    let other = failback_model::MachineId::new("web-2").expect("an id");
    let error = MachineStore::open(folder.path(), None, &other).expect_err("refused");
    assert!(error.code() == Code::JournalDamaged && error.to_string().contains("machine web-1"), "{error}");
    MachineStore::open(folder.path(), None, &machine()).expect("opened");
}
