//! Small files of a daemon's state folder: replaced as a whole, or appended to line by line.
//!
//! **Invariant**: what was written is durable when the call returns; a file is the old one or the new one, never half.

use failback_model::limits::STATE_FILE_MAX_BYTES;
use failback_model::{Code, Finding};
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A failure of the state folder, with its path.
pub fn failed(what: &str, path: &Path, error: impl std::fmt::Display) -> Finding {
    Finding::error(Code::StateFailed, format!("cannot {what} {}: {error}", path.display()))
}

/// Replaces a file's content by a value.
pub fn replace<T: Serialize>(path: &Path, value: &T) -> Result<(), Finding> {
    let put = || -> io::Result<()> {
        let draft = path.with_extension("draft");
        write(&draft, &serde_json::to_vec_pretty(value)?)?;
        fs::rename(&draft, path)?;
        sync_folder(path)
    };
    put().map_err(|error| failed("write", path, error))
}

/// Writes a file's contents, which are durable then; its name need not be.
pub fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = private().create(true).truncate(true).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Reads a value back; `None` where there is no file yet.
pub fn restore<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Finding> {
    let Some(text) = read(path)? else { return Ok(None) };
    let value = serde_json::from_slice(&text);
    value.map(Some).map_err(|error| {
        failed("understand", path, error)
            .with_remedy("restore it from a backup, or remove it to start from the configuration")
    })
}

/// A file of at most [`STATE_FILE_MAX_BYTES`].
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Finding> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| failed("open", path, error))?,
    };
    let mut bytes = Vec::new();
    let length = file.take(STATE_FILE_MAX_BYTES + 1).read_to_end(&mut bytes);
    match length.map_err(|error| failed("read", path, error))? as u64 {
        0..=STATE_FILE_MAX_BYTES => Ok(Some(bytes)),
        _ => Err(failed("read", path, "it is longer than any that was written here")),
    }
}

/// Makes a new name in a folder durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Options of a file that only this user may read.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// The state folder of one daemon, locked against a second one.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    _lock: File,
}

impl StateFolder {
    /// Creates the folder if need be, and locks it for as long as the value lives.
    pub fn open(path: &Path) -> Result<Self, Finding> {
        let create = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        create.map_err(|error| failed("create", path, error))?;
        let name = path.join("lock");
        let file = private().create(true).truncate(false).open(&name);
        let file = file.map_err(|error| failed("open", &name, error))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let evidence = format!("{} belongs to a daemon that runs", path.display());
                Err(Finding::error(Code::AlreadyRunning, evidence)
                    .with_remedy("stop the other daemon, or give each its own state_dir"))
            }
            Err(errno) => Err(failed("lock", &name, errno)),
        }
    }

    /// A path inside the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.json");
        assert_eq!(restore::<Vec<u64>>(&path), Ok(None));
        replace(&path, &vec![1_u64, 2]).expect("it is written");
        replace(&path, &vec![3_u64]).expect("it is written");
        assert_eq!(restore::<Vec<u64>>(&path), Ok(Some(vec![3])));
        fs::write(&path, "[3").expect("it can be written");
        let finding = restore::<Vec<u64>>(&path).expect_err("it is torn");
        assert_eq!(finding.code, Code::StateFailed);
    }

    #[test]
    fn a_state_folder_has_one_daemon() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b");
        let state = StateFolder::open(&path).expect("it is free");
        assert_eq!(state.join("jobs"), path.join("jobs"));
        assert_eq!(StateFolder::open(&path).expect_err("it is taken").code, Code::AlreadyRunning);
        drop(state);
        StateFolder::open(&path).expect("it is free again");
    }
}
