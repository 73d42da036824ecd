//! Files of the authority.
//!
//! **Invariant**: a file appears or changes whole, durable once the call returns, and a secret one is created with mode
//! 0600: there is no moment at which others can read it.

use crate::error::PkiError;
use failback_blockio::{folder_of, sync_folder};
use failback_model::Code;
use failback_model::limits::PKI_FILE_MAX_BYTES;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Who may read a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Secrecy {
    Public,
    Secret,
}

impl Secrecy {
    const fn mode(self) -> u32 {
        match self {
            Self::Public => 0o644,
            Self::Secret => 0o600,
        }
    }
}

/// Creates or replaces a file.
pub(crate) fn replace(path: &Path, contents: &[u8], secrecy: Secrecy) -> Result<(), PkiError> {
    let draft = draft_of(path);
    let written = write_draft(&draft, contents, secrecy).and_then(|()| fs::rename(&draft, path));
    if let Err(error) = written {
        // The error is the one to report; a draft that stays is replaced by the next call.
        let _removed = fs::remove_file(&draft);
        return Err(PkiError::io(Code::WriteFailed, path, "write", error));
    }
    Ok(sync_folder(folder_of(path))?)
}

/// A hidden name beside the path.
pub(crate) fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.draft"))
}

fn write_draft(draft: &Path, contents: &[u8], secrecy: Secrecy) -> io::Result<()> {
    // Opening an older draft would keep its mode.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(secrecy.mode()).open(draft)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Reads a small text file.
pub(crate) fn read_text(path: &Path) -> Result<String, PkiError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PkiError::new(Code::PkiMissing, path, "no such file"),
        _ => PkiError::io(Code::OpenFailed, path, "open", error),
    })?;
    let mut text = String::new();
    let read = file.take(PKI_FILE_MAX_BYTES + 1).read_to_string(&mut text);
    let count = read.map_err(|error| PkiError::io(Code::ReadFailed, path, "read", error))?;
    if count as u64 > PKI_FILE_MAX_BYTES {
        return Err(PkiError::damaged(path, format!("longer than {PKI_FILE_MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// Creates a folder and those above it, for its owner only where it is new.
pub(crate) fn create_folder(path: &Path) -> Result<(), PkiError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(|error| PkiError::io(Code::CreateFailed, path, "create the folder", error))
}

/// Waits for other commands on the same folder and holds them off until the file is dropped.
pub(crate) fn lock(folder: &Path) -> Result<File, PkiError> {
    let path = folder.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    file.and_then(|file| file.lock().map(|()| file)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PkiError::new(Code::PkiMissing, folder, "no such folder"),
        _ => PkiError::io(Code::OpenFailed, &path, "lock", error),
    })
}
