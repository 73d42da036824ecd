//! The codec against bytes that another program computed, and against everything a power cut or a bad medium makes of
//! them.

use super::*;
use failback_model::limits::JOURNAL_RECORD_MAX_BYTES;
use failback_model::{
    BlockIndex, BlockRange, BlockSize, Digest, DiskId, Epoch, Generation, Layout, MachineId, PointClaim,
    PointLabel, SessionNumber,
};
use proptest::collection::vec;
use proptest::prelude::*;

const SALT: u64 = 0x0123_4567_89ab_cdef;

fn place(offset_bytes: u32, sequence: u32) -> Place {
    Place { salt: SALT, offset_bytes, sequence }
}

/// One line of hexadecimal digits for the header and each record, computed by an encoder of its own.
fn golden() -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    include_str!("golden.hex").lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
}

fn claim(source_unix_ms: u64, label: PointLabel, reason: &str) -> PointClaim {
    PointClaim { source_unix_ms, label, reason: reason.into(), cycle: source_unix_ms % 97 }
}

fn golden_records() -> Vec<(DiskSlot, Record)> {
    let range = BlockRange::new;
    let digest = |byte| Digest([byte; 32]);
    let layout = Layout::new(40_000, BlockSize::new(16 << 10).unwrap()).unwrap();
    let checkpoint = DiskCheckpoint {
        id: DiskId::new("scsi0.0").unwrap(),
        generation: Generation(6),
        root: Some(digest(6)),
        epoch: Epoch(3),
        session: SessionNumber(11),
        layout: Some(layout),
        in_pass: false,
        fingerprint: Some(digest(7)),
        group: 20,
        is_created: true,
        sealed: Some(SealedAs {
            epoch: Epoch(3),
            at_unix_ms: 1_763_000_000_050,
            claim: claim(1_762_999_999_000, PointLabel::PerDisk, "2 disks"),
        }),
    };
    let (first, second) = (DiskSlot(0), DiskSlot(1));
    let session =
        Record::Session { epoch: Epoch(4), number: SessionNumber(1), layout, trust: Trust::Nothing };
    let seal = Record::Seal {
        generation: Generation(7),
        root: digest(5),
        fingerprint: digest(4),
        trust: Trust::Everything,
        at_unix_ms: 1_763_000_000_100,
        claim: claim(1_763_000_000_000, PointLabel::AppConsistent, ""),
    };
    let disk = |slot, generation, root| PointDisk {
        slot,
        generation: Generation(generation),
        layout: Some(layout),
        root,
    };
    let point = Point {
        number: 2,
        undo_from: 9,
        sealed_unix_ms: 1_763_000_000_200,
        claim: claim(1_763_000_000_000, PointLabel::AppConsistent, ""),
        restored: Some(1),
        disks: vec![disk(first, 7, Some(digest(5))), disk(second, 0, None)],
    };
    let phase = Phase { kind: PhaseKind::Released, point: 2, epoch: Epoch(4), at_unix_ms: 1_763_000_000_300 };
    let run = |start, end| PageRun { start, end };
    let undo = Undo {
        group: 20,
        block_bytes: 16 << 10,
        digests: vec![(BlockIndex(0), Some(digest(8))), (BlockIndex(2), None)],
        pieces: vec![
            UndoPiece {
                pages: run(0, 1),
                old: OldPages::Stored { bytes: vec![0xaa; 4096], plain_bytes: 4096 },
            },
            UndoPiece { pages: run(4, 8), old: OldPages::Zero },
            UndoPiece {
                pages: run(8, 10),
                old: OldPages::Stored { bytes: b"zstd.".to_vec(), plain_bytes: 5700 },
            },
        ],
    };
    let left = Left {
        fingerprint: digest(3),
        at_unix_ms: 1_763_000_000_123,
        recheck_from: BlockIndex(2),
        look: "disk 1 -\n".into(),
    };
    let commit = Record::Commit {
        group: 20,
        entries: vec![(BlockIndex(0), digest(8)), (BlockIndex(2), digest(9))],
        zeros: vec![range(1, 2)],
    };
    vec![
        (first, Record::Checkpoint(Box::new(checkpoint))),
        (first, Record::Trusted { blocks: vec![range(0, 1), range(2, 3)] }),
        (second, Record::Disk { id: DiskId::new("scsi0.1").unwrap() }),
        (second, session),
        (first, Record::Scanned { blocks: range(1, 3), digests: Some(vec![digest(1), digest(2)]) }),
        (first, Record::Scanned { blocks: range(0, 3), digests: None }),
        (first, Record::Intent { group: 20, blocks: vec![range(0, 1), range(2, 3)] }),
        (first, commit),
        (first, seal),
        (first, Record::Released(left)),
        (second, Record::Forget),
        (first, Record::Doubted { blocks: vec![range(2, 3)] }),
        (second, Record::Created),
        (DiskSlot::MACHINE, Record::Point(point)),
        (DiskSlot::MACHINE, Record::PointDropped { number: 1 }),
        (DiskSlot::MACHINE, Record::Phase(phase)),
        (first, Record::Undo(undo)),
    ]
}

