//! A finished file gets its name.
//!
//! **Invariant**: nothing that exists is replaced, and the file has one of its two names at every moment, or both.

use crate::{DiskError, Operation, folder_of, sync_folder};
use failback_model::Code;
use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;
use std::path::Path;

/// Gives the file at `draft`, whose bytes are durable, the name `path` in the same folder; durable when it returns.
/// Refuses where something has that name already.
pub fn publish(draft: &Path, path: &Path) -> Result<(), DiskError> {
    let renamed = match rustix::fs::renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        // Not every file system can rename without replacing.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(CWD, draft, CWD, path, AtFlags::empty())
                .and_then(|()| rustix::fs::unlink(draft))
        }
        other => other,
    };
    renamed.map_err(|errno| {
        let error = DiskError::io(Operation::Create, path, None, errno.into());
        if errno == Errno::EXIST { DiskError { code: Code::ImageExists, ..error } } else { error }
    })?;
    sync_folder(folder_of(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (draft, name) = (folder.path().join("draft"), folder.path().join("name"));
        std::fs::write(&draft, b"first").expect("written");
        publish(&draft, &name).expect("the name is free");
        std::fs::write(&draft, b"second").expect("written");
        assert_eq!(publish(&draft, &name).unwrap_err().code, Code::ImageExists);
        assert_eq!(std::fs::read(&name).expect("read"), b"first");
        assert!(draft.exists());
    }
}
