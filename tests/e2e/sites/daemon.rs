//! A daemon as a process: started from a configuration, asked over its control socket, ended by its own handle.

use crate::command::program;
use failback_model::{JobId, MachineId};
use failback_service::control::{Client, PassFlags, Reply, Request};
use failback_service::event::{Envelope, Event};
use failback_service::status::{DaemonStatus, DiskStatus};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longer than anything takes that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Where a daemon runs: what stands before its own command line, such as `ip netns exec NAME`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host(pub(crate) Vec<String>);

/// A job that no other request has.
pub(crate) fn job() -> JobId {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("job-{}", COUNT.fetch_add(1, Ordering::Relaxed)).parse().expect("an id")
}

/// A daemon that runs, or that was ended and may be started again.
pub(crate) struct Daemon {
    program: &'static str,
    folder: PathBuf,
    host: Host,
    child: Child,
    events: Receiver<Envelope>,
    seen: Vec<Event>,
    mark: usize,
}

impl Daemon {
    /// Starts a program with this configuration, to which folder and control socket are added; returns when it is ready.
    pub(super) fn start(program: &'static str, folder: &Path, config: &Value, host: Host) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        write_config(folder, config);
        let (child, events) = launch(program, folder, &host);
        Self { program, folder: folder.to_owned(), host, child, events, seen: Vec::new(), mark: 0 }
    }

