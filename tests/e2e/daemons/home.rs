//! A machine of two disks comes home, and its next cycle ships only what changed.

use crate::command::{failback, qemu_img};
use crate::disks::Disks;
use crate::sites::{Daemon, Sites, new_disk, source_disk, target_disk, target_machine};
use failback_service::status::DiskStage;
use failback_testkit::Mutation;
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

const LENGTH_BYTES: u64 = 32 << 20;

fn compare(source: &Path, target: &Path) {
    qemu_img(&["compare", "-f", "raw", "-F", "vmdk"], &[source, target]);
}

/// Both ends say the same of a disk, and the target's status stays.
fn assert_sealed(ps: &mut Daemon, mt: &mut Daemon, disk: &str, generation: u64) {
    let (sent, taken) = (ps.sealed(disk), mt.sealed(disk));
    assert_eq!((sent.generation, taken.generation), (generation, generation), "{disk}");
    assert_eq!(sent.root, taken.root, "{disk}");
    for daemon in [ps, mt] {
        let status = daemon.disk("app01", disk);
        assert_eq!((status.stage, status.generation), (DiskStage::Sealed, Some(generation)), "{disk}");
        assert_eq!(status.root.as_ref(), Some(&sent.root), "{disk}");
        assert_eq!((status.link, status.error), (None, None), "{disk}");
    }
}

#[test]
fn two_disks_at_once_into_an_old_and_a_new_image_and_then_what_changed() {
    let sites = Sites::new();
    let (old, new) = (Disks::new(700, LENGTH_BYTES), Disks::new(710, LENGTH_BYTES));
    let (home, made) = (sites.path("app01.vmdk"), sites.path("app01_1.vmdk"));
    failback(["sync".as_ref(), old.before.as_os_str(), home.as_os_str()].map(OsStr::new)).success();
    let mut mt = sites.master_target(
        &[target_machine("app01", &[target_disk("system", &home), new_disk("data", &made)])],
        &json!({}),
    );
    let disks = [source_disk("system", &old.after), source_disk("data", &new.after)];
    let mut ps = sites.process_server(&[sites.source_machine("app01", &disks)], &json!({}));
    assert_eq!(mt.page(sites.at(9444), "/healthz"), (200, "ok\n".into()));

    ps.reprotect("app01");
    for disk in ["system", "data"] {
        assert_sealed(&mut ps, &mut mt, disk, 1);
    }
    compare(&old.after, &home);
    compare(&new.after, &made);
    let system = ps.sealed("system");
    assert_eq!(system.counter("pages_shipped"), old.changed_pages);
    assert_eq!(ps.disk("app01", "system").strategy.as_deref(), Some("original-location"));
    assert_eq!(mt.disk("app01", "data").strategy.as_deref(), Some("alternate-location"));
    let (status, metrics) = mt.page(sites.at(9444), "/metrics");
    assert_eq!(status, 200);
    for line in [
        "failback_disk_stage{machine=\"app01\",disk=\"system\",stage=\"sealed\"} 1",
        "failback_disk_generation{machine=\"app01\",disk=\"data\"} 1",
        "failback_sessions 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }

    // The next cycle: a few pages of the source, and nothing that the target would have to read for it.
    let mut bytes = fs::read(&old.after).expect("reads");
    let changed = Mutation { seed: 720, permille: 4 }.apply(&mut bytes) as u64;
    fs::write(&old.after, bytes).expect("writes");
    mt.forget();
    ps.reprotect("app01");
    for disk in ["system", "data"] {
        assert_sealed(&mut ps, &mut mt, disk, 2);
    }
    compare(&old.after, &home);
    compare(&new.after, &made);
    let (sent, taken) = (ps.sealed("system"), mt.sealed("system"));
    assert_eq!(sent.counter("pages_shipped"), changed);
    // Blocks that differ are read for their pages; nothing is scanned.
    let differing = sent.counter("blocks_differing") * (64 << 10);
    assert!(taken.counter("bytes_read_target") <= differing, "{taken:?} for {differing} bytes");
    assert_eq!(ps.sealed("data").counter("bytes_read_source"), 0, "an unchanged source is not read again");
}
