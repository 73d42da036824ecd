//! The messages of a session. *Sending end* is where the data comes from, *receiving end* where it goes.

use crate::setup::{Join, Open, Welcome};
use bytes::Bytes;
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Digest, PageSet, TruncatedDigest};

/// Which end speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Where the data comes from.
    Sending,
    /// Where it goes.
    Receiving,
}

/// First message of a pass, of both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Which end speaks.
    pub role: Role,
    /// Length of the pass's disk, bytes: the source's.
    pub length_bytes: u64,
    /// Size of a block, bytes.
    pub block_bytes: u32,
    /// Receiving end: it can look blocks up in seeds.
    pub has_seeds: bool,
    /// Receiving end: the disk is new and reads as zero.
    pub is_new: bool,
    /// Sending end: re-read the target before sealing.
    pub verify: bool,
    /// Sending end: it holds the digests of the state that the target is said to be in.
    pub digests_known: bool,
}

/// How a data message's payload is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Raw,
    /// One zstd frame of this many bytes once decompressed.
    Zstd {
        /// Bytes of pages.
        content_bytes: u32,
    },
}

/// What happens to one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPatch {
    /// Which block.
    pub block: BlockIndex,
    /// Its digest as it will stand.
    pub digest: Digest,
    /// Pages whose contents are in the payload, in order.
    pub data: PageSet,
    /// Pages that become zero. Pages in neither set stay as they are.
    pub zero: PageSet,
}

/// Pages of one or more blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// Number among the pass's numbered messages, from 0.
    pub sequence: u64,
    /// Blocks in ascending order; their pages follow each other in the payload.
    pub patches: Vec<BlockPatch>,
    /// Encoding of the payload.
    pub encoding: Encoding,
    /// The pages.
    pub payload: Bytes,
}

/// A block that the receiving end may find in a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Which block.
    pub block: BlockIndex,
    /// Its digest as it will stand.
    pub digest: Digest,
}

/// Everything that crosses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Both: who speaks and about what.
    Hello(Hello),
    /// To source: truncated digests of consecutive blocks, in disk order over the whole pass.
    Digests {
        /// First block.
        first: BlockIndex,
        /// 16 bytes a block.
        digests: Bytes,
    },
    /// To source: consecutive blocks of zeros, in the same order.
    ZeroDigests {
        /// Which blocks.
        blocks: BlockRange,
    },
    /// To source: consecutive blocks whose digests are those of the state that the target was said to be in, in the same
    /// order.
    KnownDigests {
        /// Which blocks.
        blocks: BlockRange,
    },
    /// To target: so many more blocks' digests may be sent.
    DigestCredit {
        /// Blocks.
        blocks: u64,
    },
    /// To target: send these blocks' page digests.
    PageDigestRequest {
        /// Ascending.
        blocks: Vec<BlockIndex>,
    },
    /// To source: page digests of blocks, truncated.
    PageDigests {
        /// Ascending.
        blocks: Vec<BlockIndex>,
        /// 16 bytes a page, block after block.
        digests: Bytes,
    },
    /// To target: contents.
    Data(Data),
    /// To target: whole blocks that become zero.
    Zero {
        /// Number among the pass's numbered messages.
        sequence: u64,
        /// Ascending, not touching.
        ranges: Vec<BlockRange>,
    },
    /// To target: blocks that a seed may hold.
    References {
        /// Number among the pass's numbered messages.
        sequence: u64,
        /// Ascending.
        offers: Vec<Offer>,
    },
    /// To source: a numbered message was dealt with; its credit returns. Not durable yet.
    Written {
        /// Its number.
        sequence: u64,
        /// Blocks of it that were not written, ascending: no seed holds them, or they did not verify.
        missing: Vec<BlockIndex>,
    },
    /// To source: all numbered messages below this are durable.
    Acknowledged {
        /// One above the highest.
        below: u64,
    },
    /// To target: nothing more follows; the target's root must be this.
    Seal {
        /// The source's root.
        root: Digest,
        /// How many numbered messages were sent.
        messages: u64,
    },
    /// To source: durable, and the root is the same.
    Sealed {
        /// The target's root.
        root: Digest,
    },
    /// To source: roots differ; chunk digests of the target, in order.
    ChunkDigests {
        /// First chunk.
        first: ChunkIndex,
        /// 32 bytes a chunk.
        digests: Bytes,
    },
    /// To target: send all digests of these chunks, read anew from the medium.
    ChunkRequest {
        /// Ascending; empty where no chunk differs.
        chunks: Vec<ChunkIndex>,
    },
    /// To source: digests of one chunk's blocks.
    FullDigests {
        /// Which chunk.
        chunk: ChunkIndex,
        /// 32 bytes a block.
        digests: Bytes,
    },
    /// Both: this end stops, and why.
    Error {
        /// Stable code, such as `FB203`.
        code: String,
        /// In words.
        message: String,
    },
    /// To target, first on a control connection: what is wanted.
    Open(Box<Open>),
    /// To source: the session stands.
    Welcome(Box<Welcome>),
    /// To target, first on a data connection: which session it belongs to.
    Join(Join),
    /// To source: it does.
    Joined {
        /// Which data connection.
        index: u16,
    },
    /// Both: are you there?
    Ping {
        /// To tell answers apart.
        nonce: u64,
    },
    /// Both: yes.
    Pong {
        /// The ping's.
        nonce: u64,
    },
    /// Both: nothing follows, on any connection.
    Bye,
}

impl Message {
    /// Iterates a payload of truncated digests.
    pub fn truncated_digests(payload: &Bytes) -> impl ExactSizeIterator<Item = TruncatedDigest> + '_ {
        payload.as_chunks::<16>().0.iter().map(|bytes| TruncatedDigest(*bytes))
    }

    /// Iterates a payload of whole digests.
    pub fn full_digests(payload: &Bytes) -> impl ExactSizeIterator<Item = Digest> + '_ {
        payload.as_chunks::<32>().0.iter().map(|bytes| Digest(*bytes))
    }
}
