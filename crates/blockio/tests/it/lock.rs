//! Two users of one disk: a writer is alone, whoever the other one is.

use crate::content::folder;
use failback_blockio::{Access, FileDevice};
use failback_model::Code;
use failback_testkit::{LoopDevice, reopen, sparse_file};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn locked(path: &Path, access: Access) -> Result<FileDevice, failback_blockio::DiskError> {
    let device = FileDevice::open(path, access)?;
    device.lock()?;
    Ok(device)
}

/// A qemu that has an image open until this value is dropped.
struct Qemu(Child);

impl Qemu {
    fn open(path: &Path, options: &[&str]) -> Self {
        let mut command = Command::new("qemu-io");
        command.args(options).args(["-f", "raw"]).arg(path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("this test needs qemu-io (qemu-utils)");
        // Its answer proves that the image is open and locked.
        writeln!(child.stdin.as_mut().expect("piped"), "length").expect("asked");
        let mut answer = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut answer).expect("answered");
        assert!(answer.contains("MiB"), "{answer}");
        Self(child)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

fn qemu_opens(path: &Path, options: &[&str]) -> bool {
    let mut command = Command::new("qemu-io");
    command.args(options).args(["-f", "raw", "-c", "length"]).arg(path);
    command.output().expect("this test needs qemu-io (qemu-utils)").status.success()
}

#[test]
fn of_two_failbacks_the_second_is_refused() {
    let folder = folder();
    let path = sparse_file(folder.path(), "disk.raw", 1 << 20);
    let writer = locked(&path, Access::Write).expect("nobody else");
    for access in [Access::Read, Access::Write] {
        let error = locked(&path, access).unwrap_err();
        assert_eq!(error.code, Code::InUse);
        assert!(error.to_string().contains("this process holds it"), "{error}");
    }
    drop(writer);
    let readers = [Access::Read; 2].map(|access| locked(&path, access).expect("readers share"));
    assert_eq!(locked(&path, Access::Write).unwrap_err().code, Code::InUse);
    drop(readers);
    locked(&path, Access::Write).expect("nothing stale is left");
}

#[test]
fn of_two_failbacks_on_a_device_the_second_is_refused() {
    let folder = folder();
    let disk = LoopDevice::attach(&sparse_file(folder.path(), "disk", 1 << 20), 512);
    let writer = locked(disk.path(), Access::Write).expect("nobody else");
    for access in [Access::Read, Access::Write] {
        assert_eq!(locked(disk.path(), access).unwrap_err().code, Code::InUse);
    }
    drop(writer);
    reopen(|| locked(disk.path(), Access::Read));
}

#[test]
fn a_running_qemu_is_noticed_and_notices() {
    let folder = folder();
    let path = sparse_file(folder.path(), "disk.raw", 1 << 20);
    let running = Qemu::open(&path, &[]);
    for access in [Access::Read, Access::Write] {
        let error = locked(&path, access).unwrap_err();
        assert_eq!(error.code, Code::InUse);
        assert!(error.to_string().contains("qemu-io (pid"), "{error}");
    }
    drop(running);

    let reading = Qemu::open(&path, &["-r"]);
    locked(&path, Access::Read).expect("readers share with readers");
    assert_eq!(locked(&path, Access::Write).unwrap_err().code, Code::InUse);
    drop(reading);

    let reader = locked(&path, Access::Read).expect("nobody else");
    assert!(qemu_opens(&path, &["-r"]) && !qemu_opens(&path, &[]), "qemu may read beside a reader");
    drop(reader);
    let _writer = locked(&path, Access::Write).expect("nobody else");
    assert!(!qemu_opens(&path, &["-r"]) && !qemu_opens(&path, &[]), "qemu may do nothing beside a writer");
}

#[test]
fn a_lock_of_an_old_kind_is_noticed() {
    let folder = folder();
    let path = sparse_file(folder.path(), "disk.raw", 1 << 20);
    let other = std::fs::File::open(&path).expect("opened");
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockShared).expect("locked");
    assert_eq!(locked(&path, Access::Write).unwrap_err().code, Code::InUse);
    locked(&path, Access::Read).expect("readers share");
}