#[test]
fn segments_are_what_another_encoder_made() {
    let golden = golden();
    let checkpoint_end = SEGMENT_HEADER_BYTES + golden[1].len() + golden[2].len();
    let header = SegmentHeader {
        kind: SegmentKind::Journal,
        machine: MachineId::new("web-1").unwrap(),
        number: 42,
        salt: SALT,
        checkpoint_end_bytes: checkpoint_end as u32,
    };
    assert_eq!(header.encode()[..], golden[0]);
    assert_eq!(SegmentHeader::decode(&golden[0]), Ok(header.clone()));
    let undo = SegmentHeader { kind: SegmentKind::Undo, ..header };
    assert_eq!(
        (&undo.encode()[..8], SegmentHeader::decode(&undo.encode())),
        (&b"FBUNDOS\x01"[..], Ok(undo.clone()))
    );
    let records = golden_records();
    assert_eq!(records.len() + 1, golden.len());
    let mut offset = SEGMENT_HEADER_BYTES;
    for (sequence, ((disk, record), line)) in records.into_iter().zip(&golden[1..]).enumerate() {
        let durable = if offset < checkpoint_end { SEGMENT_HEADER_BYTES } else { checkpoint_end } as u32;
        let place = place(offset as u32, sequence as u32);
        let mut bytes = Vec::new();
        encode_record(&mut bytes, place, durable, disk, &record);
        assert_eq!(&bytes, line, "{record:?}");
        let found = Found::Record { disk, record, durable_bytes: durable, framed_bytes: line.len() };
        assert_eq!(find_record(line, place), Ok(found));
        offset += line.len();
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    let whole = &golden()[0];
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
    }
    assert!((0..whole.len()).all(|length| SegmentHeader::decode(&whole[..length]).is_err()));
}

#[test]
fn a_record_counts_only_at_its_own_place() {
    let line = &golden()[1];
    assert!(matches!(find_record(line, place(128, 0)), Ok(Found::Record { .. })));
    let elsewhere = [
        place(136, 0),
        place(128, 1),
        Place { salt: SALT + 1, ..place(128, 0) },
        Place { salt: 0, offset_bytes: 0, sequence: 0 },
    ];
    for other in elsewhere {
        assert!(matches!(find_record(line, other), Ok(Found::Bad { .. })), "{other:?}");
    }
}

#[test]
fn zeros_are_no_record_and_claim_nothing() {
    assert!(matches!(find_record(&[0; 4096], place(128, 0)), Ok(Found::Bad { .. })));
    assert_eq!(durable_claim(&[0; 4096], SALT, 128), None);
    assert_eq!(durable_claim(&[0; 23], SALT, 128), None);
}

#[test]
fn claims_are_found_behind_what_is_bad_and_only_at_their_place() {
    let golden = golden();
    let mut bytes: Vec<u8> = golden.concat();
    let at = SEGMENT_HEADER_BYTES;
    let end = (at + golden[1].len() + golden[2].len()) as u32;
    assert_eq!(durable_claim(&bytes[at..], SALT, at as u32), Some(end));
    assert_eq!(durable_claim(&bytes[at + 4..], SALT, at as u32 + 4), Some(end), "records are aligned");
    assert_eq!(durable_claim(&bytes[at..], SALT, at as u32 + 8), None);
    // A header counts even where the record behind it is not whole.
    let last = bytes.len() - golden[golden.len() - 1].len();
    bytes.truncate(last + RECORD_HEADER_BYTES);
    assert_eq!(durable_claim(&bytes[last..], SALT, last as u32), Some(end));
}

