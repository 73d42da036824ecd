//! What tests take from the host, given back when they end, however they end: loop devices and mounts.

use crate::command::run;
use std::path::{Path, PathBuf};

/// A block device over a file.
pub(crate) struct LoopDevice(PathBuf);

impl LoopDevice {
    /// A device with this logical sector size. Needs root.
    pub(crate) fn new(file: &Path, sector_bytes: u32) -> Self {
        let sector_bytes = sector_bytes.to_string();
        let arguments = [Path::new("--find"), Path::new("--show"), Path::new("--sector-size")];
        Self(run("losetup", arguments.into_iter().chain([Path::new(&sector_bytes), file])).into())
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        run("losetup", [Path::new("--detach"), &self.0]);
    }
}

/// A mounted file system.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts with the arguments of `mount`, the mount point apart. Needs root.
    pub(crate) fn new(arguments: &[&str], at: &Path) -> Self {
        std::fs::create_dir_all(at).expect("makes the mount point");
        run("mount", arguments.iter().map(Path::new).chain([at]));
        Self(at.to_owned())
    }

    /// A small file system in memory.
    pub(crate) fn in_memory(mebibytes: u64, at: &Path) -> Self {
        Self::new(&["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"], at)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", [&self.0]);
    }
}
