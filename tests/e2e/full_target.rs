//! A target whose file system runs full in the middle.

use crate::command::{Ended, failback, qemu_img, run};
use crate::disks::{Disks, assert_same_bytes};
use crate::host::Mount;
use std::fs;
use std::path::Path;

const LENGTH_BYTES: u64 = 48 << 20;
const TOO_SMALL_MEBIBYTES: u64 = 12;

fn sync(source: &Path, target: &Path) -> Ended {
    failback(["sync".as_ref(), source.as_os_str(), target.as_os_str()])
}

#[test]
fn thin_target_in_memory() {
    let disks = Disks::new(400, LENGTH_BYTES);
    let mount = Mount::in_memory(TOO_SMALL_MEBIBYTES, &disks.path("small"));
    let target = mount.path().join("target.raw");
    sync(&disks.after, &target).failure(4, "FB205");
    let larger = ["-o", "remount,size=256m"].map(Path::new);
    run("mount", larger.into_iter().chain([mount.path()]));
    sync(&disks.after, &target).success();
    assert_same_bytes(&disks.after, &target, LENGTH_BYTES);
}

/// A real file system that a ballast file fills, and that is given back its space. `qemu` is what qemu-img calls the
/// format.
fn on_ext4(name: &str, options: &[&str], qemu: &str) {
    let disks = Disks::new(410, LENGTH_BYTES);
    let medium = disks.path("medium");
    fs::File::create(&medium).and_then(|file| file.set_len(96 << 20)).expect("creates");
    run("mkfs.ext4", [Path::new("-q"), Path::new("-F"), &medium]);
    let mount = Mount::new(&["-o", "loop", medium.to_str().expect("text")], &disks.path("small"));
    let ballast = mount.path().join("ballast");
    run("fallocate", [Path::new("--length"), Path::new("66M"), &ballast]);
    let target = mount.path().join(name);
    let arguments = ["sync".as_ref(), disks.after.as_os_str(), target.as_os_str()];
    let sync = || failback(arguments.into_iter().chain(options.iter().map(std::ffi::OsStr::new)));
    sync().failure(4, "FB205");
    fs::remove_file(ballast).expect("removes");
    sync().success();
    qemu_img(&["compare", "-f", "raw", "-F", qemu], &[&disks.after, &target]);
    failback(["image".as_ref(), "check".as_ref(), target.as_os_str()]).success();
}

#[test]
fn raw_target_on_ext4() {
    on_ext4("target.raw", &[], "raw");
}

#[test]
fn vhd_target_on_ext4() {
    on_ext4("target.vhd", &[], "vpc");
}

#[test]
fn thin_vmfs_target_on_ext4() {
    on_ext4("target.vmdk", &[], "vmdk");
}

#[test]
fn two_gb_max_extent_flat_target_on_ext4() {
    on_ext4("target.vmdk", &["--vmdk-type", "twoGbMaxExtentFlat"], "vmdk");
}

#[test]
fn sparse_target_on_ext4() {
    on_ext4("target.vmdk", &["--vmdk-type", "monolithicSparse"], "vmdk");
}

#[test]
fn two_gb_max_extent_sparse_target_on_ext4() {
    on_ext4("target.vmdk", &["--vmdk-type", "twoGbMaxExtentSparse"], "vmdk");
}

#[test]
fn thick_target_that_cannot_be_reserved_is_not_left_half_made() {
    let disks = Disks::new(420, LENGTH_BYTES);
    let mount = Mount::in_memory(TOO_SMALL_MEBIBYTES, &disks.path("small"));
    let target = mount.path().join("target.vmdk");
    let arguments = ["sync".as_ref(), disks.after.as_os_str(), target.as_os_str()];
    let refused = failback(arguments.into_iter().chain(["--provisioning".as_ref(), "eager".as_ref()]));
    refused.failure(4, "FB205");
    let left: Vec<_> = fs::read_dir(mount.path()).expect("lists").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
