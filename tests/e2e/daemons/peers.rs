//! Peers that may not: each is refused with its code, which stands in the status of whoever asks, and is tried again
//! where the other end's operator can mend it.

use super::{Slow, assert_equal};
use crate::sites::{
    Daemon, Host, MASTER_TARGET, PROCESS_SERVER, Sites, job, machine, merged, new_disk, source_disk,
    target_machine,
};
use failback_model::PeerIdentity;
use failback_pki::{Authority, Request as Certificate, Selection, Validity};
use failback_service::control::Request;
use failback_service::event::Event;
use failback_service::status::DiskStage;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const LENGTH_BYTES: u64 = 2 << 20;

fn identity(text: &str) -> PeerIdentity {
    text.parse().expect("an identity")
}

/// A file that a `[tls]` names.
fn path_in<'a>(table: &'a Value, key: &str) -> &'a Path {
    Path::new(table[key].as_str().expect("a path"))
}

/// Both sites of one small disk, not yet at work.
struct Lab {
    sites: Sites,
    source: PathBuf,
    target: PathBuf,
}

impl Lab {
    fn new(seed: u64) -> Self {
        let sites = Sites::new();
        let (source, target) =
            (sites.random_disk("source.raw", seed, LENGTH_BYTES), sites.path("target.raw"));
        Self { sites, source, target }
    }

    fn targets(&self) -> [Value; 1] {
        [target_machine("app01", &[new_disk("disk0", &self.target)])]
    }

    fn sources(&self) -> [Value; 1] {
        [self.sites.source_machine("app01", &[source_disk("disk0", &self.source)])]
    }

    /// A process server begins, is refused with this code, and says so in its status.
    #[track_caller]
    fn refused(&self, ps: &mut Daemon, code: &str) {
        ps.reprotect("app01");
        assert!(ps.broken("disk0", code), "it is tried again");
        let status = ps.disk("app01", "disk0");
        assert_eq!(status.error.as_ref().expect("a reason").code, code, "{status:?}");
        assert!(!self.target.exists(), "whoever was refused made something");
    }

    #[track_caller]
    fn comes_home(&self, ps: &mut Daemon, mt: &mut Daemon) {
        ps.resume("app01");
        ps.sealed("disk0");
        mt.sealed("disk0");
        assert_equal(&self.source, &self.target);
    }
}

#[test]
fn certificates_of_another_authority_are_refused_until_they_are_replaced() {
    let lab = Lab::new(1000);
    let mut other = Authority::init(&lab.sites.path("other"), "other", Validity::days(2)).expect("made");
    let other = other.issue(&Certificate::new(identity(PROCESS_SERVER), Validity::days(1))).expect("issued");
    let mut mt = lab.sites.master_target(&lab.targets(), &json!({}));
    let right = lab.sites.tls(PROCESS_SERVER);
    // The stranger's files, under names that the right ones will have; it trusts both authorities.
    let folder = lab.sites.path("tls");
    fs::create_dir(&folder).expect("a folder");
    let copy = |from: &Path, name: &str| fs::copy(from, folder.join(name)).expect("copies");
    copy(&other.files.cert, "cert.pem");
    copy(&other.files.key, "key.pem");
    let both = [fs::read(path_in(&right, "ca")), fs::read(&other.files.ca)].map(|file| file.expect("reads"));
    fs::write(folder.join("ca.pem"), both.concat()).expect("writes");
    let files = ["cert.pem", "key.pem", "ca.pem"].map(|name| folder.join(name));
    let files = json!({"certificate": files[0], "key": files[1], "ca": files[2]});
    let mut ps = lab.sites.process_server(&lab.sources(), &json!({"tls": files}));
    lab.refused(&mut ps, "FB510");
    assert!(mt.status().errors["FB510"] >= 1, "the target counts it");
    // The right certificate, taken over without a restart.
    copy(path_in(&right, "certificate"), "cert.pem");
    copy(path_in(&right, "key"), "key.pem");
    ps.forget();
    ps.signal(Signal::HUP);
    ps.wait("certificates are read again", |event| match event {
        Event::CertificatesReloaded { findings, .. } if findings.is_empty() => Some(()),
        _ => None,
    });
    lab.comes_home(&mut ps, &mut mt);
}

#[test]
fn a_certificate_that_expired_is_refused_until_it_is_renewed() {
    let lab = Lab::new(1005);
    let (now, minute) = (SystemTime::now(), Duration::from_secs(60));
    let over = Validity::between(now - 3 * minute, now - minute);
    let ours = identity(PROCESS_SERVER);
    lab.sites.authority().issue(&Certificate::new(ours.clone(), over)).expect("issued");
    let mut mt = lab.sites.master_target(&lab.targets(), &json!({}));
    let mut ps = lab.sites.process_server(&lab.sources(), &json!({}));
    lab.refused(&mut ps, "FB510");
    lab.sites.authority().renew(&ours, Validity::days(1)).expect("renewed");
    ps.order(&Request::Reload { job: job() });
    lab.comes_home(&mut ps, &mut mt);
}

