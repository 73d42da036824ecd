//! What was asked of the cloud for one machine, as a file: the only memory of what has to be removed.
//!
//! **Invariant**: a file is the old one or the new one, and durable when [`Notes::keep`] returns; no signature is in it.

use super::accounting::Accounting;
use failback_blockio::{folder_of, sync_folder};
use failback_model::limits::STATE_FILE_MAX_BYTES;
use failback_model::{Code, Finding, PointLabel};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Version of the file.
const VERSION: u32 = 1;

/// All of a machine's states in the cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notes {
    version: u32,
    /// Tells our snapshots from those of another installation.
    pub(crate) owner: String,
    /// Oldest first.
    pub(crate) sets: Vec<Set>,
    /// When snapshots were asked for.
    pub(crate) asked: Accounting,
}

/// The states of one cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Set {
    /// Cycle.
    pub(crate) cycle: u64,
    /// How far it came.
    pub(crate) stage: Stage,
    /// The restore point that holds all of it; none: each disk has a snapshot of its own.
    pub(crate) restore_point: Option<String>,
    /// When it was asked for, milliseconds since 1970.
    pub(crate) asked_unix_ms: u64,
    /// When the disks were like that.
    pub(crate) taken_unix_ms: u64,
    /// `crash-consistent` or `per-disk`.
    pub(crate) label: String,
    /// Why no more.
    pub(crate) reason: String,
    /// One for each disk, in the machine's order.
    pub(crate) members: Vec<Member>,
}

/// How far a set came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// It may be there, or part of it.
    Asked,
    /// It is there, whole.
    Taken,
    /// It goes.
    Retired,
}

/// One disk's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// Which disk.
    pub(crate) disk: String,
    /// Path of the snapshot, or of the restore point of the disk; empty while it is not known.
    pub(crate) path: String,
    /// Length, bytes.
    pub(crate) length_bytes: u64,
    /// States of one family give differences.
    pub(crate) family: String,
    /// Until when access to it was asked for, milliseconds since 1970; 0: it was not.
    pub(crate) access_until_unix_ms: u64,
}

impl Set {
    /// What it is worth.
    pub(crate) fn label(&self) -> PointLabel {
        PointLabel::parse(&self.label).unwrap_or(PointLabel::PerDisk)
    }
}

impl Notes {
    /// Reads them; new ones where there are none.
    pub(crate) fn read(path: &Path) -> Result<Self, Finding> {
        let fail = |error: &dyn std::fmt::Display| failed("read", path, error);
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::new()),
            other => other.map_err(|error| fail(&error))?,
        };
        let mut text = Vec::new();
        let length = file.take(STATE_FILE_MAX_BYTES + 1).read_to_end(&mut text);
        if length.map_err(|error| fail(&error))? as u64 > STATE_FILE_MAX_BYTES {
            return Err(fail(&"it is longer than any that was written here"));
        }
        let notes: Self = serde_json::from_slice(&text).map_err(|error| fail(&error))?;
        match notes.version {
            VERSION => Ok(notes),
            other => Err(fail(&format!("version {other} is not understood"))),
        }
    }

    fn new() -> Self {
        let owner = uuid::Uuid::new_v4().simple().to_string();
        Self { version: VERSION, owner, sets: Vec::new(), asked: Accounting::default() }
    }

    /// Writes them.
    pub(crate) fn keep(&self, path: &Path) -> Result<(), Finding> {
        let write = || -> std::io::Result<()> {
            let draft = path.with_extension("draft");
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&draft, path)
        };
        write().map_err(|error| failed("write", path, &error))?;
        sync_folder(folder_of(path)).map_err(|error| failed("write", path, &error))
    }
}

fn failed(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Finding {
    let evidence = format!("cannot {what} {}: {error}", path.display());
    Finding::error(Code::StateFailed, evidence)
        .with_remedy("restore it; lost, the snapshots in the cloud that carry the tag 'failback-machine' are removed by hand")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_were_kept_and_damage_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("web01.azure.json");
        let mut notes = Notes::read(&path).expect("new");
        notes.asked.asked("d", 7);
        notes.sets.push(Set {
            cycle: 3,
            stage: Stage::Taken,
            restore_point: None,
            asked_unix_ms: 5,
            taken_unix_ms: 6,
            label: "per-disk".into(),
            reason: "two machines".into(),
            members: vec![Member {
                disk: "disk0".into(),
                path: "/subscriptions/s/x".into(),
                length_bytes: 9,
                family: "f".into(),
                access_until_unix_ms: 0,
            }],
        });
        notes.keep(&path).expect("kept");
        assert_eq!(Notes::read(&path).expect("read"), notes);
        fs::write(&path, "{\"version\":1").expect("written");
        assert_eq!(Notes::read(&path).expect_err("torn").code, Code::StateFailed);
    }
}
