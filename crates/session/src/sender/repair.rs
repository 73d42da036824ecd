//! The one repair of a pass whose roots differ: chunk digests of the target, then all digests of the chunks that differ.
//!
//! **Invariant**: every chunk is compared once, and every chunk that differs is answered for once, in whatever order
//! the comparisons end.

use crate::error::SessionError;
use failback_model::limits::BATCH_MAX_BLOCKS;
use failback_model::{ChunkIndex, Code, Layout};
use std::collections::BTreeSet;

/// How far the repair has come.
#[derive(Debug)]
pub(super) struct Repair {
    layout: Layout,
    received_below: u64,
    comparing: usize,
    differing: Vec<ChunkIndex>,
    awaited: BTreeSet<ChunkIndex>,
}

impl Repair {
    pub(super) fn new(layout: Layout) -> Self {
        let (differing, awaited) = (Vec::new(), BTreeSet::new());
        Self { layout, received_below: 0, comparing: 0, differing, awaited }
    }

    /// The target's next `count` chunk digests came, and a comparison of them starts.
    pub(super) fn take_chunks(&mut self, first: ChunkIndex, count: u64) -> Result<(), SessionError> {
        let is_next = first.0 == self.received_below && count > 0;
        if !is_next || count > self.layout.chunk_count() - self.received_below {
            return Err(SessionError::violation("chunk digests out of order"));
        }
        self.received_below += count;
        self.comparing += 1;
        Ok(())
    }

    /// A comparison of chunks ended; what to ask for when it was the last.
    pub(super) fn finish_chunks(
        &mut self,
        differing: Vec<ChunkIndex>,
    ) -> Result<Option<Vec<ChunkIndex>>, SessionError> {
        self.comparing -= 1;
        self.differing.extend(differing);
        if self.comparing > 0 || self.received_below < self.layout.chunk_count() {
            return Ok(None);
        }
        let mut asked = std::mem::take(&mut self.differing);
        if asked.is_empty() {
            let reason = "the roots differ, but no chunk does".to_owned();
            return Err(SessionError { code: Code::RootMismatch, reason });
        }
        if asked.len() > BATCH_MAX_BLOCKS {
            let reason = format!(
                "the roots differ, and so do {} chunks of 1024 blocks: too many to repair",
                asked.len()
            );
            return Err(SessionError { code: Code::RootMismatch, reason });
        }
        asked.sort_unstable();
        self.awaited.extend(&asked);
        Ok(Some(asked))
    }

    /// All digests of one chunk came, and a comparison of them starts.
    pub(super) fn take_digests(&mut self, chunk: ChunkIndex, digests: usize) -> Result<(), SessionError> {
        let is_awaited = self.awaited.remove(&chunk);
        if !is_awaited || self.layout.chunk_blocks(chunk).count() != digests as u64 {
            return Err(SessionError::violation("digests of a chunk that was not asked for"));
        }
        self.comparing += 1;
        Ok(())
    }

    /// A comparison of one chunk ended; true where it was the last.
    pub(super) fn finish_digests(&mut self) -> bool {
        self.comparing -= 1;
        self.comparing == 0 && self.awaited.is_empty()
    }
}
