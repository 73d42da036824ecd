//! What a hostile other end may say: anything that decodes, at any time.

use crate::disk::{digest, page_digest};
use crate::link::decode;
use crate::world::World;
use bytes::Bytes;
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Digest, PageSet};
use failback_session::SessionError;
use failback_wire::{BlockPatch, Data, Encoding, Hello, Message, Offer, Role};

impl World {
    /// Says something to either end: what was said before, or something new.
    pub(crate) fn let_a_stranger_speak(&mut self) -> Result<(), SessionError> {
        let from = if self.random.below(2) == 0 { &self.to_target } else { &self.to_source };
        let history = from.history.as_deref().unwrap_or_default();
        let message = match history.len() {
            count if count > 0 && self.random.below(2) == 0 => {
                decode(&history[self.random.below(count as u64) as usize])
            }
            _ => decode(&self.invent().encode()),
        };
        match self.random.below(2) {
            0 => self.sender.handle_message(message),
            _ => self.receiver.handle_message(message),
        }
    }

    /// Any message, about blocks in the disk or just outside.
    fn invent(&mut self) -> Message {
        let sequence = self.random.below(8);
        match self.random.below(18) {
            0 => Message::Hello(Hello {
                role: if self.random.below(2) == 0 { Role::Sending } else { Role::Receiving },
                length_bytes: self.layout.length_bytes() + self.random.below(2),
                block_bytes: 16 << 10,
                has_seeds: self.random.below(2) == 0,
                is_new: false,
                verify: false,
                digests_known: self.random.below(2) == 0,
            }),
            1 => Message::Digests { first: self.block(), digests: self.bytes(16) },
            2 => Message::ZeroDigests { blocks: self.range() },
            16 => Message::KnownDigests { blocks: self.range() },
            3 => Message::DigestCredit { blocks: u64::MAX >> self.random.below(64) },
            4 => Message::PageDigestRequest { blocks: self.blocks() },
            5 => {
                let blocks = self.blocks();
                let page = page_digest(self.random.below(6) as u8).0;
                let pages = blocks.len().max(1) * 4 - self.random.below(2) as usize;
                Message::PageDigests { blocks, digests: page.repeat(pages).into() }
            }
            6 => Message::Data(self.data(sequence)),
            7 => Message::Zero { sequence, ranges: vec![self.range()] },
            8 => {
                let digest = Digest([self.random.below(3) as u8; 32]);
                let offers = self.blocks().into_iter().map(|block| Offer { block, digest }).collect();
                Message::References { sequence, offers }
            }
            9 => Message::Written { sequence, missing: self.blocks() },
            10 => Message::Acknowledged { below: sequence },
            11 => Message::Seal { root: self.source_root(), messages: sequence },
            12 => Message::Sealed { root: if sequence < 4 { self.source_root() } else { Digest::ZERO } },
            13 => Message::ChunkDigests { first: ChunkIndex(sequence / 4), digests: self.bytes(32) },
            14 => Message::ChunkRequest { chunks: vec![ChunkIndex(sequence / 4)] },
            15 => Message::FullDigests { chunk: ChunkIndex(sequence / 4), digests: self.bytes(32) },
            _ => Message::Error { code: "FB203".into(), message: "a stranger says so".into() },
        }
    }

    fn block(&mut self) -> BlockIndex {
        match self.random.below(20) {
            0 => BlockIndex(u64::MAX - 1),
            _ => BlockIndex(self.random.below(self.layout.block_count() + 2)),
        }
    }

    fn blocks(&mut self) -> Vec<BlockIndex> {
        let mut blocks: Vec<_> = (0..self.random.below(4)).map(|_| self.block()).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    fn range(&mut self) -> BlockRange {
        let start = self.block().0.min(u64::MAX - 9);
        BlockRange::new(start, start + 1 + self.random.below(3))
    }

    fn bytes(&mut self, size: usize) -> Bytes {
        let value = self.random.below(3) as u8;
        vec![value; size * (1 + self.random.below(3) as usize)].into()
    }

    /// Contents that fit their pages; the block may not have those pages, and the digest may be another's.
    fn data(&mut self, sequence: u64) -> Data {
        let block = self.block();
        let (mut data, mut zero) = (PageSet::EMPTY, PageSet::EMPTY);
        for page in 0..6 {
            match self.random.below(4) {
                0 => data.insert(page),
                1 => zero.insert(page),
                _ => {}
            }
        }
        let source = self.source.get(usize::try_from(block.0).unwrap_or(usize::MAX));
        let patch = BlockPatch { block, digest: source.map_or(Digest::ZERO, digest), data, zero };
        let payload = vec![1; data.count() * 4096].into();
        Data { sequence, patches: vec![patch], encoding: Encoding::Raw, payload }
    }
}
