//! Runs that are stopped in the middle, and sources that shrink under them. A second run always finishes the job.

use crate::command::{Ended, failback, finish, qemu_img, start};
use crate::disks::{Disks, assert_same_bytes};
use crate::watch::Watch;
use failback_testkit::Random;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Child;

/// Far more than is on its way at any time: a run is in its middle when its first write is seen.
const LENGTH_BYTES: u64 = 256 << 20;

/// A source in which every page is to be sent, and an empty target of this kind that exists.
fn source_and_target(name: &str, options: &[&str]) -> (Disks, PathBuf, PathBuf) {
    let disks = Disks::new(500, 1 << 20);
    let (source, target) = (disks.path("source.raw"), disks.path(name));
    let mut bytes = vec![0; LENGTH_BYTES as usize];
    Random::new(501).fill(&mut bytes);
    std::fs::write(&source, bytes).expect("writes");
    let create = ["image", "create"].map(OsStr::new).into_iter();
    let length = LENGTH_BYTES.to_string();
    let create = create.chain([target.as_os_str(), length.as_ref()]);
    failback(create.chain(options.iter().map(OsStr::new))).success();
    (disks, source, target)
}

fn arguments<'a>(source: &'a Path, target: &'a Path) -> [&'a OsStr; 3] {
    ["sync".as_ref(), source.as_os_str(), target.as_os_str()]
}

/// Starts a run and does something once it has begun to write to `written`.
fn strike(source: &Path, target: &Path, written: &Path, blow: impl FnOnce(&mut Child)) -> Child {
    let watch = Watch::writes_to(written);
    let mut child = start(arguments(source, target));
    watch.wait();
    blow(&mut child);
    child
}

fn interrupt(child: &mut Child) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
    kill_process(id, Signal::INT).expect("may interrupt its own child");
}

fn second_run(source: &Path, target: &Path) -> Ended {
    failback(arguments(source, target).into_iter().chain(["--verify".as_ref()]))
}

#[test]
fn interrupted_run_ends_cleanly_and_a_second_one_finishes() {
    let (disks, source, target) = source_and_target("target.vmdk", &[]);
    let flat = disks.path("target-flat.vmdk");
    let stopped = finish(strike(&source, &target, &flat, interrupt));
    stopped.failure(130, "FB403");
    second_run(&source, &target).success();
    assert_same_bytes(&source, &flat, LENGTH_BYTES);
}

#[test]
fn interrupted_sparse_image_is_sound() {
    let (_disks, source, target) = source_and_target("target.vmdk", &["--vmdk-type", "monolithicSparse"]);
    finish(strike(&source, &target, &target, interrupt)).failure(130, "FB403");
    qemu_img(&["check"], &[&target]);
    second_run(&source, &target).success();
    qemu_img(&["compare", "-f", "raw", "-F", "vmdk"], &[&source, &target]);
}

/// Kills a run that fills a new image of this kind, in its middle, and lets a second one finish.
fn killed_and_finished(name: &str, options: &[&str], written: &str, qemu: &str) {
    let (disks, source, target) = source_and_target(name, options);
    let mut child =
        strike(&source, &target, &disks.path(written), |child| child.kill().expect("may kill its own child"));
    assert_eq!(child.wait().expect("ends").code(), None, "it was killed, not finished");
    second_run(&source, &target).success();
    if options.iter().any(|option| option.contains("Sparse")) {
        qemu_img(&["check"], &[&target]);
    }
    qemu_img(&["compare", "-f", "raw", "-F", qemu], &[&source, &target]);
    failback(["image".as_ref(), "check".as_ref(), target.as_os_str()]).success();
}

#[test]
fn killed_raw_image_is_finished_by_a_second_run() {
    killed_and_finished("target.raw", &[], "target.raw", "raw");
}

#[test]
fn killed_vhd_is_finished_by_a_second_run() {
    killed_and_finished("target.vhd", &[], "target.vhd", "vpc");
}

#[test]
fn killed_vmfs_image_is_finished_by_a_second_run() {
    killed_and_finished("target.vmdk", &["--vmdk-type", "vmfs"], "target-flat.vmdk", "vmdk");
}

#[test]
fn killed_two_gb_flat_image_is_finished_by_a_second_run() {
    let options = ["--vmdk-type", "twoGbMaxExtentFlat"];
    killed_and_finished("target.vmdk", &options, "target-f001.vmdk", "vmdk");
}

#[test]
fn killed_sparse_image_is_finished_by_a_second_run() {
    killed_and_finished("target.vmdk", &["--vmdk-type", "monolithicSparse"], "target.vmdk", "vmdk");
}

#[test]
fn killed_two_gb_sparse_image_is_finished_by_a_second_run() {
    let options = ["--vmdk-type", "twoGbMaxExtentSparse"];
    killed_and_finished("target.vmdk", &options, "target-s001.vmdk", "vmdk");
}

#[test]
fn source_that_is_truncated_while_it_is_read() {
    let (_disks, source, target) = source_and_target("target.raw", &[]);
    let whole = std::fs::read(&source).expect("reads");
    let file = std::fs::OpenOptions::new().write(true).open(&source).expect("opens");
    let child = strike(&source, &target, &target, |_| file.set_len(LENGTH_BYTES / 8).expect("truncates"));
    finish(child).failure(4, "FB206");
    std::fs::write(&source, whole).expect("writes");
    second_run(&source, &target).success();
    assert_same_bytes(&source, &target, LENGTH_BYTES);
}
