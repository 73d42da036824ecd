//! Who holds a lock. `/proc/locks` names no process for locks of open files, so the processes are asked: one that
//! has the file open and a lock on it is the one.
//!
//! **Invariant**: only ever an aid for a message; what cannot be read is skipped.

use crate::FileId;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process with a lock on the file, as `name (pid N)`; the descriptor that asks is not meant.
pub(super) fn holder_of(id: FileId, asking: BorrowedFd<'_>) -> Option<String> {
    let asking = asking.as_raw_fd().to_string();
    let processes = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, entry.path()))
    });
    for (pid, process) in processes {
        let is_this = pid == std::process::id();
        if !holds(&process, id, is_this.then_some(asking.as_str())) {
            continue;
        }
        if is_this {
            return Some("this process".into());
        }
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        return Some(format!("{} (pid {pid})", name.trim_end()));
    }
    None
}

fn holds(process: &Path, id: FileId, except: Option<&str>) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        let is_it = fs::metadata(descriptor.path()).is_ok_and(|metadata| match id {
            FileId::File { filesystem, inode } => metadata.dev() == filesystem && metadata.ino() == inode,
            FileId::Device(number) => metadata.rdev() == number && metadata.rdev() != 0,
        });
        is_it && except.is_none_or(|except| descriptor.file_name() != except) && {
            let about = process.join("fdinfo").join(descriptor.file_name());
            fs::read_to_string(about).is_ok_and(|text| text.contains("lock:"))
        }
    })
}
