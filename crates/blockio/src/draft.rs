//! Drafts: a file that is being made has its own name with `.failback-draft` behind it, until it is whole.
//!
//! A draft becomes a file by a second name (a hard link), and the draft's name goes once the whole image has its names.
//! So what a crash leaves is ours by proof: a draft that nobody has locked, and a file that is also a draft.
//!
//! **Invariant**: no file ever has its final name before its contents are whole, nothing that exists is ever replaced,
//! and nothing is removed but drafts that nobody has locked and names of the same file.

use crate::{Access, Device, DiskError, FileDevice, FileId, Operation, ReadMode, folder_of, sync_folder};
use failback_model::Code;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the name of a draft ends in.
pub const DRAFT_SUFFIX: &str = ".failback-draft";

/// The draft of the file at `path`.
pub fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(DRAFT_SUFFIX);
    path.with_file_name(name)
}

/// The file that lies at a path, links not followed; `None` where nothing lies there.
pub(crate) fn file_at(path: &Path) -> Result<Option<FileId>, DiskError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(FileId::File { filesystem: metadata.dev(), inode: metadata.ino() })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::io(Operation::Open, path, None, error)),
    }
}

/// Whether the file at `path` is what an interrupted creation left: a draft that has its own name too.
pub fn is_left_over(path: &Path) -> bool {
    let found = file_at(path).ok().flatten();
    found.is_some() && file_at(&draft_of(path)).ok().flatten() == found
}

/// Removes what an interrupted creation left of the file at `path`: its draft, and the file if it is the same.
pub(crate) fn clear(path: &Path) -> Result<(), DiskError> {
    let draft = draft_of(path);
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(&draft, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(DiskError::io(Operation::Create, &draft, None, errno.into())),
    };
    let left = FileDevice::from_file(&draft, file, Access::Write, ReadMode::DropBehind)?;
    left.lock().map_err(|error| DiskError { operation: Operation::Create, ..error })?;
    // The draft's name goes last: it is what proves that the other one is ours.
    for name in [path, &draft] {
        if file_at(name)? == Some(left.id()) {
            remove(name)?;
        }
    }
    Ok(())
}

/// Takes the draft's name off a file that has its own already: what a crash right behind [`name`] leaves. The caller
/// has the file locked.
pub(crate) fn settle(device: &FileDevice) {
    let draft = draft_of(device.path());
    if file_at(&draft).is_ok_and(|found| found == Some(device.id())) {
        // Left, it only keeps the file's space when the file is removed.
        let _removed = fs::remove_file(draft);
    }
}

/// Whether a file still has its draft's name after it got its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// It has both.
    Linked,
    /// It has its own only: the file system knows no hard links.
    Renamed,
}

/// Gives the file at `draft`, whose bytes are durable, the name `path` in the same folder, and takes the draft's off it;
/// durable when it returns. Refuses where something has that name already.
pub fn publish(draft: &Path, path: &Path) -> Result<(), DiskError> {
    if name(draft, path)? == Published::Linked {
        remove(draft)?;
    }
    sync_folder(folder_of(path))
}

/// Gives a draft its own name too.
pub(crate) fn name(draft: &Path, path: &Path) -> Result<Published, DiskError> {
    let fail = |errno: Errno| {
        let error = DiskError::io(Operation::Create, path, None, errno.into());
        if errno == Errno::EXIST { DiskError { code: Code::ImageExists, ..error } } else { error }
    };
    match rustix::fs::link(draft, path) {
        Ok(()) => return Ok(Published::Linked),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK | Errno::INVAL) => {}
        Err(errno) => return Err(fail(errno)),
    }
    match rustix::fs::renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if file_at(path)?.is_some() {
                return Err(fail(Errno::EXIST));
            }
            rustix::fs::rename(draft, path).map_err(fail)?;
        }
        Err(errno) => return Err(fail(errno)),
    }
    Ok(Published::Renamed)
}

/// Removes a name; that it is gone already is no error.
pub(crate) fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(DiskError::io(Operation::Create, path, None, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (draft, name) = (folder.path().join("draft"), folder.path().join("name"));
        fs::write(&draft, b"first").expect("written");
        publish(&draft, &name).expect("the name is free");
        fs::write(&draft, b"second").expect("written");
        assert_eq!(publish(&draft, &name).unwrap_err().code, Code::ImageExists);
        assert_eq!(fs::read(&name).expect("read"), b"first");
        assert!(draft.exists());
    }
}
