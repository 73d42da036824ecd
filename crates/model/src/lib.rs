//! The words of failback: what a block, a page, a digest and a finding are, and every limit.
//!
//! Everything above speaks in these types. Nothing here touches a file, a socket, a thread or a clock.
//!
//! **Invariant**: a [`ByteRange`] never ends before it starts, a [`Layout`] never has a block beyond its length,
//! and the limits in [`limits`] hold to each other at compile time.

mod difference;
mod digest;
mod finding;
mod geometry;
mod identity;
pub mod limits;
mod pages;
mod peer;
mod point;

pub use difference::Difference;
pub use digest::{
    Digest, PageDigest, TruncatedDigest, block_digest, block_digest_of_pages, is_zero, page_digest,
    page_digest_alone, page_digests, zero_page_digest,
};
pub use finding::{Code, ExitClass, Finding, Place, Severity};
pub use geometry::{
    BlockIndex, BlockRange, BlockSize, ByteRange, ChunkIndex, DiskGeometry, GeometryError, Layout, SectorSize,
};
pub use identity::{
    DiskId, Epoch, Generation, GroupId, IdentityError, JobId, MachineId, ProductVersion, SessionNumber,
    SessionToken,
};
pub use pages::PageSet;
pub use peer::{PeerIdentity, PeerIdentityError, PeerRole};
pub use point::{PointClaim, PointLabel};
