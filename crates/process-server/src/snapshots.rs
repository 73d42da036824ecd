//! Snapshots that the daemon itself takes for a cycle: of managed disks, and of page blobs whose disk says
//! `take_snapshots`.
//!
//! **Invariant**: a snapshot that was taken is among those that the machine's cycles remember before anything reads it, and is removed
//! once a later cycle is sealed. One whose making was cut off bears our mark and goes with the next removal, where the signature
//! allows to list it.

use crate::config::{Disk, Machine};
use crate::managed::Managed;
use failback_model::{Code, Finding, PointLabel};
use failback_remote::azure::BlobSnapshots;
use failback_remote::{BlobAddress, SourceSpec};
use failback_service::registry::Snapshot;

/// What was taken for a cycle.
#[derive(Default)]
pub(crate) struct States {
    pub(crate) snapshots: Vec<Snapshot>,
    /// When the disks were like that by the cloud's clock, milliseconds since 1970; none: it does not say.
    pub(crate) taken_unix_ms: Option<u64>,
    /// Why they are not of one instant; none: nothing speaks against it.
    pub(crate) per_disk: Option<String>,
    /// They were taken before the hooks that ran now.
    pub(crate) is_older: bool,
}

/// Whether the daemon takes snapshots of a machine's disks.
pub(crate) fn are_taken(machine: &Machine) -> bool {
    machine.is_managed() || machine.disk.iter().any(|disk| disk.take_snapshots)
}

/// Takes one of each disk that wants it. Blocks. What was taken before one failed is removed again, if that is possible.
pub(crate) fn take(machine: &Machine, managed: &Managed, cycle: u64) -> Result<States, Finding> {
    if !machine.is_managed() {
        return Ok(States { snapshots: take_of_blobs(machine)?, ..States::default() });
    }
    let (taken, is_new) = managed.take(machine, cycle)?;
    let name = |state: &failback_remote::arm::State| Snapshot {
        disk: state.disk.to_string(),
        name: state.id.to_string(),
    };
    Ok(States {
        snapshots: taken.states.iter().map(name).collect(),
        taken_unix_ms: Some(taken.taken_unix_ms),
        per_disk: (taken.label == PointLabel::PerDisk).then_some(taken.reason),
        is_older: !is_new,
    })
}

fn take_of_blobs(machine: &Machine) -> Result<Vec<Snapshot>, Finding> {
    let mut taken: Vec<Snapshot> = Vec::new();
    for disk in machine.disk.iter().filter(|disk| disk.take_snapshots) {
        match of(machine, disk).and_then(|snapshots| snapshots.create()) {
            Ok(name) => taken.push(Snapshot { disk: disk.id.to_string(), name }),
            Err(finding) => {
                for snapshot in &taken {
                    if let Err(left) = remove(machine, snapshot) {
                        tracing::warn!("{}: snapshot {}: {}", machine.id, snapshot.name, left.evidence);
                    }
                }
                return Err(
                    Finding::error(Code::SnapshotFailed, finding.evidence).with_remedy(finding.remedy)
                );
            }
        }
    }
    Ok(taken)
}

/// Removes those that are remembered and not kept, and those that bear this machine's mark and are older than all that are kept.
/// Blocks. Those that are gone, and why one is not.
pub(crate) fn retire(
    machine: &Machine,
    managed: &Managed,
    remembered: &[Snapshot],
    kept: &[Snapshot],
) -> (Vec<Snapshot>, Option<Finding>) {
    let mut going: Vec<_> = remembered.iter().filter(|snapshot| !kept.contains(snapshot)).cloned().collect();
    if machine.is_managed() {
        return match managed.retire(machine, kept) {
            Ok(()) => (going, None),
            Err(finding) => (Vec::new(), Some(finding)),
        };
    }
    for disk in machine.disk.iter().filter(|disk| disk.take_snapshots) {
        // A signature of the blob alone cannot list; then what is remembered has to do.
        let listed = of(machine, disk).and_then(|snapshots| snapshots.list()).unwrap_or_default();
        let Some(oldest) = kept.iter().find(|kept| kept.disk == disk.id.as_str()) else { continue };
        // Times are written so that they sort; one that is newer may be of a job that has just begun.
        let older = listed.into_iter().filter(|name| *name < oldest.name);
        going.extend(older.map(|name| Snapshot { disk: disk.id.to_string(), name }));
    }
    going.sort();
    going.dedup();
    let mut why = None;
    going.retain(|snapshot| remove(machine, snapshot).map_err(|finding| why = Some(finding)).is_ok());
    (going, why)
}

fn remove(machine: &Machine, snapshot: &Snapshot) -> Result<(), Finding> {
    let disk = machine.disk.iter().find(|disk| disk.id.as_str() == snapshot.disk);
    // Of a disk that is defined no more nobody knows where it lies.
    disk.map_or(Ok(()), |disk| of(machine, disk)?.delete(&snapshot.name))
}

fn of(machine: &Machine, disk: &Disk) -> Result<BlobSnapshots, Finding> {
    Ok(BlobSnapshots::new(&address(disk)?, &disk.renew)?.owned_by(machine.id.as_str()))
}

fn address(disk: &Disk) -> Result<BlobAddress, Finding> {
    match SourceSpec::parse(&disk.source)? {
        SourceSpec::Blob(address) => Ok(address),
        _ => {
            let evidence = format!("disk {} is no page blob, and takes no snapshots", disk.id);
            Err(Finding::error(Code::SourceUnsupported, evidence))
        }
    }
}
