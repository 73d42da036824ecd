//! All disks of a machine, held for a verb: passes are asked to stop at their next durable group, and waited for.

use crate::config::Machine;
use crate::reception::Reception;
use crate::site::Site;
use failback_model::limits::DRAIN_MAX;
use failback_model::{Code, Finding};
use failback_service::registry::Lease;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How often it is looked whether a disk is free.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Takes every disk of the machine. Sessions are kept out by whoever calls; the source is not needed. Waits.
pub(crate) fn hold_all(
    site: &Site,
    reception: &Reception<Site>,
    runtime: &Handle,
    machine: &Machine,
) -> Result<Vec<Lease<Machine>>, Finding> {
    let until = Instant::now() + DRAIN_MAX;
    let mut leases = Vec::new();
    for disk in &machine.disk {
        let lease = loop {
            match site.registry().lease(&machine.id, &disk.id) {
                Err(finding) if finding.code == Code::AlreadyRunning && Instant::now() < until => {
                    runtime.block_on(async {
                        // A pass whose session is just being opened is asked the next time round.
                        reception.stop(&machine.id, &disk.id).await;
                        tokio::time::sleep(LOOK_EVERY).await;
                    });
                }
                lease => break lease?,
            }
        };
        leases.push(lease);
    }
    Ok(leases)
}
