//! The process server: the daemon beside the cloud that reads source disks and sends what differs home.
//!
//! [`ProcessServer`] answers the control socket; [`supervisor`] keeps one task for each disk that shall replicate;
//! [`runner`] carries one pass of one disk, by a [`Delivery`].
//!
//! **Invariant**: a disk that shall replicate is at work, or has a time for its next try, or says which operator's
//! action it waits for.

mod base_digests;
mod claim;
mod comparison;
pub mod config;
mod convergence;
mod delivery;
mod egress;
mod forecast;
mod goal;
mod hook;
mod lineage;
mod managed;
mod orders;
pub mod runner;
mod seen;
mod server;
mod snapshots;
mod step;
pub mod supervisor;
mod template;
mod verdict;

pub use claim::NOT_QUIESCED;
pub use comparison::Origin;
pub use delivery::{Agreed, Delivery, Memory, Sent};
pub use lineage::Base;
pub use managed::Managed;
pub use runner::accepted;
pub use seen::SeenSource;
pub use server::ProcessServer;
