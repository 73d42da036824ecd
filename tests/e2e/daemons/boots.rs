//! A machine that counts its boots comes home in three recovery points: whichever it is cut over to starts and tells its own
//! count, also when the source is gone for ever in the middle of the next pass; cancelling gives back the original; and a
//! start without an overlay is noticed before anything is taken back.

use super::slow_machine;
use super::steering::steer;
use crate::boot::{boot, boot_on_overlay, lab_disk};
use crate::command::{codes, failback, qemu_img};
use crate::sites::{Daemon, Proxy, Sites, target_disk, target_machine};
use failback_service::status::DiskStage;
use failback_testkit::Random;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What a start on VMware's controller says when it is the n-th.
fn said(boots: u64) -> String {
    format!("boots={boots} payload=ok driver=vmw_pvscsi")
}

struct Lab {
    _sites: Sites,
    home: PathBuf,
    mt: Daemon,
}

impl Lab {
    fn cut_over(&self, point: &str) -> Value {
        steer(&self.mt.socket(), &["cutover", "app01", "--point", point, "--yes", "--wait"])
    }

    fn counts(&self) -> String {
        boot_on_overlay("pvscsi", "vmdk", &self.home)
    }
}

/// A machine that came home three times, after one boot elsewhere each; in the middle of the fourth pass its source is gone
/// for ever.
fn home_thrice() -> Lab {
    let sites = Sites::new();
    let (home, away) = (sites.path("app01.vmdk"), sites.path("azure.raw"));
    fs::copy(lab_disk(), &away).expect("copied");
    failback([OsStr::new("sync"), away.as_os_str(), home.as_os_str()]).success();
    let machine = target_machine("app01", &[target_disk("disk0", &home)]);
    let mut mt = sites.master_target(&[machine], &json!({"retention": {"low_space": "64M"}}));
    let proxy = Proxy::new(sites.at(9543), sites.at(9443));
    let mut ps = sites.process_server(&[slow_machine(&proxy, &away, 4_000_000)], &json!({"memory": "8M"}));
    for boots in 1..=3 {
        assert!(boot("virtio", "raw", &away).starts_with(&format!("boots={boots} ")));
        mt.forget();
        ps.reprotect("app01");
        ps.sealed("disk0");
        mt.sealed("disk0");
    }
    // More than arrives in a moment: whether that would start does not matter any more.
    let mut bytes = vec![0; 32 << 20];
    Random::new(1700).fill(&mut bytes);
    let disk = fs::File::options().write(true).open(&away).expect("opened");
    disk.write_all_at(&bytes, 128 << 20).expect("written");
    mt.forget();
    ps.reprotect("app01");
    mt.until("app01", |disk| {
        let written = disk.pass.as_ref().and_then(|pass| pass.counters.get("bytes_written").copied());
        disk.stage == DiskStage::Replicating && written.is_some_and(|bytes| bytes > 256 << 10)
    });
    ps.kill();
    fs::remove_file(&away).expect("the source is gone");
    Lab { _sites: sites, home, mt }
}

fn bytes_of(image: &Path) -> Vec<u8> {
    fs::read(image.with_file_name("app01-flat.vmdk")).expect("read")
}

#[test]
fn every_point_starts_and_tells_its_own_count() {
    let lab = home_thrice();
    // What the fourth pass left half done is undone, without a source.
    lab.cut_over("latest");
    assert_eq!(lab.counts(), said(4), "the state of the third boot, started once");
    for point in [1, 3, 2] {
        lab.cut_over(&point.to_string());
        assert_eq!(lab.counts(), said(point + 1));
    }
    steer(&lab.mt.socket(), &["cancel", "app01", "--yes", "--wait"]);
    qemu_img(&["compare", "-f", "raw", "-F", "vmdk"], &[&lab_disk(), &lab.home]);
    assert_eq!(lab.counts(), said(1));

    // Forward again, and started without an overlay.
    lab.cut_over("2");
    assert_eq!(boot("pvscsi", "vmdk", &lab.home), said(3));
    let before = bytes_of(&lab.home);
    let words = ["cancel", "app01", "--yes", "--wait", "--socket"].map(OsStr::new);
    let refused = failback(words.into_iter().chain([lab.mt.socket().as_os_str()])).failure(3, "FB312");
    assert!(codes(&refused).iter().all(|code| code == "FB312"), "{refused}");
    assert!(refused.to_string().contains("app01-flat.vmdk"), "it lists what changed: {refused}");
    assert!(bytes_of(&lab.home) == before, "nothing was written");
}
