//! A file system on a disk that logs what is written to it, and the file systems that power cuts would have left.
//!
//! Unlike a recording of our own devices, what is replayed here is what the kernel made of our calls: the page cache wrote
//! back when and in what order it liked, names and lengths are those of a real journalling file system.
//!
//! **Invariant**: an entry that was counted before a promise was made was durable by then.

use crate::{LoopDevice, MemoryDevice, Mounted, Random, ServedFile, WriteLog, flushed_entries, leave, run};
use failback_blockio::{Device, UnitSource};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A mounted ext4 on a disk that logs. Needs root, and QEMU's storage daemon from the lab.
#[derive(Debug)]
pub struct LoggedFileSystem {
    // Taken down in this order.
    mounted: Mounted,
    _loop: LoopDevice,
    _served: ServedFile,
    log: PathBuf,
    before: Vec<u8>,
    _folder: TempDir,
}

/// Everything that was written to the disk of a [`LoggedFileSystem`].
#[derive(Debug)]
pub struct LoggedDisk {
    before: MemoryDevice,
    log: WriteLog,
    folder: TempDir,
}

/// A file system as a power cut left it, mounted by the kernel's own recovery.
#[derive(Debug)]
pub struct CutFileSystem {
    mounted: Mounted,
    _loop: LoopDevice,
}

impl LoggedFileSystem {
    /// A new file system of this size; what `prepare` makes in it is there before the log begins.
    pub fn new(length_bytes: u64, prepare: impl FnOnce(&Path)) -> Self {
        let folder = scratch();
        let [store, log, served] = ["store.raw", "log", "served"].map(|name| folder.path().join(name));
        File::create(&store).and_then(|file| file.set_len(length_bytes)).expect("a sparse file");
        let features =
            ["-q", "-F", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        run(Command::new("mkfs.ext4").args(features).arg(&store));
        {
            let device = LoopDevice::attach(&store, 512);
            prepare(Mounted::device(device.path()).path());
        }
        let before = std::fs::read(&store).expect("what was prepared is read");
        let daemon = ServedFile::logged(&store, &log, &served);
        let device = LoopDevice::attach(daemon.path(), 512);
        let mounted = Mounted::device(device.path());
        Self { mounted, _loop: device, _served: daemon, log, before, _folder: folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.mounted.path()
    }

    /// Entries of the log that a finished flush covers: how far whatever was promised by now must be durable.
    pub fn flushed(&self) -> u64 {
        flushed_entries(&self.log)
    }

    /// Everything that was written; the file system is still mounted, as in a cut.
    pub fn written(&self) -> LoggedDisk {
        let log = WriteLog::read(&self.log);
        LoggedDisk { before: MemoryDevice::from_bytes(&self.before), log, folder: scratch() }
    }
}

impl LoggedDisk {
    /// Entries of the log.
    pub fn entries(&self) -> u64 {
        self.log.entries()
    }

    /// What a power cut after so many entries leaves: everything up to there, or what was flushed and any part of the rest.
    pub fn cut(&self, entries: u64, random: &mut Random) -> CutFileSystem {
        let left = self.before.duplicate();
        leave(self.log.events(entries), 0, &left, random);
        let path = self.folder.path().join("left.raw");
        write_sparse(&left, &path);
        let device = LoopDevice::attach(&path, 512);
        CutFileSystem { mounted: Mounted::device(device.path()), _loop: device }
    }
}

impl CutFileSystem {
    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.mounted.path()
    }
}

/// A folder in memory where there is one: these files are written again and again, and none is kept.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder")
}

fn write_sparse(disk: &MemoryDevice, path: &Path) {
    let file = File::create(path).expect("a file of what is left");
    let length_bytes = Device::length_bytes(disk);
    file.set_len(length_bytes).expect("a sparse file");
    let mut at = 0;
    while let Some(run) = UnitSource::next_data(disk, at).expect("memory does not fail") {
        let mut bytes = vec![0; run.length_bytes() as usize];
        UnitSource::read_at(disk, run.start(), &mut bytes).expect("memory does not fail");
        file.write_all_at(&bytes, run.start()).expect("written");
        at = run.end();
    }
}