#[test]
fn a_master_target_of_another_name_is_not_written_to() {
    let lab = Lab::new(1010);
    let other = lab.sites.tls("failback://master-target/other");
    let mut mt = lab.sites.master_target(&lab.targets(), &json!({"tls": other}));
    let mut ps = lab.sites.process_server(&lab.sources(), &json!({}));
    lab.refused(&mut ps, "FB510");
    let why = ps.disk("app01", "disk0").error.expect("a reason").evidence;
    assert!(why.contains("master-target/other") && why.contains(MASTER_TARGET), "names both: {why}");
    assert!(mt.terminate().success());
    drop(mt);
    let mut mt = lab.sites.master_target(&lab.targets(), &json!({}));
    lab.comes_home(&mut ps, &mut mt);
}

#[test]
fn an_allowed_peer_that_asks_for_anothers_disk_is_refused_until_it_is_allowed() {
    let lab = Lab::new(1020);
    let stranger = "failback://process-server/other";
    let theirs = merged(target_machine("db01", &[]), &json!({"allow": [stranger]}));
    let [ours] = lab.targets();
    let mut mt = lab.sites.master_target(&[ours.clone(), theirs], &json!({}));
    let mut ps = lab.sites.process_server_as(stranger, &lab.sources(), &json!({}), Host::default());
    lab.refused(&mut ps, "FB504");
    let told = mt.wait("the refusal is told", |event| match event {
        Event::PeerRefused { peer, finding, .. } if finding.code == "FB504" => peer.clone(),
        _ => None,
    });
    assert_eq!(told, stranger);
    mt.order(&Request::RegisterMachine {
        job: job(),
        machine: merged(ours, &json!({"allow": [PROCESS_SERVER, stranger]})),
    });
    lab.comes_home(&mut ps, &mut mt);
}

#[test]
fn a_disk_that_nobody_registered_is_waited_for() {
    let lab = Lab::new(1030);
    let mut mt = lab.sites.master_target(&[target_machine("app01", &[])], &json!({}));
    let mut ps = lab.sites.process_server(&lab.sources(), &json!({}));
    lab.refused(&mut ps, "FB505");
    let disk = new_disk("disk0", &lab.target);
    mt.order(&Request::RegisterDisk { job: job(), machine: machine("app01"), disk });
    lab.comes_home(&mut ps, &mut mt);
}

#[test]
fn a_certificate_that_is_revoked_in_mid_pass_ends_it_until_there_is_a_new_one() {
    let mut slow = Slow::new(1040, 24 << 20, 8_000_000);
    slow.proxy.wait_for(8 << 20);
    let ours = identity(PROCESS_SERVER);
    slow.sites.authority().revoke(&Selection::Identity(ours.clone())).expect("revoked");
    slow.mt.order(&Request::Reload { job: job() });
    assert!(slow.ps.broken("disk0", "FB510"), "it is tried again");
    slow.ps.forget();
    assert!(slow.ps.broken("disk0", "FB510"), "and refused again");
    let status = slow.mt.disk("app01", "disk0");
    assert_eq!((status.stage, status.error.expect("a reason").code.as_str()), (DiskStage::Waiting, "FB510"));
    slow.sites.authority().issue(&Certificate::new(ours, Validity::days(1))).expect("issued anew");
    slow.ps.order(&Request::Reload { job: job() });
    slow.mt.forget();
    slow.ps.resume("app01");
    slow.finish();
}

#[test]
fn a_job_that_is_over_is_refused_and_does_not_disturb_the_one_that_runs() {
    let mut slow = Slow::new(1050, 24 << 20, 8_000_000);
    // The same machine at a second process server, whose job is newer.
    slow.proxy.wait_for(4 << 20);
    slow.ps.kill();
    slow.mt.broken("disk0", "FB509");
    let machine_there = super::slow_machine(&slow.proxy, &slow.source, 8_000_000);
    let name = "failback://process-server/second";
    let [first, second] = [PROCESS_SERVER, name];
    slow.mt.order(&Request::RegisterMachine {
        job: job(),
        machine: merged(
            target_machine("app01", &[new_disk("disk0", &slow.target)]),
            &json!({"allow": [first, second]}),
        ),
    });
    let mut newer = slow.sites.process_server_as(name, &[machine_there], &json!({}), Host::default());
    // Epochs come from the clock, in seconds: each of these is at least one more.
    for _ in 0..20 {
        newer.reprotect("app01");
        newer.order(&Request::Stop { job: job(), machine: machine("app01") });
        newer.wait("it stops", |event| matches!(event, Event::PassStopped { .. }).then_some(()));
    }
    newer.reprotect("app01");
    newer.wait("it starts", |event| matches!(event, Event::PassStarted { .. }).then_some(()));
    slow.ps.restart();
    assert!(!slow.ps.broken("disk0", "FB507"), "what is over is not tried again");
    assert_eq!(slow.ps.disk("app01", "disk0").stage, DiskStage::Failed);
    newer.sealed("disk0");
    newer.wait("no other start", |event| match event {
        Event::PassInterrupted { finding, .. } => panic!("the newer job was disturbed: {finding:?}"),
        Event::PassSealed { .. } => Some(()),
        _ => None,
    });
    slow.mt.sealed("disk0");
    assert_equal(&slow.source, &slow.target);
}
