//! A disk that lies in Azure's storage comes home: read from Azurite as a page blob, judged by qemu-img, booted.

use crate::boot::{boot, boot_on_overlay, lab_disk};
use crate::command::{failback, figure, qemu_img};
use crate::disks::folder;
use failback_testkit::Azurite;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const LATER: &str = "2099-01-01T00:00:00Z";

/// Puts the URL of a blob into a file of our own; how the command names it.
fn source(folder: &Path, url: &str) -> String {
    let file: PathBuf = folder.join("sas");
    fs::write(&file, url).expect("written");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("its own");
    format!("azblob:@{}", file.display())
}

#[test]
fn a_page_blob_comes_home_into_its_vmdk_and_boots() {
    let folder = folder();
    let (home, away) = (folder.path().join("app01.vmdk"), folder.path().join("azure.vhd"));
    let sync = |source: &str, target: &Path, more: &[&str]| {
        let ends = ["sync", source, target.to_str().expect("text")];
        failback(ends.into_iter().chain(more.iter().copied())).success()
    };
    sync(lab_disk().to_str().expect("text"), &home, &[]);
    sync(home.to_str().expect("text"), &away, &[]);
    // As a machine in the cloud, it writes.
    assert_eq!(boot("virtio", "vpc", &away), "boots=1 payload=ok driver=virtio-pci");

    let azurite = Azurite::start(&folder.path().join("azurite"));
    azurite.upload("app01.vhd", &away);
    let blob = source(folder.path(), &azurite.url("app01.vhd", "r", LATER));
    let synced = sync(&blob, &home, &["--verify"]);
    assert!(figure(&synced, "blocks_differing") > 0, "the guest wrote");
    assert!(figure(&synced, "bytes_to_target") < 16 << 20, "only what it wrote travels: {synced}");
    qemu_img(&["compare", "-f", "vpc", "-F", "vmdk"], &[&away, &home]);
    assert_eq!(boot_on_overlay("pvscsi", "vmdk", &home), "boots=2 payload=ok driver=vmw_pvscsi");

    // What changes behind a snapshot is not read; what is cleared comes home as zeros.
    let time = azurite.snapshot("app01.vhd");
    azurite.clear_pages("app01.vhd", 1 << 20, 1 << 20);
    let frozen = format!("{}&snapshot={time}", azurite.account_url("app01.vhd"));
    let synced = sync(&source(folder.path(), &frozen), &home, &[]);
    assert_eq!(figure(&synced, "blocks_differing"), 0, "{synced}");
    let synced = sync(&source(folder.path(), &azurite.account_url("app01.vhd")), &home, &["--verify"]);
    let cleared = figure(&synced, "blocks_differing");
    assert!((1..=16).contains(&cleared), "some of that MiB held data: {synced}");
    assert_eq!(figure(&synced, "zero_bytes"), cleared << 16, "{synced}");
}

#[test]
fn a_signature_is_never_repeated() {
    let folder = folder();
    let azurite = Azurite::start(&folder.path().join("azurite"));
    azurite.create("d", 1 << 20);
    let target = folder.path().join("d.vmdk");
    let url = azurite.url("d", "r", "2020-01-01T00:00:00Z");
    let (_, signature) = url.rsplit_once("sig=").expect("signed");
    let blob = source(folder.path(), &url);
    let ended = failback(["sync", blob.as_str(), target.to_str().expect("text")]);
    ended.failure(4, "FB411");
    assert!(!ended.said().contains(&signature[..8]), "{}", ended.said());
    assert!(!target.exists(), "nothing was made of what cannot be read");
}
