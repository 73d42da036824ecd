//! Cut-over: all disks of a machine go to one recovery point, are read back from their media, and are released.
//!
//! **Invariant**: a machine is released only once every disk was read back as what the point is. Killed anywhere, the same
//! command finishes it.

use crate::config::Machine;
use crate::operation::{Failed, Operation, Outcome, Work, of_store};
use failback_model::{Code, Finding};
use failback_service::registry::Lease;
use failback_store::{MachineStore, Phase, Point};

/// Goes to this point.
pub(crate) struct CuttingOver {
    pub(crate) point: Point,
}

impl Work for CuttingOver {
    fn verb(&self) -> &'static str {
        "cutover"
    }

    fn carry_out(&self, operation: &Operation, leases: &[Lease<Machine>]) -> Result<Outcome, Failed> {
        let all: Vec<_> = leases.iter().collect();
        let disks = operation.open(&all)?;
        operation.recheck(&disks)?;
        operation.require_unchanged(disks.iter())?;
        let point = operation.roll_back(self.point.number, &disks)?;
        drop(disks);
        let store = operation.store()?;
        self.check(&store, point).map_err(|finding| Failed { findings: vec![finding], has_begun: true })?;
        operation.prove(&all)?;
        operation.live.step("releases its disks");
        let released = store.release(Phase::Released { point }).map_err(of_store);
        released.map_err(|finding| Failed { findings: vec![finding], has_begun: true })?;
        let (id, count) = (&operation.machine.id, leases.len());
        let meant = match point == self.point.number {
            true => String::new(),
            false => format!(", which is what point {} was", self.point.number),
        };
        let said = format!(
            "{id}: {count} disks are read back as point {point}{meant}, and are released; power the machine on over an \
             overlay (a snapshot) until 'failback commit {id}'"
        );
        Ok(Outcome { said, point: Some(point), findings: Vec::new() })
    }
}

impl CuttingOver {
    /// What the journal holds sealed must be the states of the point that was meant.
    fn check(&self, store: &MachineStore, now: u64) -> Result<(), Finding> {
        for disk in self.point.disks.iter().filter(|disk| disk.root.is_some()) {
            let held = store.disk(&disk.disk).map_err(of_store)?.state();
            if held.root != disk.root || held.in_pass {
                let evidence =
                    format!("disk {} is not what point {} is, at point {now}", disk.disk, self.point.number);
                return Err(Finding::error(Code::UndoDamaged, evidence));
            }
        }
        Ok(())
    }
}
