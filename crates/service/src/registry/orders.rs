//! Requests about the registry, which both daemons carry out alike.

use super::{Change, DiskEntry as _, MachineEntry, Registry};
use crate::control::Request;
use crate::event::{Event, Events};
use failback_model::{Code, DiskId, Finding, MachineId};
use serde::de::DeserializeOwned;
use serde_json::Value;

impl<M: MachineEntry> Registry<M> {
    /// One machine, or all.
    pub fn asked_for(&self, machine: Option<&MachineId>) -> Result<Vec<M>, Finding> {
        machine.map_or_else(|| Ok(self.machines()), |machine| Ok(vec![self.machine(machine)?]))
    }

    /// Definitions as JSON.
    pub fn definitions(&self, machine: Option<&MachineId>) -> Result<Vec<Value>, Finding> {
        let as_json = |machine: &M| {
            serde_json::to_value(machine).map_err(|error| Finding::error(Code::Internal, error.to_string()))
        };
        self.asked_for(machine)?.iter().map(as_json).collect()
    }

    /// Carries out a request that registers or releases, and publishes what changed; `None` for every other request.
    pub fn carry_out(&self, request: &Request, events: &Events) -> Option<Result<String, Finding>> {
        match request {
            Request::RegisterMachine { machine, .. } => Some(self.take_machine(machine, events)),
            Request::RegisterDisk { machine, disk, .. } => Some(self.take_disk(machine, disk, events)),
            Request::Release { machine, disk, .. } => Some(self.give_up(machine, disk.as_ref(), events)),
            _ => None,
        }
    }

    fn take_machine(&self, machine: &Value, events: &Events) -> Result<String, Finding> {
        let machine: M = understood(machine)?;
        let id = machine.id().clone();
        let change = self.register(machine)?;
        if change != Change::None {
            events.publish(Event::MachineRegistered { machine: id.to_string() });
        }
        Ok(said(change, &id, None))
    }

    fn take_disk(&self, machine: &MachineId, disk: &Value, events: &Events) -> Result<String, Finding> {
        let disk: M::Disk = understood(disk)?;
        let id = disk.id().clone();
        let change = self.register_disk(machine, disk)?;
        if change != Change::None {
            events.publish(Event::DiskRegistered { machine: machine.to_string(), disk: id.to_string() });
        }
        Ok(said(change, machine, Some(&id)))
    }

    fn give_up(
        &self,
        machine: &MachineId,
        disk: Option<&DiskId>,
        events: &Events,
    ) -> Result<String, Finding> {
        let change = self.release(machine, disk)?;
        if change != Change::None {
            let machine = machine.to_string();
            events.publish(match disk {
                Some(disk) => Event::DiskReleased { machine, disk: disk.to_string() },
                None => Event::MachineReleased { machine },
            });
        }
        Ok(said(change, machine, disk))
    }
}

fn understood<T: DeserializeOwned>(value: &Value) -> Result<T, Finding> {
    T::deserialize(value).map_err(|error| Finding::error(Code::RequestInvalid, error.to_string()))
}

fn said(change: Change, machine: &MachineId, disk: Option<&DiskId>) -> String {
    let what = disk.map_or_else(|| machine.to_string(), |disk| format!("{machine}/{disk}"));
    match change {
        Change::Added => format!("{what} is registered"),
        Change::Replaced => format!("{what} has a new definition"),
        Change::Removed => format!("{what} is released; no disk was touched"),
        Change::None => format!("{what} was so already"),
    }
}