#[test]
fn a_record_that_checks_and_makes_no_sense_is_an_error() {
    let forged = |kind: u8, payload: &[u8]| {
        // A record that is sound, then another kind and payload under checksums made right.
        let mut bytes = vec![0; RECORD_HEADER_BYTES];
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes[4] = kind;
        let payload_checksum = crc32fast::hash(&bytes[RECORD_HEADER_BYTES..]);
        bytes[16..20].copy_from_slice(&payload_checksum.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&SALT.to_le_bytes());
        hasher.update(&128u32.to_le_bytes());
        hasher.update(&bytes[..20]);
        bytes[20..24].copy_from_slice(&hasher.finalize().to_le_bytes());
        find_record(&bytes, place(128, 0))
    };
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    assert!(matches!(forged(8, &[]), Ok(Found::Record { record: Record::Forget, .. })));
    let nonsense: [(u8, Vec<u8>); 32] = [
        (0, vec![]),
        (17, vec![]),
        (8, vec![0]),
        (12, vec![0]),
        (13, words(&[1, 1, 1, 1, 1, 1])),
        (14, vec![1; 7]),
        (15, words(&[9, 0, 0, 0]).into_iter().take(28).collect()),
        (16, words(&[1, 1, 0, 0])),
        (16, words(&[1, 0, 1 << 32])),
        (16, words(&[1, 1 << 32, 0, 0, 0, 0])),
        (16, words(&[1, 1 << 32, 0, 1, 0, 0])),
        (16, words(&[1, 1 << 32, 0, 1 << 34, 1, 0])),
        (16, words(&[1, 1 << 32, 0, 0, 1, 4096 << 32])),
        (16, words(&[1, 1 << 32, 0, 0, 1, (4097 << 32) | 1, 0])),
        (16, words(&[1, 1 << 32, 0, 0, 2, (4096 << 32) | 8, 0])),
        (1, b"../x".to_vec()),
        (1, vec![0xff]),
        (2, words(&[1, 1, 0, 0])),
        (2, words(&[1, 1, 1 << 60, 16 << 10])),
        (3, words(&[0, 0])),
        (3, words(&[u64::MAX, 2])),
        (3, words(&[0, u64::MAX, 1])),
        (3, words(&[0, (1 << 32) + 1])),
        (4, words(&[1, 5, 1, 4, 1])),
        (4, words(&[1, 5])),
        (5, words(&[1, u64::MAX])),
        (5, words(&[1, u64::MAX << 32])),
        (5, words(&[1, 1, 0])),
        (6, words(&[1, 0, 0, 0, 0, 0, 0, 0, 0]).into_iter().chain([0; 4]).collect()),
        (7, vec![1; 31]),
        (9, words(&[0; 16])),
        (10, words(&[7, 0])),
    ];
    for (kind, payload) in nonsense {
        let error = forged(kind, &payload).expect_err("it makes no sense");
        assert!(!error.reason.is_empty());
    }
    let mut long = forged_header(JOURNAL_RECORD_MAX_BYTES as u32);
    assert!(find_record(&long, place(128, 0)).is_err(), "no record is as long");
    long = forged_header(100);
    assert_eq!(find_record(&long, place(128, 0)), Ok(Found::Incomplete { needed_bytes: 128 }));
}

/// A header with right checksum that names a payload of this length.
fn forged_header(payload_bytes: u32) -> Vec<u8> {
    let mut bytes = vec![0; RECORD_HEADER_BYTES];
    bytes[..4].copy_from_slice(&payload_bytes.to_le_bytes());
    bytes[4] = 8;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&SALT.to_le_bytes());
    hasher.update(&128u32.to_le_bytes());
    hasher.update(&bytes[..20]);
    bytes[20..].copy_from_slice(&hasher.finalize().to_le_bytes());
    bytes
}

fn digests() -> impl Strategy<Value = Digest> {
    prop_oneof![Just(Digest::ZERO), any::<[u8; 32]>().prop_map(Digest)]
}

fn ids() -> impl Strategy<Value = DiskId> {
    vec(0..36u8, 1..=64).prop_map(|letters| {
        let letter = |letter: u8| char::from(if letter < 26 { b'a' + letter } else { b'0' + letter - 26 });
        DiskId::new(letters.into_iter().map(letter).collect::<String>()).unwrap()
    })
}

fn layouts() -> impl Strategy<Value = Layout> {
    (0..=64u64 << 40, 14..=20u32)
        .prop_map(|(length, shift)| Layout::new(length, BlockSize::new(1 << shift).unwrap()).unwrap())
}

fn ranges() -> impl Strategy<Value = Vec<BlockRange>> {
    vec((0..1u64 << 20, 1..1u64 << 20), 0..20).prop_map(|steps| {
        let mut at = 0;
        let mut run = |(gap, count)| {
            let start = at + gap;
            at = start + count;
            BlockRange::new(start, at)
        };
        steps.into_iter().map(&mut run).collect()
    })
}

