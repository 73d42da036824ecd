//! What is trusted from one session to the next, and what ends it.

use crate::support::{
    BLOCK_BYTES, DeviceImage, MemoryMedium, claim, digest, disk_id, layout, machine, range, root_of,
    write_blocks,
};
use failback_engine::Sink;
use failback_model::limits::{JOURNAL_AHEAD_BYTES, JOURNAL_AHEAD_MIN_BYTES, JOURNAL_AHEAD_WINDOWS};
use failback_model::{BlockIndex, Code, Digest, DiskId, Epoch, Generation, SessionNumber};
use failback_store::{DiskStore, Fingerprint, MachineStore, SourceState, StoreError};
use std::sync::Arc;

const BLOCKS: u64 = 3000;

fn before() -> Fingerprint {
    Fingerprint::of_text("before")
}

fn after() -> Fingerprint {
    Fingerprint::of_text("after")
}

struct Played {
    medium: MemoryMedium,
    image: Arc<DeviceImage>,
    disk: Arc<DiskStore>,
    sink: Arc<dyn Sink>,
}

/// A session on a new disk that wrote to one run and committed.
fn played() -> Played {
    let medium = MemoryMedium { ahead_bytes: 2 << 20, ..MemoryMedium::new() };
    let image = DeviceImage::in_memory(layout(BLOCKS));
    let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let number = disk.open_session(Epoch(1), layout(BLOCKS), true, &before()).expect("a session");
    let sink = disk.sink(image.clone(), number, claim());
    write_blocks(&*sink, range(1000, 1100), 1);
    sink.commit().expect("committed");
    Played { medium, image, disk, sink }
}

impl Played {
    fn seal(&self) {
        let digests: Vec<Digest> = (0..BLOCKS).map(|block| self.image.digest_of(block)).collect();
        let trusted = self.disk.state().trusted_blocks;
        self.sink.scanned(range(0, BLOCKS), Some(&digests)).expect("logged");
        assert!(trusted <= self.disk.state().trusted_blocks);
        self.sink.seal(root_of(layout(BLOCKS), &digests)).expect("sealed");
        assert_eq!(self.disk.state().trusted_blocks, BLOCKS);
    }

    fn next_session(&self, layout_blocks: u64, fingerprint: &Fingerprint) -> u64 {
        self.disk.open_session(Epoch(1), layout(layout_blocks), false, fingerprint).expect("a session");
        self.disk.state().trusted_blocks
    }
}

#[test]
fn what_was_announced_is_known_again_to_the_next_session() {
    let played = played();
    assert_eq!(played.disk.state().trusted_blocks, BLOCKS - 28, "two megabytes from 1000 on are announced");
    assert_eq!(played.next_session(BLOCKS, &before()), BLOCKS);
    let trusted = played.disk.trusted().expect("known");
    let first = trusted.digests.next_data(BlockIndex(0)).expect("looked").expect("there is one");
    assert!((1..=1000).contains(&first.0), "holes are skipped: {first:?}");
    assert_eq!(trusted.digests.digests(range(999, 1001)).expect("read"), [Digest::ZERO, digest(1)]);
}

#[test]
fn a_seal_knows_what_was_announced_and_not_begun() {
    let played = played();
    let digests: Vec<Digest> = (0..BLOCKS).map(|block| played.image.digest_of(block)).collect();
    played.sink.seal(root_of(layout(BLOCKS), &digests)).expect("sealed");
    assert_eq!(played.disk.state().trusted_blocks, BLOCKS);
    let store =
        MachineStore::open_on(Box::new(played.medium.repaired()), None, &machine()).expect("recovered");
    assert_eq!(store.disk(&disk_id()).expect("a disk").state().trusted_blocks, BLOCKS);
}

#[test]
fn a_writer_that_nobody_hurries_costs_few_finished_blocks_when_it_is_killed() {
    const BLOCKS: u64 = 4096;
    let medium = MemoryMedium { ahead_bytes: JOURNAL_AHEAD_BYTES, ..MemoryMedium::new() };
    let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let number = disk.open_session(Epoch(1), layout(BLOCKS), true, &before()).expect("a session");
    let sink = disk.sink(DeviceImage::in_memory(layout(BLOCKS)), number, claim());
    for start in (0..BLOCKS / 4).step_by(16) {
        write_blocks(&*sink, range(start, start + 16), 1);
        // All of the journal is durable then: the next writes come late enough not to wait.
        sink.commit().expect("committed");
    }
    let store = MachineStore::open_on(Box::new(medium.repaired()), None, &machine()).expect("recovered");
    let doubted = BLOCKS - store.disk(&disk_id()).expect("a disk").state().trusted_blocks;
    let most = JOURNAL_AHEAD_WINDOWS as u64 * JOURNAL_AHEAD_MIN_BYTES / BLOCK_BYTES;
    assert!((1..=most).contains(&doubted), "{doubted} blocks are scanned again, {most} may be");
}

