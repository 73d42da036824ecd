//! Started, asked, stopped: as systemd and an operator see it.

use failback_image::{Access, ImageSpec};
use failback_model::{Code, Epoch, Generation, PeerIdentity, PointClaim, PointLabel};
use failback_pass::{Cancel, PassOptions};
use failback_pki::{Authority, Request as Issue, Validity};
use failback_process_server::{Delivery, SeenSource};
use failback_service::control::{Client, Reply, Request};
use failback_service::registry::Wanted;
use failback_service::status::DaemonStatus;
use failback_testkit::DaemonProcess;
use failback_transport::{ConnectOptions, SocketOptions, Throttle, Tls, TlsFiles};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Lab {
    folder: tempfile::TempDir,
    listen: String,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut authority =
            Authority::init(&folder.path().join("pki"), "test", Validity::days(9)).expect("an authority");
        let identity = "failback://master-target/mt".parse().expect("an identity");
        authority.issue(&Issue::new(identity, Validity::days(1))).expect("issued");
        // A port that was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let lab = Self { folder, listen: free.local_addr().expect("an address").to_string() };
        let folder = lab.folder.path().display();
        let issued = format!("{folder}/pki/issued/master-target/mt");
        let text = format!(
            "listen = '{}'\nstate_dir = '{folder}/state'\ncontrol = '{folder}/control.sock'\nadmin = 'off'\n\
             [tls]\ncertificate = '{issued}/cert.pem'\nkey = '{issued}/key.pem'\nca = '{folder}/pki/ca.pem'\n\
             [[machine]]\nid = 'web01'\nallow = ['failback://process-server/ps']\n\
             disk = [{{ id = 'disk0', path = '{folder}/disk0.raw', create = true }}]\n",
            lab.listen
        );
        fs::write(lab.path("mt.toml"), text).expect("written");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> DaemonProcess {
        let program = Path::new(env!("CARGO_BIN_EXE_failback-master-target"));
        DaemonProcess::start(program, &self.path("mt.toml")).expect("it gets ready")
    }

    /// A daemon whose writes can be made to fail: the signal that comes with that does not end it, its log is no file.
    fn start_without_limits(&self) -> DaemonProcess {
        let program = self.path("daemon");
        let script = format!(
            "#!/bin/sh\ntrap '' XFSZ\nexec {} \"$@\" 2>/dev/null\n",
            env!("CARGO_BIN_EXE_failback-master-target")
        );
        fs::write(&program, script).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it can be started");
        DaemonProcess::start(&program, &self.path("mt.toml")).expect("it gets ready")
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
}

impl Lab {
    /// A pass of the source by a process server of this name.
    fn delivery(&self, name: &str) -> Delivery {
        let identity: PeerIdentity =
            format!("failback://process-server/{name}").parse().expect("an identity");
        let mut authority = Authority::open(&self.path("pki")).expect("it opens");
        let files = authority.issue(&Issue::new(identity, Validity::days(1))).expect("issued").files;
        let files = TlsFiles { cert: files.cert, key: files.key, ca: files.ca, crl: None };
        let source = failback_image::open(&ImageSpec::parse(self.path("source.raw")), Access::Read);
        Delivery {
            source: source.expect("it opens"),
            machine: "web01".parse().expect("an id"),
            disk: "disk0".parse().expect("an id"),
            job: "job-1".parse().expect("an id"),
            epoch: Epoch(1),
            generation: Generation(0),
            claim: PointClaim::new(1_763_000_000_000, PointLabel::PerDisk, "2 disks, no hook"),
            accept_older: false,
            accept_divergence: false,
            data_connections: 2,
            connect: ConnectOptions {
                address: self.listen.clone(),
                server: "failback://master-target/mt".parse().expect("an identity"),
                tls: Tls::load(&files).expect("they fit"),
                socket: SocketOptions::default(),
                throttle: Throttle::unlimited(),
            },
            options: PassOptions::default(),
            memory: None,
            agreed: None,
            seen: SeenSource::default(),
            progress: Arc::default(),
            cancel: Cancel::default(),
        }
    }

    /// The same once more, whatever the target looks like.
    fn another(&self, delivery: &Delivery) -> Delivery {
        let source = failback_image::open(&ImageSpec::parse(self.path("source.raw")), Access::Read);
        Delivery {
            source: source.expect("it opens"),
            machine: delivery.machine.clone(),
            disk: delivery.disk.clone(),
            job: delivery.job.clone(),
            claim: delivery.claim.clone(),
            connect: delivery.connect.clone(),
            options: PassOptions { accept_mismatch: true, ..PassOptions::default() },
            memory: None,
            agreed: None,
            seen: SeenSource::default(),
            progress: Arc::default(),
            cancel: Cancel::default(),
            ..*delivery
        }
    }

    /// Codes of the n-th proof's findings, once it has ended.
    fn verified(&self, number: usize) -> Vec<String> {
        let client = Client::connect(&self.path("control.sock")).expect("it answers");
        let events = client.events(&Request::Events { since: Some(0), machine: None }).expect("a stream");
        let events = events.map(|event| event.expect("understood").event);
        let proof = events.filter(|event| event.name() == "verified").nth(number - 1).expect("it ends");
        proof.findings().iter().map(|finding| finding.code.clone()).collect()
    }
}

fn codes(reply: &Reply) -> Vec<&str> {
    match reply {
        Reply::Refused { findings, .. } => findings.iter().map(|finding| finding.code.as_str()).collect(),
        other => panic!("{other:?} is no refusal"),
    }
}

#[test]
fn machines_come_and_go_at_run_time() {
    let lab = Lab::new();
    let daemon = lab.start();
    let (job, web01) = (|id: &str| id.parse().expect("an id"), || "web01".parse().expect("an id"));
    let db01 = json!({ "id": "db01", "allow": ["failback://process-server/ps"],
                       "disk": [{ "id": "d", "path": lab.path("db01.raw"), "create": true }] });
    let register = Request::RegisterMachine { job: job("j1"), machine: db01 };
    assert!(matches!(lab.ask(&register), Reply::Done { repeated: false, .. }));
    assert!(matches!(lab.ask(&register), Reply::Done { repeated: true, .. }));
    let nobody = json!({ "id": "x", "allow": [] });
    assert_eq!(codes(&lab.ask(&Request::RegisterMachine { job: job("j2"), machine: nobody })), ["FB702"]);
    let unstable = json!({ "id": "disk1", "path": "/dev/sdb" });
    let unstable = Request::RegisterDisk { job: job("j3"), machine: web01(), disk: unstable };
    let refused = lab.ask(&unstable);
    assert!(
        matches!(&refused, Reply::Refused { findings, .. } if findings[0].evidence.contains("another disk after a restart")),
        "{refused:?}"
    );
    let verify = Request::Verify { job: job("j4"), machine: web01(), disk: None };
    assert!(matches!(lab.ask(&verify), Reply::Done { .. }), "it is started, and its outcome is an event");
    let client = Client::connect(&lab.path("control.sock")).expect("it answers");
    let mut events = client.events(&Request::Events { since: Some(0), machine: None }).expect("a stream");
    let verified = events.find(|event| event.as_ref().is_ok_and(|event| event.event.name() == "verified"));
    let verified = verified.expect("it ends").expect("understood");
    assert_eq!(verified.event.findings()[0].code, "FB404", "nothing was ever sealed");
    assert!(matches!(lab.ask(&Request::Stop { job: job("j5"), machine: web01() }), Reply::Done { .. }));
    let reprotect = Request::Reprotect { job: job("j6"), machine: web01(), flags: Default::default() };
    assert_eq!(codes(&lab.ask(&reprotect)), ["FB702"], "only a process server starts passes");
    assert_eq!(daemon.terminate().code, Some(0));

    let daemon = lab.start();
    let status = lab.status();
    let machines: Vec<_> =
        status.machines.iter().map(|machine| (machine.id.as_str(), machine.wanted)).collect();
    assert_eq!(machines, [("db01", Wanted::Idle), ("web01", Wanted::Stopped)]);
    assert_eq!(daemon.terminate().code, Some(0));
}

#[test]
fn strangers_are_counted_and_keep_nobody_out() {
    let lab = Lab::new();
    let daemon = lab.start();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(&lab.listen).expect("it listens");
        // Random bytes are no TLS; it may hang up at once.
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n\x00\xff\x16\x03");
        let _ = stream.read_to_end(&mut Vec::new());
    }
    // Each is noted when its connection is closed, or soon after.
    let noted = || lab.status().errors.get("FB510").copied().unwrap_or(0);
    let until = Instant::now() + PATIENCE;
    while noted() < 20 {
        assert!(Instant::now() < until, "{:?}", lab.status().errors);
        std::thread::yield_now();
    }
    let idle: Vec<_> = (0..200).map(|_| TcpStream::connect(&lab.listen).expect("it listens")).collect();
    fs::write(lab.path("source.raw"), vec![0x5a; 1 << 20]).expect("written");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let delivery = lab.delivery("ps");
    let sent = delivery.run(runtime.handle(), |_, _| ()).expect("a friend gets through");
    assert_eq!(sent.generation.0, 1);
    drop(idle);
    let stranger = lab.delivery("other").run(runtime.handle(), |_, _| ()).expect_err("it is not on the list");
    assert_eq!(stranger.findings()[0].code, Code::IdentityNotAllowed);
    assert_eq!(lab.status().errors.get("FB504"), Some(&1));
    let end = daemon.terminate();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.log.contains("web01/disk0: pass sealed: generation 1, per-disk, root"), "{}", end.log);
    assert!(fs::read(lab.path("disk0.raw")).expect("it was made") == vec![0x5a; 1 << 20]);

    // What was sealed is known after a restart, and can be proven until somebody changes it.
    let daemon = lab.start();
    let disk = lab.status().machines.remove(0).disks.remove(0);
    assert_eq!((disk.generation, disk.source_unix_ms), (Some(1), Some(1_763_000_000_000)));
    assert_eq!(disk.point_label.as_deref(), Some("per-disk"));
    assert_eq!(disk.point_reason.as_deref(), Some("2 disks, no hook"));
    let verify = |job: &str| Request::Verify {
        job: job.parse().expect("an id"),
        machine: "web01".parse().expect("an id"),
        disk: None,
    };
    lab.ask(&verify("v1"));
    assert!(lab.verified(1).is_empty());
    let mut bytes = fs::read(lab.path("disk0.raw")).expect("it is there");
    bytes[70_000] ^= 1;
    fs::write(lab.path("disk0.raw"), bytes).expect("written");
    lab.ask(&verify("v2"));
    assert_eq!(lab.verified(2), ["FB404"]);
    assert_eq!(daemon.terminate().code, Some(0));
}

