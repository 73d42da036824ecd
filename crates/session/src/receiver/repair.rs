//! The target's share of a repair: it offers the digests of all chunks, piece by piece, and is asked for some chunks once.
//!
//! **Invariant**: one piece is looked up at a time; each offer of all chunks is answered at most once.

use crate::error::SessionError;
use failback_model::limits::BATCH_MAX_BLOCKS;
use std::ops::Range;

/// How far the offer is.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// Chunks whose digests are still to be looked up.
    chunks: Range<u64>,
    is_looking_up: bool,
    is_offered: bool,
}

impl Repair {
    /// The roots differ: so many chunks are to be offered.
    pub(super) fn start(&mut self, chunks: u64) {
        self.chunks = 0..chunks;
    }

    /// The next piece to look up.
    pub(super) fn next(&mut self) -> Option<Range<u64>> {
        if self.is_looking_up || self.chunks.is_empty() {
            return None;
        }
        let end = self.chunks.end.min(self.chunks.start + BATCH_MAX_BLOCKS as u64);
        let piece = self.chunks.start..end;
        self.chunks.start = end;
        self.is_looking_up = true;
        Some(piece)
    }

    /// The piece was looked up and goes out.
    pub(super) fn offer(&mut self) {
        self.is_looking_up = false;
        self.is_offered = self.chunks.is_empty();
    }

    /// The sending end asks for chunks.
    pub(super) fn answer(&mut self) -> Result<(), SessionError> {
        let reason = "a chunk request that follows no offer of all chunk digests";
        if std::mem::take(&mut self.is_offered) { Ok(()) } else { Err(SessionError::violation(reason)) }
    }
}
