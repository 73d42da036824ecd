//! A daemon as a real process, watched the way systemd does.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than any daemon takes to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that said it is ready. Killed when dropped.
pub struct DaemonProcess {
    child: Child,
    told: UnixDatagram,
    log: PathBuf,
}

/// How a daemon ended.
#[derive(Debug)]
pub struct DaemonEnd {
    /// Its exit code.
    pub code: Option<i32>,
    /// Everything it logged.
    pub log: String,
    /// What it told systemd after it was ready.
    pub told: Vec<String>,
}

impl DaemonProcess {
    /// Starts `program --config CONFIG` and waits until it is ready; an error with its log where it ends instead.
    pub fn start(program: &Path, config: &Path) -> Result<Self, DaemonEnd> {
        let name = config.file_stem().expect("a configuration has a name").to_string_lossy().into_owned();
        let folder = config.parent().expect("a configuration lies in a folder");
        let socket = folder.join(format!("{name}.notify"));
        // A daemon before this one may have left it.
        let _ = fs::remove_file(&socket);
        let told = UnixDatagram::bind(&socket).expect("it binds");
        told.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let log = folder.join(format!("{name}.log"));
        let child = Command::new(program)
            .arg("--config")
            .arg(config)
            .env("NOTIFY_SOCKET", &socket)
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log).expect("a log"))
            .spawn()
            .expect("it starts");
        let mut daemon = Self { child, told, log };
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match daemon.next_told().as_deref() {
                Some("READY=1") => return Ok(daemon),
                Some(_) => continue,
                None if daemon.child.try_wait().expect("it can be asked").is_some() => break,
                None => {}
            }
        }
        Err(daemon.end())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Asks it to stop, and waits for that.
    pub fn terminate(self) -> DaemonEnd {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Kills it.
    pub fn kill(self) -> DaemonEnd {
        self.signal(Signal::KILL);
        self.end()
    }

    /// Waits for its end.
    fn end(mut self) -> DaemonEnd {
        let until = Instant::now() + PATIENCE;
        let mut told = Vec::new();
        let status = loop {
            told.extend(self.next_told());
            match self.child.try_wait().expect("it can be asked") {
                Some(status) => break status,
                None => assert!(Instant::now() < until, "it does not end: {}", self.log()),
            }
        };
        while let Some(line) = self.next_told() {
            told.push(line);
        }
        DaemonEnd { code: status.code(), log: self.log(), told }
    }

    /// What it says next, if it says something soon.
    fn next_told(&self) -> Option<String> {
        let mut buffer = [0; 1024];
        let length = self.told.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
