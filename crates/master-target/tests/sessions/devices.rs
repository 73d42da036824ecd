//! Disks that have no times of change, and sources that hold nothing.

use crate::code;
use crate::site::Site;
use failback_model::Code;
use failback_testkit::LoopDevice;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

const LENGTH: u64 = 8 << 20;

fn write(device: &Path, offset_bytes: u64, bytes: &[u8]) {
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
fn a_target_device_that_changed_between_cycles_is_brought_back() {
    let site = Site::new(LENGTH);
    let device = LoopDevice::attach(&site.target(), 512);
    site.write_to(device.path());
    site.send(1).0.expect("the first cycle");
    site.settle();
    write(device.path(), 3 << 20, &[0x5a; 4096]);
    site.send(2).0.expect("the second cycle");
    site.assert_same();
}

#[test]
fn a_blank_source_does_not_wipe_a_full_disk() {
    let site = Site::new(LENGTH);
    fs::write(site.source(), vec![0; LENGTH as usize]).expect("written");
    assert_eq!(code(&site.send(1).0.expect_err("it is not that disk")), Code::WrongDisk);
}