#[test]
fn a_released_image_that_is_written_to_is_believed_by_the_journal_again() {
    let played = played();
    played.disk.released(&before()).expect("noted");
    let number = played.disk.open_session(Epoch(1), layout(BLOCKS), false, &before()).expect("a session");
    let sink = played.disk.sink(played.image.clone(), number, claim());
    played.disk.forget().expect("forgotten");
    sink.scanned(range(0, 10), None).expect("logged");
    played.disk.released(&before()).expect("noted");
    // Blocks that are unknown already: all the same the image changes from here on.
    write_blocks(&*sink, range(20, 21), 1);
    sink.commit().expect("committed");
    assert_eq!(played.next_session(BLOCKS, &after()), 11);
}

#[test]
fn a_sealed_disk_that_somebody_wrote_to_is_scanned() {
    let played = played();
    played.seal();
    let sealed = Fingerprint::of_image(&*played.image, Epoch(1)).expect("it has no files");
    assert_eq!(played.next_session(BLOCKS, &sealed), BLOCKS);
    assert!(!played.disk.state().in_pass, "nothing has changed yet");
    played.disk.released(&before()).expect("noted");
    assert_eq!(played.next_session(BLOCKS, &before()), BLOCKS);
    assert_eq!(played.next_session(BLOCKS, &after()), 0);
    let state = played.disk.state();
    assert!(state.in_pass && state.generation == Generation(1), "it is not known to be the sealed state");
}

#[test]
fn in_mid_pass_the_journal_is_believed_unless_the_image_was_released() {
    let played = played();
    assert_eq!(played.next_session(BLOCKS, &after()), BLOCKS);
    played.disk.released(&after()).expect("noted");
    let store =
        MachineStore::open_on(Box::new(played.medium.repaired()), None, &machine()).expect("recovered");
    let disk = store.disk(&disk_id()).expect("a disk");
    disk.open_session(Epoch(1), layout(BLOCKS), false, &before()).expect("a session");
    assert_eq!(disk.state().trusted_blocks, 0);
}

#[test]
fn after_a_kill_only_the_job_that_was_cut_believes_the_journal() {
    let played = played();
    let trusted_by = |epoch| {
        let store =
            MachineStore::open_on(Box::new(played.medium.repaired()), None, &machine()).expect("recovered");
        let disk = store.disk(&disk_id()).expect("a disk");
        disk.open_session(Epoch(epoch), layout(BLOCKS), false, &before()).expect("a session");
        disk.state().trusted_blocks
    };
    assert!(trusted_by(1) > BLOCKS / 2, "its own next session goes on");
    assert_eq!(trusted_by(2), 0, "nobody noted how the image looked when it was left");
    played.disk.released(&before()).expect("noted");
    assert!(trusted_by(2) > BLOCKS / 2, "it was left in good order");
}

#[test]
fn another_layout_or_a_request_ends_all_trust() {
    let played = played();
    assert_eq!(played.next_session(BLOCKS + 1, &before()), 0);
    assert_eq!(
        played.disk.trusted().expect("known").digests.digests(range(1000, 1001)).expect("read"),
        [Digest::ZERO]
    );
    let played = self::played();
    played.disk.forget().expect("forgotten");
    assert_eq!(played.disk.state().trusted_blocks, 0);
    assert_eq!(played.next_session(BLOCKS, &before()), 0, "what was announced is not known again");
}

#[test]
fn a_disk_that_was_made_anew_is_zero() {
    let played = played();
    played.seal();
    let number = played.disk.open_session(Epoch(1), layout(BLOCKS), true, &after()).expect("a session");
    let trusted = played.disk.trusted().expect("known");
    assert_eq!(trusted.ranges, [range(0, BLOCKS)]);
    let held = trusted.digests.digests(range(0, BLOCKS)).expect("read");
    assert!(held.iter().all(Digest::is_zero));
    assert_eq!((number, played.disk.state().generation), (SessionNumber(2), Generation(1)));
}

