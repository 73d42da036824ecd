//! Sources behind a network, as disks that are read like local ones, and feeds that say what changed since a state before.
//!
//! [`open`] takes what a user wrote: a local image, an NBD export, a page blob. [`open_feed`] takes what is to name its changes.
//!
//! **Invariant**: a source is read only, and what is read of it is of one state: a source that changes meanwhile is an error.

pub mod arm;
pub mod azure;
mod command;
pub mod entra;
mod extents;
mod feed;
pub mod http;
pub mod nbd;
mod open;
mod read_only;
mod spec;
mod waits;

pub use extents::parse_extents;
pub use feed::{FeedSpec, changed_blocks, open_feed};
pub use open::{OpenOptions, open};
pub use read_only::{ReadOnly, RemoteDisk};
pub use spec::{BlobAddress, SourceSpec};
pub use waits::Waits;
