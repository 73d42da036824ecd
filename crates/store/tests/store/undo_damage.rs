//! Undo that is not what was written, and media that lie on a way back: that is said, and never passes for a point.

use crate::fault_matrix::{FIRST, Media, ORIGINAL, assert_holds, go_to, pass};
use crate::support::disk_id;
use failback_model::Code;
use failback_store::StoreError;
use failback_testkit::{
    Call, Calls, Damage, Fault, Faulty, LoopDevice, MemoryDevice, Mounted, When, sparse_file,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Media at their first point.
fn at_the_first_point() -> Media {
    let media = Media::sound();
    let (store, disks) = media.open().expect("opened");
    // So that undo knows the digests of what is overwritten.
    pass(&disks, ORIGINAL, ORIGINAL, false).expect("scanned");
    pass(&disks, ORIGINAL, FIRST, true).expect("sealed");
    store.record_point(&[disk_id()]).expect("asked").expect("recorded");
    drop((store, disks));
    media.healed()
}

fn segments(media: &Media) -> Vec<String> {
    let names = media.undo.files().keys().cloned().collect::<Vec<_>>();
    names.into_iter().filter(|name| name.ends_with(".fbu")).collect()
}

#[test]
fn every_damaged_byte_of_undo_is_told_and_the_newest_point_stays() {
    let media = at_the_first_point();
    let name = segments(&media).into_iter().next().expect("undo of the pass");
    let length = media.undo.files()[&name].length_bytes();
    let step = (length / 60).max(1) as usize;
    for at in (0..length).step_by(step) {
        let media = media.healed();
        let what = format!("byte {at} of {length} of {name}");
        {
            let file = media.undo.files()[&name].clone();
            let mut byte = [0];
            file.read_at(at, &mut byte).expect("read");
            file.write_at(at, &[byte[0] ^ 0x40]).expect("written");
        }
        let (store, disks) = media.open().unwrap_or_else(|error| panic!("{what}: {error}"));
        match go_to(&store, &disks, 0) {
            // A byte that is not read: behind a name in the header.
            Ok(()) => assert_holds(&disks, ORIGINAL, &what),
            Err(StoreError::UndoDamaged(said)) => {
                assert!(said.contains("undo"), "{what}: {said}");
                go_to(&store, &disks, 1).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_holds(&disks, FIRST, &what);
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

#[test]
fn a_medium_that_lies_on_a_way_back_does_not_pass_for_a_point() {
    let (mut noticed, mut silent) = (0, 0);
    for nth in 1.. {
        let mut media = at_the_first_point();
        let mut bytes = vec![0; media.image.length_bytes() as usize];
        media.image.read_at(0, &mut bytes).expect("read");
        let calls = Calls::default();
        let fault = Fault { call: Call::Read, when: When::Nth(nth), damage: Damage::FlippedBit };
        media.image = Arc::new(Faulty::counted(MemoryDevice::from_bytes(&bytes), [fault], calls.clone()));
        let (store, disks) = media.open().expect("opened");
        let outcome = go_to(&store, &disks, 0);
        if calls[Call::Read as usize].load(Ordering::Relaxed) < nth {
            outcome.expect("nothing lied");
            break;
        }
        let what = format!("read {nth} lies");
        match outcome {
            Ok(()) => {
                assert_holds(&disks, ORIGINAL, &what);
                silent += 1;
                // What lied was logged then: the way forward must not end at something else.
                match go_to(&store, &disks, 1) {
                    Ok(()) => assert_holds(&disks, FIRST, &what),
                    Err(error) => assert_eq!(error.code(), Code::UndoDamaged, "{what}: {error}"),
                }
            }
            Err(StoreError::UndoDamaged(said)) => {
                assert!(said.contains("block ") || said.contains("root"), "{what}: {said}");
                noticed += 1;
                go_to(&store, &disks, 0).unwrap_or_else(|error| panic!("{what}, and then not: {error}"));
                assert_holds(&disks, ORIGINAL, &what);
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
    assert!(noticed > 0 && silent > 0, "{noticed} lies were noticed, {silent} were harmless");
}

#[test]
fn a_way_back_that_may_not_fit_is_refused_before_anything_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let device = LoopDevice::attach(&sparse_file(folder.path(), "small", 48 << 20), 512);
    let mounted = Mounted::ext4(device.path());
    let (state, undo) = (mounted.path().join("state"), mounted.path().join("undo"));
    let media = Media::sound();
    let store = failback_store::MachineStore::open(&state, Some(&undo), &crate::support::machine());
    let store = store.expect("opened");
    let image = crate::support::DeviceImage::new(media.image.clone());
    let disks = [(store.disk(&disk_id()).expect("a disk"), image as _)];
    pass(&disks, ORIGINAL, FIRST, true).expect("sealed");
    store.record_point(&[disk_id()]).expect("asked").expect("recorded");
    let refused = go_to(&store, &disks, 0).expect_err("there is no room for a segment");
    assert_eq!(refused.code(), Code::UndoSpace, "{refused}");
    let StoreError::UndoSpace { needed_bytes, free_bytes } = refused else { panic!("{refused}") };
    assert!(needed_bytes >= 64 << 20 && free_bytes < 48 << 20, "{needed_bytes} of {free_bytes}");
    assert_holds(&disks, FIRST, "nothing was written");
    assert!(!store.standing().is_partial);
}
