//! The master target: the daemon at the site that receives what differs, keeps a journal, and writes the target disks.
//!
//! [`MasterTarget`] answers the control socket; [`Site`] knows who may write which disk; [`Reception`] carries sessions,
//! one a disk.
//!
//! **Invariant**: nobody writes to a disk but the newest session of a peer that the disk's machine allows.

mod audit;
mod cancel;
mod commit;
pub mod config;
mod cutover;
mod foreign;
mod hold;
mod limit;
mod opening;
mod operation;
mod orders;
mod pending;
mod points;
mod receipts;
mod reception;
mod recovery;
mod seed_scope;
mod server;
mod sidecars;
mod site;
mod stores;
mod target;
mod verbs;
mod verify;

pub use receipts::{Issued, Receipts};
pub use reception::{Reception, Registry, Session};
pub use server::MasterTarget;
pub use site::{DiskLease, Site, SiteOptions};
pub use stores::Stores;
pub use target::TargetDisk;
