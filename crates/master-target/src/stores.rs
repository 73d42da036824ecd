//! The machines' journals, each opened when it is first needed.
//!
//! **Invariant**: a machine's journal is open at most once in this process.

use failback_model::{Code, Finding, MachineId};
use failback_service::saved::failed;
use failback_store::MachineStore;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Every machine's store.
pub struct Stores {
    folder: PathBuf,
    journal_dir: Option<PathBuf>,
    open: Mutex<BTreeMap<MachineId, Arc<MachineStore>>>,
}

impl Stores {
    /// Stores below this folder, their undo logs below `journal_dir`; `None`: each beside its journal.
    pub fn new(folder: PathBuf, journal_dir: Option<PathBuf>) -> Result<Self, Finding> {
        if let Some(folder) = &journal_dir {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| failed("create", folder, error).about(folder))?;
        }
        Ok(Self { folder, journal_dir, open: Mutex::default() })
    }

    /// Where a machine's undo log lies.
    pub fn undo_folder(&self, machine: &MachineId) -> PathBuf {
        match &self.journal_dir {
            Some(folder) => folder.join(machine.as_str()),
            None => self.folder.join(machine.as_str()).join("undo"),
        }
    }

    /// A machine's store: opened and recovered where it is not yet.
    pub fn machine(&self, machine: &MachineId) -> Result<Arc<MachineStore>, Finding> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(machine) {
            return Ok(Arc::clone(store));
        }
        let folder = self.folder.join(machine.as_str());
        let store = MachineStore::open(&folder, Some(&self.undo_folder(machine)), machine);
        let store = store.map_err(|error| error.to_finding())?;
        tracing::info!("{machine}: journal open, {:?}", store.recovered());
        open.insert(machine.clone(), Arc::clone(&store));
        Ok(store)
    }

    /// Whether a failure is of a journal, which may have latched by it.
    pub(crate) fn is_failure(code: Code) -> bool {
        matches!(code, Code::JournalFailed | Code::JournalLatched)
    }

    /// Closes a machine's store unless it is in use: the next use opens and recovers it. What a failed flush latched comes
    /// back by this. Whoever uses a store says so before he asks for it: nobody can come in between.
    pub fn close(&self, machine: &MachineId, is_used: impl FnOnce() -> bool) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_used() && open.remove(machine).is_some() {
            tracing::info!("{machine}: journal closed; the next session recovers it");
        }
    }
}
