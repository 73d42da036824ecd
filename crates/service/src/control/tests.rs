//! The socket, asked by clients good and bad.

use super::*;
use crate::event::{Event, Events};
use crate::status::DaemonStatus;
use failback_model::limits::{CONTROL_CONNECTIONS_MAX, CONTROL_LINE_MAX_BYTES};
use failback_model::{Code, Finding, JobId, MachineId};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokio_util::sync::CancellationToken;

/// A daemon that only counts.
#[derive(Default)]
struct Counting {
    done: AtomicU32,
    draining: AtomicBool,
}

impl Orders for Counting {
    fn status(&self, machine: Option<&MachineId>) -> Result<DaemonStatus, Finding> {
        let evidence = format!("no status of {machine:?}");
        Err(Finding::error(Code::UnknownMachine, evidence))
    }

    fn registry(&self, _: Option<&MachineId>) -> Result<Vec<Value>, Finding> {
        Ok(vec![json!({ "id": "web01" })])
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn carry_out(&self, _: crate::event::Caller, request: &Request) -> Result<String, Vec<Finding>> {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        match request {
            Request::Stop { .. } => {
                Err(vec![Finding::error(Code::AlreadyRunning, format!("refusal {done}"))])
            }
            _ => Ok(format!("job {done}")),
        }
    }
}

/// A daemon's socket, served until dropped.
struct Lab {
    folder: tempfile::TempDir,
    orders: Arc<Counting>,
    events: Arc<Events>,
    stop: CancellationToken,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::within(folder)
    }

