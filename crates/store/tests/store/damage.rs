//! Bytes that went bad: damage of what was durable is an error with its place, a torn tail is not, and digests that are
//! gone or wrong are scanned again.

use crate::support::{
    DeviceImage, MemoryMedium, claim, disk_id, layout, machine, range, root_of, write_blocks,
};
use failback_blockio::Device;
use failback_model::{Code, Digest, Epoch};
use failback_store::{Fingerprint, MachineStore, StoreError};
use std::sync::Arc;

const BLOCKS: u64 = 40;

fn fingerprint(image: &DeviceImage) -> Fingerprint {
    Fingerprint::of_image(image, Epoch(1)).expect("it has no files")
}

/// A disk with a sealed state and half of a pass after it; or only the first.
fn played(with_second_pass: bool) -> (MemoryMedium, Arc<DeviceImage>) {
    let (medium, layout) = (MemoryMedium::new(), layout(BLOCKS));
    let image = DeviceImage::in_memory(layout);
    let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let number = disk.open_session(Epoch(1), layout, true, &fingerprint(&image)).expect("a session");
    let sink = disk.sink(image.clone(), number, claim());
    write_blocks(&*sink, range(5, 15), 1);
    let digests: Vec<Digest> = (0..BLOCKS).map(|block| image.digest_of(block)).collect();
    sink.seal(root_of(layout, &digests)).expect("sealed");
    if with_second_pass {
        let number = disk.open_session(Epoch(2), layout, false, &fingerprint(&image)).expect("a session");
        let sink = disk.sink(image.clone(), number, claim());
        for block in 10..20 {
            write_blocks(&*sink, range(block, block + 1), 2);
            sink.commit().expect("committed");
        }
    }
    (medium, image)
}

/// A copy of a medium whose segment has one byte changed or is cut off.
fn damaged(medium: &MemoryMedium, change: impl FnOnce(&dyn Device)) -> Result<Arc<MachineStore>, StoreError> {
    let copy = medium.repaired();
    change(&*copy.segment());
    MachineStore::open_on(Box::new(copy), None, &machine())
}

#[test]
fn damage_of_what_was_durable_is_an_error_and_never_believed() {
    let (medium, _) = played(true);
    let length = medium.segment().length_bytes();
    let (mut errors, mut torn) = (0, 0);
    for at in 0..length {
        let flip = |device: &dyn Device| {
            let mut byte = [0];
            device.read_at(at, &mut byte).expect("read");
            device.write_at(at, &[byte[0] ^ 0x10]).expect("written");
        };
        match damaged(&medium, flip) {
            Err(error) => {
                assert_eq!(error.code(), Code::JournalDamaged, "byte {at}: {error}");
                let StoreError::Disk(error) = error else { panic!("{error}") };
                let place = error.offset_bytes.expect("it names its place");
                assert!(
                    (place <= at || at < 128) && error.path.to_string_lossy().contains(".fbj"),
                    "byte {at}: {error}"
                );
                errors += 1;
            }
            Ok(store) => {
                // Only the last records, of which nothing behind says that they were durable.
                assert!(store.recovered().torn_bytes >= length - at, "byte {at}");
                torn += 1;
            }
        }
    }
    assert!(errors > torn * 5, "{errors} errors, {torn} torn tails of {length} bytes");
}

#[test]
fn a_segment_that_is_cut_off_is_believed_up_to_there() {
    let (medium, _) = played(true);
    let length = medium.segment().length_bytes();
    let mut opened = 0;
    for kept in 0..=length {
        match damaged(&medium, |device| device.set_length(kept).expect("shortened")) {
            // Not even the checkpoint is there.
            Err(error) => assert!(error.code() == Code::JournalDamaged && kept < 500, "{kept}: {error}"),
            Ok(store) => {
                assert!(store.recovered().torn_bytes < 600 && store.recovered().findings.is_empty());
                opened += 1;
            }
        }
    }
    assert!(opened > length / 2);
}

#[test]
fn a_checkpoint_that_is_cut_off_is_damage() {
    let (medium, _) = played(false);
    let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("recovered");
    drop(store);
    let length = medium.segment().length_bytes();
    for kept in [0, 1, 127, 128, 129, length - 1] {
        let error =
            damaged(&medium, |device| device.set_length(kept).expect("shortened")).expect_err("damage");
        assert_eq!(error.code(), Code::JournalDamaged, "{kept} of {length}: {error}");
    }
}

