//! Everything that may be said comes back as it was said.

use failback_model::limits::{
    BATCH_MAX_BLOCKS, PAGE_REPLY_MAX_PAGES, PAGES_PER_BLOCK_MAX, SAMPLE_MAX_BLOCKS,
};
use failback_model::{
    BlockIndex, BlockRange, ChunkIndex, Digest, Epoch, Generation, PageSet, PointClaim, PointLabel,
    ProductVersion, SessionNumber, SessionToken,
};
use failback_wire::{
    BlockPatch, Capabilities, Data, Encoding, Frame, Hello, Join, Message, Offer, Open, Role, SampledBlock,
    Version, Welcome,
};
use proptest::prelude::*;

/// A number of any length of varint.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0u32..64).prop_map(|(value, shift)| value >> shift)
}

/// An ascending list, dense or sparse, sometimes as long as one may be.
fn ascending() -> impl Strategy<Value = Vec<u64>> {
    let steps = prop_oneof![
        9 => prop::collection::vec((0u64..1 << 40, 0u32..40), 0..40),
        1 => prop::collection::vec((0u64..1 << 40, 30u32..40), BATCH_MAX_BLOCKS),
    ];
    steps.prop_map(|steps| {
        let mut next = 0;
        let number = |(step, shift): (u64, u32)| {
            let number = next + (step >> shift);
            next = number + 1;
            number
        };
        steps.into_iter().map(number).collect()
    })
}

