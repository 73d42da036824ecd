//! NBD servers that people run, as real processes.
//!
//! **Invariant**: a server ends when its value is dropped, also while a failed test unwinds.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A server that said it listens.
#[derive(Debug)]
pub struct NbdServer {
    pid: Pid,
}

impl NbdServer {
    /// Runs a program that goes into the background once it listens, and leaves its id in `folder`.
    pub fn start(folder: &Path, program: &str, pid_option: &str, arguments: &[&str]) -> Self {
        let pid_file = folder.join("server.pid");
        let _absent = fs::remove_file(&pid_file);
        let status = Command::new(program)
            .arg(format!("{pid_option}{}", pid_file.display()))
            .args(arguments)
            .stdin(Stdio::null())
            .status()
            .unwrap_or_else(|error| panic!("{program} does not run ({error}): tools/test installs it"));
        assert!(status.success(), "{program} {arguments:?}: {status}");
        // Some programs say it a moment after they went into the background.
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let told = fs::read_to_string(&pid_file).unwrap_or_default();
            match told.strip_suffix('\n').and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw) {
                Some(pid) => return Self { pid },
                None if Instant::now() < until => std::thread::yield_now(),
                None => panic!("{program} {arguments:?} does not say its id"),
            }
        }
    }

    /// `qemu-nbd` at a socket in `folder`, for several clients.
    pub fn qemu(folder: &Path, arguments: &[&str]) -> Self {
        let listen = format!("--socket={}", nbd_socket(folder).display());
        let all = [&["--fork", "--read-only", "--persistent", "--shared=8", &listen], arguments].concat();
        Self::start(folder, "qemu-nbd", "--pid-file=", &all)
    }

    /// `nbdkit` at a socket in `folder`; what a killed one left is taken away.
    pub fn nbdkit(folder: &Path, arguments: &[&str]) -> Self {
        let _absent = fs::remove_file(nbd_socket(folder));
        let listen = format!("--unix={}", nbd_socket(folder).display());
        Self::start(folder, "nbdkit", "--pidfile=", &[&["--readonly", &listen], arguments].concat())
    }

    /// Ends it at once, as a crash does.
    pub fn kill(self) {
        self.end(Signal::KILL);
        std::mem::forget(self);
    }

    fn end(&self, signal: Signal) {
        let process = pidfd_open(self.pid, PidfdFlags::empty()).expect("the server runs until it is told");
        kill_process(self.pid, signal).expect("may end its own server");
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None).expect("it ends");
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}

/// Where an NBD server of this folder listens.
pub fn nbd_socket(folder: &Path) -> PathBuf {
    folder.join("nbd.sock")
}
