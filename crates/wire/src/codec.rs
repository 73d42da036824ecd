//! Bodies of messages, field by field. PROTOCOL.md has them as a table.

use crate::error::{ErrorKind, WireError};
use crate::field::{Reader, Result, Writer, bad};
use crate::frame::Frame;
use crate::kind;
use crate::message::{BlockPatch, Data, Encoding, Hello, Message, Offer, Role};
use crate::version::Version;
use bytes::Bytes;
use failback_model::limits::{
    BATCH_MAX_BLOCKS, BLOCK_MAX_BYTES, PACK_MAX_BYTES, PAGE_BYTES, PAGE_REPLY_MAX_PAGES, PAGES_PER_BLOCK_MAX,
};
use failback_model::{BlockIndex, BlockRange, ChunkIndex, PageSet};

impl Writer {
    fn blocks(&mut self, blocks: &[BlockIndex]) -> &mut Self {
        self.ascending(blocks.iter().map(|block| block.0))
    }

    fn ranges(&mut self, ranges: &[BlockRange]) -> &mut Self {
        self.number(ranges.len() as u64);
        let mut next = 0;
        ranges.iter().fold(self, |w, range| w.range(*range, &mut next))
    }

    fn data(&mut self, data: &Data) -> &mut Self {
        let content = match data.encoding {
            Encoding::Raw => 0,
            Encoding::Zstd { content_bytes } => content_bytes,
        };
        self.number(data.sequence).number(content.into()).number(data.patches.len() as u64);
        let mut next = 0;
        data.patches.iter().fold(self, |w, patch| w.patch(patch, &mut next))
    }

    fn patch(&mut self, patch: &BlockPatch, next: &mut u64) -> &mut Self {
        self.step(patch.block.0, next).bytes(&patch.digest.0);
        let (data, zero) = (patch.data.end(), patch.zero.end());
        self.number(data as u64).number(zero as u64);
        let data: Vec<u8> = patch.data.to_bytes(data).chain(patch.zero.to_bytes(zero)).collect();
        self.bytes(&data)
    }
}

impl Reader<'_> {
    fn pages(&mut self, end: usize) -> Result<PageSet> {
        let set = PageSet::from_bytes(self.slice(end.div_ceil(8), "pages")?).ok_or(bad("pages"))?;
        if set.end() == end { Ok(set) } else { Err(bad("pages")) }
    }

    fn patch(&mut self, next: &mut u64) -> Result<BlockPatch> {
        let block = BlockIndex(self.step(next, "patch block")?);
        let digest = self.digest("patch digest")?;
        let data_end = self.at_most(PAGES_PER_BLOCK_MAX, "data pages")?;
        let zero_end = self.at_most(PAGES_PER_BLOCK_MAX, "zero pages")?;
        let (data, zero) = (self.pages(data_end)?, self.pages(zero_end)?);
        if data.intersects(&zero) { Err(bad("pages")) } else { Ok(BlockPatch { block, digest, data, zero }) }
    }

    fn data(&mut self, payload: Bytes) -> Result<Data> {
        let sequence = self.number("sequence")?;
        let encoding = match self.at_most(PACK_MAX_BYTES, "content length")? {
            0 => Encoding::Raw,
            content => Encoding::Zstd { content_bytes: content as u32 },
        };
        let count = self.at_most(BATCH_MAX_BLOCKS, "patches")?;
        let mut next = 0;
        let patches: Vec<_> = (0..count).map(|_| self.patch(&mut next)).collect::<Result<_>>()?;
        let content = match encoding {
            Encoding::Raw => payload.len(),
            Encoding::Zstd { content_bytes } => content_bytes as usize,
        };
        let pages: usize = patches.iter().map(|patch| patch.data.count()).sum();
        // The disk's last page may be short, so the content may be up to one page less one byte shorter.
        let most = pages * PAGE_BYTES as usize;
        if content > most || content + PAGE_BYTES as usize <= most && pages > 0 || content > PACK_MAX_BYTES {
            return Err(WireError::new(ErrorKind::PayloadLength, "data"));
        }
        Ok(Data { sequence, patches, encoding, payload })
    }

    fn run(&mut self) -> Result<BlockRange> {
        let start = self.number("first block")?;
        let end = self.number("block count")?.checked_add(start).ok_or(bad("block count"))?;
        Ok(BlockRange::new(start, end))
    }

    fn hello(&mut self) -> Result<Hello> {
        self.version("hello")?;
        let role = if self.flag("role")? { Role::Receiving } else { Role::Sending };
        Ok(Hello {
            role,
            length_bytes: self.number("length")?,
            block_bytes: self.at_most(BLOCK_MAX_BYTES as usize, "block size")? as u32,
            has_seeds: self.flag("has seeds")?,
            is_new: self.flag("is new")?,
            verify: self.flag("verify")?,
            digests_known: self.flag("digests known")?,
        })
    }
}

