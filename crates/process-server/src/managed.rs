//! Managed disks of Azure: the states that the daemon takes for a cycle, reads, and removes after it.
//!
//! **Invariant**: of a machine there is one keeper of its notes, and what a daemon before this one left unfinished is removed
//! before anything else is asked for.

use crate::config::{Azure, Machine, managed};
use failback_model::{Code, DiskId, Finding, MachineId};
use failback_remote::arm::{AzureDisk, HttpArm, ManagedRead, ManagedSnapshots, SnapshotId, Taken};
use failback_remote::entra::Tokens;
use failback_remote::http::{Http, HttpOptions};
use failback_service::registry::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio_util::sync::CancellationToken;

/// The managed disks of all machines; clones share them.
#[derive(Clone)]
pub struct Managed(Arc<Shared>);

struct Shared {
    azure: Option<Azure>,
    /// Folder of the notes.
    folder: PathBuf,
    stop: CancellationToken,
    machines: Mutex<BTreeMap<MachineId, Keeper>>,
    /// Machines whose states are being taken.
    taking: Mutex<BTreeSet<MachineId>>,
    /// What is being read, so that two readers of a state share its access.
    reads: Mutex<BTreeMap<String, Weak<ManagedRead>>>,
}

struct Keeper {
    disks: Vec<(DiskId, AzureDisk)>,
    states: Arc<ManagedSnapshots>,
}

impl Managed {
    /// Those of a daemon with notes in this folder; waits end with `stop`.
    pub fn new(azure: Option<Azure>, folder: PathBuf, stop: CancellationToken) -> Self {
        let (machines, taking, reads) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { azure, folder, stop, machines, taking, reads }))
    }

    /// Takes the states of a machine's disks for a cycle, and whether that was done just now: those of an earlier
    /// try that could not say so any more are the cycle's. Blocks.
    pub(crate) fn take(&self, machine: &Machine, cycle: u64) -> Result<(Taken, bool), Finding> {
        // Whoever waited no longer for a try left it going: its states are found by a later one.
        if !self.taking().insert(machine.id.clone()) {
            let evidence = format!("the states of {}'s disks are still being taken", machine.id);
            return Err(Finding::error(Code::SnapshotLimit, evidence));
        }
        let take = || {
            let states = self.of(machine)?;
            let is_new = !states.has(cycle);
            Ok((states.take(cycle)?, is_new))
        };
        let taken = take();
        self.taking().remove(&machine.id);
        taken.map_err(|finding: Finding| match finding.code {
            Code::SnapshotLimit => finding,
            _ => Finding::error(Code::SnapshotFailed, finding.evidence).with_remedy(finding.remedy),
        })
    }

    /// Removes all states but these. Blocks.
    pub(crate) fn retire(&self, machine: &Machine, kept: &[Snapshot]) -> Result<(), Finding> {
        let kept: Vec<_> = kept.iter().map(|snapshot| SnapshotId::new(&*snapshot.name)).collect();
        self.of(machine)?.retire(&kept)
    }

    /// Opens access to a state and to the base that it is compared with, until the last reader drops it. Blocks.
    pub(crate) fn read(
        &self,
        machine: &Machine,
        state: &str,
        base: Option<&str>,
    ) -> Result<Arc<ManagedRead>, Finding> {
        let states = self.of(machine)?;
        let name = format!("{state} {}", base.unwrap_or_default());
        let mut reads = self.0.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.retain(|_, read| read.strong_count() > 0);
        if let Some(read) = reads.get(&name).and_then(Weak::upgrade) {
            return Ok(read);
        }
        let read = Arc::new(ManagedRead::open(states, SnapshotId::new(state), base.map(SnapshotId::new))?);
        reads.insert(name, Arc::downgrade(&read));
        Ok(read)
    }

    /// The states of a machine; at the first use what was left unfinished is removed.
    fn of(&self, machine: &Machine) -> Result<Arc<ManagedSnapshots>, Finding> {
        let disks: Vec<_> =
            machine.disk.iter().filter_map(|disk| Some((disk.id.clone(), managed(&disk.source)?))).collect();
        let mut machines = self.machines();
        if let Some(keeper) = machines.get(&machine.id) {
            if keeper.disks == disks {
                return Ok(Arc::clone(&keeper.states));
            }
            if Arc::strong_count(&keeper.states) > 1 {
                let evidence = format!("{}: its disks changed while states of them are read", machine.id);
                return Err(Finding::error(Code::SnapshotFailed, evidence));
            }
            machines.remove(&machine.id);
        }
        std::fs::create_dir_all(&self.0.folder).map_err(|error| {
            Finding::error(Code::StateFailed, format!("{}: {error}", self.0.folder.display()))
        })?;
        let notes = self.0.folder.join(format!("{}.json", machine.id));
        let service = Arc::new(self.service(&machine.id)?);
        let states = Arc::new(ManagedSnapshots::open(service, machine.id.clone(), disks.clone(), &notes)?);
        states.recover()?;
        machines.insert(machine.id.clone(), Keeper { disks, states: Arc::clone(&states) });
        Ok(states)
    }

    fn service(&self, id: &MachineId) -> Result<HttpArm, Finding> {
        let azure = self.0.azure.as_ref().and_then(|azure| Some((azure, azure.token_source()?)));
        let Some((azure, tokens)) = azure else {
            let evidence = format!("{id} has managed disks, and the configuration has no [azure]");
            return Err(Finding::error(Code::ConfigInvalid, evidence)
                .with_remedy("add [azure] with token_file or token_command, and restart the daemon"));
        };
        let http = Http::new(&HttpOptions { ca_file: azure.ca.clone() })?;
        let tokens = Tokens::new(tokens, http.clone(), &azure.endpoint);
        let (stop, id) = (self.0.stop.clone(), id.clone());
        let heard = move |finding: &Finding| tracing::info!("{id}: {}", finding.evidence);
        HttpArm::new(http, &azure.endpoint, tokens, move || stop.is_cancelled(), heard)
    }

    fn taking(&self) -> MutexGuard<'_, BTreeSet<MachineId>> {
        self.0.taking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<MachineId, Keeper>> {
        self.0.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
