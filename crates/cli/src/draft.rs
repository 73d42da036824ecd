//! A file that gets its name when it is whole.
//!
//! **Invariant**: under its name there is never a part of it, and what a killed run left behind hinders nobody.

use crate::signals::Leftovers;
use failback_blockio::{DiskError, folder_of, publish};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// A file on its way; removed unless it is published.
pub(crate) struct Draft {
    draft: PathBuf,
    name: PathBuf,
    _leftovers: Leftovers,
}

impl Draft {
    /// A name beside `path` that only this process uses. Drafts of processes that are gone are removed.
    pub(crate) fn of(path: &Path) -> Self {
        let folder = folder_of(path);
        let mut prefix = OsString::from(".");
        prefix.push(path.file_name().unwrap_or_default());
        prefix.push(".failback-");
        remove_abandoned(folder, &prefix);
        let mut name = prefix;
        name.push(std::process::id().to_string());
        let draft = folder.join(name);
        let leftovers = Leftovers::at_exit(vec![draft.clone()]);
        Self { draft, name: path.into(), _leftovers: leftovers }
    }

    /// Where to write it.
    pub(crate) fn draft(&self) -> &Path {
        &self.draft
    }

    /// Gives it its name.
    pub(crate) fn publish(self) -> Result<(), DiskError> {
        publish(&self.draft, &self.name)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Published, it is not there any more.
        let _removed = fs::remove_file(&self.draft);
    }
}

fn remove_abandoned(folder: &Path, prefix: &OsStr) {
    let names = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
    for name in names {
        let number = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        let process = number.and_then(|digits| str::from_utf8(digits).ok()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            // Whoever made it is gone; if it cannot be removed it still hinders nobody.
            let _removed = fs::remove_file(folder.join(&name));
        }
    }
}