/// Lets a daemon's files be written, or fails every write.
fn allow_writes(daemon: &DaemonProcess, are_allowed: bool) {
    let pid = Pid::from_raw(daemon.pid() as i32).expect("it runs");
    let current = if are_allowed { None } else { Some(0) };
    prlimit(Some(pid), Resource::Fsize, Rlimit { current, maximum: None }).expect("it is ours");
}

#[test]
fn a_journal_that_failed_is_opened_anew_by_the_next_session() {
    let lab = Lab::new();
    let daemon = lab.start_without_limits();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let source = |byte: u8| fs::write(lab.path("source.raw"), vec![byte; 1 << 20]).expect("written");
    source(1);
    let delivery = lab.delivery("ps");
    delivery.run(runtime.handle(), |_, _| ()).expect("it is sealed");
    // It fails where a session begins, and in the middle of one.
    for (byte, within) in [(2, false), (3, true)] {
        source(byte);
        let delivery = lab.another(&delivery);
        allow_writes(&daemon, within);
        let failed = delivery.run(runtime.handle(), |_, _| allow_writes(&daemon, false));
        failed.expect_err("its journal cannot be written");
        allow_writes(&daemon, true);
        delivery.run(runtime.handle(), |_, _| ()).expect("the medium works again");
        assert!(fs::read(lab.path("disk0.raw")).expect("it is there") == vec![byte; 1 << 20]);
    }
    let errors = lab.status().errors;
    assert!(errors.contains_key("FB602"), "the journal was what failed: {errors:?}");
    assert_eq!(daemon.terminate().code, Some(0));
}

#[test]
fn what_it_holds_in_memory_lands_in_no_core_file() {
    let lab = Lab::new();
    let daemon = lab.start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the kernel counts");
    assert_eq!(core.split_whitespace().rev().take(3).collect::<Vec<_>>(), ["bytes", "0", "0"]);
    assert_eq!(daemon.terminate().code, Some(0));
}
