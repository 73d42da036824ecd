//! Creating an image is all or nothing, whenever it is interrupted.
//!
//! **Invariant**: files registered here are drafts until [`NewFiles::publish`], and are removed again, under whatever
//! name they have, unless [`NewFiles::keep`] is reached; only files that did not exist before are ever registered. The
//! file registered last gets its name when all others have theirs, durably: where the last one is there, all are.

use crate::draft::{self, Published};
use crate::{DiskError, FileDevice, FileId, Operation};
use failback_model::Code;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The files of an image that is being created, all in one folder.
#[derive(Debug, Default)]
pub struct NewFiles {
    files: Vec<NewFile>,
}

#[derive(Debug)]
struct NewFile {
    path: PathBuf,
    draft: PathBuf,
    id: FileId,
    has_name: bool,
    has_draft: bool,
}

impl NewFiles {
    /// No files yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a file of zeros, a hole, as a draft of the file at `path`, and registers it; refuses where that exists.
    /// What an interrupted creation left there is removed. The file is locked.
    pub fn create(&mut self, path: &Path, length_bytes: u64) -> Result<FileDevice, DiskError> {
        draft::clear(path)?;
        if draft::file_at(path)?.is_some() {
            return Err(DiskError::new(Code::ImageExists, Operation::Create, path, "it exists already"));
        }
        let being_made = || {
            DiskError::new(
                Code::InUse,
                Operation::Create,
                path,
                "another process is creating it at this moment",
            )
        };
        let draft = draft::draft_of(path);
        let device = FileDevice::create_as(&draft, path, length_bytes).map_err(|error| match error.code {
            Code::ImageExists => being_made(),
            _ => error,
        })?;
        let id = device.id();
        self.files.push(NewFile {
            path: path.into(),
            draft: draft.clone(),
            id,
            has_name: false,
            has_draft: true,
        });
        device.lock()?;
        // Between its creation and its lock it looked like a left-over to others.
        if draft::file_at(&draft)? != Some(id) {
            return Err(being_made());
        }
        Ok(device)
    }

    /// Removes what an interrupted creation left of a file that this one does not make; whether there was anything.
    pub fn clear(path: &Path) -> Result<bool, DiskError> {
        let was_there = draft::file_at(&draft::draft_of(path))?.is_some();
        draft::clear(path).map(|()| was_there)
    }

    /// Gives the files their names, durably. Their contents are synced by whoever wrote them, before.
    pub fn publish(&mut self) -> Result<(), DiskError> {
        let count = self.files.len();
        for (index, file) in self.files.iter_mut().enumerate() {
            if index > 0 && index + 1 == count {
                sync_folder(folder_of(&file.path))?;
            }
            file.publish()?;
        }
        self.files.last().map_or(Ok(()), |last| sync_folder(folder_of(&last.path)))
    }

    /// Publishes them, if that was not done, and lets them stay.
    pub fn keep(mut self) -> Result<(), DiskError> {
        self.publish()?;
        for file in std::mem::take(&mut self.files) {
            if file.has_draft {
                // Left, it is taken off when the file is next opened for writing.
                let _removed = draft::remove(&file.draft);
            }
        }
        Ok(())
    }
}

impl NewFile {
    fn publish(&mut self) -> Result<(), DiskError> {
        if !self.has_name {
            self.has_draft = draft::name(&self.draft, &self.path)? == Published::Linked;
            self.has_name = true;
        }
        Ok(())
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for file in &self.files {
            // The error that led here is the one to report. The draft goes last: it proves whose the other name is.
            let names = [file.has_name.then_some(&file.path), file.has_draft.then_some(&file.draft)];
            for name in names.into_iter().flatten() {
                if draft::file_at(name).is_ok_and(|found| found == Some(file.id)) {
                    let _removed = draft::remove(name);
                }
            }
        }
    }
}

/// Makes names created, removed or replaced in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<(), DiskError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| DiskError::io(Operation::Flush, folder, None, error))
}

