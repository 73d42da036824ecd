//! What may be asked and what is answered.

use super::forecast::Forecast;
use super::point::{MachinePoints, Plan};
use crate::report::FindingLine;
use crate::status::DaemonStatus;
use failback_model::{DiskId, JobId, MachineId};
use failback_store::Wish;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a pass is to be carried out, where it differs from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "SaidFlags")]
pub struct PassFlags {
    /// Read the whole target back from its medium before it counts as sealed.
    pub verify: bool,
    /// Overwrite a target that looks like another disk.
    pub accept_mismatch: bool,
    /// Bring the target to a state that is older than what it has.
    pub accept_older: bool,
    /// Scan and overwrite a target that something else wrote to since its last pass.
    pub accept_divergence: bool,
    /// The source is off: what is brought is its last state.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Be done by then, milliseconds since 1970, as slowly as that allows; at that time it pauses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_by_unix_ms: Option<u64>,
    /// Send no more than this in the whole job, bytes of frames; then it pauses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_egress_bytes: Option<u64>,
}

/// Flags as they may be said.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct SaidFlags {
    verify: bool,
    accept_mismatch: bool,
    accept_older: bool,
    accept_divergence: bool,
    #[serde(rename = "final")]
    is_final: bool,
    finish_by_unix_ms: Option<u64>,
    max_egress_bytes: Option<u64>,
    /// Nothing that a process server decides; whoever asks for it learns where it is decided.
    #[schemars(skip)]
    grow: bool,
}

impl TryFrom<SaidFlags> for PassFlags {
    type Error = &'static str;

    fn try_from(said: SaidFlags) -> Result<Self, Self::Error> {
        if said.grow {
            return Err(
                "a target grows where the master target's configuration says 'grow = true' for the disk",
            );
        }
        Ok(Self {
            verify: said.verify,
            accept_mismatch: said.accept_mismatch,
            accept_older: said.accept_older,
            accept_divergence: said.accept_divergence,
            is_final: said.is_final,
            finish_by_unix_ms: said.finish_by_unix_ms,
            max_egress_bytes: said.max_egress_bytes,
        })
    }
}

