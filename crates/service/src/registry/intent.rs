//! What an operator asked of a machine, kept until something else is asked.

use crate::control::PassFlags;
use failback_model::{DiskId, Epoch, JobId};
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
    /// Disks whose pass of this job is sealed: a daemon that starts anew does not repeat them.
    pub sealed: Vec<String>,
}

impl Intent {
    /// Begins a job. Its epoch comes from the clock, so that a daemon that lost its state is not taken for an old one.
    pub fn begin(&mut self, job: JobId, flags: PassFlags, now_unix_ms: u64) {
        let epoch = (self.epoch + 1).max(now_unix_ms / 1000);
        *self = Self { wanted: Wanted::Running, epoch, job: Some(job), flags, sealed: Vec::new() };
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

    /// Whether a disk's pass of this job is sealed.
    pub fn is_sealed(&self, disk: &DiskId) -> bool {
        self.sealed.iter().any(|sealed| sealed == disk.as_str())
    }
}
