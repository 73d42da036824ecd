//! Where the store keeps its files: a folder of this host, or what a test puts in its place.
//!
//! **Invariant**: one folder is open once: its lock file is held until the last handle on the store is gone.

use failback_blockio::{Access, Device, DiskError, FileDevice, Operation, create_folder, sync_folder};
use failback_model::Code;
use failback_model::limits::{JOURNAL_AHEAD_BYTES, JOURNAL_SEGMENT_MAX_BYTES};
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the file that is locked. It stays when the store is closed.
const LOCK_NAME: &str = "lock";

/// A flat set of named files. Names are plain file names.
pub trait Medium: Send + Sync + Debug {
    /// What to call it in messages.
    fn path(&self) -> &Path;

    /// The names of all files.
    fn names(&self) -> Result<Vec<String>, DiskError>;

    /// A new empty file; fails where there is one of that name.
    fn create(&self, name: &str) -> Result<Arc<dyn Device>, DiskError>;

    /// An existing file, for reading and writing.
    fn open(&self, name: &str) -> Result<Arc<dyn Device>, DiskError>;

    /// Gives a file another name; a file that has it is replaced at once.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file.
    fn remove(&self, name: &str) -> Result<(), DiskError>;

    /// Makes all names durable as they are.
    fn sync_names(&self) -> Result<(), DiskError>;

    /// A segment of the journal is closed before it becomes longer.
    fn segment_max_bytes(&self) -> u64 {
        JOURNAL_SEGMENT_MAX_BYTES
    }

    /// Bytes that can still be written to it; `None` where nobody knows.
    fn free_bytes(&self) -> Result<Option<u64>, DiskError> {
        Ok(None)
    }

    /// Bytes of a disk whose intent is logged ahead of the block that needs it; 0 for no more than the block itself.
    fn ahead_bytes(&self) -> u64 {
        JOURNAL_AHEAD_BYTES
    }
}

/// A folder of this host.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    is_private: bool,
    _lock: FileDevice,
}

impl Folder {
    /// Makes the folder if need be and locks it: where another has it, [`Code::JournalInUse`].
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        create_folder(path)?;
        let lock_path = path.join(LOCK_NAME);
        let lock = match FileDevice::create_new(&lock_path, 0) {
            Err(error) if error.code == Code::ImageExists => FileDevice::open(&lock_path, Access::Write)?,
            other => other?,
        };
        lock.lock().map_err(|error| match error.code {
            Code::InUse => DiskError { code: Code::JournalInUse, ..error },
            _ => error,
        })?;
        Ok(Self { path: path.into(), is_private: false, _lock: lock })
    }

    /// The same, of a folder that only its owner may look into: it holds what disks held.
    pub(crate) fn open_private(path: &Path) -> Result<Self, DiskError> {
        create_folder(path)?;
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(path, private)
            .map_err(|error| DiskError::io(Operation::Open, path, None, error))?;
        Ok(Self { is_private: true, ..Self::open(path)? })
    }
}

impl Medium for Folder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Result<Vec<String>, DiskError> {
        let fail = |error| DiskError::io(Operation::Open, &self.path, None, error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(fail)? {
            // A name that is no text is none of ours.
            names.extend(entry.map_err(fail)?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> Result<Arc<dyn Device>, DiskError> {
        let path = self.path.join(name);
        let device = FileDevice::create_new(&path, 0)?;
        if self.is_private {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .map_err(|error| DiskError::io(Operation::Create, &path, None, error))?;
        }
        Ok(Arc::new(device))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Device>, DiskError> {
        Ok(Arc::new(FileDevice::open(&self.path.join(name), Access::Write)?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let to = self.path.join(to);
        fs::rename(self.path.join(from), &to)
            .map_err(|error| DiskError::io(Operation::Create, &to, None, error))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path.join(name);
        fs::remove_file(&path).map_err(|error| DiskError::io(Operation::Write, &path, None, error))
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        sync_folder(&self.path)
    }

    fn free_bytes(&self) -> Result<Option<u64>, DiskError> {
        failback_blockio::free_bytes(&self.path).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn folders_of_one_machine_are_made_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        for round in 0..50 {
            let machine = folder.path().join(format!("sources/{round}"));
            let start = Barrier::new(8);
            std::thread::scope(|scope| {
                for disk in 0..8 {
                    let (start, path) = (&start, machine.join(format!("disk{disk}")));
                    scope.spawn(move || {
                        start.wait();
                        Folder::open(&path).expect("made, by this thread or another");
                    });
                }
            });
        }
    }
}
