//! What a comparison finds and a session sends.

use crate::{BlockIndex, Digest};

/// A block whose digests differ and that holds data at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Which block.
    pub block: BlockIndex,
    /// Its digest at the source.
    pub digest: Digest,
    /// Whether the target's block is zero.
    pub target_is_zero: bool,
}
