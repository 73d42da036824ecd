//! Bytes that are no message: an error of the right kind, never a panic, and nothing allocated on their word.

use crate::golden::messages;
use bytes::Bytes;
use failback_wire::{Class, ErrorKind, Frame, HEADER_BYTES, Header, Message};
use proptest::prelude::*;

/// A frame of these parts, whatever they say.
fn frame(kind: u8, body: &[u8], payload: &[u8]) -> Frame {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(body.iter().chain(payload));
    Frame::split_from(&bytes.into()).expect("a frame").0
}

fn body(frame: &Frame) -> &[u8] {
    &frame.head()[HEADER_BYTES..]
}

#[track_caller]
fn refused(kind: u8, body: &[u8], payload_bytes: usize) -> ErrorKind {
    Message::decode(&frame(kind, body, &vec![0; payload_bytes])).expect_err("no message").kind
}

/// The shortest varint of a number.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A body of one patch: block 0, a digest, the ends of its sets, and their bits.
fn patch(data_end: u64, zero_end: u64, bits: &[u8]) -> Vec<u8> {
    let head = [&[0, 0, 1, 0][..], &[7; 32]].concat();
    [head, varint(data_end), varint(zero_end), bits.to_vec()].concat()
}

#[test]
fn every_truncation_is_an_error() {
    for (name, message) in messages() {
        let whole = message.encode();
        let bytes: Bytes = whole.head().iter().chain(whole.payload()).copied().collect();
        for end in 0..bytes.len() {
            let error = Frame::split_from(&bytes.slice(..end)).expect_err("a part of a frame");
            assert_eq!(error.kind, ErrorKind::Truncated, "{name} cut at {end}");
        }
        let full = body(&whole);
        for end in 0..full.len() {
            let cut = frame(whole.head()[0], &full[..end], whole.payload());
            assert!(Message::decode(&cut).is_err(), "{name} with a body of {end} bytes");
        }
        for end in 0..whole.payload().len() {
            let cut = frame(whole.head()[0], full, &whole.payload()[..end]);
            // A short last page may be shorter still, and fewer digests are digests: what fits is the session's.
            if let Ok(decoded) = Message::decode(&cut) {
                assert_ne!(decoded, message, "{name} with a payload of {end} bytes");
            }
        }
    }
}

#[test]
fn bytes_left_over_and_payloads_without_place_are_errors() {
    for (name, message) in messages() {
        let whole = message.encode();
        let kind = whole.head()[0];
        let longer = [body(&whole), &[0]].concat();
        let error = Message::decode(&frame(kind, &longer, whole.payload())).expect_err("a byte left over");
        assert_eq!(error.kind, ErrorKind::TrailingBytes, "{name}");
        if whole.payload().is_empty() {
            let error = Message::decode(&frame(kind, body(&whole), &[0])).expect_err("a payload");
            assert_eq!(error.kind, ErrorKind::PayloadLength, "{name}");
        }
    }
}

#[test]
fn headers_are_bounded_before_anything_is_read() {
    let header = |kind, reserved, body: u32, payload: u32| {
        let mut bytes = [0; HEADER_BYTES];
        (bytes[0], bytes[2]) = (kind, reserved);
        bytes[4..8].copy_from_slice(&body.to_le_bytes());
        bytes[8..].copy_from_slice(&payload.to_le_bytes());
        Header::decode(&bytes).map_err(|error| error.kind)
    };
    let most = (2 << 20) - HEADER_BYTES as u32;
    assert!(header(1, 0, most, 0).is_ok() && header(1, 0, 0, most).is_ok());
    for (body, payload) in [(most, 1), (1, most), (most + 1, 0), (u32::MAX, u32::MAX)] {
        assert_eq!(header(1, 0, body, payload), Err(ErrorKind::TooLarge));
    }
    assert_eq!(header(1, 1, 0, 0), Err(ErrorKind::BadValue));
}

#[test]
fn numbers_have_one_encoding() {
    const ACKNOWLEDGED: u8 = 11;
    for body in [
        &[0x80, 0][..],
        &[0xff, 0x80, 0],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
        &[0xff; 11],
    ] {
        assert_eq!(refused(ACKNOWLEDGED, body, 0), ErrorKind::BadValue, "{body:x?}");
    }
    assert_eq!(refused(ACKNOWLEDGED, &[0x80], 0), ErrorKind::Truncated);
    let largest = Message::Acknowledged { below: u64::MAX };
    assert_eq!(Message::decode(&frame(ACKNOWLEDGED, &varint(u64::MAX), &[])), Ok(largest));
}

