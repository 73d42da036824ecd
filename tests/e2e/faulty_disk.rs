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
#[derive(Debug, Clone, Copy)]
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
    /// Where the file went that is served under its own name; it comes back when this is dropped.
    moved_to: Option<PathBuf>,
}

impl FaultyDisk {
    /// Serves a file under its own name, so that what names it finds it: an extent of a VMDK. The byte at `offset_bytes`
    /// is out of order until this is dropped.
    pub(crate) fn in_place(path: &Path, fault: Fault, offset_bytes: u64) -> Self {
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        let store = path.with_file_name(format!("store-of-{name}"));
        fs::rename(path, &store).expect("moves");
        let mut disk = Self::new(&store, path, fault, offset_bytes);
        disk.moved_to = Some(store);
        disk
    }

    /// Serves `store` as `path`, where the byte at `offset_bytes` is out of order.
    pub(crate) fn new(store: &Path, path: &Path, fault: Fault, offset_bytes: u64) -> Self {
        let sector = offset_bytes / 512;
        Self::with_bad_sectors(store, path, fault, &[sector])
    }

    /// Serves `store` as `path`, where these sectors are out of order.
    pub(crate) fn with_bad_sectors(store: &Path, path: &Path, fault: Fault, sectors: &[u64]) -> Self {
        fs::write(path, []).expect("makes the mount point");
        let pid_file = path.with_extension("pid");
        let errno = rustix::io::Errno::IO.raw_os_error();
        let rule = |kind: &str| json!({"event": "none", "errno": errno, "iotype": kind});
        let at = |kind: &str, sector: u64| {
            let mut rule = rule(kind);
            rule["sector"] = json!(sector);
            rule
        };
        let rules: Vec<_> = match fault {
            Fault::Read => sectors.iter().map(|&sector| at("read", sector)).collect(),
            Fault::Write => sectors.iter().map(|&sector| at("write", sector)).collect(),
            Fault::Flush => vec![rule("flush")],
        };
        let file = json!({"driver": "file", "filename": store, "locking": "off", "discard": "unmap"});
        let disk = json!({"driver": "blkdebug", "node-name": "disk", "image": file, "inject-error": rules});
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
        Self { path: path.to_owned(), daemon, moved_to: None }
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
        if let Some(store) = &self.moved_to {
            fs::rename(store, &self.path).expect("moves back");
        }
    }
}
