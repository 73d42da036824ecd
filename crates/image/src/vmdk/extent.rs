//! What a VMDK's extent table needs of one extent, flat or sparse.
//!
//! **Invariant**: offsets are the extent's own, from 0 to its length; `flush` makes the extent's data durable before
//! any metadata of its own that reaches it.

use failback_blockio::{DiskError, ReadPath, Zeroing};
use failback_model::{ByteRange, Finding};
use std::fmt::Debug;
use std::sync::Arc;

/// The bytes of one extent.
pub(crate) trait ExtentStore: Send + Sync + Debug {
    /// Fills `buffer` from `offset_bytes`.
    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes `parts` one behind the other from `offset_bytes`.
    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError>;

    /// Makes these bytes read as zero.
    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError>;

    /// First run at or after `from_bytes` that may hold data; `None` where the rest reads as zero.
    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError>;

    /// Lets go of what the kernel caches of it.
    fn drop_cached(&self) -> ReadPath {
        // Zeros that no file holds.
        ReadPath::Direct
    }

    /// Makes data durable, then what reaches it.
    fn flush(&self) -> Result<(), DiskError>;

    /// Flushes and marks the extent as closed cleanly, where its format has such a mark.
    fn close(&self) -> Result<(), DiskError> {
        self.flush()
    }

    /// Bytes it takes on its medium.
    fn allocated_bytes(&self) -> Result<u64, DiskError>;

    /// The same extent made longer, what is new reading as zero; `None` where its kind cannot, which is all but flat.
    fn lengthened(&self, _length_bytes: u64) -> Result<Option<Arc<dyn ExtentStore>>, DiskError> {
        Ok(None)
    }

    /// What whoever uses it should know first.
    fn warnings(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Whether it can hold anything but zeros.
    fn holds_data(&self) -> bool {
        true
    }

    /// One finding for each fault of its own metadata.
    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        Ok(Vec::new())
    }
}