#[test]
fn counts_above_their_limit_are_refused_whatever_follows() {
    // Kind, what stands before the count, and the count.
    let cases: [(u8, &[u8], u64); 8] = [
        (5, &[], 1025),
        (6, &[], 1025),
        (7, &[0], (1 << 20) + 1),
        (7, &[0, 0], 1025),
        (8, &[0], 1025),
        (9, &[0], 1025),
        (10, &[0], 1025),
        (15, &[], 1025),
    ];
    for (kind, before, count) in cases {
        for count in [count, u64::from(u32::MAX) + 1, u64::MAX] {
            let body = [before, &varint(count)].concat();
            assert_eq!(refused(kind, &body, 0), ErrorKind::TooLarge, "kind {kind}, count {count}");
        }
    }
    assert_eq!(refused(17, &varint(4097), 0), ErrorKind::TooLarge);
    assert_eq!(refused(1, &[1, 0, 0, 0x81, 0x80, 0x40, 0, 0, 0], 0), ErrorKind::TooLarge);
    for (kind, body, size, most) in
        [(2, &[0][..], 16, 1024), (6, &[0], 16, 16 << 10), (14, &[0], 32, 1024), (16, &[0], 32, 1024)]
    {
        assert!(Message::decode(&frame(kind, body, &vec![0; size * most])).is_ok());
        assert_eq!(refused(kind, body, size * (most + 1)), ErrorKind::TooLarge);
        for payload_bytes in [0, 1, size - 1, size + 1] {
            assert_eq!(refused(kind, body, payload_bytes), ErrorKind::PayloadLength);
        }
    }
}

#[test]
fn lists_stay_below_the_last_number() {
    let most = varint(u64::MAX);
    assert_eq!(refused(5, &[&[1], &most[..]].concat(), 0), ErrorKind::BadValue);
    assert_eq!(refused(5, &[&[2, 5], &varint(u64::MAX - 6)[..]].concat(), 0), ErrorKind::BadValue);
    assert_eq!(refused(3, &[&most[..], &[1]].concat(), 0), ErrorKind::BadValue);
    for (start, count) in [(u64::MAX, 0), (0, u64::MAX), (5, u64::MAX - 5)] {
        let body = [&[0, 1], &varint(start)[..], &varint(count)].concat();
        assert_eq!(refused(8, &body, 0), ErrorKind::BadValue, "{start} and {count}");
    }
}

#[test]
fn page_sets_are_exact_and_share_no_page() {
    const DATA: u8 = 7;
    assert!(Message::decode(&frame(DATA, &patch(1, 2, &[1, 2]), &[0; 4096])).is_ok());
    // The same page in both; an end beyond the highest page; a page beyond the end; more pages than a block has.
    assert_eq!(refused(DATA, &patch(1, 1, &[1, 1]), 4096), ErrorKind::BadValue);
    assert_eq!(refused(DATA, &patch(2, 0, &[1]), 4096), ErrorKind::BadValue);
    assert_eq!(refused(DATA, &patch(9, 0, &[1, 0]), 4096), ErrorKind::BadValue);
    assert_eq!(refused(DATA, &patch(1, 0, &[3]), 8192), ErrorKind::BadValue);
    assert_eq!(refused(DATA, &patch(257, 0, &[0; 33]), 0), ErrorKind::TooLarge);
    assert_eq!(refused(DATA, &patch(0, u64::MAX, &[]), 0), ErrorKind::TooLarge);
    for payload_bytes in [0, 4097, 8192] {
        assert_eq!(refused(DATA, &patch(1, 0, &[1]), payload_bytes), ErrorKind::PayloadLength);
    }
    assert_eq!(refused(DATA, &patch(2, 0, &[3]), 4096), ErrorKind::PayloadLength);
    assert_eq!(refused(DATA, &[0, 0, 0], 1), ErrorKind::PayloadLength);
}

#[test]
fn unknown_kinds_versions_flags_and_texts_are_refused() {
    for kind in [0, 26, 255] {
        assert_eq!(refused(kind, &[], 0), ErrorKind::UnknownKind);
    }
    for version in [0, 2, u64::from(u16::MAX) + 1, u64::MAX] {
        assert_eq!(refused(1, &varint(version), 0), ErrorKind::UnknownVersion);
    }
    assert_eq!(refused(1, &[1, 2], 0), ErrorKind::BadValue);
    assert_eq!(refused(17, &[1, 0xff, 0], 0), ErrorKind::BadValue);
}

