//! What the receiving end is told, and what it asks for: the words of [`crate::Receiver`].

use failback_model::{BlockIndex, BlockRange, ChunkIndex, Digest, Layout};
use failback_wire::{Data, Offer};
use std::ops::Range;

/// How a pass is received.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverOptions {
    /// The pass's disk: the source's length, even where the target's own disk is longer.
    pub layout: Layout,
    /// Blocks can be looked up in seeds.
    pub has_seeds: bool,
    /// The target is new and reads as zero.
    pub is_new: bool,
    /// What is trusted of it is of the state that the sending end was told of.
    pub is_at_seal: bool,
    /// Bytes of pages that may be in hand: at least the sending end's window.
    pub window_bytes: u64,
}

/// What the receiving end wants done.
#[derive(Debug)]
pub enum ReceiverWork {
    /// Read these blocks of the target and hash their pages, then [`crate::Receiver::handle_page_digests`].
    PageDigests {
        /// Ascending; may be answered in parts.
        blocks: Vec<BlockIndex>,
    },
    /// Unpack, verify and write, then [`crate::Receiver::handle_applied`].
    Apply(Data),
    /// Make these blocks zero, then [`crate::Receiver::handle_applied`].
    Zero {
        /// Answer with it.
        sequence: u64,
        /// Ascending.
        ranges: Vec<BlockRange>,
    },
    /// Look these blocks up in the seeds and write those found, then [`crate::Receiver::handle_applied`].
    Reference {
        /// Answer with it.
        sequence: u64,
        /// Ascending.
        offers: Vec<Offer>,
    },
    /// Make everything applied so far durable, then [`crate::Receiver::handle_committed`].
    Commit,
    /// Commit, read the target anew if asked, compute its root, then [`crate::Receiver::handle_root`].
    Seal {
        /// Read everything from the medium first.
        verify: bool,
    },
    /// Look up the digests of some chunks, then [`crate::Receiver::handle_chunk_digests`]. All chunks' come in order, piece
    /// by piece.
    ChunkDigests {
        /// Numbers of the chunks.
        chunks: Range<u64>,
    },
    /// Read this chunk from the medium, then [`crate::Receiver::handle_full_digests`].
    ReadChunk {
        /// Which chunk.
        chunk: ChunkIndex,
    },
    /// The pass is sealed: record that durably before polling for what to send, which says so.
    Finish {
        /// The root of both.
        root: Digest,
    },
}
