//! Page blobs of Azure: what a managed disk's snapshot is behind its SAS URL, and unmanaged disks.
//!
//! `open` gives the disk, `open_diff` what changed in it since a snapshot, [`BlobSnapshots`] makes and removes snapshots of
//! a blob that is no managed disk. All of them ask through one `BlobService`, which knows when to ask again.
//!
//! **Invariant**: all bytes that a source gives are of one version of its blob: the ETag that was seen first goes with every
//! request.

mod access;
mod address;
mod disk;
mod footer;
mod pace;
pub mod page_list;
mod page_map;
mod refusal;
mod service;
mod snapshots;
mod token;

pub use disk::PageBlob;
pub(crate) use disk::{open, open_diff};
pub use snapshots::BlobSnapshots;
pub use token::TokenSource;

/// Version of the service's protocol: the first that allows page ranges by `maxresults` and `NextMarker`.
const SERVICE_VERSION: &str = "2020-10-02";

#[cfg(test)]
mod tests;
