//! Blocks whose page digests were asked for and whose contents have not come.
//!
//! Whoever answers a request remembers the page digests until the block's contents come, to verify with them. So a request
//! is open until then, and not only until it is answered: what is remembered is bounded as the requests are.
//!
//! **Invariant**: at most [`REFINE_WINDOW_BLOCKS`] blocks are open. An open block is answered, and then comes as pages,
//! before anything else happens to it.

use crate::error::SessionError;
use failback_model::limits::REFINE_WINDOW_BLOCKS;
use failback_model::{BlockIndex, BlockRange};
use std::collections::HashMap;

/// The open requests: whether each was answered.
#[derive(Debug, Default)]
pub(super) struct Requests(HashMap<BlockIndex, bool>);

impl Requests {
    /// These blocks are asked for, each once.
    pub(super) fn open(&mut self, blocks: &[BlockIndex]) -> Result<(), SessionError> {
        let is_new = blocks.iter().all(|block| self.0.insert(*block, false).is_none());
        if !is_new || self.0.len() > REFINE_WINDOW_BLOCKS {
            return Err(SessionError::violation("a page digest request without credit, or of an open block"));
        }
        Ok(())
    }

    /// Their page digests are on their way.
    pub(super) fn answer(&mut self, blocks: &[BlockIndex]) {
        for block in blocks {
            *self.0.get_mut(block).expect("only what was asked for is answered") = true;
        }
    }

    /// Whether page digests are still to be told.
    pub(super) fn is_answering(&self) -> bool {
        self.0.values().any(|is_answered| !is_answered)
    }

    /// A block's pages come: its request, if there is one, is closed.
    pub(super) fn close(&mut self, block: BlockIndex) -> Result<(), SessionError> {
        // What is still to be answered stays: the answer comes, whatever the other end did.
        if self.0.get(&block) == Some(&false) {
            let reason = format!("pages of block {} before the page digests that were asked for", block.0);
            return Err(SessionError::violation(reason));
        }
        self.0.remove(&block);
        Ok(())
    }

    /// Something else comes for this block.
    pub(super) fn refuse_block(&self, block: BlockIndex) -> Result<(), SessionError> {
        if self.0.contains_key(&block) { Err(Self::foreign(block)) } else { Ok(()) }
    }

    /// Something else comes for these blocks, which ascend.
    pub(super) fn refuse_ranges(&self, ranges: &[BlockRange]) -> Result<(), SessionError> {
        let is_within = |block: BlockIndex| {
            let next = ranges.partition_point(|range| range.end <= block);
            ranges.get(next).is_some_and(|range| range.start <= block)
        };
        self.0.keys().find(|block| is_within(**block)).map_or(Ok(()), |&block| Err(Self::foreign(block)))
    }

    fn foreign(block: BlockIndex) -> SessionError {
        let reason = format!("block {} was to be refined, and comes in another way", block.0);
        SessionError::violation(reason)
    }
}
