//! A file that fails where and how a test says: QEMU's storage daemon serves another file through FUSE and injects
//! errors. Once it is taken down, the other file is the disk that was replaced or healed.

use failback_testkit::ServedFile;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

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
    served: Option<ServedFile>,
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
        let served = ServedFile::new(&disk.to_string(), path, true);
        Self { served: Some(served), moved_to: None }
    }

    /// Where it is served.
    pub(crate) fn path(&self) -> &Path {
        self.served.as_ref().expect("it is served until it is dropped").path()
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        let path = self.path().to_owned();
        // Only a mount that is gone makes room for the file.
        self.served = None;
        if let Some(store) = &self.moved_to {
            fs::rename(store, path).expect("moves back");
        }
    }
}
