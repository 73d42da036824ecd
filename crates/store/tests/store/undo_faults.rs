//! Undo that cannot be written, made durable or read: nothing changes that could not be taken back, the error names what
//! failed, and the same session, or the next one, goes on once it is healed.

use crate::support::{
    BLOCK_BYTES, DeviceImage, MemoryMedium, claim, contents, digest, disk_id, layout, machine, range,
};
use crate::undo_oracle::{Segments, segments_in, take_back};
use failback_blockio::{Action, Device, DiskError, Recording, free_bytes};
use failback_engine::Sink;
use failback_model::{BlockIndex, ByteRange, Code, Epoch};
use failback_store::{Fingerprint, MachineStore};
use failback_testkit::{Call, Damage, Fault, Faulty, LoopDevice, MemoryDevice, Mounted, When, sparse_file};
use std::sync::Arc;

const BLOCKS: u64 = 8;

fn original() -> Vec<u8> {
    (0..BLOCKS).flat_map(|block| contents(100 + block as u8)).collect()
}

/// A medium whose segments of one kind have a fault.
fn faulty(kind: &'static str, fault: Fault) -> MemoryMedium {
    MemoryMedium::made_of(move |name| {
        let device = MemoryDevice::new(0).named(name);
        match name.starts_with(kind) {
            true => Arc::new(Faulty::new(device, [fault])),
            false => Arc::new(device),
        }
    })
}

fn segments(undo: &MemoryMedium) -> Segments {
    let read = |(name, device): (&String, &Arc<dyn Device>)| {
        let mut bytes = vec![0; device.length_bytes() as usize];
        device.read_at(0, &mut bytes).expect("read");
        (name.clone(), bytes)
    };
    undo.repaired().files().iter().map(read).collect()
}

