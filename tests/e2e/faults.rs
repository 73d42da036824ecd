//! Media that fail in the middle of a run. Each time: a clear error with its place, no panic, the stated exit code; and
//! once the medium works, a second run succeeds.

use crate::command::{Ended, failback, figure, qemu_img};
use crate::disks::{Disks, assert_same_bytes};
use crate::faulty_disk::{Fault, FaultyDisk};
use std::path::Path;

const LENGTH_BYTES: u64 = 24 << 20;
/// In the middle, and on no block boundary.
const BAD_OFFSET_BYTES: u64 = (11 << 20) + 5 * 4096;

fn sync(source: &Path, target: &Path) -> Ended {
    failback(["sync".as_ref(), source.as_os_str(), target.as_os_str(), "--verify".as_ref()])
}

/// Disks that differ in every slot around the bad place, so that it is read and written.
fn disks(seed: u64) -> Disks {
    let disks = Disks::new(seed, LENGTH_BYTES);
    let mut after = std::fs::read(&disks.after).expect("reads");
    for byte in after[(10 << 20)..(12 << 20)].iter_mut().step_by(1024) {
        *byte ^= 0x5a;
    }
    std::fs::write(&disks.after, after).expect("writes");
    disks
}

#[test]
fn source_that_cannot_be_read_in_the_middle() {
    let disks = disks(300);
    let target = disks.copy_of_before("target.raw");
    let failing = FaultyDisk::new(&disks.after, &disks.path("failing.raw"), Fault::Read, BAD_OFFSET_BYTES);
    let failed = sync(failing.path(), &target).failure(4, "FB202");
    assert!(failed.to_string().contains("failing.raw"), "names the medium: {failed}");
    drop(failing);
    let synced = sync(&disks.after, &target).success();
    assert!(figure(&synced, "blocks_differing") > 0, "the bad place was still missing");
    assert_same_bytes(&disks.after, &target, LENGTH_BYTES);
}

#[test]
fn target_that_cannot_be_read_in_the_middle() {
    let disks = disks(310);
    let target = disks.copy_of_before("target.raw");
    let failing = FaultyDisk::new(&target, &disks.path("failing.raw"), Fault::Read, BAD_OFFSET_BYTES);
    sync(&disks.after, failing.path()).failure(4, "FB202");
    drop(failing);
    sync(&disks.after, &target).success();
    assert_same_bytes(&disks.after, &target, LENGTH_BYTES);
}

#[test]
fn target_that_cannot_be_written_in_the_middle() {
    let disks = disks(320);
    let target = disks.copy_of_before("target.raw");
    let failing = FaultyDisk::new(&target, &disks.path("failing.raw"), Fault::Write, BAD_OFFSET_BYTES);
    let failed = sync(&disks.after, failing.path()).failure(4, "FB203");
    assert!(failed.to_string().contains("failing.raw"), "names the medium: {failed}");
    drop(failing);
    sync(&disks.after, &target).success();
    assert_same_bytes(&disks.after, &target, LENGTH_BYTES);
}

#[test]
fn target_that_cannot_be_made_durable() {
    let disks = disks(330);
    let target = disks.copy_of_before("target.raw");
    let failing = FaultyDisk::new(&target, &disks.path("failing.raw"), Fault::Flush, 0);
    sync(&disks.after, failing.path()).failure(4, "FB204");
    drop(failing);
    sync(&disks.after, &target).success();
    assert_same_bytes(&disks.after, &target, LENGTH_BYTES);
}

#[test]
fn sparse_image_stays_sound_when_its_medium_fails() {
    let disks = disks(340);
    let store = disks.path("store.vmdk");
    let sparse = ["--vmdk-type".as_ref(), "monolithicSparse".as_ref()];
    let create = ["sync".as_ref(), disks.before.as_os_str(), store.as_os_str()];
    failback(create.into_iter().chain(sparse)).success();
    // Grains lie close together from the front: the middle of the file is in use.
    let bad_offset_bytes = std::fs::metadata(&store).expect("was created").len() / 2;
    let failing = FaultyDisk::new(&store, &disks.path("failing.vmdk"), Fault::Write, bad_offset_bytes);
    let everything = disks.path("everything.raw");
    std::fs::write(&everything, vec![0xa5; LENGTH_BYTES as usize]).expect("writes");
    let onto =
        ["sync".as_ref(), everything.as_os_str(), failing.path().as_os_str(), "--accept-mismatch".as_ref()];
    failback(onto).failure(4, "FB203");
    drop(failing);
    qemu_img(&["check", "-f", "vmdk"], &[&store]);
    let again = ["sync".as_ref(), everything.as_os_str(), store.as_os_str(), "--accept-mismatch".as_ref()];
    failback(again).success();
    qemu_img(&["compare", "-f", "raw", "-F", "vmdk"], &[&everything, &store]);
}

#[test]
fn source_that_is_not_there() {
    let disks = Disks::new(350, 1 << 20);
    let target = disks.path("new.vmdk");
    sync(&disks.path("nowhere.vhd"), &target).failure(3, "FB201");
    assert!(!target.exists(), "nothing is created for a source that cannot be opened");
}
