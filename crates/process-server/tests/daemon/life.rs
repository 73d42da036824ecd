//! Started, asked, read again, stopped, killed: as systemd and an operator see it.

use failback_pki::{Authority, Request as Issue, Selection, Validity};
use failback_service::control::{Client, Reply, Request};
use failback_service::registry::Wanted;
use failback_service::status::{DaemonStatus, DiskStage};
use failback_testkit::DaemonProcess;
use rustix::process::Signal;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

struct Lab {
    folder: tempfile::TempDir,
    admin: String,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut authority =
            Authority::init(&folder.path().join("pki"), "test", Validity::days(9)).expect("an authority");
        let identity = "failback://process-server/ps".parse().expect("an identity");
        authority.issue(&Issue::new(identity, Validity::days(1))).expect("issued");
        // A port that was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let admin = free.local_addr().expect("an address").to_string();
        let lab = Self { folder, admin };
        fs::write(lab.path("disk0.raw"), vec![7; 1 << 20]).expect("written");
        lab.configure("");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, more: &str) {
        let folder = self.folder.path().display();
        let issued = format!("{folder}/pki/issued/process-server/ps");
        let text = format!(
            "state_dir = '{folder}/state'\ncontrol = '{folder}/control.sock'\nadmin = '{}'\n\
             [tls]\ncertificate = '{issued}/cert.pem'\nkey = '{issued}/key.pem'\nca = '{folder}/pki/ca.pem'\n\
             crl = '{folder}/pki/crl.pem'\n\
             [[machine]]\nid = 'web01'\ntarget = '127.0.0.1:9'\n\
             target_identity = 'failback://master-target/mt'\n\
             disk = [{{ id = 'disk0', source = '{folder}/disk0.raw' }}]\n{more}",
            self.admin
        );
        fs::write(self.path("ps.toml"), text).expect("written");
    }

    fn start(&self) -> DaemonProcess {
        let program = Path::new(env!("CARGO_BIN_EXE_failback-process-server"));
        DaemonProcess::start(program, &self.path("ps.toml")).expect("it gets ready")
    }

    fn ask(&self, request: &Request) -> Reply {
        let mut client = Client::connect(&self.path("control.sock")).expect("it answers");
        client.ask(request).expect("an answer")
    }

    fn status(&self) -> DaemonStatus {
        match self.ask(&Request::Status { machine: None }) {
            Reply::Status { status } => status,
            other => panic!("{other:?}"),
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Waits for an event of this name.
    fn event(&self, name: &str) {
        let client = Client::connect(&self.path("control.sock")).expect("it answers");
        let mut events = client.events(&Request::Events { since: Some(0), machine: None }).expect("a stream");
        assert!(events.any(|event| event.expect("understood").event.name() == name), "{name}");
    }
}

fn reprotect(job: &str) -> Request {
    Request::Reprotect {
        job: job.parse().expect("an id"),
        machine: "web01".parse().expect("an id"),
        flags: Default::default(),
    }
}

#[test]
fn it_starts_answers_reloads_and_drains() {
    let lab = Lab::new();
    let daemon = lab.start();
    let status = lab.status();
    assert_eq!((status.daemon.as_str(), status.draining), ("process-server", false));
    assert_eq!(status.certificate.expect("its own").identity, "failback://process-server/ps");
    assert_eq!(status.machines[0].disks[0].stage, DiskStage::Idle);
    assert!(lab.get("/healthz").ends_with("\r\n\r\nok\n"));
    assert!(
        lab.get("/metrics")
            .contains("failback_disk_stage{machine=\"web01\",disk=\"disk0\",stage=\"idle\"} 1\n")
    );

    lab.configure(
        "[[machine]]\nid = 'db01'\ntarget = 'mt:9443'\ntarget_identity = 'failback://master-target/mt'\n",
    );
    daemon.signal(Signal::HUP);
    lab.event("config_reloaded");
    assert_eq!(lab.status().machines.len(), 2);
    lab.configure("nonsense = 1\n");
    let reload = |job: &str| Request::Reload { job: job.parse().expect("an id") };
    let refused = lab.ask(&reload("r1"));
    assert!(
        matches!(&refused, Reply::Refused { findings, .. } if findings[0].code == "FB701"),
        "{refused:?}"
    );
    assert_eq!(lab.status().machines.len(), 2, "the old configuration stays");

    let end = daemon.terminate();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.told.iter().any(|told| told == "STOPPING=1"), "{end:?}");
    assert!(end.log.contains("daemon stopping: SIGTERM"), "{}", end.log);
    assert!(!lab.path("control.sock").exists());
}

