//! A file that fails where and how a test says: QEMU's storage daemon serves another file through FUSE and injects
//! errors. Once it is taken down, the other file is the disk that was replaced or healed.

use crate::command::project;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What fails with EIO.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// Reading the sector.
    Read,
    /// Writing the sector.
    Write,
    /// Making anything durable.
    Flush,
}

/// A served file; taken down when dropped.
pub(crate) struct FaultyDisk {
    path: PathBuf,
    daemon: Pid,
}

impl FaultyDisk {
    /// Serves `store` as `path`, where the byte at `offset_bytes` is out of order.
    pub(crate) fn new(store: &Path, path: &Path, fault: Fault, offset_bytes: u64) -> Self {
        fs::write(path, []).expect("makes the mount point");
        let pid_file = path.with_extension("pid");
        let rule = match fault {
            Fault::Read => json!({"iotype": "read", "sector": offset_bytes / 512}),
            Fault::Write => json!({"iotype": "write", "sector": offset_bytes / 512}),
            Fault::Flush => json!({"iotype": "flush"}),
        };
        let mut rule = rule;
        rule["event"] = json!("none");
        rule["errno"] = json!(rustix::io::Errno::IO.raw_os_error());
        let file = json!({"driver": "file", "filename": store, "locking": "off", "discard": "unmap"});
        let disk = json!({"driver": "blkdebug", "node-name": "disk", "image": file, "inject-error": [rule]});
        let export = json!({"type": "fuse", "id": "served", "node-name": "disk", "mountpoint": path,
            "writable": true, "growable": true});
        let system = project().join("target/lab/root/usr");
        let started = Command::new(system.join("bin/qemu-storage-daemon"))
            .env("LD_LIBRARY_PATH", system.join("lib/x86_64-linux-gnu"))
            .env("QEMU_MODULE_DIR", system.join("lib/x86_64-linux-gnu/qemu"))
            .args(["--daemonize", "--pidfile"])
            .arg(&pid_file)
            .args(["--blockdev", &disk.to_string(), "--export", &export.to_string()])
            .output()
            .unwrap_or_else(|error| panic!("no storage daemon ({error}): run tools/lab/fetch"));
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let daemon = fs::read_to_string(&pid_file).expect("the daemon says its id");
        let daemon = daemon.trim().parse().ok().and_then(Pid::from_raw).expect("an id is a number above 0");
        Self { path: path.to_owned(), daemon }
    }

    /// Where it is served.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        let daemon = pidfd_open(self.daemon, PidfdFlags::empty()).expect("the daemon runs until it is told");
        kill_process(self.daemon, Signal::TERM).expect("may end its own daemon");
        poll(&mut [PollFd::new(&daemon, PollFlags::IN)], None).expect("the daemon ends");
    }
}
