//! Managed disks through Azure's management (ARM, its resource manager): states of a machine's disks that can be read, and the
//! access to read them.
//!
//! [`Arm`] is one request and its answer, and the clock that answers are waited for by; [`ManagedSnapshots`] is what a machine's
//! cycles need of it: take, access, retire, recover.
//!
//! **Invariant**: whatever is asked of the cloud is noted durably before it is asked, so that nothing that costs money is
//! forgotten; and a signature is never part of a finding, a log line or a state file.

mod accounting;
mod call;
mod cloud;
mod http_arm;
mod managed;
mod notes;
mod reading;
mod removal;
mod resource;
mod rest;
mod secret;
mod take;
mod write_order;

pub use accounting::{Accounting, may_differ};
pub use http_arm::{HttpArm, PUBLIC_ENDPOINT};
pub use managed::{Access, ManagedSnapshots, SnapshotId, State, Taken};
pub use reading::ManagedRead;
pub use resource::AzureDisk;
pub use rest::{Arm, Method, Reply, Request};
pub use secret::without_signatures;
