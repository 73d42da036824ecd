//! Media that fail: the first failed sync latches, a full file system does not, and both leave a journal that recovers.

use crate::support::{
    DeviceImage, MemoryMedium, claim, contents, digest, disk_id, layout, machine, range, write_blocks,
};
use failback_blockio::Device;
use failback_engine::Sink;
use failback_model::{Code, Epoch};
use failback_store::{DiskStore, Fingerprint, MachineStore, Medium};
use failback_testkit::{Call, Damage, Fault, Faulty, MemoryDevice, Mounted, When};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const BLOCKS: u64 = 200;

/// A medium whose n-th segment (from 0) has faults.
fn faulty(segment: usize, faults: Vec<Fault>) -> MemoryMedium {
    let segments = AtomicUsize::new(0);
    MemoryMedium::made_of(move |name| {
        let device = MemoryDevice::new(0).named(name);
        if name.contains(".fbj") && segments.fetch_add(1, Ordering::Relaxed) == segment {
            return Arc::new(Faulty::new(device, faults.clone()));
        }
        Arc::new(device)
    })
}

fn fingerprint() -> Fingerprint {
    Fingerprint::of_text("as it was")
}

/// A session on a disk that is new.
fn session(medium: &MemoryMedium) -> (Arc<DiskStore>, Arc<dyn Sink>) {
    let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let number = disk.open_session(Epoch(1), layout(BLOCKS), true, &fingerprint()).expect("a session");
    let sink = disk.sink(DeviceImage::in_memory(layout(BLOCKS)), number, claim());
    (disk, sink)
}

/// Recovers what a medium holds, without its faults.
fn recovered(medium: &MemoryMedium) -> Arc<DiskStore> {
    let store = MachineStore::open_on(Box::new(medium.repaired()), None, &machine()).expect("recovered");
    assert!(store.recovered().findings.is_empty());
    store.disk(&disk_id()).expect("a disk")
}

#[test]
fn the_first_failed_sync_is_the_last() {
    // Of the first segment: its checkpoint, the session, the new disk's zeros, then the intent.
    let fault = Fault { call: Call::Sync, when: When::Nth(4), damage: Damage::Io };
    let medium = faulty(0, vec![fault]);
    let (disk, sink) = session(&medium);
    let first = sink.begin(&[range(0, 5)], &[]).expect_err("the sync fails");
    assert_eq!(first.code, Code::JournalFailed, "{first}");
    // The next sync would succeed, as the kernel has dropped what it could not write.
    let write = || sink.write(0, &contents(1));
    for refused in [sink.begin(&[range(7, 8)], &[]), write(), sink.commit(), sink.begin(&[range(0, 1)], &[])]
    {
        let error = refused.expect_err("refused");
        assert_eq!(error.code, Code::JournalLatched, "{error}");
        assert!(error.to_string().contains("os error 5"), "it names the first failure: {error}");
    }
    assert_eq!(disk.forget().expect_err("refused").code(), Code::JournalLatched);
    assert!(recovered(&medium).state().trusted_blocks >= BLOCKS - 5);
}

#[test]
fn a_failed_write_latches_and_a_half_written_record_is_a_torn_tail() {
    // Of the first segment: checkpoint header, disk, session, zeros.
    let fault = Fault { call: Call::Write, when: When::Nth(5), damage: Damage::Short };
    let medium = faulty(0, vec![fault]);
    let (_, sink) = session(&medium);
    assert_eq!(sink.begin(&[range(0, 5)], &[]).expect_err("it fails").code, Code::JournalFailed);
    assert_eq!(sink.begin(&[range(0, 5)], &[]).expect_err("refused").code, Code::JournalLatched);
    let store = MachineStore::open_on(Box::new(medium.repaired()), None, &machine()).expect("recovered");
    assert!(store.recovered().torn_bytes > 0);
    assert_eq!(store.disk(&disk_id()).expect("a disk").state().trusted_blocks, BLOCKS);
}