fn blocks() -> impl Strategy<Value = Vec<BlockIndex>> {
    ascending().prop_map(|list| list.into_iter().map(BlockIndex).collect())
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

/// A payload of items; its contents do not matter.
fn items(size: usize, most: usize) -> impl Strategy<Value = bytes::Bytes> {
    (prop_oneof![9 => 1..40usize, 1 => Just(most)], any::<u8>())
        .prop_map(move |(count, value)| vec![value; count * size].into())
}

/// Disjoint sets of the pages of a block that may be as large as one may be.
fn pages() -> impl Strategy<Value = (PageSet, PageSet)> {
    let sizes = prop_oneof![9 => 0..20usize, 1 => Just(PAGES_PER_BLOCK_MAX)];
    sizes.prop_flat_map(|size| prop::collection::vec(0u8..3, size)).prop_map(|kinds| {
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
    /// Contents of up to eight blocks, at most a mebibyte; the last page may be short.
    fn data()(
        sequence in number(),
        list in ascending(),
        sets in prop::collection::vec(pages(), 0..8),
        digest in digest(),
        short in 0usize..4096,
        compressed in prop::option::of(0usize..5000),
    ) -> Data {
        let mut left = 256;
        let patches: Vec<_> = list
            .iter()
            .zip(sets)
            .map(|(&block, (data, zero))| BlockPatch { block: BlockIndex(block), digest, data, zero })
            .take_while(|patch| {
                left -= patch.data.count() as i64;
                left >= 0
            })
            .collect();
        let pages: usize = patches.iter().map(|patch| patch.data.count()).sum();
        let content = (pages * 4096).saturating_sub(short);
        let (encoding, length) = match compressed {
            Some(length) if content > 0 => (Encoding::Zstd { content_bytes: content as u32 }, length),
            _ => (Encoding::Raw, content),
        };
        Data { sequence, patches, encoding, payload: vec![1; length].into() }
    }
}

fn hello() -> impl Strategy<Value = Hello> {
    let flags = any::<[bool; 5]>();
    (number(), 0u32..=1 << 20, flags).prop_map(|(length_bytes, block_bytes, flags)| {
        let [is_sending, has_seeds, is_new, verify, digests_known] = flags;
        let role = if is_sending { Role::Sending } else { Role::Receiving };
        Hello { role, length_bytes, block_bytes, has_seeds, is_new, verify, digests_known }
    })
}

fn product() -> impl Strategy<Value = ProductVersion> {
    any::<[u32; 3]>().prop_map(|[major, minor, patch]| ProductVersion { major, minor, patch })
}

/// An id of any kind, as long as one may be.
fn id<T: std::fmt::Debug + TryFrom<String, Error: std::fmt::Debug>>() -> impl Strategy<Value = T> {
    "[a-z0-9][a-z0-9._-]{0,63}".prop_map(|text| T::try_from(text).expect("an id"))
}

prop_compose! {
    fn open()(
        versions in any::<[u16; 2]>(),
        product in product(),
        numbers in prop::array::uniform6(number()),
        (machine, disk, job) in (id(), id(), id()),
        (block_bytes, sector_bytes) in (0u32..=1 << 20, any::<u32>()),
        disk_mark in "[A-Z]{0,3}[ a-f0-9]{0,61}",
        root in digest(),
        data_connections in 0u16..=32,
        flags in any::<[bool; 4]>(),
        (source_unix_ms, label, reason) in (number(), 0u8..4, "[ -~äß€]{0,300}"),
        sample in blocks(),
    ) -> Open {
        let [clock_unix_ms, length_bytes, content_end_bytes, generation, epoch, capabilities] = numbers;
        Open {
            version_min: versions[0],
            version_max: versions[1],
            product,
            clock_unix_ms,
            machine,
            disk,
            length_bytes,
            content_end_bytes,
            block_bytes,
            sector_bytes,
            disk_mark,
            generation: Generation(generation),
            root,
            epoch: Epoch(epoch),
            capabilities: Capabilities(capabilities),
            data_connections,
            verify: flags[0],
            accept_older: flags[1],
            accept_mismatch: flags[2],
            accept_divergence: flags[3],
            job,
            claim: PointClaim::new(source_unix_ms, PointLabel::of_number(label).expect("a label"), &reason),
            sample: sample
                .into_iter()
                .take(SAMPLE_MAX_BLOCKS)
                .map(|block| SampledBlock { block, digest: root.truncated() })
                .collect(),
        }
    }
}

prop_compose! {
    fn welcome()(
        product in product(),
        (numbers, pass_bytes) in (prop::array::uniform6(number()), number()),
        token in any::<[u8; 16]>(),
        root in digest(),
        data_connections in 0u16..=32,
        flags in any::<[bool; 4]>(),
    ) -> Welcome {
        let [clock_unix_ms, capabilities, session, length_bytes, generation, window_bytes] = numbers;
        let [is_new, has_seeds, is_resumed, is_divergence_accepted] = flags;
        Welcome {
            version: Version::V1,
            product,
            clock_unix_ms,
            capabilities: Capabilities(capabilities),
            token: SessionToken(token),
            session: SessionNumber(session),
            data_connections,
            length_bytes,
            pass_bytes,
            generation: Generation(generation),
            root,
            is_new,
            has_seeds,
            is_resumed,
            is_divergence_accepted,
            window_bytes,
        }
    }
}

fn setup() -> impl Strategy<Value = Message> {
    prop_oneof![
        open().prop_map(|open| Message::Open(Box::new(open))),
        welcome().prop_map(|welcome| Message::Welcome(Box::new(welcome))),
        (any::<[u8; 16]>(), 0u16..=32).prop_map(|(token, index)| {
            Message::Join(Join { version: Version::V1, token: SessionToken(token), index })
        }),
        (0u16..=32).prop_map(|index| Message::Joined { index }),
        number().prop_map(|nonce| Message::Ping { nonce }),
        number().prop_map(|nonce| Message::Pong { nonce }),
        Just(Message::Bye),
    ]
}

/// Ranges that do not touch.
fn ranges() -> impl Strategy<Value = Vec<BlockRange>> {
    ascending().prop_map(|ends| {
        let pairs = ends.chunks_exact(2).map(|pair| BlockRange::new(2 * pair[0], 2 * pair[1]));
        pairs.collect()
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        4 => pass_message(),
        1 => setup(),
    ]
}

fn pass_message() -> impl Strategy<Value = Message> {
    let first = number().prop_map(BlockIndex);
    let chunk = || number().prop_map(ChunkIndex);
    prop_oneof![
        hello().prop_map(Message::Hello),
        (first, items(16, BATCH_MAX_BLOCKS)).prop_map(|(first, digests)| Message::Digests { first, digests }),
        (number(), number())
            .prop_map(|(a, b)| Message::ZeroDigests { blocks: BlockRange::new(a.min(b), a.max(b)) }),
        (number(), number())
            .prop_map(|(a, b)| Message::KnownDigests { blocks: BlockRange::new(a.min(b), a.max(b)) }),
        number().prop_map(|blocks| Message::DigestCredit { blocks }),
        blocks().prop_map(|blocks| Message::PageDigestRequest { blocks }),
        (blocks(), items(16, PAGE_REPLY_MAX_PAGES))
            .prop_map(|(blocks, digests)| Message::PageDigests { blocks, digests }),
        data().prop_map(Message::Data),
        (number(), ranges()).prop_map(|(sequence, ranges)| Message::Zero { sequence, ranges }),
        (number(), blocks(), digest()).prop_map(|(sequence, blocks, digest)| {
            let offers = blocks.into_iter().map(|block| Offer { block, digest }).collect();
            Message::References { sequence, offers }
        }),
        (number(), blocks()).prop_map(|(sequence, missing)| Message::Written { sequence, missing }),
        number().prop_map(|below| Message::Acknowledged { below }),
        (digest(), number()).prop_map(|(root, messages)| Message::Seal { root, messages }),
        digest().prop_map(|root| Message::Sealed { root }),
        (chunk(), items(32, BATCH_MAX_BLOCKS))
            .prop_map(|(first, digests)| Message::ChunkDigests { first, digests }),
        ascending()
            .prop_map(|list| Message::ChunkRequest { chunks: list.into_iter().map(ChunkIndex).collect() }),
        (chunk(), items(32, BATCH_MAX_BLOCKS))
            .prop_map(|(chunk, digests)| Message::FullDigests { chunk, digests }),
        (".{0,40}", ".{0,300}").prop_map(|(code, message)| Message::Error { code, message }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_back_as_it_was(messages in prop::collection::vec(message(), 1..4)) {
        let mut stream: Vec<u8> = Vec::new();
        for message in &messages {
            let frame = message.encode();
            prop_assert_eq!(frame.encoded_bytes(), (frame.head().len() + frame.payload().len()) as u64);
            stream.extend(frame.head().iter().chain(frame.payload()));
        }
        let mut rest = stream.into();
        for message in messages {
            let (frame, behind) = Frame::split_from(&rest).expect("a whole frame");
            let joined = Frame::from_parts(frame.head().clone(), frame.payload().clone()).expect("its parts");
            prop_assert_eq!((joined.head(), joined.payload()), (frame.head(), frame.payload()));
            prop_assert!(Frame::from_parts(frame.head().slice(1..), frame.payload().clone()).is_err());
            prop_assert_eq!(Message::decode(&frame), Ok(message));
            rest = behind;
        }
        prop_assert!(rest.is_empty());
    }
}

#[test]
fn long_texts_are_cut_between_characters() {
    let message = Message::Error { code: "FB501".into(), message: "€".repeat(2000) };
    let Ok(Message::Error { message, .. }) = Message::decode(&message.encode()) else { panic!("an error") };
    assert_eq!(message, "€".repeat(4096 / 3));
}

#[test]
#[should_panic(expected = "a list ascends")]
fn a_list_that_does_not_ascend_is_a_bug_of_the_caller() {
    Message::PageDigestRequest { blocks: vec![BlockIndex(2), BlockIndex(1)] }.encode();
}