fn entries() -> impl Strategy<Value = Vec<(BlockIndex, Digest)>> {
    vec((0..3u64, digests()), 0..40).prop_map(|steps| {
        let mut next = 0;
        let mut entry = |(gap, digest)| {
            let block = next + gap;
            next = block + 1;
            (BlockIndex(block), digest)
        };
        steps.into_iter().map(&mut entry).collect()
    })
}

fn checkpoints() -> impl Strategy<Value = DiskCheckpoint> {
    let numbers = any::<[u64; 4]>();
    let optional = || proptest::option::of(digests());
    let layout = proptest::option::of(layouts());
    let sealed = (any::<[u64; 2]>(), claims()).prop_map(|([epoch, at_unix_ms], claim)| SealedAs {
        epoch: Epoch(epoch),
        at_unix_ms,
        claim,
    });
    let sealed = proptest::option::of(sealed);
    (ids(), numbers, optional(), optional(), layout, any::<[bool; 2]>(), sealed).prop_map(
        |(
            id,
            [generation, epoch, session, group],
            root,
            fingerprint,
            layout,
            [in_pass, is_created],
            sealed,
        )| DiskCheckpoint {
            id,
            generation: Generation(generation),
            root,
            epoch: Epoch(epoch),
            session: SessionNumber(session),
            layout,
            in_pass,
            fingerprint,
            group,
            is_created,
            sealed,
        },
    )
}

fn claims() -> impl Strategy<Value = PointClaim> {
    (any::<u64>(), 0..4u8, "\\PC{0,40}", any::<u64>()).prop_map(|(source_unix_ms, label, reason, cycle)| {
        PointClaim { source_unix_ms, label: PointLabel::of_number(label).unwrap(), reason, cycle }
    })
}

fn points() -> impl Strategy<Value = Point> {
    let disks =
        vec((1..9u16, any::<u64>(), proptest::option::of(layouts()), proptest::option::of(digests())), 0..5);
    (any::<[u64; 3]>(), claims(), proptest::option::of(0..1u64 << 40), disks).prop_map(
        |([number, undo_from, sealed_unix_ms], claim, restored, disks)| {
            let mut slot = 0;
            let mut disk = |(step, generation, layout, root): (u16, u64, Option<Layout>, Option<Digest>)| {
                slot += step;
                PointDisk { slot: DiskSlot(slot), generation: Generation(generation), layout, root }
            };
            let disks = disks.into_iter().map(&mut disk).collect();
            Point { number, undo_from, sealed_unix_ms, claim, restored, disks }
        },
    )
}

fn undos() -> impl Strategy<Value = Undo> {
    let stored = (1..30_000u32, 1..64usize).prop_map(|(plain_bytes, stored)| {
        let length = stored.min(plain_bytes as usize);
        (plain_bytes.div_ceil(4096).into(), OldPages::Stored { bytes: vec![7; length], plain_bytes })
    });
    let piece = prop_oneof![(1..1u64 << 30).prop_map(|count| (count, OldPages::Zero)), stored];
    let piece = (0..1u64 << 30, piece)
        .prop_map(|(start, (count, old))| UndoPiece { pages: PageRun { start, end: start + count }, old });
    let digests = (entries(), any::<u64>()).prop_map(|(entries, known)| {
        let is_known = |at: usize| known >> (at % 64) & 1 == 1;
        let mut at = 0;
        let mut digest = |(block, digest)| {
            at += 1;
            (block, is_known(at).then_some(digest))
        };
        entries.into_iter().map(&mut digest).collect()
    });
    (any::<u64>(), any::<u32>(), digests, vec(piece, 0..5))
        .prop_map(|(group, block_bytes, digests, pieces)| Undo { group, block_bytes, digests, pieces })
}