/// A request. Those with a job change something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Which daemon this is.
    Version {},
    /// Where everything stands.
    Status {
        /// Only this machine.
        #[serde(default, with = "crate::text::option", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        machine: Option<MachineId>,
    },
    /// How machines and disks are defined.
    Registry {
        /// Only this machine.
        #[serde(default, with = "crate::text::option", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        machine: Option<MachineId>,
    },
    /// Events, line by line, until the connection is closed.
    Events {
        /// First the kept ones with a larger number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<u64>,
        /// Only this machine's.
        #[serde(default, with = "crate::text::option", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        machine: Option<MachineId>,
    },
    /// Process server: replicate the machine home, starting with a pass of each disk.
    Reprotect {
        /// Job.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        job: JobId,
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
        /// How.
        #[serde(default)]
        flags: PassFlags,
    },
    /// Process server: one more cycle of a machine that was reprotected, or its last one.
    Cycle {
        /// Job of this request; the cycle is one of the job that `reprotect` began.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        job: JobId,
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
        /// Stop the source and prove that it is off first; nothing follows this cycle. Where that fails, or the cycle takes
        /// longer than `final_timeout`, the source is started again.
        #[serde(default, rename = "final")]
        is_final: bool,
    },
    /// Process server: what the next passes of a machine are expected to read and send. Reads a sample of its sources, connects to
    /// nobody and changes nothing.
    Forecast {
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
    },
    /// Stop the machine's passes at the next durable group, and start none until it is resumed.
    Stop {
        /// Job.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        job: JobId,
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
    },
    /// Go on with a stopped machine; try at once what waits for its next try; try again what failed.
    Resume {
        /// Job.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        job: JobId,
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
    },
    /// Master target: prove a machine's disks, reading them back. A process server refuses it: its passes also write.
    Verify {
        /// Job.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        job: JobId,
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
        /// Only this disk.
        #[serde(default, with = "crate::text::option", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        disk: Option<DiskId>,
    },
    /// Master target: a receipt that `verify` signed.
    Receipt {
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
        /// Its number; none: the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u64>,
    },
    /// Master target: where a machine stands and the recovery points that it can go back to.
    Points {
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
    },
    /// Master target: bring all disks of a machine, or of all machines of a group, to a recovery point, prove that, and
    /// release them to the hypervisor. Needs no source. What becomes of it is an event.
    Cutover {
        /// Job; none: only say what it would do (reply `plan`).
        #[serde(default, with = "crate::text::option", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        job: Option<JobId>,
        /// Machine or replication group.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        of: MachineId,
        /// `latest`, `app-consistent`, a number, or a time such as `2026-11-24T13:30:00Z`: the newest point whose source is
        /// no younger.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        point: Wish,
    },
    /// Master target: bring all disks of a machine back to the original, point 0, and remove the images that its jobs made.
    Cancel {
        /// Job; none: only say what it would do (reply `plan`).
        #[serde(default, with = "crate::text::option", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        job: Option<JobId>,
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
    },
    /// Master target: make it final. Undo and recovery points are gone then; thin images give back what is zero.
    Commit {
        /// Job; none: only say what it would do (reply `plan`).
        #[serde(default, with = "crate::text::option", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        job: Option<JobId>,
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
        /// Also without a receipt that was taken after the cut-over.
        #[serde(default)]
        without_receipt: bool,
    },
    /// Master target: forget recovery points. Never the newest; the original only where that is said.
    DropPoints {
        /// Job; none: only say what it would do (reply `plan`).
        #[serde(default, with = "crate::text::option", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        job: Option<JobId>,
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
        /// Their numbers.
        numbers: Vec<u64>,
        /// Point 0 may be among them: nothing can be cancelled then.
        #[serde(default)]
        give_up_cancel: bool,
    },
    /// Add a machine, or replace its definition.
    RegisterMachine {
        /// Job.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        job: JobId,
        /// The definition: the keys of `[[machine]]` in docs/config.md, disks under `disk`.
        machine: Value,
    },
    /// Add a disk, or replace its definition.
    RegisterDisk {
        /// Job.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        job: JobId,
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
        /// The definition: the keys of `[[machine.disk]]` in docs/config.md.
        disk: Value,
    },
    /// Forget a machine or a disk. Refused while a pass of it runs; no disk is touched.
    Release {
        /// Job.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        job: JobId,
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
        /// Only this disk.
        #[serde(default, with = "crate::text::option", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        disk: Option<DiskId>,
    },
    /// Change a machine's bandwidth, also while it is at work, until the daemon is started anew or the machine released. At
    /// a master target one limit counts for all that it sends, whichever machine is named, until the daemon is started anew.
    Bandwidth {
        /// Job.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        job: JobId,
        /// Machine.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        machine: MachineId,
        /// As in the configuration; none: as the configuration says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schedule: Option<String>,
    },
    /// Read certificates and configuration again, as SIGHUP does.
    Reload {
        /// Job.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        job: JobId,
    },
}