    /// Starts it again after it ended.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.try_wait().expect("may look").is_some(), "it still runs");
        (self.child, self.events) = launch(self.program, &self.folder, &self.host);
        self.seen.clear();
        self.mark = 0;
    }

    /// Starts it again after it ended, on another host.
    pub(crate) fn move_to(&mut self, host: Host) {
        self.host = host;
        self.restart();
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("may kill its own child");
        self.wait_end();
    }

    /// Ends it without warning; bytes that it had read of files until then.
    pub(crate) fn kill_counting(&mut self) -> u64 {
        self.child.kill().expect("may kill its own child");
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.id()), options).expect("it ends");
        let read = self.bytes_read();
        self.wait_end();
        read
    }

    /// Bytes that it has read of files so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/io", self.child.id())).expect("root may look");
        let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
        line.expect("the kernel counts").parse().expect("a number")
    }

    /// The most memory that it had resident so far, bytes.
    pub(crate) fn resident_most_bytes(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        line.expect("the kernel counts").parse::<u64>().expect("a number") << 10
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("may signal its own child");
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_end()
    }

    /// Waits until it has ended.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        let handle = pidfd_open(self.id(), PidfdFlags::empty()).expect("it is not waited for yet");
        let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&patience())).expect("can wait");
        assert_eq!(ended, 1, "{} does not end", self.program);
        self.child.wait().expect("it ended")
    }

    /// A moment between two looks at its status; fails where it has ended.
    #[track_caller]
    pub(crate) fn moment(&self) {
        let handle = pidfd_open(self.id(), PidfdFlags::empty()).expect("it is not waited for yet");
        let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&moment)).expect("can wait");
        assert_eq!(ended, 0, "{} ended", self.program);
    }

    /// Its control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// Looks at a disk's status until it is so.
    #[track_caller]
    pub(crate) fn until(&self, id: &str, what: impl Fn(&DiskStatus) -> bool) -> DiskStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let disk = self.disk(id, "disk0");
            if what(&disk) {
                return disk;
            }
            assert!(Instant::now() < deadline, "it does not come to that: {disk:#?}");
            self.moment();
        }
    }

    /// Asks something.
    #[track_caller]
    pub(crate) fn ask(&self, request: &Request) -> Reply {
        let client = Client::connect(&self.folder.join("control.sock"));
        client.and_then(|mut client| client.ask(request)).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Asks for something that must be done; what was done, in words.
    #[track_caller]
    pub(crate) fn order(&self, request: &Request) -> String {
        match self.ask(request) {
            Reply::Done { said, .. } => said,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// Asks for something that must be refused with this code.
    #[track_caller]
    pub(crate) fn refuses(&self, request: &Request, code: &str) {
        match self.ask(request) {
            Reply::Refused { findings, .. } => assert_eq!(findings[0].code, code, "{findings:?}"),
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// Begins a job of all disks of a machine; what happened before is forgotten.
    #[track_caller]
    pub(crate) fn reprotect(&mut self, id: &str) {
        self.forget();
        self.reprotect_also(id);
    }

    /// The same beside what was begun before.
    #[track_caller]
    pub(crate) fn reprotect_also(&self, id: &str) {
        self.order(&Request::Reprotect { job: job(), machine: machine(id), flags: PassFlags::default() });
    }

    /// Tries at once what waits for its next try.
    pub(crate) fn resume(&self, id: &str) {
        self.order(&Request::Resume { job: job(), machine: machine(id) });
    }

    /// Where everything stands.
    #[track_caller]
    pub(crate) fn status(&self) -> DaemonStatus {
        match self.ask(&Request::Status { machine: None }) {
            Reply::Status { status } => status,
            other => panic!("{other:?}"),
        }
    }

    /// Where a disk stands.
    #[track_caller]
    pub(crate) fn disk(&self, machine: &str, disk: &str) -> DiskStatus {
        let status = self.status();
        let disks = status.machines.into_iter().filter(|entry| entry.id == machine);
        let mut disks = disks.flat_map(|machine| machine.disks);
        disks.find(|entry| entry.id == disk).unwrap_or_else(|| panic!("no disk {machine}/{disk}"))
    }

    /// Asks for a page of the admin port: its status and its text.
    pub(crate) fn page(&self, address: std::net::SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).expect("the admin port listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("asks");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answers");
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("HTTP");
        (status, text.split_once("\r\n\r\n").expect("a head").1.to_owned())
    }

    /// Only what happens from now on is of interest.
    pub(crate) fn forget(&mut self) {
        self.seen.extend(self.events.try_iter().map(|envelope| envelope.event));
        self.mark = self.seen.len();
    }

    /// Waits for an event.
    #[track_caller]
    pub(crate) fn wait<T>(&mut self, what: &str, mut find: impl FnMut(&Event) -> Option<T>) -> T {
        let (mut at, deadline) = (self.mark, Instant::now() + PATIENCE);
        loop {
            while at < self.seen.len() {
                if let Some(found) = find(&self.seen[at]) {
                    return found;
                }
                at += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(envelope) => self.seen.push(envelope.event),
                Err(error) => panic!("{what}: {error}; seen: {:#?}", &self.seen[self.mark..]),
            }
        }
    }

    /// Waits until a disk's pass is sealed; fails when it failed. The generation, the root and the pass's counters.
    #[track_caller]
    pub(crate) fn sealed(&mut self, id: &str) -> Seal {
        self.wait(&format!("{id} is sealed"), |event| match event {
            Event::PassSealed { disk, generation, root, counters, .. } if disk == id => {
                let counters = counters.clone();
                Some(Seal { generation: *generation, root: root.clone(), counters })
            }
            Event::PassFailed { disk, finding, .. } if disk == id => panic!("{id}: {finding:?}"),
            _ => None,
        })
    }

    /// Waits until a try of a disk's pass is broken off or fails with this code; whether it is tried again.
    #[track_caller]
    pub(crate) fn broken(&mut self, id: &str, code: &str) -> bool {
        self.wait(&format!("{id} breaks off with {code}"), |event| match event {
            Event::PassInterrupted { disk, finding, .. } if disk == id && finding.code == code => Some(true),
            Event::PassFailed { disk, finding, .. } if disk == id && finding.code == code => Some(false),
            Event::PassSealed { disk, .. } if disk == id => panic!("{id} is sealed"),
            _ => None,
        })
    }

    /// The same; the evidence.
    #[track_caller]
    pub(crate) fn broken_with(&mut self, id: &str, code: &str) -> String {
        assert!(self.broken(id, code), "it is tried again");
        self.wait("its evidence", |event| match event {
            Event::PassInterrupted { disk, finding, .. } if disk == id && finding.code == code => {
                Some(finding.evidence.clone())
            }
            _ => None,
        })
    }

    /// What it has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn id(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process has an id")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ended = self.child.kill().and_then(|()| self.child.wait());
        }
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{log}", self.program);
        } else {
            assert!(!log.contains("panicked at"), "{} panicked: {log}", self.program);
        }
    }
}

