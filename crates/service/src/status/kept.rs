//! What a disk's status says across restarts of the daemon: the last seal, and whether the target was made by a job that
//! has not sealed it yet.
//!
//! Small, and only for who looks: a file that is lost costs a lag that is unknown until the next seal.
//!
//! **Invariant**: nothing that decides about a pass is taken from here.

use crate::saved;
use failback_model::{DiskId, MachineId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is kept of one disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct KeptDisk {
    /// The sealed state.
    pub(super) seal: Option<KeptSeal>,
    /// Epoch of the job that made the target, until it is sealed.
    pub(super) made_epoch: Option<u64>,
}

/// A sealed state and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptSeal {
    pub(super) generation: u64,
    pub(super) root: String,
    pub(super) sealed_unix_ms: u64,
    #[serde(default)]
    pub(super) point_label: Option<String>,
    #[serde(default)]
    pub(super) point_reason: Option<String>,
    #[serde(default)]
    pub(super) source_unix_ms: Option<u64>,
}

/// All disks of a daemon.
#[derive(Debug)]
pub(super) struct Kept {
    path: Option<PathBuf>,
    disks: Mutex<BTreeMap<String, KeptDisk>>,
}

impl Kept {
    /// What an earlier run left there; `None`: nothing is kept.
    pub(super) fn open(path: Option<PathBuf>) -> Self {
        let disks = path.as_ref().map(|path| saved::restore(path)).transpose();
        let disks = disks.unwrap_or_else(|finding| {
            tracing::warn!("{}; how old each sealed state is stays unknown", finding.evidence);
            None
        });
        Self { path, disks: Mutex::new(disks.flatten().unwrap_or_default()) }
    }

    pub(super) fn disk(&self, machine: &MachineId, disk: &DiskId) -> KeptDisk {
        self.disks().get(&name(machine, disk)).cloned().unwrap_or_default()
    }

    /// Changes what is kept of a disk, durably.
    pub(super) fn change(&self, machine: &MachineId, disk: &DiskId, change: impl FnOnce(&mut KeptDisk)) {
        let mut disks = self.disks();
        let entry = disks.entry(name(machine, disk)).or_default();
        let before = entry.clone();
        change(entry);
        if *entry != before {
            self.write(&disks);
        }
    }

    /// Forgets disks that are registered no more.
    pub(super) fn retain(&self, is_registered: impl Fn(&MachineId, &DiskId) -> bool) {
        let mut disks = self.disks();
        let count = disks.len();
        disks.retain(|name, _| {
            let ids = name.split_once('/').map(|(machine, disk)| (machine.parse(), disk.parse()));
            matches!(ids, Some((Ok(machine), Ok(disk))) if is_registered(&machine, &disk))
        });
        if disks.len() != count {
            self.write(&disks);
        }
    }

    fn write(&self, disks: &BTreeMap<String, KeptDisk>) {
        let Some(path) = &self.path else { return };
        if let Err(finding) = saved::replace(path, disks) {
            tracing::warn!("{}", finding.evidence);
        }
    }

    fn disks(&self) -> MutexGuard<'_, BTreeMap<String, KeptDisk>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(machine: &MachineId, disk: &DiskId) -> String {
    format!("{machine}/{disk}")
}
