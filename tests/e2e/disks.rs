//! The disks of these tests: a state from before the disaster, and the state that comes home.

use crate::command::run;
use failback_testkit::{GeneratedDisk, Mutation};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Contents change kind every 64 KiB, so that small disks have everything.
const SLOT_BYTES: u64 = 64 << 10;

/// A folder on a real file system below `target/`, removed at the end.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder below target/tmp")
}

/// Two states of one disk, as raw files in a folder of their own.
pub(crate) struct Disks {
    folder: TempDir,
    /// The state of the on-premises disk.
    pub(crate) before: PathBuf,
    /// The state that comes home.
    pub(crate) after: PathBuf,
    /// Pages by which they differ.
    pub(crate) changed_pages: u64,
}

impl Disks {
    /// Disks of this length, one page of a hundred changed.
    pub(crate) fn new(seed: u64, length_bytes: u64) -> Self {
        let folder = folder();
        let (before, after) = (folder.path().join("before.raw"), folder.path().join("after.raw"));
        let mut bytes = GeneratedDisk::new(seed, length_bytes, SLOT_BYTES).bytes();
        fs::write(&before, &bytes).expect("writes");
        let changed_pages = Mutation { seed: seed + 1, permille: 10 }.apply(&mut bytes) as u64;
        assert!(changed_pages > 0, "nothing would travel");
        fs::write(&after, &bytes).expect("writes");
        Self { folder, before, after, changed_pages }
    }

    /// A path beside the disks.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A copy of the first state under another name.
    pub(crate) fn copy_of_before(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::copy(&self.before, &path).expect("copies");
        path
    }
}

/// Fails unless both files or devices hold the same bytes, as far as the shorter one goes.
pub(crate) fn assert_same_bytes(a: &Path, b: &Path, length_bytes: u64) {
    run("cmp", [Path::new("-n"), Path::new(&length_bytes.to_string()), a, b]);
}