/// A payload of `count` fixed-size items.
fn items(payload: &Bytes, size: usize, limit: usize, field: &'static str) -> Result<Bytes> {
    if payload.is_empty() || !payload.len().is_multiple_of(size) {
        return Err(WireError::new(ErrorKind::PayloadLength, field));
    }
    if payload.len() / size > limit {
        return Err(WireError::new(ErrorKind::TooLarge, field));
    }
    Ok(payload.clone())
}

impl Message {
    /// Encodes the message; its payload is shared, not copied.
    ///
    /// Panics where a list is not ascending or the frame is above its limit: bugs of the caller.
    pub fn encode(&self) -> Frame {
        let mut w = Writer::default();
        match self {
            Self::Hello(hello) => {
                w.number(Version::CURRENT.number().into())
                    .flag(hello.role == Role::Receiving)
                    .number(hello.length_bytes);
                w.number(hello.block_bytes.into()).flag(hello.has_seeds).flag(hello.is_new);
                w.flag(hello.verify).flag(hello.digests_known)
            }
            Self::Digests { first, .. } => w.number(first.0),
            Self::ZeroDigests { blocks } | Self::KnownDigests { blocks } => {
                w.number(blocks.start.0).number(blocks.count())
            }
            Self::DigestCredit { blocks } => w.number(*blocks),
            Self::PageDigestRequest { blocks } | Self::PageDigests { blocks, .. } => w.blocks(blocks),
            Self::Data(data) => w.data(data),
            Self::Zero { sequence, ranges } => w.number(*sequence).ranges(ranges),
            Self::References { sequence, offers } => {
                w.number(*sequence).ascending(offers.iter().map(|offer| offer.block.0));
                offers.iter().fold(&mut w, |w, offer| w.bytes(&offer.digest.0))
            }
            Self::Written { sequence, missing } => w.number(*sequence).blocks(missing),
            Self::Acknowledged { below } => w.number(*below),
            Self::Seal { root, messages } => w.bytes(&root.0).number(*messages),
            Self::Sealed { root } => w.bytes(&root.0),
            Self::ChunkDigests { first, .. } => w.number(first.0),
            Self::ChunkRequest { chunks } => w.ascending(chunks.iter().map(|chunk| chunk.0)),
            Self::FullDigests { chunk, .. } => w.number(chunk.0),
            Self::Error { code, message } => w.text(code).text(message),
            Self::Open(open) => w.open(open),
            Self::Welcome(welcome) => w.welcome(welcome),
            Self::Join(join) => w.join(join),
            Self::Joined { index } => w.number((*index).into()),
            Self::Ping { nonce } | Self::Pong { nonce } => w.number(*nonce),
            Self::Bye => &mut w,
        }
        .frame(self.kind(), self.payload())
    }

    fn payload(&self) -> Bytes {
        match self {
            Self::Data(data) => data.payload.clone(),
            Self::Digests { digests, .. }
            | Self::PageDigests { digests, .. }
            | Self::ChunkDigests { digests, .. }
            | Self::FullDigests { digests, .. } => digests.clone(),
            _ => Bytes::new(),
        }
    }