/// Bytes that this user may still write to the file system of a path.
pub fn free_bytes(path: &Path) -> Result<u64, DiskError> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| DiskError::io(Operation::Open, path, None, errno.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes a folder and those above it, durably. Two that make the same one at once both have it: disks of one machine
/// share the folders above theirs.
pub fn create_folder(path: &Path) -> Result<(), DiskError> {
    if path.is_dir() {
        return Ok(());
    }
    let above = folder_of(path);
    create_folder(above)?;
    match std::fs::create_dir(path) {
        // Whoever was first need not have synced it yet.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made.map_err(|error| DiskError::io(Operation::Create, path, None, error))?,
    }
    sync_folder(above)
}

/// The folder that holds a path.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, draft_of};
    use std::fs;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("ours are UTF-8"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_is_kept_stays_and_nothing_existing_is_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let (kept, lost) = (folder.path().join("kept"), folder.path().join("lost"));
        let mut files = NewFiles::new();
        files.create(&kept, 10).expect("created");
        assert_eq!(names(folder.path()), ["kept.failback-draft"], "no name before it is whole");
        files.keep().expect("kept");
        let mut files = NewFiles::new();
        files.create(&lost, 10).expect("created");
        assert_eq!(files.create(&kept, 10).unwrap_err().code, Code::ImageExists);
        files.publish().expect("published");
        assert_eq!(names(folder.path()), ["kept", "lost", "lost.failback-draft"]);
        drop(files);
        assert_eq!(names(folder.path()), ["kept"]);
    }

    #[test]
    fn what_came_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let mut files = NewFiles::new();
        files.create(&first, 10).expect("created");
        files.create(&second, 10).expect("created");
        fs::write(&second, "mine").expect("written");
        assert_eq!(files.keep().unwrap_err().code, Code::ImageExists);
        assert_eq!(names(folder.path()), ["second"]);
        assert_eq!(fs::read(&second).expect("read"), b"mine");
    }

    #[test]
    fn what_a_crash_left_is_removed_if_it_is_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        let draft = draft_of(&path);
        let create = || NewFiles::new().create(&path, 10).map(drop).map_err(|error| error.code);
        // Killed before it had its name; then between its name and the descriptor's.
        fs::write(&draft, "half").expect("written");
        assert_eq!(create(), Ok(()));
        fs::write(&draft, "whole").expect("written");
        fs::hard_link(&draft, &path).expect("linked");
        assert_eq!(create(), Ok(()));
        assert!(names(folder.path()).is_empty());
        // A draft beside another file proves nothing about that.
        fs::write(&draft, "half").expect("written");
        fs::write(&path, "mine").expect("written");
        assert_eq!(create(), Err(Code::ImageExists));
        assert_eq!(fs::read(&path).expect("read"), b"mine");
        assert_eq!(names(folder.path()), ["disk"]);
        fs::remove_file(&path).expect("removed");
        // A link of that name is none of ours.
        std::os::unix::fs::symlink("elsewhere", &draft).expect("linked");
        assert!(create().is_err());
        assert_eq!(names(folder.path()), ["disk.failback-draft"]);
    }

    #[test]
    fn a_draft_that_somebody_is_writing_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        let mut files = NewFiles::new();
        let _being_made = files.create(&path, 10).expect("created");
        assert_eq!(NewFiles::new().create(&path, 10).unwrap_err().code, Code::InUse);
        files.keep().expect("kept");
        assert_eq!(names(folder.path()), ["disk"]);
    }

    #[test]
    fn a_draft_that_a_crash_left_behind_a_finished_file_goes_with_the_next_writer() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("disk"), folder.path().join("other"));
        fs::write(&path, "whole").expect("written");
        fs::hard_link(&path, draft_of(&path)).expect("linked");
        fs::write(&other, "whole").expect("written");
        fs::write(draft_of(&other), "of another").expect("written");
        for path in [&path, &other] {
            FileDevice::open(path, Access::Read).and_then(|device| device.lock()).expect("locked");
        }
        assert_eq!(names(folder.path()).len(), 4, "readers change nothing");
        for path in [&path, &other] {
            FileDevice::open(path, Access::Write).and_then(|device| device.lock()).expect("locked");
        }
        assert_eq!(names(folder.path()), ["disk", "other", "other.failback-draft"]);
    }
}
