//! Frames: one of each message, and data messages as a pass packs them.

use crate::Seed;
use bytes::Bytes;
use failback_engine::{Packer, RefinedBlock};
use failback_fuzz_bodies::unpack_disk;
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Digest, PageSet, block_digest};
use failback_wire::{Hello, Message, Offer, Role};

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = vec![("frames", "one-of-each", one_of_each())];
    for (name, mode, level) in [("raw", 0, None), ("zstd", 0, Some(1)), ("true-digests", 1, None)] {
        seeds.push(("unpack", name, data_messages(mode, level)));
    }
    seeds
}

pub(crate) fn frame(message: &Message) -> Vec<u8> {
    let frame = message.encode();
    [frame.head().as_ref(), frame.payload()].concat()
}

fn one_of_each() -> Vec<u8> {
    let hello = Hello {
        role: Role::Receiving,
        length_bytes: 1 << 40,
        block_bytes: 65_536,
        has_seeds: true,
        is_new: false,
        verify: true,
        digests_known: true,
    };
    let blocks = vec![BlockIndex(3), BlockIndex(4), BlockIndex(900_000)];
    let digests = |length: usize| Bytes::from(vec![0x5a; length]);
    let offers = blocks.iter().map(|&block| Offer { block, digest: Digest([4; 32]) }).collect();
    let messages = [
        Message::Hello(hello),
        Message::Digests { first: BlockIndex(70_000), digests: digests(64) },
        Message::ZeroDigests { blocks: BlockRange::new(0, 1 << 30) },
        Message::KnownDigests { blocks: BlockRange::new(0, 1 << 30) },
        Message::DigestCredit { blocks: 65_536 },
        Message::PageDigestRequest { blocks: blocks.clone() },
        Message::PageDigests { blocks: blocks.clone(), digests: digests(48 * 16) },
        Message::Zero { sequence: 9, ranges: vec![BlockRange::new(1, 2), BlockRange::new(5, 1 << 20)] },
        Message::References { sequence: 10, offers },
        Message::Written { sequence: 10, missing: blocks },
        Message::Acknowledged { below: 300 },
        Message::Seal { root: Digest([1; 32]), messages: 301 },
        Message::Sealed { root: Digest([1; 32]) },
        Message::ChunkDigests { first: ChunkIndex(0), digests: digests(64) },
        Message::ChunkRequest { chunks: vec![ChunkIndex(0), ChunkIndex(7)] },
        Message::FullDigests { chunk: ChunkIndex(7), digests: digests(96) },
        Message::Error { code: "FB203".into(), message: "cannot write ä".into() },
    ];
    messages.iter().flat_map(frame).collect()
}

/// A page of a block, a page and a zero page of the next, the short last block; compressed, the first one whole.
fn data_messages(mode: u8, level: Option<i32>) -> Vec<u8> {
    let which = 4;
    let (layout, mut disk) = unpack_disk(which);
    let text = b"a line of a log file\n".repeat(200);
    let mut packer = Packer::new(level);
    let only = |page: usize| PageSet::from_bytes(&[1 << page]).expect("four pages");
    let first = if level.is_some() { PageSet::first(4) } else { only(2) };
    for (block, data, zero) in
        [(0, first, PageSet::EMPTY), (1, only(0), only(1)), (2, only(0), PageSet::EMPTY)]
            .map(|(b, d, z)| (BlockIndex(b), d, z))
    {
        let bytes = layout.block_bytes(block);
        let content = &mut disk[bytes.start() as usize..bytes.end() as usize];
        for page in data.iter() {
            let range = layout.page_bytes(block, page);
            let length = range.len();
            content[range].copy_from_slice(&text[..length]);
        }
        zero.iter().for_each(|page| content[layout.page_bytes(block, page)].fill(0));
        packer.add(block, content, &RefinedBlock { digest: block_digest(content), data, zero });
    }
    let mut bytes = vec![which, mode];
    for (sequence, mut message) in packer.finish().into_iter().enumerate() {
        message.sequence = sequence as u64;
        bytes.extend(frame(&Message::Data(message)));
    }
    bytes
}
