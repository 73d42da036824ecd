//! Block devices: a disk that was hot-added to this host, played by loop devices.

use crate::command::{failback, figure, run};
use crate::disks::{Disks, assert_same_bytes};
use crate::host::{LoopDevice, Mount};
use std::path::Path;

const LENGTH_BYTES: u64 = 24 << 20;

fn sync(source: &Path, target: &Path) -> crate::command::Ended {
    failback(["sync".as_ref(), source.as_os_str(), target.as_os_str(), "--verify".as_ref()])
}

#[test]
fn device_with_sectors_of_512_bytes_comes_home() {
    let disks = Disks::new(200, LENGTH_BYTES);
    let device = LoopDevice::new(&disks.before, 512);
    let synced = sync(&disks.after, device.path()).success();
    assert_eq!(figure(&synced, "pages_shipped"), disks.changed_pages);
    assert_same_bytes(&disks.after, device.path(), LENGTH_BYTES);
}

#[test]
fn device_with_sectors_of_4096_bytes_comes_home_to_its_like() {
    let disks = Disks::new(210, LENGTH_BYTES);
    let (source, target) = (LoopDevice::new(&disks.after, 4096), LoopDevice::new(&disks.before, 4096));
    let synced = sync(source.path(), target.path()).success();
    assert_eq!(figure(&synced, "pages_shipped"), disks.changed_pages);
    assert_same_bytes(source.path(), target.path(), LENGTH_BYTES);
}

#[test]
fn other_sector_size_is_refused() {
    let disks = Disks::new(220, LENGTH_BYTES);
    let target = disks.copy_of_before("target.raw");
    let device = LoopDevice::new(&target, 4096);
    sync(&disks.after, device.path()).failure(3, "FB307");
    assert_same_bytes(&disks.before, device.path(), LENGTH_BYTES);
}

#[test]
fn mounted_device_is_refused_and_stays_as_it_was() {
    let disks = Disks::new(230, LENGTH_BYTES);
    let target = disks.path("target.raw");
    std::fs::File::create(&target).and_then(|file| file.set_len(LENGTH_BYTES)).expect("creates");
    run("mkfs.ext4", [Path::new("-q"), Path::new("-F"), &target]);
    let device = LoopDevice::new(&target, 512);
    let mount =
        Mount::new(&["-o", "ro,noload", &device.path().display().to_string()], &disks.path("mounted"));
    let before = std::fs::read(&target).expect("reads");
    sync(&disks.after, device.path()).failure(3, "FB302");
    assert!(std::fs::read(&target).expect("reads") == before, "a mounted device was written to");
    drop(mount);
    let arguments = ["sync".as_ref(), disks.after.as_os_str(), device.path().as_os_str()];
    failback(arguments.into_iter().chain(["--accept-mismatch".as_ref()])).success();
    assert_same_bytes(&disks.after, device.path(), LENGTH_BYTES);
}

#[test]
fn device_shorter_than_the_source_is_refused_with_the_size_it_needs() {
    let disks = Disks::new(240, LENGTH_BYTES);
    let target = disks.path("short.raw");
    std::fs::File::create(&target).and_then(|file| file.set_len(LENGTH_BYTES / 2)).expect("creates");
    // Its excess must not be zero, or it would be trimmed.
    let mut bytes = std::fs::read(&disks.after).expect("reads");
    *bytes.last_mut().expect("not empty") = 1;
    std::fs::write(&disks.after, &bytes).expect("writes");
    let device = LoopDevice::new(&target, 512);
    let refused = sync(&disks.after, device.path()).failure(3, "FB306");
    assert!(
        refused.to_string().contains(&LENGTH_BYTES.to_string()),
        "names the size to extend to: {refused}"
    );
}
