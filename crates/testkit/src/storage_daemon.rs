//! QEMU's storage daemon, which serves a file through FUSE in the way that a test wants: with errors, or with a log of what
//! is done to it.
//!
//! **Invariant**: it ends, and the mount with it, when the value is dropped, also while a failed test unwinds.

use crate::repository;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file that is served.
#[derive(Debug)]
pub struct ServedFile {
    path: PathBuf,
    daemon: Pid,
}

impl ServedFile {
    /// Serves the block node `disk`, which `blockdev` describes as QEMU's option of that name takes it, as a file.
    pub fn new(blockdev: &str, path: &Path, growable: bool) -> Self {
        fs::write(path, []).expect("makes the mount point");
        let pid_file = path.with_extension("pid");
        let export = format!(
            "type=fuse,id=served,node-name=disk,mountpoint={},writable=on,growable={}",
            path.display(),
            if growable { "on" } else { "off" }
        );
        let system = repository(env!("CARGO_MANIFEST_DIR")).join("target/lab/root/usr");
        let started = Command::new(system.join("bin/qemu-storage-daemon"))
            .env("LD_LIBRARY_PATH", system.join("lib/x86_64-linux-gnu"))
            .env("QEMU_MODULE_DIR", system.join("lib/x86_64-linux-gnu/qemu"))
            .args(["--daemonize", "--pidfile"])
            .arg(&pid_file)
            .args(["--blockdev", blockdev, "--export", &export])
            .output()
            .unwrap_or_else(|error| panic!("no storage daemon ({error}): run tools/lab/fetch"));
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let daemon = fs::read_to_string(&pid_file).expect("the daemon says its id");
        let daemon = daemon.trim().parse().ok().and_then(Pid::from_raw).expect("an id is a number above 0");
        Self { path: path.to_owned(), daemon }
    }

    /// Serves `store`, and logs what is done to it into the new file `log`.
    pub fn logged(store: &Path, log: &Path, path: &Path) -> Self {
        fs::write(log, []).expect("makes the log");
        let blockdev = format!(
            "driver=blklogwrites,node-name=disk,log-sector-size=512,file.driver=file,file.filename={},\
             file.discard=unmap,log.driver=file,log.filename={}",
            store.display(),
            log.display()
        );
        Self::new(&blockdev, path, false)
    }

    /// Where it is served.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ServedFile {
    fn drop(&mut self) {
        let daemon = pidfd_open(self.daemon, PidfdFlags::empty()).expect("the daemon runs until it is told");
        kill_process(self.daemon, Signal::TERM).expect("may end its own daemon");
        poll(&mut [PollFd::new(&daemon, PollFlags::IN)], None).expect("the daemon ends");
    }
}
