//! What a job says of the state that it brings: with hooks that take the sources from a machine that goes on writing.

use crate::disks::Disks;
use crate::sites::{Sites, job, machine, merged, new_disk, source_disk, target_machine};
use failback_service::control::{PassFlags, Request};
use failback_service::event::Event;
use failback_service::status::DiskStage;
use serde_json::{Value, json};
use std::fs;

/// Hooks in a folder that has the disks as the machine writes to them, `live-0` and `live-1`. Each leaves a line in `ran`.
fn hooks(sites: &Sites) -> Value {
    let folder = sites.path("");
    let hook = |script: &str| json!(["/bin/sh", "-ec", format!("cd \"$0\"; {script}"), folder]);
    json!({
        "before_snapshot": hook("echo freeze $FAILBACK_MACHINE >> ran"),
        "snapshot": hook("echo take >> ran; test -e allowed; cp live-0 snap-0.raw; cp live-1 snap-1.raw"),
        "after_snapshot": hook("echo thaw >> ran"),
        "snapshot_is_atomic": true,
    })
}

#[test]
fn a_machine_that_goes_on_writing_comes_home_as_its_hooks_took_it() {
    let sites = Sites::new();
    for disk in 0..2 {
        let disks = Disks::new(900 + disk, 8 << 20);
        fs::copy(&disks.after, sites.path(&format!("live-{disk}"))).expect("copied");
    }
    let homes = [sites.path("home-0.raw"), sites.path("home-1.raw")];
    let mut mt = sites.master_target(
        &[target_machine("app01", &[new_disk("d0", &homes[0]), new_disk("d1", &homes[1])])],
        &json!({}),
    );
    let disks = [source_disk("d0", &sites.path("snap-0.raw")), source_disk("d1", &sites.path("snap-1.raw"))];
    let mut ps =
        sites.process_server(&[merged(sites.source_machine("app01", &disks), &hooks(&sites))], &json!({}));
    let ran = || fs::read_to_string(sites.path("ran")).unwrap_or_default();

    // Nothing is opened, and nothing of the target made, before there is a snapshot.
    ps.reprotect("app01");
    assert!(ps.broken("d0", "FB408") && ps.broken("d1", "FB408"), "it is tried again");
    assert!(ran().starts_with("freeze app01\ntake\nthaw\n"), "{}", ran());
    assert!(!homes[0].exists() && !homes[1].exists());
    fs::write(sites.path("allowed"), "").expect("written");
    ps.resume("app01");
    for disk in ["d0", "d1"] {
        mt.sealed(disk);
        ps.sealed(disk);
    }
    let taken = ps.wait("it is taken", |event| match event {
        Event::SourceTaken { point_label, source_unix_ms, .. } => {
            Some((point_label.clone(), *source_unix_ms))
        }
        _ => None,
    });
    assert_eq!(taken.0, "app-consistent");
    for daemon in [&ps, &mt] {
        for disk in ["d0", "d1"] {
            let status = daemon.disk("app01", disk);
            assert_eq!((status.stage, status.source_unix_ms), (DiskStage::Sealed, Some(taken.1)), "{disk}");
            assert_eq!((status.point_label.as_deref(), status.point_reason), (Some("app-consistent"), None));
        }
    }
    for (disk, home) in homes.iter().enumerate() {
        super::assert_equal(&sites.path(&format!("live-{disk}")), home);
    }

    // Off for good: it is not quiesced, and both ends say so.
    let before = ran();
    let flags = PassFlags { is_final: true, ..PassFlags::default() };
    mt.forget();
    ps.forget();
    ps.order(&Request::Reprotect { job: job(), machine: machine("app01"), flags });
    mt.sealed("d0");
    assert_eq!(mt.disk("app01", "d0").point_label.as_deref(), Some("final"));
    assert_eq!(ran(), before + "take\n");
}