#[test]
fn setup_refuses_versions_it_does_not_speak_ids_that_are_none_and_counts_above_their_limit() {
    const OPEN: u8 = 18;
    let golden = |name: &str| {
        let (_, message) = messages().into_iter().find(|(known, _)| *known == name).expect("a golden frame");
        body(&message.encode()).to_vec()
    };
    // Two versions, three parts of a product version, six bytes of clock: then the id of the machine.
    let (open, machine_at) = (golden("18-open"), 13);
    assert_eq!(&open[machine_at..machine_at + 4], b"\x0eweb");
    let with = |at: usize, bytes: &[u8]| [&open[..at], bytes, &open[at + bytes.len()..]].concat();
    for first in [b"W", b".", b"/", b"\xff"] {
        assert_eq!(refused(OPEN, &with(machine_at + 1, first), 0), ErrorKind::BadValue);
    }
    assert_eq!(refused(OPEN, &with(machine_at, &[0]), 0), ErrorKind::BadValue);
    assert_eq!(refused(OPEN, &with(machine_at, &[65]), 0), ErrorKind::TooLarge);
    assert_eq!(refused(OPEN, &varint(1 << 16), 0), ErrorKind::TooLarge);
    assert_eq!(refused(OPEN, &[&[1, 1][..], &varint(1 << 32)].concat(), 0), ErrorKind::TooLarge);
    for (kind, name) in [(19, "19-welcome"), (20, "20-join")] {
        for version in [0, 2] {
            let body = [&[version], &golden(name)[1..]].concat();
            assert_eq!(refused(kind, &body, 0), ErrorKind::UnknownVersion, "{name}");
        }
    }
    assert_eq!(refused(20, &[&golden("20-join")[..17], &[33]].concat(), 0), ErrorKind::TooLarge);
    assert_eq!(refused(21, &[33], 0), ErrorKind::TooLarge);
}

#[test]
fn a_claim_has_a_known_label_and_one_line_of_reason() {
    let Message::Open(golden) = messages().into_iter().find(|(name, _)| *name == "18-open").expect("one").1
    else {
        panic!("a request");
    };
    let whole = body(&Message::Open(golden.clone()).encode()).to_vec();
    let reason = golden.claim.reason.as_bytes();
    let reason_at = whole.windows(reason.len()).position(|window| window == reason).expect("its reason");
    let (label_at, after) = (reason_at - 2, &whole[reason_at + reason.len()..]);
    let with = |label: &[u8], reason: &[u8]| {
        let length = varint(reason.len() as u64);
        refused(18, &[&whole[..label_at], label, &length, reason, after].concat(), 0)
    };
    for label in [&[4][..], &[0x7f], &[0x80, 2], &[0x83, 2]] {
        assert_eq!(with(label, b"why"), ErrorKind::BadValue, "{label:?}");
    }
    for reason in [&b"two\nlines"[..], b"\x1b[2J", b"nul\0", "\u{9b}2J".as_bytes(), b"\xff\xfe"] {
        assert_eq!(with(&[0], reason), ErrorKind::BadValue, "{reason:?}");
    }
    assert_eq!(with(&[0], &[b'a'; 257]), ErrorKind::TooLarge);
    let endless = [&whole[..reason_at - 1], &varint(u64::MAX)[..]].concat();
    assert_eq!(refused(18, &endless, 0), ErrorKind::TooLarge);
    let long = [&whole[..label_at], &[3], &varint(256)[..], &[b'a'; 256], after].concat();
    assert!(Message::decode(&frame(18, &long, &[])).is_ok());
}

#[test]
fn each_kind_has_the_class_that_its_message_has() {
    for (name, message) in messages() {
        let frame = message.encode();
        let header = Header::decode(frame.head().first_chunk().expect("a header")).expect("a header");
        assert_eq!(frame.class(), Some(message.class()), "{name}");
        assert_eq!((header.class(), header.frame_bytes()), (frame.class(), frame.encoded_bytes() as usize));
        assert_eq!(frame.is_ordered(), message.is_ordered(), "{name}");
        assert_eq!(message.is_ordered(), message.class() != Class::Bulk, "{name}");
    }
    assert_eq!(frame(26, &[], &[]).class(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_break_the_decoder_and_what_decodes_encodes_to_the_same(
        kind in 0u8..28,
        body in prop::collection::vec(prop_oneof![Just(0u8), Just(1), 0u8..8, any::<u8>()], 0..90),
        payload in prop_oneof![Just(0usize), 0usize..200, Just(4096)],
    ) {
        let given = frame(kind, &body, &vec![0; payload]);
        if let Ok(message) = Message::decode(&given) {
            let again = message.encode();
            prop_assert_eq!((again.head(), again.payload()), (given.head(), given.payload()));
        }
    }

    #[test]
    fn one_changed_byte_never_breaks_the_decoder(index in 0usize..26, at in any::<usize>(), to in any::<u8>()) {
        let (_, message) = messages().swap_remove(index);
        let whole = message.encode();
        let mut bytes: Vec<u8> = whole.head().iter().chain(whole.payload()).copied().collect();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok((frame, _)) = Frame::split_from(&bytes.into())
            && let Ok(message) = Message::decode(&frame)
        {
            let again = message.encode();
            prop_assert_eq!((again.head(), again.payload()), (frame.head(), frame.payload()));
        }
    }
}
