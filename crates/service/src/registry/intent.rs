//! What an operator asked of a machine, kept until something else is asked.

use super::{Cycles, Snapshot};
use crate::control::PassFlags;
use failback_model::{DiskId, Epoch, JobId, PointClaim, PointLabel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an operator wants of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Nothing yet.
    #[default]
    Idle,
    /// To replicate (process server), to be written (master target).
    Running,
    /// To stand still until it is resumed.
    Stopped,
}

/// The same with the job that asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Intent {
    /// What is wanted.
    pub wanted: Wanted,
    /// Number of the job: larger than every earlier one's.
    pub epoch: u64,
    /// The job.
    #[serde(default, with = "crate::text::option")]
    pub job: Option<JobId>,
    /// How its passes are carried out.
    pub flags: PassFlags,
    /// Disks whose pass of this cycle is sealed: a daemon that starts anew does not repeat them.
    pub sealed: Vec<String>,
    /// What its passes claim; none: that is not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<KeptClaim>,
    /// Snapshots in the cloud that were taken with the claim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Snapshot>,
    /// Its cycles (process server).
    #[serde(default)]
    pub cycles: Cycles,
}

/// What the passes of a cycle claim of the state that they bring: said once for all disks of the machine, also by a daemon
/// that starts anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptClaim {
    source_unix_ms: u64,
    #[serde(with = "crate::text")]
    label: PointLabel,
    reason: String,
    #[serde(default)]
    cycle: u64,
    /// The disks that the machine had then.
    disks: Vec<String>,
}

impl KeptClaim {
    /// A claim about these disks.
    pub fn new<'a>(claim: PointClaim, disks: impl Iterator<Item = &'a DiskId>) -> Self {
        let PointClaim { source_unix_ms, label, reason, cycle } = claim;
        Self { source_unix_ms, label, reason, cycle, disks: disks.map(ToString::to_string).collect() }
    }

    /// What it says of a disk. One that came later is of another instant.
    pub fn of(&self, disk: &DiskId) -> PointClaim {
        if self.disks.iter().any(|known| known == disk.as_str()) {
            return PointClaim::new(self.source_unix_ms, self.label, &self.reason).of_cycle(self.cycle);
        }
        let reason = format!("disk {disk} was added to the machine after the job had begun");
        PointClaim::new(self.source_unix_ms, PointLabel::PerDisk, &reason).of_cycle(self.cycle)
    }
}

impl Intent {
    /// Begins a job. Its epoch comes from the clock, so that a daemon that lost its state is not taken for an old one.
    pub fn begin(&mut self, job: JobId, flags: PassFlags, now_unix_ms: u64) {
        let epoch = (self.epoch + 1).max(now_unix_ms / 1000);
        let mut cycles = std::mem::take(&mut self.cycles);
        cycles.begin(now_unix_ms);
        cycles.outcomes.clear();
        let job = Some(job);
        *self = Self { wanted: Wanted::Running, epoch, job, flags, cycles, ..Self::default() };
    }

    /// Begins the next cycle of the job. What was accepted for the one before is accepted no more, and its deadline is past; the
    /// budget holds for the whole job.
    pub fn next_cycle(&mut self, is_final: bool, now_unix_ms: u64) {
        self.cycles.begin(now_unix_ms);
        let PassFlags { verify, max_egress_bytes, .. } = self.flags;
        self.flags = PassFlags { verify, max_egress_bytes, is_final, ..PassFlags::default() };
        (self.sealed, self.claim, self.snapshots) = (Vec::new(), None, Vec::new());
    }

    /// The snapshot of a disk that its cycle reads.
    pub fn snapshot(&self, disk: &DiskId) -> Option<&str> {
        let of_disk = |snapshot: &&Snapshot| snapshot.disk == disk.as_str();
        self.snapshots.iter().find(of_disk).map(|snapshot| &*snapshot.name)
    }

    /// Number of the job.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// A disk's pass is sealed.
    pub fn seal(&mut self, disk: &DiskId) {
        if !self.is_sealed(disk) {
            self.sealed.push(disk.to_string());
        }
    }

    /// Whether a disk's pass of this cycle is sealed.
    pub fn is_sealed(&self, disk: &DiskId) -> bool {
        self.sealed.iter().any(|sealed| sealed == disk.as_str())
    }
}
