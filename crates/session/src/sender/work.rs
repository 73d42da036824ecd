//! What the sending end is asked for, and what it asks for: the words of [`crate::Sender`].

use crate::refinement::RefinementMode;
use bytes::Bytes;
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Digest, Layout};

/// How a pass is sent.
#[derive(Debug, Clone, Copy)]
pub struct SenderOptions {
    /// The source's disk.
    pub layout: Layout,
    /// Narrowing to pages.
    pub refinement: RefinementMode,
    /// Bytes of pages under way.
    pub window_bytes: u64,
    /// Ask the target to be read anew before it is sealed.
    pub verify: bool,
    /// The digests of the state that the target is said to be in are at hand, so they need not come.
    pub holds_base: bool,
}

/// Number of a piece of work that answers with [`crate::Sender::handle_packed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Job(pub(super) u64);

/// What the sending end wants done.
#[derive(Debug)]
pub enum SenderWork {
    /// The target's digests in disk order (`None`: zeros): compare, then [`crate::Sender::handle_compared`].
    Compare {
        /// Which blocks.
        blocks: BlockRange,
        /// 16 bytes a block.
        digests: Option<Bytes>,
    },
    /// Blocks, next in disk order, whose digests are those of the base: compare, then [`crate::Sender::handle_compared`].
    CompareBase {
        /// Which blocks.
        blocks: BlockRange,
    },
    /// Read these blocks and pack them whole, then [`crate::Sender::handle_packed`].
    Ship {
        /// Answer with it.
        job: Job,
        /// Ascending.
        blocks: Vec<BlockIndex>,
    },
    /// Read these blocks, keep the pages whose digests differ and pack them, then [`crate::Sender::handle_packed`].
    Patch {
        /// Answer with it.
        job: Job,
        /// Ascending.
        blocks: Vec<BlockIndex>,
        /// The target's page digests, 16 bytes a page, block after block.
        digests: Bytes,
    },
    /// Compute the source's root, then [`crate::Sender::handle_root`].
    Seal,
    /// Compare the target's chunk digests, then [`crate::Sender::handle_chunks_compared`].
    CompareChunks {
        /// First chunk.
        first: ChunkIndex,
        /// 32 bytes a chunk.
        digests: Bytes,
    },
    /// Compare one chunk's digests, then [`crate::Sender::handle_chunk_compared`].
    CompareChunk {
        /// Which chunk.
        chunk: ChunkIndex,
        /// 32 bytes a block.
        digests: Bytes,
    },
    /// The pass is sealed at both ends.
    Finish {
        /// The root of both.
        root: Digest,
    },
}