#[test]
fn a_lost_target_is_tried_for_ever_and_goes_on_after_a_kill() {
    let lab = Lab::new();
    let daemon = lab.start();
    assert!(matches!(lab.ask(&reprotect("job-1")), Reply::Done { repeated: false, .. }));
    lab.event("pass_interrupted");
    let disk = lab.status().machines[0].disks[0].clone();
    assert_eq!((disk.stage, disk.failed_tries > 0), (DiskStage::Retrying, true), "{disk:?}");
    assert_eq!(disk.error.expect("a reason").code, "FB509");
    assert!(
        matches!(lab.ask(&reprotect("job-2")), Reply::Refused { findings, .. } if findings[0].code == "FB704")
    );
    daemon.kill();

    let daemon = lab.start();
    assert!(matches!(lab.ask(&reprotect("job-1")), Reply::Done { repeated: true, .. }), "the first outcome");
    lab.event("pass_interrupted");
    assert_eq!(lab.status().machines[0].wanted, Wanted::Running, "it goes on by itself");
    let machine = "web01".parse().expect("an id");
    let stop = Request::Stop { job: "job-3".parse().expect("an id"), machine };
    assert!(matches!(lab.ask(&stop), Reply::Done { .. }));
    lab.event("pass_stopped");
    assert_eq!(daemon.terminate().code, Some(0));

    let daemon = lab.start();
    let machine = lab.status().machines.remove(0);
    assert_eq!(
        (machine.wanted, machine.disks[0].stage),
        (Wanted::Stopped, DiskStage::Idle),
        "stopped stays stopped"
    );
    assert_eq!(daemon.terminate().code, Some(0));
}

#[test]
fn a_verify_is_the_master_targets_and_starts_nothing_here() {
    let lab = Lab::new();
    let daemon = lab.start();
    let verify = |job: &str| Request::Verify {
        job: job.parse().expect("an id"),
        machine: "web01".parse().expect("an id"),
        disk: Some("disk0".parse().expect("an id")),
    };
    let refused = |job: &str| match lab.ask(&verify(job)) {
        Reply::Refused { findings, .. } => findings.into_iter().next().expect("why"),
        other => panic!("{other:?}"),
    };
    let finding = refused("v1");
    assert_eq!(finding.code, "FB702");
    for words in ["failback verify web01 --socket", "master target", "failback reprotect web01 --verify"] {
        assert!(finding.remedy.contains(words), "{words}: {finding:?}");
    }
    let machine = lab.status().machines.remove(0);
    assert_eq!((machine.wanted, machine.disks[0].stage), (Wanted::Idle, DiskStage::Idle));

    lab.ask(&reprotect("job-1"));
    let stop =
        Request::Stop { job: "job-2".parse().expect("an id"), machine: "web01".parse().expect("an id") };
    assert!(matches!(lab.ask(&stop), Reply::Done { .. }));
    refused("v2");
    assert_eq!(lab.status().machines[0].wanted, Wanted::Stopped, "stopped stays stopped");
    assert_eq!(daemon.terminate().code, Some(0));
}

#[test]
fn hooks_are_the_configurations_alone_and_their_failure_is_tried_again() {
    let lab = Lab::new();
    let toml = fs::read_to_string(lab.path("ps.toml")).expect("it is there");
    let hook =
        format!("snapshot = ['/bin/sh', '-c', 'echo no space >&2; exit 3', '{}']", lab.path("x").display());
    fs::write(lab.path("ps.toml"), toml + &hook).expect("written");
    let daemon = lab.start();
    let definition = || match lab.ask(&Request::Registry { machine: None }) {
        Reply::Registry { machines } => machines.into_iter().next().expect("one"),
        other => panic!("{other:?}"),
    };
    let register =
        |job: &str, machine| lab.ask(&Request::RegisterMachine { job: job.parse().expect("an id"), machine });
    let mut machine = definition();
    machine["bandwidth"] = "5M".into();
    assert!(matches!(register("r1", machine.clone()), Reply::Done { .. }), "the same hooks");
    machine["snapshot"] = vec!["/bin/true"].into();
    match register("r2", machine.clone()) {
        Reply::Refused { findings, .. } => {
            assert!(findings[0].evidence.contains("hooks of web01"), "{findings:?}")
        }
        other => panic!("{other:?}"),
    }
    machine["id"] = "new".into();
    assert!(matches!(register("r3", machine), Reply::Refused { .. }));

    lab.ask(&reprotect("job-1"));
    lab.event("pass_interrupted");
    let disk = lab.status().machines.remove(0).disks.remove(0);
    let error = disk.error.expect("a reason");
    assert_eq!(
        (error.code.as_str(), error.evidence.as_str()),
        ("FB408", "snapshot ended with exit status: 3: no space")
    );
    let end = daemon.terminate();
    assert_eq!(end.code, Some(0));
    assert!(end.log.contains("no space"), "{}", end.log);
}

#[test]
fn a_second_daemon_and_bad_certificates_are_refused_at_the_start() {
    let lab = Lab::new();
    let daemon = lab.start();
    let program = Path::new(env!("CARGO_BIN_EXE_failback-process-server"));
    fs::copy(lab.path("ps.toml"), lab.path("second.toml")).expect("copied");
    let end = DaemonProcess::start(program, &lab.path("second.toml")).err().expect("the state is taken");
    assert_eq!(end.code, Some(3));
    assert!(end.log.contains("error[FB704]: already running"), "{}", end.log);
    assert_eq!(daemon.terminate().code, Some(0));

    let mut authority = Authority::open(&lab.path("pki")).expect("it opens");
    let which = Selection::Identity("failback://process-server/ps".parse().expect("an identity"));
    authority.revoke(&which).expect("revoked");
    drop(authority);
    fs::write(lab.path("pki/ca.pem"), "nonsense").expect("written");
    let end = DaemonProcess::start(program, &lab.path("ps.toml")).err().expect("no authority");
    assert!(end.code == Some(3) && end.log.contains("FB510"), "{end:?}");
}
