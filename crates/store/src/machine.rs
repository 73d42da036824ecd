//! A machine's state: one journal for all its disks.

use crate::disk::DiskStore;
use crate::disk_state::DiskFold;
use crate::error::StoreError;
use crate::journal::Journal;
use crate::medium::{Folder, Medium};
use crate::recover::{Recovered, open_journal};
use crate::undo::{self, UndoLog};
use failback_model::limits::JOURNAL_DISKS_MAX;
use failback_model::{DiskId, MachineId};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A machine's journal and the digests of its disks, in a folder of their own that nobody else has open.
#[derive(Debug)]
pub struct MachineStore {
    pub(crate) journal: Arc<Journal>,
    pub(crate) undo: Option<Arc<UndoLog>>,
    /// Held by whoever goes back, gives up points or commits.
    turning: Mutex<()>,
    disks: Mutex<HashMap<DiskId, Arc<DiskStore>>>,
    recovered: Recovered,
}

impl MachineStore {
    /// Opens the machine's folder, making it if need be: locks it and recovers what it holds. It stays locked until
    /// this value, its disks, their sinks and their digests are all gone. `undo` is the folder of its undo log; without
    /// one nothing of what is written can be taken back.
    pub fn open(folder: &Path, undo: Option<&Path>, machine: &MachineId) -> Result<Arc<Self>, StoreError> {
        let undo = undo.map(Folder::open_private).transpose()?;
        let undo = undo.map(|undo| Box::new(undo) as Box<dyn Medium>);
        Self::open_on(Box::new(Folder::open(folder)?), undo, machine)
    }

    /// The same on other media, which the caller has for himself.
    pub fn open_on(
        medium: Box<dyn Medium>,
        undo: Option<Box<dyn Medium>>,
        machine: &MachineId,
    ) -> Result<Arc<Self>, StoreError> {
        if let Some(undo) = &undo {
            undo::require_journal(&**undo, &*medium)?;
        }
        let (journal, recovered) = open_journal(medium, machine)?;
        let bounds = journal.look(|state| {
            let newest = state.history.newest().map(|newest| newest.undo_from);
            state.history.undo_floor().zip(newest)
        });
        let undo = undo.map(|medium| UndoLog::open(medium, machine, bounds)).transpose()?.map(Arc::new);
        Ok(Arc::new(Self {
            journal: Arc::new(journal),
            undo,
            turning: Mutex::default(),
            disks: Mutex::default(),
            recovered,
        }))
    }

    /// One way back, thinning or commit at a time.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What opening it had to do.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// A disk of the machine; one that was not known is noted.
    pub fn disk(&self, disk: &DiskId) -> Result<Arc<DiskStore>, StoreError> {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = disks.get(disk) {
            return Ok(Arc::clone(store));
        }
        let known = self.journal.find(|held| held.id == *disk);
        let slot =
            match known {
                Some(slot) => slot,
                None => self.journal.add_disk(DiskFold::new(disk.clone()), JOURNAL_DISKS_MAX)?.ok_or_else(
                    || StoreError::TooManyDisks {
                        path: self.journal.medium().path().into(),
                        count: JOURNAL_DISKS_MAX,
                    },
                )?,
            };
        let store =
            Arc::new(DiskStore::new(Arc::clone(&self.journal), self.undo.clone(), slot, disk.clone()));
        disks.insert(disk.clone(), Arc::clone(&store));
        Ok(store)
    }

    /// The disks that were asked for, in the order of their slots: all that may have a session.
    pub(crate) fn open_disks(&self) -> Vec<Arc<DiskStore>> {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut disks: Vec<_> = disks.values().cloned().collect();
        disks.sort_unstable_by_key(|disk| disk.disk().slot);
        disks
    }

    /// The disks that the journal knows, in the order in which it met them.
    pub fn disks(&self) -> Vec<DiskId> {
        self.journal.ids()
    }
}