fn records() -> impl Strategy<Value = Record> {
    let trust = prop_oneof![Just(Trust::Kept), Just(Trust::Nothing), Just(Trust::Everything)];
    prop_oneof![
        ids().prop_map(|id| Record::Disk { id }),
        (any::<[u64; 2]>(), layouts(), trust).prop_map(|([epoch, number], layout, trust)| Record::Session {
            epoch: Epoch(epoch),
            number: SessionNumber(number),
            layout,
            trust
        }),
        (0..1u64 << 31, vec(digests(), 1..100)).prop_map(|(start, digests)| Record::Scanned {
            blocks: BlockRange::new(start, start + digests.len() as u64),
            digests: Some(digests)
        }),
        (0..1u64 << 31, 1..1u64 << 31).prop_map(|(start, count)| Record::Scanned {
            blocks: BlockRange::new(start, start + count),
            digests: None
        }),
        (any::<u64>(), ranges()).prop_map(|(group, blocks)| Record::Intent { group, blocks }),
        (any::<u64>(), entries(), ranges()).prop_map(|(group, entries, zeros)| Record::Commit {
            group,
            entries,
            zeros
        }),
        (any::<[u64; 2]>(), digests(), digests(), any::<bool>(), claims()).prop_map(
            |([generation, at_unix_ms], root, fingerprint, all, claim)| {
                let trust = if all { Trust::Everything } else { Trust::Nothing };
                let generation = Generation(generation);
                Record::Seal { generation, root, fingerprint, trust, at_unix_ms, claim }
            }
        ),
        (digests(), any::<[u64; 2]>(), "\\PC{0,40}").prop_map(|(fingerprint, [at_unix_ms, from], look)| {
            Record::Released(Left { fingerprint, at_unix_ms, recheck_from: BlockIndex(from), look })
        }),
        Just(Record::Forget),
        checkpoints().prop_map(|disk| Record::Checkpoint(Box::new(disk))),
        ranges().prop_map(|blocks| Record::Trusted { blocks }),
        ranges().prop_map(|blocks| Record::Doubted { blocks }),
        Just(Record::Created),
        points().prop_map(Record::Point),
        any::<u64>().prop_map(|number| Record::PointDropped { number }),
        (0..5usize, any::<[u64; 3]>()).prop_map(|(kind, [point, epoch, at_unix_ms])| {
            let kinds = [
                PhaseKind::Replicating,
                PhaseKind::Released,
                PhaseKind::Cancelled,
                PhaseKind::Committed,
                PhaseKind::HistoryEnded,
            ];
            Record::Phase(Phase { kind: kinds[kind], point, epoch: Epoch(epoch), at_unix_ms })
        }),
        undos().prop_map(Record::Undo),
    ]
}

proptest! {
    #[test]
    fn records_come_back(record in records(), disk: u16, offset in 0..1u32 << 27, sequence: u32, durable: u32) {
        let place = place(offset / 8 * 8, sequence);
        let mut bytes = vec![7; 3];
        encode_record(&mut bytes, place, durable, DiskSlot(disk), &record);
        let framed_bytes = bytes.len() - 3;
        bytes.extend([9; 50]);
        let disk = DiskSlot(disk);
        let found = Found::Record { disk, record, durable_bytes: durable, framed_bytes };
        prop_assert_eq!(find_record(&bytes[3..], place), Ok(found));
    }

    #[test]
    fn no_part_of_a_record_passes_for_one(record in records()) {
        let place = place(4096, 5);
        let mut bytes = Vec::new();
        encode_record(&mut bytes, place, 4096, DiskSlot(1), &record);
        for length in 0..bytes.len() {
            let is_incomplete = matches!(
                find_record(&bytes[..length], place),
                Ok(Found::Incomplete { needed_bytes }) if needed_bytes > length && needed_bytes <= bytes.len()
            );
            prop_assert!(is_incomplete, "the first {} bytes", length);
            // What a medium puts behind the part that arrived.
            let mut torn = bytes[..length].to_vec();
            torn.resize(bytes.len(), 0);
            if torn != bytes {
                prop_assert!(matches!(find_record(&torn, place), Ok(Found::Bad { .. })), "zeros from {}", length);
            }
        }
    }

    #[test]
    fn every_damaged_byte_is_noticed(record in records(), flip in 1..=255u8) {
        let place = place(128, 0);
        let mut bytes = Vec::new();
        encode_record(&mut bytes, place, 128, DiskSlot(0), &record);
        for at in 0..bytes.len() {
            bytes[at] ^= flip;
            let found = find_record(&bytes, place);
            prop_assert!(matches!(found, Ok(Found::Bad { .. })), "byte {}: {:?}", at, found);
            bytes[at] ^= flip;
        }
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in vec(any::<u8>(), 0..200), kind in 0..18u8) {
        let _found = find_record(&bytes, place(128, 0));
        let _header = SegmentHeader::decode(&bytes);
        if let Ok(record) = payload::decode(kind, &bytes) {
            let mut again = Vec::new();
            payload::encode(&mut again, &record);
            prop_assert_eq!(again, bytes);
        }
    }
}
