//! One frame of each kind, as it crossed when this version was made.

use bytes::Bytes;
use failback_model::{
    BlockIndex, BlockRange, ChunkIndex, Digest, DiskId, Epoch, Generation, JobId, MachineId, PageSet,
    PointClaim, PointLabel, ProductVersion, SessionNumber, SessionToken, TruncatedDigest,
};
use failback_wire::{
    BlockPatch, Capabilities, Data, Encoding, Frame, HEADER_BYTES, Hello, Join, Message, Offer, Open, Role,
    SampledBlock, Version, Welcome,
};
use std::path::{Path, PathBuf};

/// Where the frames of this version lie: a line of header, one of body, and one of payload where there is one.
fn folder() -> PathBuf {
    let Version::V1 = Version::CURRENT;
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn blocks(list: &[u64]) -> Vec<BlockIndex> {
    list.iter().map(|&block| BlockIndex(block)).collect()
}

fn pages(list: &[usize]) -> PageSet {
    let mut set = PageSet::EMPTY;
    list.iter().for_each(|&page| set.insert(page));
    set
}

/// Bytes that count up from `first`.
fn counting(first: u8, count: u8) -> Bytes {
    (first..first + count).collect::<Vec<_>>().into()
}

fn digest(first: u8) -> Digest {
    Digest(std::array::from_fn(|i| first + i as u8))
}

fn data(encoding: Encoding) -> Message {
    let patches = vec![
        BlockPatch { block: BlockIndex(5), digest: digest(0), data: PageSet::EMPTY, zero: pages(&[0, 15]) },
        BlockPatch { block: BlockIndex(300), digest: digest(32), data: pages(&[8]), zero: pages(&[1]) },
    ];
    Message::Data(Data { sequence: 1 << 40, patches, encoding, payload: counting(1, 3) })
}

/// An end that speaks versions that this build does not, and sets bits that it does not know.
fn open() -> Open {
    Open {
        version_min: 1,
        version_max: 700,
        product: ProductVersion { major: 0, minor: 12, patch: 300 },
        clock_unix_ms: 1_763_000_000_123,
        machine: MachineId::new("web-01.example").expect("an id"),
        disk: DiskId::new("scsi0_1").expect("an id"),
        length_bytes: 1 << 30,
        content_end_bytes: (1 << 30) - 4096,
        block_bytes: 65_536,
        sector_bytes: 4096,
        disk_mark: "MBR 0badcafe".into(),
        generation: Generation(41),
        root: digest(64),
        epoch: Epoch(3),
        capabilities: Capabilities(1 << 63),
        data_connections: 4,
        verify: true,
        accept_older: false,
        accept_mismatch: true,
        accept_divergence: false,
        job: JobId::new("0b5c").expect("an id"),
        claim: PointClaim::new(1_763_000_000_000, PointLabel::PerDisk, "2 disks, no hook").of_cycle(7),
        sample: vec![
            SampledBlock { block: BlockIndex(3), digest: digest(32).truncated() },
            SampledBlock { block: BlockIndex(700), digest: TruncatedDigest::ZERO },
        ],
    }
}

fn welcome() -> Welcome {
    Welcome {
        version: Version::V1,
        product: ProductVersion { major: 0, minor: 12, patch: 0 },
        clock_unix_ms: 1_763_000_000_456,
        capabilities: Capabilities(0),
        token: SessionToken(std::array::from_fn(|i| 0xf0 + i as u8)),
        session: SessionNumber(130),
        data_connections: 3,
        length_bytes: (1 << 30) + 512,
        pass_bytes: 1 << 30,
        generation: Generation(41),
        root: Digest::ZERO,
        is_new: false,
        has_seeds: true,
        is_resumed: true,
        is_divergence_accepted: false,
        window_bytes: 64 << 20,
    }
}

/// One message of each kind, in the order of the kinds, by the name of its file.
pub(crate) fn messages() -> Vec<(&'static str, Message)> {
    let hello = Hello {
        role: Role::Sending,
        length_bytes: 1 << 30,
        block_bytes: 65_536,
        has_seeds: false,
        is_new: false,
        verify: true,
        digests_known: true,
    };
    let receiving = Hello {
        role: Role::Receiving,
        has_seeds: true,
        is_new: true,
        verify: false,
        digests_known: false,
        ..hello.clone()
    };
    vec![
        ("01-hello-sending", Message::Hello(hello)),
        ("01-hello-receiving", Message::Hello(receiving)),
        ("02-digests", Message::Digests { first: BlockIndex(127), digests: counting(0, 32) }),
        ("03-zero-digests", Message::ZeroDigests { blocks: BlockRange::new(128, 16_512) }),
        ("04-digest-credit", Message::DigestCredit { blocks: 16_384 }),
        ("05-page-digest-request", Message::PageDigestRequest { blocks: blocks(&[2, 3, 9, 1 << 32]) }),
        ("06-page-digests", Message::PageDigests { blocks: blocks(&[2]), digests: counting(0, 64) }),
        ("07-data-raw", data(Encoding::Raw)),
        ("07-data-zstd", data(Encoding::Zstd { content_bytes: 4096 })),
        (
            "08-zero",
            Message::Zero { sequence: 1, ranges: vec![BlockRange::new(2, 5), BlockRange::new(7, 8)] },
        ),
        (
            "09-references",
            Message::References {
                sequence: 2,
                offers: vec![
                    Offer { block: BlockIndex(4), digest: digest(0) },
                    Offer { block: BlockIndex(6), digest: digest(32) },
                ],
            },
        ),
        ("10-written", Message::Written { sequence: 2, missing: blocks(&[6]) }),
        ("11-acknowledged", Message::Acknowledged { below: 3 }),
        ("12-seal", Message::Seal { root: digest(64), messages: 3 }),
        ("13-sealed", Message::Sealed { root: digest(64) }),
        ("14-chunk-digests", Message::ChunkDigests { first: ChunkIndex(1), digests: counting(0, 64) }),
        ("15-chunk-request", Message::ChunkRequest { chunks: vec![ChunkIndex(1), ChunkIndex(3)] }),
        ("16-full-digests", Message::FullDigests { chunk: ChunkIndex(3), digests: counting(0, 64) }),
        ("17-error", Message::Error { code: "FB203".into(), message: "no space at 4 KiB · €".into() }),
        ("18-open", Message::Open(Box::new(open()))),
        ("19-welcome", Message::Welcome(Box::new(welcome()))),
        ("20-join", Message::Join(Join { version: Version::V1, token: welcome().token, index: 2 })),
        ("21-joined", Message::Joined { index: 2 }),
        ("22-ping", Message::Ping { nonce: 300 }),
        ("23-pong", Message::Pong { nonce: 300 }),
        ("24-bye", Message::Bye),
        ("25-known-digests", Message::KnownDigests { blocks: BlockRange::new(128, 16_512) }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A frame's three parts, a line each.
fn lines(frame: &Frame) -> String {
    let (header, body) = frame.head().split_at(HEADER_BYTES);
    let parts = [header, body, frame.payload()].into_iter().filter(|part| !part.is_empty());
    parts.map(|part| hex(part) + "\n").collect()
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<_>>().into()
}

#[test]
fn frames_are_the_golden_ones() {
    let mut changed = String::new();
    for (name, message) in messages() {
        let path = folder().join(name).with_extension("hex");
        let frame = message.encode();
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        if golden != lines(&frame) {
            changed += &format!("{}, now:\n{}", path.display(), lines(&frame));
            continue;
        }
        let (decoded, rest) = Frame::split_from(&unhex(&golden)).expect("a frame");
        assert_eq!(Message::decode(&decoded), Ok(message), "{name}");
        assert!(rest.is_empty());
    }
    assert!(
        changed.is_empty(),
        "the encoding changed: give it a new version in version.rs and PROTOCOL.md, with its own golden files.\n{changed}"
    );
}

#[test]
fn every_kind_has_a_golden_frame_and_every_golden_frame_a_message() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder of golden frames")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .collect();
    files.sort();
    let mut named: Vec<String> = messages().iter().map(|(name, _)| format!("{name}.hex")).collect();
    named.sort();
    assert_eq!(files, named);
    let mut kinds: Vec<u8> = messages().iter().map(|(_, message)| message.encode().head()[0]).collect();
    kinds.dedup();
    assert_eq!(kinds, (1..=25).collect::<Vec<u8>>());
}
