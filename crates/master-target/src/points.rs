//! Recovery points as passes bring them: recorded once all disks of a machine are sealed, thinned by retention, told, and
//! noted beside the disks.

use crate::config::Machine;
use crate::recovery::phase_word;
use crate::sidecars;
use crate::site::Site;
use failback_model::{DiskId, Finding, MachineId};
use failback_service::clock::unix_ms;
use failback_service::event::Event;
use failback_store::{MachineStore, to_drop};

impl Site {
    /// A disk of the machine was sealed: records the point, where it was the last one.
    pub(crate) fn sealed(&self, machine: &MachineId) {
        let Ok(entry) = self.registry().machine(machine) else { return };
        let recorded = self.stores().machine(machine).and_then(|store| self.record(&entry, &store));
        self.note(machine, recorded.err().into_iter().collect());
    }

    fn record(&self, machine: &Machine, store: &MachineStore) -> Result<(), Finding> {
        let disks: Vec<DiskId> = machine.disk.iter().map(|disk| disk.id.clone()).collect();
        let recorded = store.record_point(&disks).map_err(|error| error.to_finding())?;
        let Some(point) = recorded else { return Ok(()) };
        self.kit().events.publish(Event::PointRecorded {
            machine: machine.id.to_string(),
            point: point.number,
            label: point.claim.label.to_string(),
            source_unix_ms: point.claim.source_unix_ms,
        });
        let thinned = self.thin(&machine.id, store);
        self.write_sidecars(machine, store);
        thinned
    }

    /// Drops the points that the policy does not keep.
    fn thin(&self, machine: &MachineId, store: &MachineStore) -> Result<(), Finding> {
        let points = store.points();
        let space = store.undo_space().map_err(|error| error.to_finding())?;
        let used_bytes = space.map_or(0, |space| space.used_bytes);
        let numbers = to_drop(&points, unix_ms(), &self.retention().policy(), used_bytes);
        if numbers.is_empty() {
            return Ok(());
        }
        let freed_bytes = store.drop_points(&numbers, false).map_err(|error| error.to_finding())?;
        self.kit().events.publish(Event::PointsDropped {
            machine: machine.to_string(),
            points: numbers,
            freed_bytes,
            reason: "retention".into(),
        });
        Ok(())
    }

    /// Writes the notes beside the disks; what could not be written goes to the log.
    pub(crate) fn write_sidecars(&self, machine: &Machine, store: &MachineStore) {
        let folder = self.kit().state.join("sidecars");
        let phase = phase_word(store.standing().phase);
        for finding in sidecars::write_all(&folder, machine, phase, &store.points()) {
            tracing::warn!("{}: sidecar: {}", machine.id, finding.evidence);
        }
    }
}
