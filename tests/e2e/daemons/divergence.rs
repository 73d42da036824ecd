//! Something else wrote to a disk that came home: both daemons say so and wait for an operator, who accepts it by the command.

use super::steering::steer;
use super::{Slow, assert_equal};
use crate::sites::{Daemon, Sites, job, machine, source_disk, target_disk, target_machine};
use failback_service::control::Request;
use failback_service::event::Event;
use failback_service::status::{DiskStage, DiskStatus};
use failback_testkit::Random;
use serde_json::json;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const LENGTH_BYTES: u64 = 8 << 20;

struct Lab {
    _sites: Sites,
    source: PathBuf,
    target: PathBuf,
    mt: Daemon,
    ps: Daemon,
}

/// A disk that came home once.
fn home(seed: u64) -> Lab {
    let sites = Sites::new();
    let source = sites.random_disk("source.raw", seed, LENGTH_BYTES);
    let target = sites.path("target.raw");
    fs::copy(&source, &target).expect("copied");
    let mut mt =
        sites.master_target(&[target_machine("app01", &[target_disk("disk0", &target)])], &json!({}));
    let mut ps =
        sites.process_server(&[sites.source_machine("app01", &[source_disk("disk0", &source)])], &json!({}));
    ps.reprotect("app01");
    ps.sealed("disk0");
    mt.sealed("disk0");
    Lab { _sites: sites, source, target, mt, ps }
}

/// A machine that was powered on does that to its disk.
fn stranger_writes(target: &Path) -> Vec<u8> {
    let file = fs::File::options().write(true).open(target).expect("opened");
    file.write_all_at(&[0x5a; 4096], 5 << 20).expect("written");
    fs::read(target).expect("read")
}

/// The warnings that a pass began with.
fn accepted(daemon: &mut Daemon) -> Vec<(String, String)> {
    daemon.wait("a pass begins", |event| match event {
        Event::PassStarted { findings, .. } => {
            Some(findings.iter().map(|line| (line.code.clone(), line.evidence.clone())).collect())
        }
        _ => None,
    })
}

#[test]
fn a_disk_that_was_written_to_waits_for_an_operator_and_is_scanned_once_that_is_accepted() {
    let mut lab = home(1600);
    let diverged = stranger_writes(&lab.target);
    for restarted in [false, true] {
        if restarted {
            assert!(lab.mt.terminate().success());
            lab.mt.restart();
        }
        lab.mt.forget();
        lab.ps.forget();
        steer(&lab.ps.socket(), &["reprotect", "app01", "--yes"]);
        for daemon in [&mut lab.ps, &mut lab.mt] {
            assert!(!daemon.broken("disk0", "FB312"), "no next try comes by itself");
            let disk = daemon.disk("app01", "disk0");
            let error = disk.error.expect("it says why");
            assert_eq!((disk.stage, error.code.as_str()), (DiskStage::Failed, "FB312"));
            for words in ["target.raw was written to at 20", "it was left at 20", "generation is 1"] {
                assert!(error.evidence.contains(words), "{}", error.evidence);
            }
            assert!(error.remedy.contains("--accept-divergence"), "{}", error.remedy);
        }
        assert!(fs::read(&lab.target).expect("read") == diverged, "nothing was written");
    }
    assert_eq!(
        lab.mt.status().errors.get("FB312"),
        Some(&1),
        "each start counts for itself, and each refusal once"
    );
    lab.mt.forget();
    lab.ps.forget();
    steer(&lab.ps.socket(), &["reprotect", "app01", "--accept-divergence", "--yes"]);
    lab.ps.sealed("disk0");
    let taken = lab.mt.sealed("disk0");
    assert_equal(&lab.source, &lab.target);
    assert_eq!(taken.counter("scanned_target_bytes"), LENGTH_BYTES, "all of it was scanned");
    let (told, said) = (accepted(&mut lab.mt), accepted(&mut lab.ps));
    assert!(told.len() == 1 && told[0].0 == "FB312" && told[0].1.contains("was written to at"), "{told:?}");
    assert!(said.len() == 1 && said[0].0 == "FB312", "{said:?}");
    // It was accepted for that job, and there is nothing to accept any more.
    lab.mt.forget();
    lab.ps.reprotect("app01");
    lab.ps.sealed("disk0");
    assert_eq!(accepted(&mut lab.mt), []);
    stranger_writes(&lab.target);
    lab.ps.reprotect("app01");
    assert!(!lab.ps.broken("disk0", "FB312"), "a job that accepted one divergence accepted no other");
}

#[test]
fn a_master_target_that_was_killed_in_mid_pass_takes_its_own_writes_for_nobody_elses() {
    const LENGTH_BYTES: usize = 8 << 20;
    let mut slow = Slow::new(1610, LENGTH_BYTES as u64, 2_500_000).finish();
    let mut bytes = fs::read(&slow.source).expect("read");
    Random::new(1611).fill(&mut bytes[LENGTH_BYTES / 5..]);
    fs::write(&slow.source, bytes).expect("written");
    slow.ps.reprotect("app01");
    let written =
        |disk: &DiskStatus| disk.pass.as_ref().and_then(|pass| pass.counters.get("bytes_written").copied());
    slow.mt.until("app01", |disk| {
        disk.stage == DiskStage::Replicating && written(disk).is_some_and(|bytes| bytes > 256 << 10)
    });
    slow.mt.kill();
    slow.ps.order(&Request::Stop { job: job(), machine: machine("app01") });
    slow.ps.wait("it stops", |event| (event.name() == "pass_stopped").then_some(()));
    slow.mt.restart();
    // Another job: it trusts nothing, and accuses nobody.
    slow.ps.reprotect("app01");
    slow.finish();
}
