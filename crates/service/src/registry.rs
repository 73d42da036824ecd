//! Which machines and disks a daemon knows: the configuration's, changed at run time over the control socket.
//!
//! A change of a machine at run time outlives the daemon, and lasts until the configuration's own definition of that
//! machine changes: then the configuration is newer and wins. Whether a machine shall run outlives it likewise.
//!
//! **Invariant**: the definition of a disk does not change while a pass holds its [`Lease`]; two passes never hold the
//! same disk.

mod check;
mod cycles;
mod intent;
mod lease;
mod orders;
mod overlay;

pub use check::faults_of;
pub use cycles::{CycleOutcome, CycleWish, Cycles, Snapshot};
pub use intent::{Intent, KeptClaim, Wanted};
pub use lease::Lease;

use crate::saved;
use failback_model::limits::MACHINES_MAX;
use failback_model::{Code, DiskId, Finding, MachineId};
use overlay::{Overlay, Saved};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk as a daemon's configuration describes it.
pub trait DiskEntry: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its id.
    fn id(&self) -> &DiskId;
}

/// A machine as a daemon's configuration describes it.
pub trait MachineEntry: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its disks' type.
    type Disk: DiskEntry;
    /// Its id.
    fn id(&self) -> &MachineId;
    /// Its disks.
    fn disks(&self) -> &[Self::Disk];
    /// Its disks, to be changed.
    fn disks_mut(&mut self) -> &mut Vec<Self::Disk>;
    /// What is wrong with it although every value alone is right: keys and reasons.
    fn faults(&self) -> Vec<crate::config::Fault>;

    /// A disk of it.
    fn disk(&self, id: &DiskId) -> Option<&Self::Disk> {
        self.disks().iter().find(|disk| disk.id() == id)
    }
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It took the place of another definition.
    Replaced,
    /// It is gone.
    Removed,
    /// It was so already.
    None,
}

/// The machines of one daemon; clones share them.
pub struct Registry<M: MachineEntry>(Arc<Shared<M>>);

struct Shared<M: MachineEntry> {
    file: PathBuf,
    state: Mutex<State<M>>,
}

struct State<M: MachineEntry> {
    machines: BTreeMap<MachineId, M>,
    configured: BTreeMap<MachineId, M>,
    overlays: BTreeMap<MachineId, Overlay<M>>,
    intents: BTreeMap<MachineId, Intent>,
    leased: BTreeSet<(MachineId, DiskId)>,
}

impl<M: MachineEntry> Clone for Registry<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: MachineEntry> Registry<M> {
    /// The configuration's machines with the changes of earlier runs, which `file` keeps. Also what is worth knowing of
    /// them.
    pub fn open(configured: Vec<M>, file: PathBuf) -> Result<(Self, Vec<Finding>), Finding> {
        let saved: Saved<M> = saved::restore(&file)?.unwrap_or_default();
        let mut state = State {
            machines: BTreeMap::new(),
            configured: by_id(configured),
            overlays: saved.overlays.into_iter().map(|overlay| (overlay.id.clone(), overlay)).collect(),
            intents: saved.intents.into_iter().map(|intent| (intent.id, intent.intent)).collect(),
            leased: BTreeSet::new(),
        };
        let findings = state.settle();
        Ok((Self(Arc::new(Shared { file, state: Mutex::new(state) })), findings))
    }

    /// Takes a configuration that was read again. A machine with a running pass keeps its definition, and a finding
    /// says so.
    pub fn reload(&self, configured: Vec<M>) -> Result<Vec<Finding>, Finding> {
        let mut state = self.state();
        let mut configured = by_id(configured);
        let mut findings = Vec::new();
        let running: BTreeSet<_> = state.leased.iter().map(|(machine, _)| machine.clone()).collect();
        for id in running {
            let (now, new) = (state.configured.get(&id).cloned(), configured.get(&id));
            if now.as_ref() != new {
                let evidence = format!("machine {id} changed in the configuration while a pass of it runs");
                findings.push(
                    Finding::warning(Code::AlreadyRunning, evidence)
                        .with_remedy("it keeps its old definition: stop the machine, then reload again"),
                );
                match now {
                    Some(now) => configured.insert(id, now),
                    None => configured.remove(&id),
                };
            }
        }
        state.configured = configured;
        findings.extend(state.settle());
        self.save(&state)?;
        Ok(findings)
    }

    /// Every machine, in the order of ids.
    pub fn machines(&self) -> Vec<M> {
        self.state().machines.values().cloned().collect()
    }

    /// One machine.
    pub fn machine(&self, id: &MachineId) -> Result<M, Finding> {
        self.state().machines.get(id).cloned().ok_or_else(|| unknown(id, None))
    }

    /// A disk with its machine.
    pub fn disk(&self, machine: &MachineId, disk: &DiskId) -> Result<(M, M::Disk), Finding> {
        let entry = self.machine(machine)?;
        let found = entry.disk(disk).cloned().ok_or_else(|| unknown(machine, Some(disk)))?;
        Ok((entry, found))
    }

    /// Number of disks of all machines.
    pub fn disk_count(&self) -> usize {
        self.state().machines.values().map(|machine| machine.disks().len()).sum()
    }

    /// Adds a machine with its disks, or replaces its definition.
    pub fn register(&self, machine: M) -> Result<Change, Finding> {
        let id = machine.id().clone();
        self.change(&id, |now| match now {
            Some(now) if *now == machine => Ok((Change::None, Some(machine))),
            Some(_) => Ok((Change::Replaced, Some(machine))),
            None => Ok((Change::Added, Some(machine))),
        })
    }

