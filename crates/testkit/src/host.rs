//! Real devices and file systems of the host, for tests: loop devices, and file systems that are mounted for a while.
//!
//! **Invariant**: what was attached or mounted is detached and unmounted when the value is dropped, also while a failed
//! test unwinds. All of it needs root and panics saying so.

use failback_blockio::DiskError;
use failback_model::Code;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A loop device over a file.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches a file as a block device with logical sectors of 512 or 4096 bytes.
    pub fn attach(file: &Path, sector_bytes: u32) -> Self {
        let sectors = sector_bytes.to_string();
        let name =
            run(Command::new("losetup").args(["--find", "--show", "--sector-size", &sectors]).arg(file));
        Self { path: name.trim().into() }
    }

    /// The same with its partitions as devices of their own.
    pub fn attach_with_partitions(file: &Path) -> Self {
        let name = run(Command::new("losetup").args(["--find", "--show", "--partscan"]).arg(file));
        let disk = Self { path: name.trim().into() };
        // Kernels built without partition tables are told by hand.
        run(Command::new("partx").arg("--update").arg(&disk.path));
        disk
    }

    /// Where it is: `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its n-th partition is, counted from 1.
    pub fn partition(&self, number: u32) -> PathBuf {
        format!("{}p{number}", self.path.display()).into()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        clean_up(Command::new("losetup").arg("--detach").arg(&self.path));
    }
}

/// A file system that is mounted as long as this value lives.
#[derive(Debug)]
pub struct Mounted {
    folder: TempDir,
}

impl Mounted {
    /// A file system in memory of this size.
    pub fn tmpfs(size_bytes: u64) -> Self {
        let options = format!("size={size_bytes}");
        Self::mount(&["-t", "tmpfs", "-o", &options, "tmpfs"])
    }

    /// Makes an ext4 file system on a block device and mounts it.
    pub fn ext4(device: &Path) -> Self {
        run(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(device));
        Self::device(device)
    }

    /// Mounts the file system that a block device holds.
    pub fn device(device: &Path) -> Self {
        Self::mount(&[device.to_str().expect("names of devices are ASCII")])
    }

    fn mount(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder to mount at");
        run(Command::new("mount").args(arguments).arg(folder.path()));
        Self { folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A child process that another test forks holds copies of what was open here until it runs its own program.
        let deadline = Instant::now() + Duration::from_secs(20);
        let unmount = || Command::new("umount").arg("--quiet").arg(self.folder.path()).output();
        while unmount().is_ok_and(|done| !done.status.success()) && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

/// Opens what this process has just closed. A child process that another test forks at that moment holds a copy of the
/// descriptor until it runs its own program, and a block device is in use as long.
pub fn reopen<T>(open: impl Fn() -> Result<T, DiskError>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match open() {
            Ok(opened) => return opened,
            Err(error) if error.code == Code::InUse && Instant::now() < deadline => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A sparse file of this length; panics where that fails.
pub fn sparse_file(folder: &Path, name: &str, length_bytes: u64) -> PathBuf {
    let path = folder.join(name);
    File::create(&path).and_then(|file| file.set_len(length_bytes)).expect("a sparse file");
    path
}

/// Runs a tool of the host and returns what it printed. Panics with its name and its words where it is not there or
/// fails.
pub fn run(command: &mut Command) -> String {
    let tool = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("this test needs {tool}: {error}; tools/test installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    let why_root = if is_root() { "" } else { " (this test needs root)" };
    assert!(output.status.success(), "{command:?} failed{why_root}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t")))
}

/// Undoes something; a second panic while unwinding would hide the first.
fn clean_up(command: &mut Command) {
    match command.status() {
        Ok(status) if status.success() => {}
        outcome => eprintln!("{command:?} did not clean up: {outcome:?}"),
    }
}
