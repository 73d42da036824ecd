//! Disks that have no times of change, and sources that hold nothing.

use crate::code;
use crate::site::Site;
use failback_model::Code;
use failback_testkit::LoopDevice;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

const LENGTH: u64 = 8 << 20;

/// Writes to a file or a device, durably.
pub(crate) fn write(device: &Path, offset_bytes: u64, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(device).expect("opened");
    file.write_all_at(bytes, offset_bytes).expect("written");
    file.sync_all().expect("synced");
}

#[test]
fn a_source_device_that_changed_between_cycles_is_sent_as_it_is() {
    let site = Site::new(LENGTH);
    let device = LoopDevice::attach(&site.source(), 512);
    site.send_from(device.path(), 1).expect("the first cycle");
    write(device.path(), 3 << 20, &[0xa5; 4096]);
    site.send_from(device.path(), 2).expect("the second cycle");
    site.assert_same();
}

#[test]
fn a_target_device_that_changed_where_no_sample_looks_is_brought_back_all_the_same() {
    // 32 of 1280 blocks are always looked at, and 224 by chance: this job's miss a block that the search below finds.
    let length = 80 << 20;
    let site = Site::new(length);
    let device = LoopDevice::attach(&site.target(), 512);
    site.write_to(device.path());
    site.send(1).0.expect("the first cycle");
    site.settle();
    let mut unnoticed = None;
    for block in (40..1280).step_by(97) {
        let mut before = [0; 512];
        let file = fs::File::open(device.path()).expect("opened");
        file.read_exact_at(&mut before, block << 16).expect("read");
        write(device.path(), block << 16, &before.map(|byte| !byte));
        if site.send(2).0.is_ok() {
            unnoticed = Some(block);
            break;
        }
        write(device.path(), block << 16, &before);
    }
    assert!(unnoticed.is_some(), "a sample is no scan");
    site.assert_same();
}

#[test]
fn a_blank_source_does_not_wipe_a_full_disk() {
    let site = Site::new(LENGTH);
    fs::write(site.source(), vec![0; LENGTH as usize]).expect("written");
    assert_eq!(code(&site.send(1).0.expect_err("it is not that disk")), Code::WrongDisk);
}