    /// Adds a disk to a machine, or replaces its definition.
    pub fn register_disk(&self, machine: &MachineId, disk: M::Disk) -> Result<Change, Finding> {
        self.change(machine, |now| {
            let mut entry = now.cloned().ok_or_else(|| unknown(machine, None))?;
            let change = match entry.disks_mut().iter_mut().find(|known| known.id() == disk.id()) {
                Some(known) if *known == disk => Change::None,
                Some(known) => {
                    *known = disk;
                    Change::Replaced
                }
                None => {
                    entry.disks_mut().push(disk);
                    Change::Added
                }
            };
            Ok((change, Some(entry)))
        })
    }

    /// Forgets a machine, or one disk of it. Nothing on any disk is touched.
    pub fn release(&self, machine: &MachineId, disk: Option<&DiskId>) -> Result<Change, Finding> {
        self.change(machine, |now| {
            let Some(now) = now else { return Ok((Change::None, None)) };
            let Some(disk) = disk else { return Ok((Change::Removed, None)) };
            let mut entry = now.clone();
            entry.disks_mut().retain(|known| known.id() != disk);
            let change = if entry == *now { Change::None } else { Change::Removed };
            Ok((change, Some(entry)))
        })
    }

    /// What is wanted of a machine; of one that nobody ever asked about, nothing.
    pub fn intent(&self, machine: &MachineId) -> Intent {
        self.state().intents.get(machine).cloned().unwrap_or_default()
    }

    /// Changes, durably, what is wanted of a machine.
    pub fn intend(&self, machine: &MachineId, change: impl FnOnce(&mut Intent)) -> Result<Change, Finding> {
        let mut state = self.state();
        if !state.machines.contains_key(machine) {
            return Err(unknown(machine, None));
        }
        let before = state.intents.get(machine).cloned();
        let mut intent = before.clone().unwrap_or_default();
        change(&mut intent);
        if before.as_ref() == Some(&intent) {
            return Ok(Change::None);
        }
        state.intents.insert(machine.clone(), intent);
        self.save(&state).inspect_err(|_| match before {
            Some(before) => drop(state.intents.insert(machine.clone(), before)),
            None => drop(state.intents.remove(machine)),
        })?;
        Ok(Change::Replaced)
    }

    /// Passes that hold a disk of this machine.
    pub fn leases(&self, machine: &MachineId) -> Vec<DiskId> {
        let state = self.state();
        state.leased.iter().filter(|(id, _)| id == machine).map(|(_, disk)| disk.clone()).collect()
    }

    /// Holds a disk for one pass.
    pub fn lease(&self, machine: &MachineId, disk: &DiskId) -> Result<Lease<M>, Finding> {
        let mut state = self.state();
        let entry = state.machines.get(machine).ok_or_else(|| unknown(machine, None))?.clone();
        let found = entry.disk(disk).cloned().ok_or_else(|| unknown(machine, Some(disk)))?;
        let name = (machine.clone(), disk.clone());
        if !state.leased.insert(name.clone()) {
            return Err(Finding::error(
                Code::AlreadyRunning,
                format!("a pass of {machine}/{disk} runs already"),
            ));
        }
        drop(state);
        Ok(Lease::new(self.clone(), name, entry, found))
    }

    fn change(
        &self,
        id: &MachineId,
        make: impl FnOnce(Option<&M>) -> Result<(Change, Option<M>), Finding>,
    ) -> Result<Change, Finding> {
        let mut state = self.state();
        let (change, entry) = make(state.machines.get(id))?;
        if change == Change::None {
            return Ok(change);
        }
        if let Some(entry) = &entry {
            check::check(entry)?;
            if state.machines.len() >= MACHINES_MAX && !state.machines.contains_key(id) {
                let evidence = format!("{MACHINES_MAX} machines are registered, and no more are possible");
                return Err(Finding::error(Code::RequestInvalid, evidence));
            }
        }
        if let Some((_, disk)) = state.leased.iter().find(|(machine, _)| machine == id) {
            let evidence = format!("a pass of {id}/{disk} runs");
            return Err(Finding::error(Code::AlreadyRunning, evidence));
        }
        let before = state.overlays.get(id).cloned();
        let over = state.configured.get(id).cloned();
        state.overlays.insert(id.clone(), Overlay { id: id.clone(), now: entry, over });
        state.settle();
        if let Err(finding) = self.save(&state) {
            match before {
                Some(before) => state.overlays.insert(id.clone(), before),
                None => state.overlays.remove(id),
            };
            state.settle();
            return Err(finding);
        }
        Ok(change)
    }

    fn save(&self, state: &State<M>) -> Result<(), Finding> {
        saved::replace(&self.0.file, &Saved::new(&state.overlays, &state.intents))
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn by_id<M: MachineEntry>(machines: Vec<M>) -> BTreeMap<MachineId, M> {
    machines.into_iter().map(|machine| (machine.id().clone(), machine)).collect()
}

fn unknown(machine: &MachineId, disk: Option<&DiskId>) -> Finding {
    let evidence = match disk {
        Some(disk) => format!("machine {machine} has no disk {disk} here"),
        None => format!("no machine {machine} is registered here"),
    };
    Finding::error(Code::UnknownMachine, evidence)
}

#[cfg(test)]
mod tests;