#[test]
fn a_full_medium_says_so_and_goes_on_when_there_is_space() {
    let fault = Fault { call: Call::Write, when: When::Nth(5), damage: Damage::NoSpace };
    let medium = faulty(0, vec![fault]);
    let (disk, sink) = session(&medium);
    let error = sink.begin(&[range(0, 5)], &[]).expect_err("it is full");
    assert_eq!(
        sink.write(0, &contents(1)).expect_err("refused").code,
        Code::Internal,
        "its intent is not logged"
    );
    assert_eq!(error.code, Code::JournalFailed);
    assert!(
        error.to_string().contains("journal-") && error.to_string().contains("no storage space"),
        "{error}"
    );
    write_blocks(&*sink, range(0, 5), 1);
    sink.commit().expect("committed");
    assert_eq!(disk.state().trusted_blocks, BLOCKS);
    let disk = recovered(&medium);
    let trusted = disk.trusted().expect("known");
    assert_eq!(trusted.digests.digests(range(4, 5)).expect("read"), [digest(1)]);
}

#[test]
fn a_medium_full_at_the_change_of_segments_keeps_the_old_one() {
    let fault = Fault { call: Call::Write, when: When::Nth(1), damage: Damage::NoSpace };
    let mut medium = faulty(1, vec![fault]);
    // The change comes with a begin.
    medium.segment_max_bytes = (4 << 10) + 24;
    let (disk, sink) = session(&medium);
    let mut failures = 0;
    for round in 0..40 {
        let block = range(round % BLOCKS, round % BLOCKS + 1);
        while let Err(error) = sink.begin(&[block], &[]) {
            assert_eq!(error.code, Code::JournalFailed, "{error}");
            failures += 1;
        }
        write_blocks(&*sink, block, round as u8 + 1);
        sink.commit().expect("committed");
        let names = medium.names().expect("listed");
        assert_eq!(names.iter().filter(|name| name.ends_with(".fbj")).count(), 1, "{names:?}");
    }
    assert_eq!(failures, 1);
    assert_eq!(disk.state().trusted_blocks, BLOCKS);
    let trusted = recovered(&medium).trusted().expect("known");
    let held = trusted.digests.digests(range(0, 40)).expect("read");
    assert_eq!(held, (1..=40).map(digest).collect::<Vec<_>>());
}

#[test]
fn a_new_segment_that_cannot_be_synced_latches() {
    let fault = Fault { call: Call::Sync, when: When::Nth(1), damage: Damage::Io };
    let mut medium = faulty(1, vec![fault]);
    medium.segment_max_bytes = 4 << 10;
    let (_, sink) = session(&medium);
    let write = |round: u64| -> Result<(), Code> {
        sink.begin(&[range(round, round + 1)], &[]).map_err(|error| error.code)?;
        sink.write(round * crate::support::BLOCK_BYTES, &contents(1)).map_err(|error| error.code)?;
        sink.applied(&[(failback_model::BlockIndex(round), digest(1))], &[]).map_err(|error| error.code)?;
        sink.commit().map_err(|error| error.code)
    };
    let committed = (0..BLOCKS).take_while(|&round| write(round) != Err(Code::JournalFailed)).count() as u64;
    assert!(committed > 5 && committed < BLOCKS, "{committed}");
    assert_eq!(write(committed), Err(Code::JournalLatched));
    let trusted = recovered(&medium).trusted().expect("known");
    let held = trusted.digests.digests(range(0, committed)).expect("read");
    assert!(held.iter().all(|held| *held == digest(1)), "what was committed stays");
}

#[test]
fn digests_that_cannot_be_read_are_learned_again() {
    const LOST: u64 = 4096 + 32 * 5;
    let medium = MemoryMedium::made_of(|name| {
        let device = MemoryDevice::new(0).named(name);
        if !name.contains(".manifest") {
            return Arc::new(device);
        }
        let fault = Fault { call: Call::Read, when: When::Touching(LOST), damage: Damage::Io };
        Arc::new(Faulty::new(device, [fault]))
    });
    let (disk, sink) = session(&medium);
    let known = disk.trusted().expect("known").digests;
    known.digests(range(0, 10)).expect_err("that says so, and whoever asked scans them");
    let found: Vec<_> = (0..10).map(digest).collect();
    sink.scanned(range(0, 10), Some(&found)).expect("it is written anew");
    write_blocks(&*sink, range(2, 8), 1);
    for block in [10, 20, 30, 40, 50] {
        write_blocks(&*sink, range(block, block + 1), 1);
    }
    sink.commit().expect("what is committed, too");
    let held = |first, end| disk.trusted().expect("known").digests.digests(range(first, end)).expect("read");
    assert_eq!(held(0, 2), found[..2]);
    assert_eq!(held(6, 11), [digest(1), digest(1), found[8], found[9], digest(1)]);
}

