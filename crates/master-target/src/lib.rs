//! The master target: the daemon at the site that receives what differs, keeps a journal, and writes the target disks.
//!
//! [`MasterTarget`] answers the control socket; [`site::Site`] decides who may write which disk, one session a disk;
//! [`receive`] carries a session.
//!
//! **Invariant**: nobody writes to a disk but the newest session of a peer that the disk's machine allows.

pub mod config;
pub mod images;
mod orders;
pub mod receive;
mod server;
pub mod site;
mod slots;
mod stores;
mod verify;

pub use server::MasterTarget;
pub use stores::Stores;
