//! Every format that can be written comes to the state of the source, by the command alone; qemu-img is the judge.

use crate::command::{failback, figure, qemu_img};
use crate::disks::{Disks, assert_same_bytes};
use std::path::Path;

const LENGTH_BYTES: u64 = 24 << 20;

/// A kind of target: the file's name, what creates it, and what qemu-img calls it.
struct Kind {
    name: &'static str,
    options: &'static [&'static str],
    qemu: &'static str,
}

/// Brings a disk home into an image of this kind: first a new image, then in place.
fn comes_home(kind: &Kind, seed: u64) {
    let disks = Disks::new(seed, LENGTH_BYTES);
    let target = disks.path(kind.name);
    let to = |source: &Path, more: &[&str]| {
        let mut arguments =
            vec!["sync".as_ref(), source.as_os_str(), target.as_os_str(), "--verify".as_ref()];
        arguments.extend(more.iter().map(std::ffi::OsStr::new));
        failback(arguments).success()
    };

    let created = to(&disks.before, kind.options);
    assert_eq!(figure(&created, "virtual_size_bytes"), LENGTH_BYTES);
    let synced = to(&disks.after, &["--page-refinement", "on"]);
    assert_eq!(figure(&synced, "pages_shipped"), disks.changed_pages, "exactly the changed pages travel");
    let shipped = figure(&synced, "bytes_to_target");
    assert!(
        shipped < disks.changed_pages * 4096 * 11 / 10,
        "{shipped} bytes for {} pages",
        disks.changed_pages
    );

    let judged = disks.path("judged.raw");
    qemu_img(&["convert", "-f", kind.qemu, "-O", "raw"], &[&target, &judged]);
    assert_same_bytes(&disks.after, &judged, LENGTH_BYTES);
    assert_eq!(root(&target), root(&disks.after), "the same bytes have the same root");
    failback(["image".as_ref(), "check".as_ref(), target.as_os_str()]).success();

    let again = to(&disks.after, &[]);
    assert_eq!(figure(&again, "blocks_differing"), 0, "a second run has nothing to do");
    assert_eq!(figure(&again, "bytes_written"), 0, "and writes nothing");
}

fn root(image: &Path) -> String {
    let hashed = failback(["hash".as_ref(), image.as_os_str()]).success();
    hashed["root"].as_str().expect("a root is text").to_owned()
}

#[test]
fn raw() {
    comes_home(&Kind { name: "t.raw", options: &[], qemu: "raw" }, 10);
}

#[test]
fn vhd_fixed() {
    comes_home(&Kind { name: "t.vhd", options: &[], qemu: "vpc" }, 20);
}

#[test]
fn vmdk_vmfs() {
    comes_home(&Kind { name: "t.vmdk", options: &[], qemu: "vmdk" }, 30);
}

#[test]
fn vmdk_monolithic_flat() {
    comes_home(&Kind { name: "t.vmdk", options: &["--vmdk-type", "monolithicFlat"], qemu: "vmdk" }, 40);
}

#[test]
fn vmdk_two_gb_max_extent_flat() {
    comes_home(&Kind { name: "t.vmdk", options: &["--vmdk-type", "twoGbMaxExtentFlat"], qemu: "vmdk" }, 50);
}

#[test]
fn vmdk_monolithic_sparse() {
    comes_home(&Kind { name: "t.vmdk", options: &["--vmdk-type", "monolithicSparse"], qemu: "vmdk" }, 60);
}

#[test]
fn vmdk_two_gb_max_extent_sparse() {
    comes_home(&Kind { name: "t.vmdk", options: &["--vmdk-type", "twoGbMaxExtentSparse"], qemu: "vmdk" }, 70);
}

#[test]
fn stream_optimized_is_made_in_one_go_and_refused_in_place() {
    let disks = Disks::new(80, LENGTH_BYTES);
    let target = disks.path("t.vmdk");
    let sync = |source: &Path| {
        let options = ["--vmdk-type".as_ref(), "streamOptimized".as_ref()];
        failback(["sync".as_ref(), source.as_os_str(), target.as_os_str()].into_iter().chain(options))
    };
    sync(&disks.before).success();
    qemu_img(&["compare", "-f", "raw", "-F", "vmdk"], &[&disks.before, &target]);
    let written = std::fs::read(&target).expect("reads");
    sync(&disks.after).failure(3, "FB105");
    assert!(std::fs::read(&target).expect("reads") == written, "a refused image stays as it was");
}

#[test]
fn a_guest_that_writes_an_image_header_gains_nothing() {
    // A raw disk whose first sector reads like a VMDK descriptor that names another file.
    let disks = Disks::new(90, LENGTH_BYTES);
    let mut bytes = std::fs::read(&disks.before).expect("reads");
    let header =
        b"# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 49152 FLAT \"/etc/passwd\" 0\n";
    bytes[..512].fill(0);
    bytes[..header.len()].copy_from_slice(header);
    std::fs::write(&disks.before, &bytes).expect("writes");
    let target = disks.path("copy.raw");
    failback(["sync".as_ref(), disks.before.as_os_str(), target.as_os_str()]).success();
    assert_same_bytes(&disks.before, &target, LENGTH_BYTES);
}

#[test]
fn a_block_that_is_zero_but_for_its_last_byte_travels() {
    let disks = Disks::new(100, LENGTH_BYTES);
    let mut bytes = vec![0; LENGTH_BYTES as usize];
    for last in (65535..bytes.len()).step_by(65536) {
        bytes[last] = 1;
    }
    std::fs::write(&disks.after, &bytes).expect("writes");
    let target = disks.path("t.vmdk");
    failback(["sync".as_ref(), disks.after.as_os_str(), target.as_os_str(), "--verify".as_ref()]).success();
    assert_same_bytes(&disks.after, &disks.path("t-flat.vmdk"), LENGTH_BYTES);
}