impl Request {
    /// The word in the `request` field.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Version {} => "version",
            Self::Status { .. } => "status",
            Self::Registry { .. } => "registry",
            Self::Events { .. } => "events",
            Self::Reprotect { .. } => "reprotect",
            Self::Cycle { .. } => "cycle",
            Self::Forecast { .. } => "forecast",
            Self::Stop { .. } => "stop",
            Self::Resume { .. } => "resume",
            Self::Verify { .. } => "verify",
            Self::Receipt { .. } => "receipt",
            Self::Points { .. } => "points",
            Self::Cutover { .. } => "cutover",
            Self::Cancel { .. } => "cancel",
            Self::Commit { .. } => "commit",
            Self::DropPoints { .. } => "drop_points",
            Self::RegisterMachine { .. } => "register_machine",
            Self::RegisterDisk { .. } => "register_disk",
            Self::Release { .. } => "release",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Reload { .. } => "reload",
        }
    }

    /// The job of a request that changes something.
    pub const fn job(&self) -> Option<&JobId> {
        match self {
            Self::Reprotect { job, .. }
            | Self::Cycle { job, .. }
            | Self::Stop { job, .. }
            | Self::Resume { job, .. }
            | Self::Verify { job, .. }
            | Self::RegisterMachine { job, .. }
            | Self::RegisterDisk { job, .. }
            | Self::Release { job, .. }
            | Self::Bandwidth { job, .. }
            | Self::Reload { job } => Some(job),
            Self::Cutover { job, .. }
            | Self::Cancel { job, .. }
            | Self::Commit { job, .. }
            | Self::DropPoints { job, .. } => job.as_ref(),
            _ => None,
        }
    }

    /// The machine it is about.
    pub fn machine(&self) -> Option<&str> {
        match self {
            Self::Status { machine } | Self::Registry { machine } | Self::Events { machine, .. } => {
                machine.as_ref().map(MachineId::as_str)
            }
            Self::Reprotect { machine, .. }
            | Self::Cycle { machine, .. }
            | Self::Stop { machine, .. }
            | Self::Resume { machine, .. }
            | Self::Verify { machine, .. }
            | Self::Receipt { machine, .. }
            | Self::Points { machine }
            | Self::Forecast { machine }
            | Self::Cancel { machine, .. }
            | Self::Commit { machine, .. }
            | Self::DropPoints { machine, .. }
            | Self::Cutover { of: machine, .. }
            | Self::RegisterDisk { machine, .. }
            | Self::Release { machine, .. }
            | Self::Bandwidth { machine, .. } => Some(machine.as_str()),
            Self::RegisterMachine { machine, .. } => machine["id"].as_str(),
            Self::Version {} | Self::Reload { .. } => None,
        }
    }
}

/// A receipt, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptFile {
    /// Where it lies at the master target.
    pub path: String,
    /// All of it, byte for byte: FORMATS.md, "Receipt".
    pub text: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Which daemon this is.
    Version {
        /// `process-server` or `master-target`.
        daemon: String,
        /// Its version.
        version: String,
    },
    /// Where everything stands.
    Status {
        /// All of it.
        status: DaemonStatus,
    },
    /// How machines and disks are defined.
    Registry {
        /// Definitions as in the configuration.
        machines: Vec<Value>,
    },
    /// A receipt.
    Receipt {
        /// The file.
        #[serde(flatten)]
        receipt: ReceiptFile,
    },
    /// A machine's recovery points.
    Points {
        /// All of them.
        points: MachinePoints,
    },
    /// What a verb would do: nothing was done.
    Plan {
        /// It.
        plan: Plan,
    },
    /// What the next passes are expected to cost.
    Forecast {
        /// It.
        forecast: Forecast,
    },
    /// Events follow, one a line.
    Events {
        /// When the daemon started: numbers of events begin anew with each start.
        started_unix_ms: u64,
    },
    /// A job was carried out, or what it starts has begun.
    Done {
        /// Job.
        #[serde(with = "crate::text")]
        #[schemars(with = "String")]
        job: JobId,
        /// Whether this is the outcome of an earlier request with the same job.
        repeated: bool,
        /// What was done, in words.
        said: String,
    },
    /// Nothing was done.
    Refused {
        /// Job, where there is one.
        #[serde(default, with = "crate::text::option")]
        #[schemars(with = "Option<String>")]
        job: Option<JobId>,
        /// Whether this is the outcome of an earlier request with the same job.
        repeated: bool,
        /// Why.
        findings: Vec<FindingLine>,
    },
}