#[test]
fn digests_that_are_gone_are_scanned_again() {
    for with_second_pass in [false, true] {
        let (medium, image) = played(with_second_pass);
        // Into a checkpoint, so that no record brings them back.
        drop(MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("recovered"));
        medium.files().retain(|name, _| !name.ends_with(".manifest"));
        let store = MachineStore::open_on(Box::new(medium), None, &machine()).expect("recovered");
        let findings = &store.recovered().findings;
        assert_eq!((findings.len(), findings[0].code), (1, Code::ManifestDamaged));
        let disk = store.disk(&disk_id()).expect("a disk");
        assert_eq!(disk.state().trusted_blocks, 0);
        let number =
            disk.open_session(Epoch(2), layout(BLOCKS), false, &fingerprint(&image)).expect("a session");
        let sink = disk.sink(image.clone(), number, claim());
        let digests: Vec<Digest> = (0..BLOCKS).map(|block| image.digest_of(block)).collect();
        sink.scanned(range(0, BLOCKS), Some(&digests)).expect("logged");
        sink.seal(root_of(layout(BLOCKS), &digests)).expect("sealed");
        assert_eq!(disk.state().trusted_blocks, BLOCKS);
    }
}

#[test]
fn digests_whose_file_is_damaged_are_scanned_again() {
    let (medium, _) = played(false);
    drop(MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("recovered"));
    medium.file(|name| name.ends_with(".manifest")).write_at(0, &[0x55; 64]).expect("written");
    let store = MachineStore::open_on(Box::new(medium), None, &machine()).expect("recovered");
    let findings = &store.recovered().findings;
    assert_eq!((findings.len(), findings[0].code), (1, Code::ManifestDamaged));
    assert_eq!(store.disk(&disk_id()).expect("a disk").state().trusted_blocks, 0);
}

#[test]
fn records_bring_digests_back_where_the_file_is_gone_before_a_checkpoint() {
    let (medium, image) = played(true);
    medium.files().retain(|name, _| !name.ends_with(".manifest"));
    let store = MachineStore::open_on(Box::new(medium), None, &machine()).expect("recovered");
    assert!(store.recovered().findings.is_empty(), "{:?}", store.recovered().findings);
    let trusted = store.disk(&disk_id()).expect("a disk").trusted().expect("known");
    assert_eq!(trusted.ranges, [range(0, BLOCKS)]);
    let held = trusted.digests.digests(range(0, BLOCKS)).expect("read");
    assert_eq!(held, (0..BLOCKS).map(|block| image.digest_of(block)).collect::<Vec<_>>());
}

#[test]
fn a_sealed_digest_that_went_bad_is_found_before_it_is_believed() {
    let (medium, _) = played(false);
    // Into a checkpoint, so that no record brings it back.
    drop(MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("recovered"));
    let entry = 4096 + 32 * 7;
    medium.file(|name| name.ends_with(".manifest")).write_at(entry, &[0xee]).expect("written");
    let store = MachineStore::open_on(Box::new(medium), None, &machine()).expect("recovered");
    let trusted = store.disk(&disk_id()).expect("a disk").trusted().expect("looked at");
    assert_eq!(trusted.ranges, [], "its chunk is scanned again");
}

#[test]
fn digests_of_another_sealed_state_are_not_believed() {
    let (medium, image) = played(false);
    drop(MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("recovered"));
    let older = medium.repaired().file(|name| name.ends_with(".manifest"));
    let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("recovered");
    let disk = store.disk(&disk_id()).expect("a disk");
    let number = disk.open_session(Epoch(2), layout(BLOCKS), false, &fingerprint(&image)).expect("a session");
    let sink = disk.sink(image.clone(), number, claim());
    write_blocks(&*sink, range(30, 31), 3);
    let digests: Vec<Digest> = (0..BLOCKS).map(|block| image.digest_of(block)).collect();
    sink.seal(root_of(layout(BLOCKS), &digests)).expect("sealed");
    drop((sink, disk, store));
    drop(MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("recovered"));
    // The digests of the first state come back, as from a backup of this one file.
    for (name, device) in medium.files().iter_mut() {
        if name.ends_with(".manifest") {
            *device = older.clone();
        }
    }
    let store = MachineStore::open_on(Box::new(medium), None, &machine()).expect("recovered");
    let disk = store.disk(&disk_id()).expect("a disk");
    assert_eq!(disk.trusted().expect("looked at").ranges, []);
    assert_eq!(disk.state().trusted_blocks, 0);
}
