//! A disk held for one pass.

use super::{MachineEntry, Registry};
use failback_model::{DiskId, MachineId};

/// A disk and its machine as they were defined when the pass began; free again when dropped.
pub struct Lease<M: MachineEntry> {
    registry: Registry<M>,
    name: (MachineId, DiskId),
    machine: M,
    disk: M::Disk,
}

impl<M: MachineEntry> Lease<M> {
    pub(super) fn new(registry: Registry<M>, name: (MachineId, DiskId), machine: M, disk: M::Disk) -> Self {
        Self { registry, name, machine, disk }
    }

    /// The machine's definition.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The disk's definition.
    pub fn disk(&self) -> &M::Disk {
        &self.disk
    }
}

impl<M: MachineEntry> Drop for Lease<M> {
    fn drop(&mut self) {
        self.registry.state().leased.remove(&self.name);
    }
}
