//! Disks behind NBD servers, by the command.

use crate::command::{failback, figure, qemu_img};
use crate::disks::Disks;
use failback_testkit::{NbdServer, nbd_socket};

#[test]
fn an_export_comes_home_into_a_vmdk_and_only_what_differs_travels() {
    let disks = Disks::new(41, 48 << 20);
    let home = disks.path("home.vmdk");
    let folder = home.parent().expect("a folder");
    let uri = format!("nbd+unix:///?socket={}", nbd_socket(folder).display());
    let (before, after, home) =
        [&disks.before, &disks.after, &home].map(|path| path.to_str().expect("text")).into();
    let sync = || failback(["sync", "--verify", &uri, home]).success();
    {
        let _server = NbdServer::qemu(folder, &["--format=raw", before]);
        let info = failback(["image", "info", &uri]).success();
        assert_eq!((info["format"].as_str(), figure(&info, "virtual_size_bytes")), (Some("nbd"), 48 << 20));
        sync();
    }
    qemu_img(&["compare", "-f", "raw", "-F", "vmdk"], &[disks.before.as_path(), home.as_ref()]);
    let _server = NbdServer::nbdkit(folder, &["file", after]);
    let synced = sync();
    assert!(figure(&synced, "blocks_differing") > 0, "{synced}");
    assert!(figure(&synced, "bytes_to_target") < 24 << 20, "{synced}");
    qemu_img(&["compare", "-f", "raw", "-F", "vmdk"], &[disks.after.as_path(), home.as_ref()]);
    let hashed = |image: &str| failback(["hash", image]).success()["root"].clone();
    assert_eq!(hashed(&uri), hashed(after));
}

#[test]
fn a_server_that_is_not_there_is_refused_and_nothing_made() {
    let disks = Disks::new(42, 1 << 20);
    let home = disks.path("home.vmdk");
    let nobody = "nbd+unix:///web01?socket=/nonexistent/nbd.sock";
    failback(["sync", nobody, home.to_str().expect("text")]).failure(4, "FB410");
    failback(["sync", "nbd://host:0/x", home.to_str().expect("text")]).failure(3, "FB413");
    assert!(!home.exists());
}
