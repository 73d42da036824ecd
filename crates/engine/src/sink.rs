//! Where a pass writes to.

use failback_blockio::DiskError;
use failback_model::{BlockIndex, BlockRange, ByteRange, Digest};

/// The target of a pass. Calls may come from several threads; writes of one group never overlap.
///
/// A *commit group* is everything applied between two commits. For each message a writer calls `begin`, then `write` and
/// `zero`, then `applied`. A sink without a journal has nothing to do but write, and flush at a commit.
pub trait Sink: Send + Sync {
    /// A finished run of the target's scan: these digests (`None`: zeros) are what the disk holds. Durable with the next
    /// commit at the latest.
    fn scanned(&self, _blocks: BlockRange, _digests: Option<&[Digest]>) -> Result<(), DiskError> {
        Ok(())
    }

    /// Returns once it is durable that these blocks are about to be named anew, and what the bytes of `changes`, which lie in
    /// them and are about to be written or zeroed, hold until then.
    fn begin(&self, _blocks: &[BlockRange], _changes: &[ByteRange]) -> Result<(), DiskError> {
        Ok(())
    }

    /// Reads the target as it stands.
    fn read_old(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes `bytes`; durable only after the next commit.
    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes bytes zero, keeping the target's provisioning; durable only after the next commit.
    fn zero(&self, range: ByteRange) -> Result<(), DiskError>;

    /// These blocks were written completely and now stand as named.
    fn applied(&self, _digests: &[(BlockIndex, Digest)], _zeroed: &[BlockRange]) -> Result<(), DiskError> {
        Ok(())
    }

    /// Returns once everything applied before the call is durable.
    fn commit(&self) -> Result<(), DiskError>;

    /// Commits and records that the target now is the state with this root; the generation of that state.
    fn seal(&self, root: Digest) -> Result<u64, DiskError>;
}