#[test]
fn digests_that_do_not_give_the_root_are_not_kept() {
    let played = played();
    played.sink.scanned(range(0, BLOCKS), None).expect("logged");
    assert_eq!(played.sink.seal(digest(9)).expect("the pass proved it"), 1);
    let state = played.disk.state();
    assert_eq!((state.root, state.in_pass, state.trusted_blocks), (Some(digest(9)), false, 0));
}

#[test]
fn what_is_read_anew_replaces_what_was_known() {
    let played = played();
    played.next_session(BLOCKS, &before());
    let sink = played.disk.sink(played.image.clone(), played.disk.state().session, claim());
    sink.scanned(range(50, 52), Some(&[digest(4), digest(5)])).expect("logged");
    sink.applied(&[(BlockIndex(1000), digest(6))], &[range(1001, 1002)]).expect("applied");
    sink.commit().expect("committed");
    let trusted = played.disk.trusted().expect("known");
    let held = |block| trusted.digests.digests(range(block, block + 1)).expect("read")[0];
    assert_eq!(
        [50, 51, 1000, 1001, 1002].map(held),
        [digest(4), digest(5), digest(6), Digest::ZERO, digest(1)]
    );
}

#[test]
fn a_machine_has_many_disks_and_not_too_many() {
    let medium = MemoryMedium { segment_max_bytes: 100 << 10, ..MemoryMedium::new() };
    let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("opened");
    let id = |number: usize| DiskId::new(format!("disk-{number}")).expect("an id");
    for number in 0..256 {
        let disk = store.disk(&id(number)).expect("a disk");
        if number % 50 == 0 {
            let layout = layout(100 + number as u64);
            let session =
                disk.open_session(Epoch(number as u64), layout, true, &before()).expect("a session");
            let sink = disk.sink(DeviceImage::in_memory(layout), session, claim());
            write_blocks(&*sink, range(0, 100), number as u8);
            sink.commit().expect("committed");
        }
    }
    let error = store.disk(&id(256)).expect_err("refused");
    assert!(
        matches!(error, StoreError::TooManyDisks { count: 256, .. }) && error.code() == Code::JournalFailed
    );
    assert_eq!(store.disks().len(), 256);
    let store = MachineStore::open_on(Box::new(medium.repaired()), None, &machine()).expect("recovered");
    for number in (0..256).step_by(50) {
        let disk = store.disk(&id(number)).expect("a disk");
        assert_eq!(
            (disk.state().epoch, disk.state().trusted_blocks),
            (Epoch(number as u64), 100 + number as u64)
        );
        let held = disk.trusted().expect("known").digests.digests(range(99, 100)).expect("read");
        assert_eq!(held, [digest(number as u8)]);
    }
    assert_eq!(store.disks(), (0..256).map(id).collect::<Vec<_>>());
}

#[test]
fn a_source_is_scanned_once_and_another_source_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("source");
    let digests: Vec<Digest> = (0..64).map(|block| digest(block as u8 + 1)).collect();
    {
        let source =
            SourceState::open(&path, &Fingerprint::of_text("snapshot 1"), layout(BLOCKS)).expect("opened");
        source.scanned(range(0, 64), Some(&digests)).expect("logged");
        source.scanned(range(64, 2000), None).expect("logged");
        source.scanned(range(2100, 2164), Some(&digests)).expect("logged");
        source.sync().expect("synced");
        let error = SourceState::open(&path, &Fingerprint::of_text("snapshot 1"), layout(BLOCKS))
            .expect_err("refused");
        assert_eq!(error.code(), Code::JournalInUse);
    }
    {
        let source =
            SourceState::open(&path, &Fingerprint::of_text("snapshot 1"), layout(BLOCKS)).expect("opened");
        let trusted = source.trusted().expect("known");
        assert_eq!(trusted.ranges, [range(0, 2000), range(2100, 2164)]);
        assert_eq!(trusted.digests.digests(range(2100, 2164)).expect("read"), digests);
    }
    let source =
        SourceState::open(&path, &Fingerprint::of_text("snapshot 2"), layout(BLOCKS)).expect("opened");
    assert_eq!(source.trusted().expect("known").ranges, []);
    source.scanned(range(0, 64), Some(&digests)).expect("logged");
    drop(source);
    let source =
        SourceState::open(&path, &Fingerprint::of_text("snapshot 2"), layout(BLOCKS - 1)).expect("opened");
    assert_eq!(source.trusted().expect("known").ranges, []);
}
