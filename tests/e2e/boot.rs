//! The proof that counts: a disk that ran and wrote elsewhere comes home into its old VMDK and starts a machine on
//! VMware's controller, with its payload intact and its boot counter advanced.

use crate::command::{failback, figure, project, qemu_img, run};
use crate::disks::folder;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The lab's disk that boots; `tools/test` makes it.
pub(crate) fn lab_disk() -> PathBuf {
    let disk = project().join("target/lab/disk.raw");
    assert!(disk.is_file(), "{} is missing: run tools/lab/fetch, then tools/lab/make-disk", disk.display());
    disk
}

/// Starts the disk; what the guest said: `boots=N payload=ok driver=NAME`.
pub(crate) fn boot(controller: &str, format: &str, disk: &Path) -> String {
    started(&[controller.as_ref(), format.as_ref(), disk.as_os_str()])
}

/// The same on an overlay: the disk stays as it is.
pub(crate) fn boot_on_overlay(controller: &str, format: &str, disk: &Path) -> String {
    started(&["--overlay".as_ref(), controller.as_ref(), format.as_ref(), disk.as_os_str()])
}

fn started(arguments: &[&OsStr]) -> String {
    let script = project().join("tools/lab/boot");
    run(script.to_str().expect("the project's path is text"), arguments)
}

fn sync(source: &Path, target: &Path, more: &[&str]) -> serde_json::Value {
    let ends = ["sync".as_ref(), source.as_os_str(), target.as_os_str()];
    failback(ends.into_iter().chain(more.iter().map(OsStr::new))).success()
}

/// `elsewhere` is the name of the disk as it runs away from home, `format` what QEMU calls its format.
fn comes_home_and_boots(elsewhere: &str, format: &str, vmdk_type: &str) {
    let folder = folder();
    let (home, away) = (folder.path().join("app01.vmdk"), folder.path().join(elsewhere));
    sync(&lab_disk(), &home, &["--vmdk-type", vmdk_type]);
    sync(&home, &away, &[]);
    assert_eq!(boot("virtio", format, &away), "boots=1 payload=ok driver=virtio-pci");

    let synced = sync(&away, &home, &["--verify"]);
    assert!(figure(&synced, "blocks_differing") > 0, "the guest wrote");
    assert!(figure(&synced, "bytes_to_target") < 16 << 20, "only what it wrote travels: {synced}");
    qemu_img(&["compare", "-f", format, "-F", "vmdk"], &[&away, &home]);
    assert_eq!(boot("pvscsi", "vmdk", &home), "boots=2 payload=ok driver=vmw_pvscsi");
}

#[test]
fn from_a_vhd_into_a_vmfs_vmdk() {
    comes_home_and_boots("azure.vhd", "vpc", "vmfs");
}

#[test]
fn from_a_raw_disk_into_a_sparse_vmdk() {
    comes_home_and_boots("azure.raw", "raw", "monolithicSparse");
}