    /// Decodes a frame whose header was checked. Ranges are checked against limits, not against the disk: that is
    /// the session's.
    pub fn decode(frame: &Frame) -> Result<Self> {
        let mut r = Reader(frame.body());
        let payload = frame.payload();
        let carries_payload = matches!(
            frame.kind(),
            kind::DIGESTS | kind::PAGE_DIGESTS | kind::DATA | kind::CHUNK_DIGESTS | kind::FULL_DIGESTS
        );
        if !carries_payload && !payload.is_empty() {
            return Err(WireError::new(ErrorKind::PayloadLength, "message without payload"));
        }
        let message = match frame.kind() {
            kind::HELLO => Self::Hello(r.hello()?),
            kind::DIGESTS => Self::Digests {
                first: BlockIndex(r.number("first block")?),
                digests: items(payload, 16, BATCH_MAX_BLOCKS, "digests")?,
            },
            kind::ZERO_DIGESTS => Self::ZeroDigests { blocks: r.run()? },
            kind::KNOWN_DIGESTS => Self::KnownDigests { blocks: r.run()? },
            kind::DIGEST_CREDIT => Self::DigestCredit { blocks: r.number("blocks")? },
            kind::PAGE_DIGEST_REQUEST => Self::PageDigestRequest { blocks: r.blocks("blocks")? },
            kind::PAGE_DIGESTS => Self::PageDigests {
                blocks: r.blocks("blocks")?,
                digests: items(payload, 16, PAGE_REPLY_MAX_PAGES, "page digests")?,
            },
            kind::DATA => Self::Data(r.data(payload.clone())?),
            kind::ZERO => {
                let sequence = r.number("sequence")?;
                let count = r.at_most(BATCH_MAX_BLOCKS, "ranges")?;
                let mut next = 0;
                let ranges = (0..count).map(|_| r.range(&mut next, "ranges")).collect::<Result<_>>()?;
                Self::Zero { sequence, ranges }
            }
            kind::REFERENCES => {
                let sequence = r.number("sequence")?;
                let blocks = r.blocks("offers")?;
                let offers = blocks
                    .into_iter()
                    .map(|block| Ok(Offer { block, digest: r.digest("offer digest")? }))
                    .collect::<Result<_>>()?;
                Self::References { sequence, offers }
            }
            kind::WRITTEN => Self::Written { sequence: r.number("sequence")?, missing: r.blocks("missing")? },
            kind::ACKNOWLEDGED => Self::Acknowledged { below: r.number("below")? },
            kind::SEAL => Self::Seal { root: r.digest("root")?, messages: r.number("messages")? },
            kind::SEALED => Self::Sealed { root: r.digest("root")? },
            kind::CHUNK_DIGESTS => Self::ChunkDigests {
                first: ChunkIndex(r.number("first chunk")?),
                digests: items(payload, 32, BATCH_MAX_BLOCKS, "chunk digests")?,
            },
            kind::CHUNK_REQUEST => {
                Self::ChunkRequest { chunks: r.ascending(BATCH_MAX_BLOCKS, "chunks", ChunkIndex)? }
            }
            kind::FULL_DIGESTS => Self::FullDigests {
                chunk: ChunkIndex(r.number("chunk")?),
                digests: items(payload, 32, BATCH_MAX_BLOCKS, "digests")?,
            },
            kind::ERROR => Self::Error { code: r.text("code")?, message: r.text("message")? },
            kind::OPEN => Self::Open(Box::new(r.open()?)),
            kind::WELCOME => Self::Welcome(Box::new(r.welcome()?)),
            kind::JOIN => Self::Join(r.join()?),
            kind::JOINED => Self::Joined { index: r.data_connections("data connection")? },
            kind::PING => Self::Ping { nonce: r.number("nonce")? },
            kind::PONG => Self::Pong { nonce: r.number("nonce")? },
            kind::BYE => Self::Bye,
            _ => return Err(WireError::new(ErrorKind::UnknownKind, "frame")),
        };
        if r.is_empty() { Ok(message) } else { Err(WireError::new(ErrorKind::TrailingBytes, "body")) }
    }
}
