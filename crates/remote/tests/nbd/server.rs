//! NBD servers as real processes, and disks for them.
//!
//! **Invariant**: a server ends when its value is dropped, also while a failed test unwinds.

use failback_image::Image;
use failback_model::Finding;
use failback_remote::{OpenOptions, SourceSpec};
use failback_testkit::GeneratedDisk;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server that said it listens.
pub(crate) struct Server {
    pid: Pid,
}

impl Server {
    /// Runs a program that goes into the background once it listens, and leaves its id in `folder`.
    pub(crate) fn start(folder: &Path, program: &str, pid_option: &str, arguments: &[&str]) -> Self {
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
    pub(crate) fn qemu(folder: &Path, arguments: &[&str]) -> Self {
        let listen = format!("--socket={}", socket(folder).display());
        let all = [&["--fork", "--read-only", "--persistent", "--shared=8", &listen], arguments].concat();
        Self::start(folder, "qemu-nbd", "--pid-file=", &all)
    }

    /// `nbdkit` at a socket in `folder`; what a killed one left is taken away.
    pub(crate) fn nbdkit(folder: &Path, arguments: &[&str]) -> Self {
        let _absent = fs::remove_file(socket(folder));
        let listen = format!("--unix={}", socket(folder).display());
        Self::start(folder, "nbdkit", "--pidfile=", &[&["--readonly", &listen], arguments].concat())
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(self) {
        self.end(Signal::KILL);
        std::mem::forget(self);
    }

    fn end(&self, signal: Signal) {
        let process = pidfd_open(self.pid, PidfdFlags::empty()).expect("the server runs until it is told");
        kill_process(self.pid, signal).expect("may end its own server");
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None).expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}

/// Where a server of this folder listens.
pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join("nbd.sock")
}

/// The URI of an export of the server in this folder.
pub(crate) fn uri(folder: &Path, export: &str) -> String {
    format!("nbd+unix:///{export}?socket={}", socket(folder).display())
}

/// Opens a source with four connections.
pub(crate) fn open(uri: &str) -> Result<Arc<dyn Image>, Finding> {
    failback_remote::open(&SourceSpec::parse(uri)?, &OpenOptions::default())
}

/// What opening a source that cannot be opened says.
#[track_caller]
pub(crate) fn refused(uri: &str) -> Finding {
    open(uri).err().unwrap_or_else(|| panic!("{uri} was opened"))
}

/// A raw file with holes, and its bytes.
pub(crate) fn raw_disk(folder: &Path, length_bytes: u64) -> (PathBuf, Vec<u8>) {
    let path = folder.join("disk.raw");
    let file = File::create(&path).expect("made");
    file.set_len(length_bytes).expect("lengthened");
    let disk = GeneratedDisk::new(7, length_bytes, 64 << 10);
    let mut bytes = vec![0; length_bytes as usize];
    for (range, content) in disk.slots() {
        if content != failback_testkit::Content::Hole {
            let slot = disk.slot(&range);
            file.write_all_at(&slot, range.start).expect("written");
            bytes[range.start as usize..range.end as usize].copy_from_slice(&slot);
        }
    }
    (path, bytes)
}

/// Reads all of a disk around its holes.
pub(crate) fn read_all(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0xaa; image.geometry().length_bytes as usize];
    let mut at = 0;
    while let Some(data) = image.next_data(at).expect("mapped") {
        bytes[at as usize..data.start() as usize].fill(0);
        for start in (data.start()..data.end()).step_by(1 << 20) {
            let end = data.end().min(start + (1 << 20));
            image.read_at(start, &mut bytes[start as usize..end as usize]).expect("read");
        }
        at = data.end();
    }
    bytes[at as usize..].fill(0);
    bytes
}

/// Panics with the first place where two disks differ.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len(), "lengths");
    let differs = got.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first byte that differs");
}
