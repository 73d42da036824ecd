//! Refuses to write to a block device that this host uses.
//!
//! **Invariant**: the device, its partitions and the disk it is a partition of are looked at together: bytes written to
//! one are bytes of the others.

use super::host::{DeviceNumber, Host};
use failback_blockio::{DiskError, Operation};
use failback_model::Code;
use std::collections::BTreeSet;
use std::path::Path;

/// Fails naming the use that forbids writing.
pub(super) fn require_unused(host: &Host, path: &Path, device: DeviceNumber) -> Result<(), DiskError> {
    let refuse = |(code, reason): (Code, String)| Err(DiskError::new(code, Operation::Open, path, reason));
    let mut same_bytes = BTreeSet::from([device]);
    same_bytes.extend(host.partitions(device));
    same_bytes.extend(host.disk_of_partition(device));
    let uses = [host_use(host, &same_bytes), mount_or_swap(host, &same_bytes), holder(host, &same_bytes)];
    uses.into_iter().flatten().next().map_or(Ok(()), refuse)
}

/// The disk that this host's root lies on, whatever lies between.
fn host_use(host: &Host, same_bytes: &BTreeSet<DeviceNumber>) -> Option<(Code, String)> {
    let mounts = host.mounts();
    let roots = mounts.iter().filter(|mount| mount.point == Path::new("/"));
    let found = roots
        .flat_map(|mount| [mount.number, mount.source])
        .flatten()
        .flat_map(|root| host.foundations(root))
        .find(|foundation| same_bytes.contains(foundation))?;
    Some((Code::DeviceIsHosts, format!("this host's root file system lies on {}", host.name(found))))
}

fn mount_or_swap(host: &Host, same_bytes: &BTreeSet<DeviceNumber>) -> Option<(Code, String)> {
    for mount in host.mounts() {
        let of_mount = [mount.number, mount.source];
        if let Some(device) = of_mount.into_iter().flatten().find(|device| same_bytes.contains(device)) {
            let reason = format!("{} is mounted at {}", host.name(device), mount.point.display());
            return Some((Code::DeviceMounted, reason));
        }
    }
    let swap = host.swaps().into_iter().find(|device| same_bytes.contains(device))?;
    Some((Code::DeviceMounted, format!("{} is swap space", host.name(swap))))
}

fn holder(host: &Host, same_bytes: &BTreeSet<DeviceNumber>) -> Option<(Code, String)> {
    same_bytes.iter().find_map(|&device| {
        let holder = *host.holders(device).first()?;
        Some((Code::DeviceHeld, format!("{} is held by {}", host.name(device), host.name(holder))))
    })
}