    fn within(folder: tempfile::TempDir) -> Self {
        let (orders, events, stop) =
            (Arc::<Counting>::default(), Arc::new(Events::new()), CancellationToken::new());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let about = About { daemon: "process-server", version: "1.2.3", started_unix_ms: 42 };
        let jobs = folder.path().join("jobs.jsonl");
        let desk = Desk::open(about, Arc::clone(&orders) as _, Arc::clone(&events), &jobs).expect("it opens");
        let _inside = runtime.enter();
        let server = ControlServer::bind(&folder.path().join("run/control.sock")).expect("it binds");
        runtime.spawn(server.run(Arc::new(desk), stop.clone()));
        drop(_inside);
        Self { folder, orders, events, stop, runtime: Some(runtime) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("run/control.sock")
    }

    fn client(&self) -> Client {
        Client::connect(&self.path()).expect("it is there")
    }

    /// Stops it and gives back its folder.
    fn end(mut self) -> tempfile::TempDir {
        self.stop.cancel();
        drop(self.runtime.take());
        self.folder
    }
}

fn job(id: &str) -> JobId {
    id.parse().expect("an id")
}

fn machine(id: &str) -> MachineId {
    id.parse().expect("an id")
}

fn codes(reply: &Reply) -> Vec<&str> {
    match reply {
        Reply::Refused { findings, .. } => findings.iter().map(|finding| finding.code.as_str()).collect(),
        other => panic!("{other:?} is no refusal"),
    }
}

/// Says something raw and gives the line that comes back.
fn raw(path: &Path, bytes: &[u8]) -> Value {
    let mut stream = UnixStream::connect(path).expect("it is there");
    // It may hang up before it has taken all of it.
    let _ = stream.write_all(bytes);
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn questions_are_answered_and_the_socket_is_private() {
    let lab = Lab::new();
    let mode = std::fs::metadata(lab.path()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut client = lab.client();
    let version = client.ask(&Request::Version {}).expect("an answer");
    assert_eq!(version, Reply::Version { daemon: "process-server".into(), version: "1.2.3".into() });
    let registry = client.ask(&Request::Registry { machine: None }).expect("an answer");
    assert_eq!(registry, Reply::Registry { machines: vec![json!({ "id": "web01" })] });
    let refused = client.ask(&Request::Status { machine: Some(machine("x")) }).expect("an answer");
    assert_eq!(codes(&refused), ["FB703"]);
}

#[test]
fn a_job_is_done_once_also_across_a_restart() {
    let lab = Lab::new();
    let reload = Request::Reload { job: job("a") };
    let done = |repeated| Reply::Done { job: job("a"), repeated, said: "job 1".into() };
    assert_eq!(lab.client().ask(&reload), Ok(done(false)));
    assert_eq!(lab.client().ask(&reload), Ok(done(true)));
    let stop = Request::Stop { job: job("b"), machine: machine("m") };
    let first = lab.client().ask(&stop).expect("an answer");
    let again = lab.client().ask(&stop).expect("an answer");
    assert_eq!(codes(&first), ["FB704"]);
    assert!(
        matches!(&again, Reply::Refused { repeated: true, findings, .. } if findings[0].evidence == "refusal 2")
    );
    let other = Request::Resume { job: job("a"), machine: machine("m") };
    assert_eq!(codes(&lab.client().ask(&other).expect("an answer")), ["FB702"]);
    assert_eq!(lab.orders.done.load(Ordering::Relaxed), 2);
    let lab = Lab::within(lab.end());
    assert_eq!(lab.client().ask(&reload), Ok(done(true)), "after a restart");
    assert_eq!(lab.orders.done.load(Ordering::Relaxed), 0);
}

#[test]
fn a_daemon_that_stops_takes_no_job_and_does_not_remember_it() {
    let lab = Lab::new();
    lab.orders.draining.store(true, Ordering::Relaxed);
    let reload = Request::Reload { job: job("a") };
    assert_eq!(codes(&lab.client().ask(&reload).expect("an answer")), ["FB706"]);
    lab.orders.draining.store(false, Ordering::Relaxed);
    assert!(matches!(lab.client().ask(&reload), Ok(Reply::Done { repeated: false, .. })));
}

#[test]
fn events_are_streamed_with_the_audit_line() {
    let lab = Lab::new();
    lab.events.publish(Event::MachineReleased { machine: "old".into() });
    let about_m = Request::Events { since: Some(0), machine: Some(machine("m")) };
    let mut events = lab.client().events(&about_m).expect("a stream");
    lab.events.publish(Event::MachineReleased { machine: "other".into() });
    lab.client().ask(&Request::Resume { job: job("a"), machine: machine("m") }).expect("an answer");
    let envelope = events.next().expect("an event").expect("it is understood");
    let Event::Job { job, request, machine, caller, outcome, .. } = envelope.event else {
        panic!("{envelope:?}")
    };
    assert_eq!((job.as_str(), request.as_str(), machine.as_deref()), ("a", "resume", Some("m")));
    assert_eq!((caller.uid, outcome.as_str()), (rustix::process::getuid().as_raw(), "done"));
    assert_eq!(caller.pid, Some(rustix::process::getpid().as_raw_nonzero().get()));
    lab.events.publish(Event::DaemonStopping { reason: "test".into() });
    assert_eq!(events.next().expect("an event").expect("understood").event.name(), "daemon_stopping");
    lab.stop.cancel();
    assert!(events.next().is_none(), "the stream ends with the daemon");
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let lab = Lab::new();
    for (line, reason) in [
        ("{}", "missing field `request`"),
        ("{\"request\":\"dance\"}", "unknown variant `dance`"),
        ("{\"request\":\"reload\"}", "missing field `job`"),
        ("{\"request\":\"reload\",\"job\":\"A/B\"}", "an id has only"),
        ("{\"request\":\"reload\",\"job\":\"a\",\"now\":1}", "unknown field `now`"),
        ("{\"request\":\"version\",\"now\":1}", "unknown field `now`"),
        (
            "{\"request\":\"reprotect\",\"job\":\"a\",\"machine\":\"m\",\"flags\":{\"grow\":true}}",
            "the master target's configuration says 'grow = true'",
        ),
        ("nonsense", "expected"),
        ("\u{0}\u{1}", "expected"),
    ] {
        let reply = raw(&lab.path(), format!("{line}\n").as_bytes());
        assert_eq!(reply["findings"][0]["code"], "FB702", "{line}");
        let evidence = reply["findings"][0]["evidence"].as_str().expect("text");
        assert!(evidence.contains(reason), "{line}: {evidence}");
    }
    let long = raw(&lab.path(), &vec![b' '; CONTROL_LINE_MAX_BYTES + 1]);
    assert!(
        long["findings"][0]["evidence"].as_str().expect("text").contains("a line has more than"),
        "{long}"
    );
}

#[test]
fn connections_are_bounded() {
    let lab = Lab::new();
    let mut held: Vec<_> = (0..CONTROL_CONNECTIONS_MAX).map(|_| lab.client()).collect();
    // Each is being served once it has answered.
    held.iter_mut().for_each(|client| drop(client.ask(&Request::Version {}).expect("an answer")));
    let reply = raw(&lab.path(), b"");
    assert_eq!(reply["findings"][0]["code"], "FB708");
}

#[test]
fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let lab = Lab::new();
    let bind = |path: &Path| {
        let _inside = lab.runtime.as_ref().expect("it runs").enter();
        ControlServer::bind(path)
    };
    assert_eq!(bind(&lab.path()).err().expect("it answers").code, Code::AlreadyRunning);
    let dead = lab.folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).expect("it binds"));
    drop(bind(&dead).expect("it is replaced"));
    assert!(!dead.exists(), "it goes with its daemon");
    let file = lab.folder.path().join("file.sock");
    std::fs::write(&file, "precious").expect("it is written");
    assert_eq!(bind(&file).err().expect("no socket").code, Code::StateFailed);
    let nobody = Client::connect(&dead).expect_err("nobody is there");
    assert_eq!(nobody.code, Code::DaemonUnreachable);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_trickles_is_given_up() {
    use super::line::{LineError, read_line};
    use tokio::io::AsyncWriteExt as _;
    let (mut slow, server) = tokio::io::duplex(64);
    slow.write_all(b"{\"req").await.expect("it is taken");
    let mut reader = tokio::io::BufReader::new(server);
    assert!(matches!(read_line(&mut reader).await, Err(LineError::Late)));
    let (silent, server) = tokio::io::duplex(64);
    let mut reader = tokio::io::BufReader::new(server);
    assert!(matches!(read_line(&mut reader).await, Err(LineError::Late)));
    drop(silent);
    assert!(matches!(read_line(&mut reader).await, Err(LineError::Closed)));
}
