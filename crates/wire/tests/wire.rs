//! Frames as they are: golden bytes, round trips, and no bytes that make the decoder panic.

use bytes::Bytes;
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Digest, PageSet};
use failback_wire::{BlockPatch, Data, Encoding, Frame, Hello, Message, Offer, Role};
use proptest::prelude::*;

/// One message of each kind, and its frame in hex. A change here is a change of the protocol: give it a version.
fn golden() -> Vec<(Message, &'static str)> {
    let blocks = |list: &[u64]| list.iter().map(|&block| BlockIndex(block)).collect::<Vec<_>>();
    let hello = Hello {
        role: Role::Receiving,
        length_bytes: 300,
        block_bytes: 65_536,
        has_seeds: true,
        is_new: false,
        verify: false,
    };
    vec![
        (Message::Hello(hello), "010000000a000000000000000001ac02808004010000"),
        (
            Message::Digests { first: BlockIndex(5), digests: Bytes::from(vec![7; 16]) },
            "02000000010000001000000005".to_owned().leak(),
        ),
        (Message::ZeroDigests { blocks: BlockRange::new(1, 4) }, "0300000002000000000000000103"),
        (Message::DigestCredit { blocks: 128 }, "0400000002000000000000008001"),
        (Message::PageDigestRequest { blocks: blocks(&[2, 3, 9]) }, "05000000040000000000000003020005"),
        (Message::Written { sequence: 6, missing: blocks(&[4]) }, "0a0000000300000000000000060104"),
        (Message::Acknowledged { below: 9 }, "0b000000010000000000000009"),
        (
            Message::Zero { sequence: 1, ranges: vec![BlockRange::new(2, 5), BlockRange::new(7, 8)] },
            "080000000600000000000000010202020100",
        ),
        (Message::ChunkRequest { chunks: vec![ChunkIndex(3)] }, "0f00000002000000000000000103"),
        (
            Message::Error { code: "FB203".into(), message: "x".into() },
            "11000000080000000000000005464232303301",
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn frames_are_the_golden_ones() {
    for (message, expected) in golden() {
        let frame = message.encode();
        let head = hex(frame.head());
        assert!(head.starts_with(expected), "{message:?} is {head}");
        assert!(head.len() - expected.len() <= 2, "{message:?} is {head}");
        assert_eq!(Message::decode(&frame), Ok(message));
    }
}

#[test]
fn every_truncation_of_a_body_is_an_error() {
    for (message, _) in golden() {
        let frame = message.encode();
        let bytes: Bytes = frame.head().iter().chain(frame.payload()).copied().collect();
        for end in 0..bytes.len() {
            assert!(Frame::split_from(&bytes.slice(..end)).is_err(), "{message:?} cut at {end}");
        }
        // A body one byte shorter than it says it needs, and one byte longer.
        for change in [-1i32, 1] {
            let mut body = frame.head()[12..].to_vec();
            body.resize((body.len() as i32 + change) as usize, 0);
            let mut bytes = frame.head()[..12].to_vec();
            bytes[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
            bytes.extend(body.iter().chain(frame.payload()));
            let (frame, _) = Frame::split_from(&bytes.into()).expect("a frame");
            assert!(Message::decode(&frame).is_err(), "{message:?} with {change}");
        }
    }
}

fn ascending(most: usize) -> impl Strategy<Value = Vec<u64>> {
    prop::collection::btree_set(0u64..1 << 40, 0..most).prop_map(|set| set.into_iter().collect())
}

fn pages() -> impl Strategy<Value = (PageSet, PageSet)> {
    prop::collection::vec(0u8..3, 0..16).prop_map(|kinds| {
        let (mut data, mut zero) = (PageSet::EMPTY, PageSet::EMPTY);
        for (page, kind) in kinds.into_iter().enumerate() {
            match kind {
                1 => data.insert(page),
                2 => zero.insert(page),
                _ => {}
            }
        }
        (data, zero)
    })
}

prop_compose! {
    fn data()(
        sequence in any::<u64>(),
        blocks in ascending(8),
        sets in prop::collection::vec(pages(), 8),
        digest in any::<[u8; 32]>(),
        short in 0usize..4096,
    ) -> Data {
        let patches: Vec<_> = blocks
            .iter()
            .zip(sets)
            .map(|(&block, (data, zero))| BlockPatch { block: BlockIndex(block), digest: Digest(digest), data, zero })
            .collect();
        let pages: usize = patches.iter().map(|patch| patch.data.count()).sum();
        let payload = vec![1; (pages * 4096).saturating_sub(short)];
        Data { sequence, patches, encoding: Encoding::Raw, payload: payload.into() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn contents_come_back_as_they_were(data in data()) {
        let message = Message::Data(data);
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn lists_come_back_as_they_were(blocks in ascending(50), sequence in any::<u64>(), digest in any::<[u8; 32]>()) {
        let offers = blocks.iter().map(|&block| Offer { block: BlockIndex(block), digest: Digest(digest) }).collect();
        let missing = blocks.iter().map(|&block| BlockIndex(block)).collect();
        for message in [Message::References { sequence, offers }, Message::Written { sequence, missing }] {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn no_bytes_panic_and_what_decodes_encodes_to_the_same(kind in 0u8..20, body in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&body);
        let (frame, _) = Frame::split_from(&bytes.into()).expect("a frame");
        if let Ok(message) = Message::decode(&frame) {
            let again = message.encode();
            prop_assert_eq!(again.head(), frame.head());
        }
    }
}
