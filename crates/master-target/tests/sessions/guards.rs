//! A target that is not meant is refused before anything of it changes.

use crate::code;
use crate::site::Site;
use failback_model::Code;
use failback_testkit::Random;
use std::fs;

const LENGTH: usize = 8 << 20;

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    Random::new(seed).fill(&mut bytes);
    bytes
}

#[test]
fn a_disk_with_other_contents_is_refused_although_nothing_names_it() {
    let site = Site::new(LENGTH as u64);
    let other = noise(9);
    fs::write(site.target(), &other).expect("written");
    let error = site.send(1).0.expect_err("it is another disk");
    assert_eq!(code(&error), Code::WrongDisk, "{error}");
    assert_eq!(fs::read(site.target()).expect("read"), other, "nothing of it changed");
    let mut attempt = site.attempt(1);
    attempt.options.accept_mismatch = true;
    site.run(&attempt).expect("it was said to be meant");
    site.assert_same();
}

#[test]
fn a_disk_that_would_have_to_be_extended_is_judged_before() {
    let site = Site::new(LENGTH as u64);
    site.allow_growth();
    let other = noise(9)[..LENGTH / 2].to_vec();
    fs::write(site.target(), &other).expect("written");
    assert_eq!(code(&site.send(1).0.expect_err("it is another disk")), Code::WrongDisk);
    assert_eq!(fs::read(site.target()).expect("read"), other, "nor is it any longer");
}

#[test]
fn an_old_state_of_the_same_disk_is_taken() {
    let site = Site::new(LENGTH as u64);
    let mut old = fs::read(site.target()).expect("read");
    // Half of it changed since, and of the other half every second block.
    old[LENGTH / 2..].copy_from_slice(&noise(9)[LENGTH / 2..]);
    fs::write(site.target(), old).expect("written");
    site.send(1).0.expect("it is the same disk");
    site.assert_same();
}

#[test]
fn a_target_that_cannot_hold_all_of_the_source_is_refused_before_the_pass() {
    let site = Site::new(LENGTH as u64);
    let descriptor = site.target().with_file_name("holed.vmdk");
    let flat = noise(9);
    fs::write(site.target().with_file_name("holed-flat.vmdk"), &flat[..LENGTH / 2]).expect("written");
    let half = LENGTH / 2 / 512;
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\n\
         RW {half} FLAT \"holed-flat.vmdk\" 0\nRW {half} ZERO\n"
    );
    fs::write(&descriptor, &text).expect("written");
    site.write_to(&descriptor);
    let mut attempt = site.attempt(1);
    attempt.options.accept_mismatch = true;
    let error = site.run(&attempt).expect_err("half of it has no file");
    assert_eq!(code(&error), Code::ImageReadOnlyKind, "{error}");
    assert!(error.to_string().contains("ZERO extent"), "{error}");
    assert_eq!(fs::read_to_string(&descriptor).expect("read"), text, "its content id did not change");
    assert_eq!(fs::read(site.target().with_file_name("holed-flat.vmdk")).expect("read"), flat[..LENGTH / 2]);
}
