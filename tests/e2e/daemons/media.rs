//! Media that fail under a daemon and heal: the reason stands at both ends, and the pass goes on.

use super::assert_equal;
use crate::command::run;
use crate::faulty_disk::{Fault, FaultyDisk};
use crate::host::Mount;
use crate::sites::{Sites, new_disk, source_disk, target_machine};
use failback_service::status::DiskStage;
use serde_json::json;
use std::path::Path;

const LENGTH_BYTES: u64 = 24 << 20;

#[test]
fn a_target_whose_file_system_fills_waits_until_there_is_space() {
    let sites = Sites::new();
    let source = sites.random_disk("source.raw", 1200, LENGTH_BYTES);
    let mount = Mount::in_memory(12, &sites.path("small"));
    let target = mount.path().join("target.raw");
    // The daemons end before the file system does.
    {
        let mut mt =
            sites.master_target(&[target_machine("app01", &[new_disk("disk0", &target)])], &json!({}));
        let machine = sites.source_machine("app01", &[source_disk("disk0", &source)]);
        let mut ps = sites.process_server(&[machine], &json!({}));
        ps.reprotect("app01");
        assert!(ps.broken("disk0", "FB502"), "it is tried again");
        let told = ps.disk("app01", "disk0").error.expect("a reason").evidence;
        assert!(told.contains("FB205"), "the other end's reason: {told}");
        mt.broken("disk0", "FB205");
        let status = mt.disk("app01", "disk0");
        assert_eq!(status.stage, DiskStage::Waiting);
        let why = status.error.expect("a reason");
        assert_eq!(why.path.as_deref(), target.to_str(), "{why:?}");
        run("mount", ["-o", "remount,size=64m"].map(Path::new).into_iter().chain([mount.path()]));
        ps.resume("app01");
        ps.sealed("disk0");
        mt.sealed("disk0");
        assert_equal(&source, &target);
    }
}

#[test]
fn a_source_that_cannot_be_read_is_tried_again_until_it_heals() {
    let sites = Sites::new();
    let source = sites.random_disk("source.raw", 1210, LENGTH_BYTES);
    let target = sites.path("target.raw");
    let mut mt = sites.master_target(&[target_machine("app01", &[new_disk("disk0", &target)])], &json!({}));
    let faulty = FaultyDisk::in_place(&source, Fault::Read, LENGTH_BYTES / 2 + 5000);
    let machine = sites.source_machine("app01", &[source_disk("disk0", &source)]);
    let mut ps = sites.process_server(&[machine], &json!({}));
    ps.reprotect("app01");
    assert!(ps.broken("disk0", "FB202"), "it is tried again");
    let why = ps.disk("app01", "disk0").error.expect("a reason");
    assert_eq!(why.path.as_deref(), source.to_str(), "{why:?}");
    // The other end heard that it was the source.
    mt.wait("the target hears of it", |event| event.findings().first().map(|_| ()));
    drop(faulty);
    ps.resume("app01");
    ps.sealed("disk0");
    mt.sealed("disk0");
    assert_equal(&source, &target);
}
