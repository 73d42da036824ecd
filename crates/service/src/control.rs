//! The control socket: a Unix socket on which one JSON object a line asks, and one a line answers.
//!
//! docs/control.md shows every request and reply. A request that changes something carries a job id; the same job id
//! again gives the first outcome, also after a restart. Who asked is known from the socket and goes into the audit event.
//!
//! **Invariant**: a connection holds at most one line of [`CONTROL_LINE_MAX_BYTES`], and nobody on it is waited for
//! longer than [`CONTROL_LINE_MAX`] in the middle of one.
//!
//! [`CONTROL_LINE_MAX_BYTES`]: failback_model::limits::CONTROL_LINE_MAX_BYTES
//! [`CONTROL_LINE_MAX`]: failback_model::limits::CONTROL_LINE_MAX

mod client;
mod desk;
mod forecast;
mod jobs;
mod line;
mod point;
mod protocol;
mod server;

pub use client::{Client, EventLines};
pub use desk::{About, Desk, Orders, at_master_target, outcome_of_reload};
pub use failback_store::Wish;
pub use forecast::{DiskForecast, Forecast};
pub use point::{
    MachinePlan, MachinePoints, OperationStatus, Plan, PointDiskStatus, PointStatus, RecoveryStatus,
    StandingStatus, UndoStatus,
};
pub use protocol::{PassFlags, ReceiptFile, Reply, Request};
pub use server::ControlServer;

#[cfg(test)]
mod tests;