#[test]
fn an_image_that_cannot_be_flushed_commits_nothing_more() {
    let medium = MemoryMedium::new();
    let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let number = disk.open_session(Epoch(1), layout(BLOCKS), true, &fingerprint()).expect("a session");
    let fault = Fault { call: Call::Sync, when: When::Nth(1), damage: Damage::Io };
    let device: Arc<dyn Device> =
        Arc::new(Faulty::new(MemoryDevice::new(layout(BLOCKS).length_bytes()), [fault]));
    let sink = disk.sink(DeviceImage::new(device), number, claim());
    write_blocks(&*sink, range(3, 9), 1);
    assert_eq!(sink.commit().expect_err("it fails").code, Code::FlushFailed);
    for refused in [sink.commit(), sink.begin(&[range(0, 1)], &[]), sink.seal(digest(0)).map(drop)] {
        assert_eq!(refused.expect_err("refused").code, Code::JournalLatched);
    }
    assert_eq!(recovered(&medium).trusted().expect("known").ranges, [range(0, 3), range(9, BLOCKS)]);
    let number = disk.open_session(Epoch(1), layout(BLOCKS), false, &fingerprint()).expect("a session");
    let sink = disk.sink(DeviceImage::in_memory(layout(BLOCKS)), number, claim());
    write_blocks(&*sink, range(3, 9), 1);
    sink.commit().expect("another session may");
}

#[test]
fn a_file_system_that_fills_up_keeps_what_was_acknowledged() {
    let mounted = Mounted::tmpfs(1 << 20);
    let filler = mounted.path().join("filler");
    let image = DeviceImage::in_memory(layout(BLOCKS));
    let state = mounted.path().join("state");
    let store = MachineStore::open(&state, None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let number = disk.open_session(Epoch(1), layout(BLOCKS), true, &fingerprint()).expect("a session");
    let sink = disk.sink(image.clone(), number, claim());
    write_blocks(&*sink, range(0, 20), 1);
    sink.commit().expect("committed");
    let mut size_bytes = 1 << 20;
    while size_bytes >= 4096 {
        // As much as there is, in ever smaller pieces.
        let written = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&filler)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &vec![1; size_bytes]));
        if written.is_err() {
            size_bytes /= 2;
        }
    }
    let error = (0..100).find_map(|_| fill(&*sink)).expect("the file system is full");
    assert_eq!(error.code, Code::JournalFailed);
    assert!(error.to_string().contains("No space left"), "{error}");
    drop((sink, disk, store));
    let full = MachineStore::open(&state, None, &machine()).expect_err("there is no space for a new segment");
    assert_eq!(full.code(), Code::JournalFailed, "{full}");
    fs::remove_file(&filler).expect("removed");
    let store = MachineStore::open(&state, None, &machine()).expect("recovered");
    let trusted = store.disk(&disk_id()).expect("a disk").trusted().expect("known");
    assert_eq!(trusted.ranges.first(), Some(&range(0, 20)));
    assert!(trusted.digests.digests(range(0, 20)).expect("read").iter().all(|held| *held == digest(1)));
}

/// Writes to blocks until the journal has no space.
fn fill(sink: &dyn Sink) -> Option<failback_blockio::DiskError> {
    for block in 20..BLOCKS {
        let blocks = range(block, block + 1);
        if let Err(error) = sink.begin(&[blocks], &[]) {
            return Some(error);
        }
        write_blocks(sink, blocks, 2);
    }
    sink.commit().err()
}