/// A session on a disk that existed.
fn session(journal: &MemoryMedium, undo: &MemoryMedium, image: &Arc<DeviceImage>) -> Arc<dyn Sink> {
    let undo = Some(Box::new(undo.clone()) as _);
    let store = MachineStore::open_on(Box::new(journal.clone()), undo, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let fingerprint = Fingerprint::of_text("as it was");
    let number = disk.open_session(Epoch(1), layout(BLOCKS), false, &fingerprint).expect("a session");
    disk.sink(image.clone(), number, claim())
}

fn begin(sink: &dyn Sink, block: u64) -> Result<(), DiskError> {
    let bytes = ByteRange::new(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
    sink.begin(&[range(block, block + 1)], &[bytes])
}

/// A begin that fails, and is asked for again when the fault is gone: then the block is written. What undo leads back to.
fn begun_again(journal: MemoryMedium, undo: MemoryMedium, image: Arc<dyn Device>) -> (DiskError, Vec<u8>) {
    let image = DeviceImage::new(image);
    let sink = session(&journal, &undo, &image);
    let error = begin(&*sink, 3).expect_err("there is a fault");
    let refused = sink.write(3 * BLOCK_BYTES, &contents(1)).expect_err("it was not begun");
    assert_eq!(refused.code, Code::Internal, "{refused}");
    assert_eq!(image.digest_of(3), digest(103));
    begin(&*sink, 3).expect("the fault is gone");
    sink.write(3 * BLOCK_BYTES, &contents(1)).expect("written");
    sink.applied(&[(BlockIndex(3), digest(1))], &[]).expect("applied");
    sink.commit().expect("committed");
    assert_eq!(image.digest_of(3), digest(1));
    let mut disks = [(0..BLOCKS).flat_map(|block| contents(100 + block as u8)).collect::<Vec<u8>>()];
    disks[0][3 * BLOCK_BYTES as usize..4 * BLOCK_BYTES as usize].fill(1);
    take_back(&segments(&undo), &mut disks);
    let [disk] = disks;
    (error, disk)
}

fn memory_image() -> Arc<dyn Device> {
    Arc::new(MemoryDevice::from_bytes(&original()))
}

#[test]
fn a_full_undo_log_lets_nothing_change_and_goes_on_when_there_is_space() {
    // Of its one segment: the header, then the first record.
    let fault = Fault { call: Call::Write, when: When::Nth(2), damage: Damage::NoSpace };
    let (error, led_to) = begun_again(MemoryMedium::new(), faulty("undo-", fault), memory_image());
    assert_eq!(error.code, Code::JournalFailed, "{error}");
    let said = error.to_string();
    assert!(said.contains("undo-") && said.contains("no storage space"), "{said}");
    assert!(led_to == original(), "what was begun again is in the log");
}

#[test]
fn a_page_that_could_not_be_read_is_logged_when_it_can_be() {
    let fault = Fault { call: Call::Read, when: When::Nth(1), damage: Damage::Io };
    let image = Arc::new(Faulty::new(MemoryDevice::from_bytes(&original()), [fault]));
    let (error, led_to) = begun_again(MemoryMedium::new(), MemoryMedium::new(), image);
    assert_eq!(error.code, Code::ReadFailed, "{error}");
    assert!(led_to == original(), "what was begun again is in the log");
}

#[test]
fn undo_is_durable_before_a_block_that_was_begun_again_changes() {
    // The journal is full when the intent is logged, behind the undo.
    let recording = Recording::new();
    let recorded = recording.clone();
    let undo =
        MemoryMedium::made_of(move |name| Arc::new(recorded.add(Arc::new(MemoryDevice::new(0).named(name)))));
    let fault = Fault { call: Call::Write, when: When::Nth(5), damage: Damage::NoSpace };
    let (error, led_to) = begun_again(faulty("journal-", fault), undo, memory_image());
    assert!(error.to_string().contains("journal-"), "{error}");
    assert!(led_to == original());
    let events = recording.events();
    let is_write = |action: &Action| matches!(action, Action::Write { .. });
    let written = events.iter().rposition(|event| is_write(&event.action)).expect("undo was written");
    let synced = events.iter().rposition(|event| event.action == Action::SyncEnded).expect("it was synced");
    assert!(synced > written, "the image changed, and the undo of it was not durable");
}

#[test]
fn the_first_failed_sync_of_undo_is_the_last() {
    let fault = Fault { call: Call::Sync, when: When::Nth(2), damage: Damage::Io };
    let undo = faulty("undo-", fault);
    let image = DeviceImage::new(memory_image());
    let sink = session(&MemoryMedium::new(), &undo, &image);
    let first = begin(&*sink, 2).expect_err("the sync fails");
    assert_eq!(first.code, Code::JournalFailed, "{first}");
    for refused in [begin(&*sink, 2), begin(&*sink, 5), sink.write(0, &contents(1)), sink.commit()] {
        let error = refused.expect_err("refused");
        assert_eq!(error.code, Code::JournalLatched, "{error}");
        assert!(error.to_string().contains("os error 5"), "it names the first failure: {error}");
    }
    assert_eq!(image.digest_of(2), digest(102));
}

/// A store whose journal and undo log lie in one folder, and a session in it that began a block.
fn begun_in(folder: &std::path::Path) -> (Arc<MachineStore>, Arc<dyn Sink>) {
    let (state, undo) = (folder.join("state"), folder.join("undo"));
    let store = MachineStore::open(&state, Some(&undo), &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let fingerprint = Fingerprint::of_text("as it was");
    let number = disk.open_session(Epoch(1), layout(BLOCKS), false, &fingerprint).expect("a session");
    let sink = disk.sink(DeviceImage::new(memory_image()), number, claim());
    begin(&*sink, 3).expect("begun");
    (store, sink)
}

#[test]
fn a_small_volume_is_not_taken_whole_ahead_of_need() {
    let folder = tempfile::tempdir().expect("a folder");
    let device = LoopDevice::attach(&sparse_file(folder.path(), "small", 48 << 20), 512);
    let mounted = Mounted::ext4(device.path());
    let before = free_bytes(mounted.path()).expect("asked");
    let _begun = begun_in(mounted.path());
    let after = free_bytes(mounted.path()).expect("asked");
    assert!(after > before / 2, "{} of {before} bytes were taken for one block", before - after);
}

#[test]
fn space_that_was_taken_and_not_written_comes_back_after_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..3 {
        drop(begun_in(folder.path()));
    }
    let (store, _sink) = begun_in(folder.path());
    let used = store.undo_space().expect("asked").expect("undo is kept").used_bytes;
    assert!(used < 1 << 20, "{used} bytes for four times one block");
}

#[test]
fn undo_whose_journal_is_gone_is_not_thrown_away() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(begun_in(folder.path()));
    let (state, undo) = (folder.path().join("state"), folder.path().join("undo"));
    let segments = || segments_in(&undo).into_iter().filter(|(name, _)| name != "lock").collect::<Vec<_>>();
    let before = segments();
    std::fs::rename(&state, folder.path().join("lost")).expect("moved");
    let refused = MachineStore::open(&state, Some(&undo), &machine()).expect_err("it leads to a state");
    assert_eq!(refused.code(), Code::JournalDamaged, "{refused}");
    assert!(refused.to_string().contains("undo"), "{refused}");
    assert!(segments() == before, "all of it is there");
    // With its journal back all is well.
    std::fs::remove_dir_all(&state).expect("removed");
    std::fs::rename(folder.path().join("lost"), &state).expect("moved back");
    let store = MachineStore::open(&state, Some(&undo), &machine()).expect("opened");
    assert_eq!(store.points().len(), 1);
    assert!(store.standing().is_partial);
}
