//! Where a pass writes to.

use failback_blockio::DiskError;
use failback_model::{ByteRange, Digest};

/// The target of a pass. Calls may come from several threads; writes of one group never overlap.
///
/// A *commit group* is everything written between two commits. The first write opens one.
pub trait Sink: Send + Sync {
    /// Opens a commit group: what an undo journal must know before the first write.
    fn begin_group(&self) -> Result<(), DiskError>;

    /// Reads the target as it stands.
    fn read_old(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes `bytes`; durable only after the next commit.
    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes bytes zero, keeping the target's provisioning; durable only after the next commit.
    fn zero(&self, range: ByteRange) -> Result<(), DiskError>;

    /// Returns once everything written before the call is durable.
    fn commit(&self) -> Result<(), DiskError>;

    /// Commits and records that the target now is the state with this root.
    fn seal(&self, root: Digest) -> Result<(), DiskError>;
}
