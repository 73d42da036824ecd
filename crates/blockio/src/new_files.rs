//! Creating an image is all or nothing.
//!
//! **Invariant**: files registered here are removed again unless [`NewFiles::keep`] is reached; only files that did
//! not exist before are ever registered. What was kept stays after a power cut: the folders are synced.

use crate::{DiskError, FileDevice, Operation};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The files of an image that is being created.
#[derive(Debug, Default)]
pub struct NewFiles {
    paths: Vec<PathBuf>,
}

impl NewFiles {
    /// No files yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a file of zeros, a hole, and registers it; refuses where the path exists. The file is locked.
    pub fn create(&mut self, path: &Path, length_bytes: u64) -> Result<FileDevice, DiskError> {
        let device = FileDevice::create_new(path, length_bytes)?;
        self.paths.push(path.into());
        device.lock()?;
        Ok(device)
    }

    /// Makes the names durable and lets the files stay. Their contents are synced by whoever wrote them, before.
    pub fn keep(mut self) -> Result<(), DiskError> {
        for folder in self.folders() {
            sync_folder(folder)?;
        }
        self.paths.clear();
        Ok(())
    }

    fn folders(&self) -> Vec<&Path> {
        let mut folders: Vec<&Path> = self.paths.iter().map(|path| folder_of(path)).collect();
        folders.sort();
        folders.dedup();
        folders
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for path in &self.paths {
            // The error that led here is the one to report.
            let _removed = std::fs::remove_file(path);
        }
    }
}

/// Makes names created, removed or replaced in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<(), DiskError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| DiskError::io(Operation::Flush, folder, None, error))
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
    use failback_model::Code;

    #[test]
    fn only_what_is_kept_stays_and_nothing_existing_is_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let (kept, lost) = (folder.path().join("kept"), folder.path().join("lost"));
        let mut files = NewFiles::new();
        files.create(&kept, 10).expect("created");
        files.keep().expect("kept");
        let mut files = NewFiles::new();
        files.create(&lost, 10).expect("created");
        assert_eq!(files.create(&kept, 10).unwrap_err().code, Code::ImageExists);
        drop(files);
        assert!(kept.exists() && !lost.exists());
    }
}
