//! One pass of one disk: open the source, connect, open the session, send.

use crate::config::{Disk, Machine};
use failback_model::{Code, DiskId, Epoch, Finding, JobId, MachineId};
use failback_pass::Cancel;
use failback_service::control::PassFlags;
use failback_service::status::{DiskHandle, Sealed};
use failback_transport::{Throttle, Tls};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Everything that one try of a pass needs. It is the disk's only one: the registry lends a disk once.
pub struct Attempt {
    /// The machine as it is defined now.
    pub machine: Machine,
    /// The disk as it is defined now.
    pub disk: Disk,
    /// The job.
    pub job: JobId,
    /// Its number.
    pub epoch: Epoch,
    /// How the pass is carried out.
    pub flags: PassFlags,
    /// Memory that it may hold: the session's window.
    pub window_bytes: u64,
    /// Where it tells its stages, its connection and its counters. The end is told by the supervisor.
    pub status: Arc<DiskHandle>,
    /// Set when it shall stop at the next durable group and return [`failback_model::Code::Cancelled`].
    pub cancel: Cancel,
    /// Certificates.
    pub tls: Tls,
    /// The machine's bandwidth, shared by its disks.
    pub throttle: Throttle,
    /// Where connections live; `block_on` may be called, the attempt has a thread of its own.
    pub runtime: Handle,
    /// Folder for what is known of this source; made by whoever writes there.
    pub state: PathBuf,
}

impl Attempt {
    /// Whose disk.
    pub fn machine_id(&self) -> &MachineId {
        &self.machine.id
    }

    /// Which disk.
    pub fn disk_id(&self) -> &DiskId {
        &self.disk.id
    }
}

/// Carries passes.
pub trait Runner: Send + Sync + 'static {
    /// Carries one pass; returns when it is sealed, stopped or broken off. Blocks its thread.
    fn run(&self, attempt: &Attempt) -> Result<Sealed, Finding>;
}

/// Carries passes over the network.
#[derive(Debug, Default)]
pub struct Network;

impl Runner for Network {
    fn run(&self, attempt: &Attempt) -> Result<Sealed, Finding> {
        let evidence = format!("{}/{} is not joined to the network", attempt.machine_id(), attempt.disk_id());
        Err(Finding::error(Code::Internal, evidence))
    }
}