/// A sealed pass.
#[derive(Debug)]
pub(crate) struct Seal {
    pub(crate) generation: u64,
    pub(crate) root: String,
    counters: std::collections::BTreeMap<String, u64>,
}

impl Seal {
    /// One of the pass's counters.
    #[track_caller]
    pub(crate) fn counter(&self, name: &str) -> u64 {
        *self.counters.get(name).unwrap_or_else(|| panic!("no counter {name}"))
    }
}

/// A machine's id.
pub(crate) fn machine(id: &str) -> MachineId {
    id.parse().expect("an id")
}

fn patience() -> Timespec {
    Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 }
}

fn write_config(folder: &Path, config: &Value) {
    let own = serde_json::json!({
        "state_dir": folder.join("state"), "control": folder.join("control.sock"), "log_level": "debug",
    });
    let text = toml::to_string(&super::merged(own, config)).expect("it is a table");
    fs::write(folder.join("config.toml"), text).expect("writes");
}

/// Starts a process, and waits until it says that it is ready.
fn launch(program_name: &str, folder: &Path, host: &Host) -> (Child, Receiver<Envelope>) {
    let notify = folder.join("notify.sock");
    let _old = fs::remove_file(&notify);
    let ready = UnixDatagram::bind(&notify).expect("a socket");
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("a log");
    let program = program(program_name);
    let line = host.0.iter().map(PathBuf::from).chain([program]).collect::<Vec<_>>();
    let mut child = Command::new(&line[0])
        .args(&line[1..])
        .arg("--config")
        .arg(folder.join("config.toml"))
        .env("NOTIFY_SOCKET", &notify)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the daemon starts");
    if let Err(why) = wait_ready(&child, &ready) {
        let _ended = child.kill().and_then(|()| child.wait());
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        panic!("{program_name} {why}: {log}");
    }
    (child, listen(&folder.join("control.sock")))
}

/// Waits for systemd's word, or for the process's end.
fn wait_ready(child: &Child, ready: &UnixDatagram) -> Result<(), &'static str> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
    let handle = pidfd_open(id, PidfdFlags::empty()).expect("a handle");
    loop {
        let mut watched = [PollFd::new(ready, PollFlags::IN), PollFd::new(&handle, PollFlags::IN)];
        let count = poll(&mut watched, Some(&patience())).expect("can wait");
        if count == 0 {
            return Err("is not ready");
        }
        if !watched[0].revents().contains(PollFlags::IN) {
            return Err("ended before it was ready");
        }
        let mut text = [0; 256];
        let length = ready.recv(&mut text).expect("something was said");
        if text[..length].starts_with(b"READY=1") {
            return Ok(());
        }
    }
}

/// Its events from the first on, as long as it lives.
fn listen(control: &Path) -> Receiver<Envelope> {
    let client = Client::connect(control).expect("a daemon that is ready answers");
    let request = Request::Events { since: Some(0), machine: None };
    let events = client.events(&request).expect("it tells its events");
    let (to, from) = channel();
    std::thread::spawn(move || {
        // Ends with the daemon, or when nobody listens any more.
        for event in events.map_while(Result::ok) {
            if to.send(event).is_err() {
                return;
            }
        }
    });
    from
}
