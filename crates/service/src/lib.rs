//! What a daemon of failback is made of: configuration, control socket, status, events, metrics, signals.
//!
//! It knows nothing of disks and passes: the daemons above give it their machines' type ([`registry::MachineEntry`]) and
//! tell it what happens ([`status::DiskHandle`]).
//!
//! **Invariant**: whatever asks, over the control socket or the admin port, is bounded in bytes, time and number, and
//! cannot hold up a pass.

pub mod admin;
pub mod backoff;
pub mod budget;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod event;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod period;
pub mod registry;
pub mod report;
pub mod saved;
pub mod signals;
pub mod size;
pub mod status;
pub mod text;
