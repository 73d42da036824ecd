//! Snapshots that the daemon itself takes for a cycle: of page blobs whose disk says `take_snapshots`.
//!
//! **Invariant**: a snapshot that was taken is among those that the machine's cycles remember before anything reads it, and is removed
//! once a later cycle is sealed. One whose making was cut off bears our mark and goes with the next removal, where the signature
//! allows to list it.

use crate::config::{Disk, Machine};
use failback_model::{Code, Finding};
use failback_remote::azure::BlobSnapshots;
use failback_remote::{BlobAddress, SourceSpec};
use failback_service::registry::Snapshot;

/// Whether the daemon takes snapshots of a machine's disks.
pub(crate) fn are_taken(machine: &Machine) -> bool {
    machine.disk.iter().any(|disk| disk.take_snapshots)
}

/// Takes one of each disk that wants it. Blocks. What was taken before one failed is removed again, if that is possible.
pub(crate) fn take(machine: &Machine) -> Result<Vec<Snapshot>, Finding> {
    let mut taken: Vec<Snapshot> = Vec::new();
    for disk in machine.disk.iter().filter(|disk| disk.take_snapshots) {
        match of(disk).and_then(|snapshots| snapshots.create()) {
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

/// Removes all but those that are kept, also those that bear our mark and nobody remembers. Blocks. What is still there, and why.
pub(crate) fn retire(
    machine: &Machine,
    remembered: &[Snapshot],
    kept: &[Snapshot],
) -> (Vec<Snapshot>, Option<Finding>) {
    let mut known = remembered.to_vec();
    for disk in machine.disk.iter().filter(|disk| disk.take_snapshots) {
        // A signature of the blob alone cannot list; then what is remembered has to do.
        let listed = of(disk).and_then(|snapshots| snapshots.list()).unwrap_or_default();
        known.extend(listed.into_iter().map(|name| Snapshot { disk: disk.id.to_string(), name }));
    }
    known.sort();
    known.dedup();
    let mut left = Vec::new();
    let mut why = None;
    for snapshot in known {
        if kept.contains(&snapshot) {
            left.push(snapshot);
        } else if let Err(finding) = remove(machine, &snapshot) {
            why = Some(finding);
            left.push(snapshot);
        }
    }
    (left, why)
}

fn remove(machine: &Machine, snapshot: &Snapshot) -> Result<(), Finding> {
    let disk = machine.disk.iter().find(|disk| disk.id.as_str() == snapshot.disk);
    // Of a disk that is defined no more nobody knows where it lies.
    disk.map_or(Ok(()), |disk| of(disk)?.delete(&snapshot.name))
}

fn of(disk: &Disk) -> Result<BlobSnapshots, Finding> {
    BlobSnapshots::new(&address(disk)?, &disk.renew)
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
