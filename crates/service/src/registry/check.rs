//! What is wrong with machines beyond their single values.

use super::{DiskEntry as _, MachineEntry};
use crate::config::Fault;
use failback_model::limits::{DISKS_PER_MACHINE_MAX, MACHINES_MAX};
use failback_model::{Code, Finding};
use std::collections::HashSet;

/// Faults of a configuration's machines, with their keys.
pub fn faults_of<M: MachineEntry>(machines: &[M]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut ids = HashSet::new();
    if machines.len() > MACHINES_MAX {
        let reason = format!("{} machines, and a daemon knows {MACHINES_MAX}", machines.len());
        faults.push(Fault::new("machine", reason, "divide them between several daemons"));
    }
    for (at, machine) in machines.iter().enumerate() {
        let within = format!("machine.{at}");
        if !ids.insert(machine.id()) {
            let reason = format!("there is a machine {} already", machine.id());
            faults.push(Fault::new("id", reason, "give each machine an id of its own").within(&within));
        }
        faults.extend(faults_of_one(machine).into_iter().map(|fault| fault.within(&within)));
    }
    faults
}

/// Faults of one machine.
fn faults_of_one<M: MachineEntry>(machine: &M) -> Vec<Fault> {
    let mut faults = machine.faults();
    let mut ids = HashSet::new();
    if machine.disks().len() > DISKS_PER_MACHINE_MAX {
        let reason =
            format!("{} disks, and a machine has at most {DISKS_PER_MACHINE_MAX}", machine.disks().len());
        faults.push(Fault::new("disk", reason, "divide them between several machines"));
    }
    for (at, disk) in machine.disks().iter().enumerate() {
        if !ids.insert(disk.id()) {
            let reason = format!("there is a disk {} already", disk.id());
            faults.push(Fault::new(format!("disk.{at}.id"), reason, "give each disk an id of its own"));
        }
    }
    faults
}

/// Refuses a machine that comes over the control socket and has a fault.
pub(super) fn check<M: MachineEntry>(machine: &M) -> Result<(), Finding> {
    let reasons: Vec<_> =
        faults_of_one(machine).iter().map(|fault| format!("{}: {}", fault.key, fault.reason)).collect();
    if reasons.is_empty() { Ok(()) } else { Err(Finding::error(Code::RequestInvalid, reasons.join("\n"))) }
}
