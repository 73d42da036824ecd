//! Opening a session: what both ends agree on, and everything that either refuses.

use failback_model::limits::{CLOCK_SKEW_MAX, SETUP_MAX, WELCOME_MAX};
use failback_model::{
    Code, Digest, DiskId, Epoch, Generation, JobId, MachineId, PointClaim, PointLabel, ProductVersion,
    SessionNumber, SessionToken,
};
use failback_session::SessionError;
use failback_session::handshake::{Accepting, AcceptingOptions, Opening, Target};
use failback_wire::{Capabilities, Message, Open, Version, Welcome};
use std::time::{Duration, Instant};

/// The clock of both ends.
const CLOCK_MS: u64 = 1_763_000_000_000;
const SKEW_MS: u64 = CLOCK_SKEW_MAX.as_millis() as u64;

const fn product(minor: u32) -> ProductVersion {
    ProductVersion { major: 1, minor, patch: 0 }
}

pub(crate) fn open() -> Open {
    Open {
        version_min: 1,
        version_max: 1,
        product: product(4),
        clock_unix_ms: CLOCK_MS,
        machine: MachineId::new("web-01").expect("an id"),
        disk: DiskId::new("scsi0.1").expect("an id"),
        length_bytes: 1 << 30,
        content_end_bytes: (1 << 30) - 4096,
        block_bytes: 65_536,
        sector_bytes: 512,
        disk_mark: "MBR 0badcafe".into(),
        generation: Generation(7),
        root: Digest::ZERO,
        epoch: Epoch(3),
        capabilities: Capabilities(0b0110),
        data_connections: 4,
        verify: false,
        accept_older: false,
        accept_mismatch: false,
        accept_divergence: false,
        job: JobId::new("cycle-12").expect("an id"),
        claim: PointClaim::new(CLOCK_MS - 5_000, PointLabel::CrashConsistent, ""),
        sample: Vec::new(),
    }
}

pub(crate) fn target() -> Target {
    Target {
        length_bytes: 2 << 30,
        sector_bytes: 512,
        disk_mark: "MBR 0badcafe".into(),
        epoch: Epoch(3),
        generation: Generation(7),
        root: Some(Digest([5; 32])),
        is_new: false,
        has_seeds: true,
        is_resumed: true,
        is_divergence_accepted: false,
        is_taken_back: false,
        window_bytes: 8 << 20,
    }
}

fn accepting() -> Accepting {
    let options =
        AcceptingOptions { product: product(4), capabilities: Capabilities(0b0011), data_connections: 3 };
    Accepting::new(options, Instant::now())
}

/// The receiving end's answer, and what it made of the request.
fn answer(open: Open, target: Target) -> (Message, Result<Welcome, SessionError>) {
    let mut accepting = accepting();
    let outcome = accepting
        .handle_message(Message::Open(Box::new(open)), CLOCK_MS)
        .and_then(|_| accepting.handle_target(target))
        .map(|_| accepting.handle_session(SessionNumber(9), SessionToken([8; 16]), CLOCK_MS));
    (accepting.poll_transmit().expect("an answer either way"), outcome)
}

/// What the sending end makes of an answer.
fn take(open: Open, answer: Message) -> Result<Welcome, SessionError> {
    let mut opening = Opening::new(open.clone(), Instant::now());
    assert_eq!(opening.poll_transmit(), Some(Message::Open(Box::new(open))));
    assert_eq!(opening.poll_transmit(), None);
    let answer = Message::decode(&answer.encode()).expect("what is sent decodes");
    opening.handle_message(answer, CLOCK_MS)
}

/// Both ends end with this code, and the words of the one that saw it name these.
#[track_caller]
fn refused(open: Open, target: Target, code: Code, words: &[&str]) {
    let (answer, outcome) = answer(open.clone(), target);
    let seen = outcome.expect_err("a refusal");
    let told = take(open, answer).expect_err("a refusal");
    assert_eq!((seen.code, &told), (code, &seen));
    for word in words {
        assert!(seen.reason.contains(word), "{seen} does not name {word}");
    }
}

#[test]
fn both_ends_agree_on_what_both_have() {
    let (answer, outcome) = answer(open(), target());
    let welcome = outcome.expect("an agreement");
    assert_eq!(take(open(), answer).as_ref(), Ok(&welcome));
    let expected = Welcome {
        version: Version::V1,
        product: product(4),
        clock_unix_ms: CLOCK_MS,
        capabilities: Capabilities(0b0010),
        token: SessionToken([8; 16]),
        session: SessionNumber(9),
        data_connections: 3,
        length_bytes: 2 << 30,
        pass_bytes: 1 << 30,
        generation: Generation(7),
        root: Digest([5; 32]),
        is_new: false,
        has_seeds: true,
        is_resumed: true,
        is_divergence_accepted: false,
        window_bytes: 8 << 20,
    };
    assert_eq!(welcome, expected);
}

#[test]
fn versions_are_chosen_or_both_ranges_are_named() {
    for (min, max) in [(0, 1), (1, 1), (1, u16::MAX)] {
        let (_, outcome) = answer(Open { version_min: min, version_max: max, ..open() }, target());
        assert_eq!(outcome.map(|welcome| welcome.version), Ok(Version::V1));
    }
    for (min, max) in [(0, 0), (2, 3), (2, u16::MAX), (1, 0)] {
        let other = Open { version_min: min, version_max: max, ..open() };
        let range = format!("versions {min} to {max}");
        refused(other, target(), Code::VersionMismatch, &[&range, "1 to 1"]);
    }
    // A receiving end that answers with what was not offered.
    let (_, outcome) = answer(open(), target());
    let welcome = Message::Welcome(Box::new(outcome.expect("an agreement")));
    let newer = Open { version_min: 2, version_max: 2, ..open() };
    assert_eq!(take(newer, welcome).expect_err("not offered").code, Code::ProtocolViolation);
}

#[test]
fn the_receiving_end_is_not_newer() {
    let older = Open { product: product(3), ..open() };
    refused(older.clone(), target(), Code::ProductVersionOrder, &["1.4.0", "1.3.0"]);
    let (answer, _) = answer(open(), target());
    assert_eq!(take(older, answer).expect_err("seen here too").code, Code::ProductVersionOrder);
}

#[test]
fn clocks_agree_roughly() {
    for (clock_unix_ms, side) in
        [(CLOCK_MS + SKEW_MS + 1, "ahead of"), (CLOCK_MS - SKEW_MS - 1, "behind"), (0, "")]
    {
        let (name, skew) = (side, CLOCK_MS.abs_diff(clock_unix_ms).to_string());
        refused(Open { clock_unix_ms, ..open() }, target(), Code::ClocksDiffer, &[name, &skew]);
    }
    for clock_unix_ms in [CLOCK_MS + SKEW_MS, CLOCK_MS - SKEW_MS] {
        let (answer, outcome) = answer(Open { clock_unix_ms, ..open() }, target());
        assert!(outcome.is_ok());
        let mut opening = Opening::new(open(), Instant::now());
        opening.poll_transmit();
        let error = opening.handle_message(answer, CLOCK_MS + SKEW_MS + 1).expect_err("seen here too");
        assert_eq!(error.code, Code::ClocksDiffer);
    }
}

#[test]
fn no_state_comes_from_the_future() {
    let at = |source_unix_ms| Open {
        claim: PointClaim::new(source_unix_ms, PointLabel::AppConsistent, ""),
        ..open()
    };
    assert!(answer(at(0), target()).1.is_ok() && answer(at(CLOCK_MS + SKEW_MS), target()).1.is_ok());
    let ahead_ms = (SKEW_MS + 1).to_string();
    refused(at(CLOCK_MS + SKEW_MS + 1), target(), Code::ClocksDiffer, &[&ahead_ms, "source's state"]);
    refused(at(u64::MAX), target(), Code::ClocksDiffer, &["source's state"]);
}

#[test]
fn the_disk_is_long_enough_and_its_blocks_are_possible() {
    let long = Open { length_bytes: (2 << 30) + 1, content_end_bytes: (2 << 30) + 1, ..open() };
    refused(long, target(), Code::TargetTooSmall, &["2147483648", "2147483649", "scsi0.1", "web-01"]);
    for block_bytes in [0, 1, 8 << 10, 65_537] {
        refused(Open { block_bytes, ..open() }, target(), Code::BlockSizeInvalid, &[]);
    }
    refused(Open { length_bytes: u64::MAX, ..open() }, target(), Code::ImageSizeUnsupported, &[]);
}

#[test]
fn older_jobs_are_refused_for_ever_and_older_sources_unless_they_are_meant() {
    for accept_older in [false, true] {
        let over = Open { epoch: Epoch(2), accept_older, ..open() };
        refused(over, target(), Code::SourceOlder, &["epoch 2", "seen 3"]);
    }
    assert!(answer(Open { epoch: Epoch(4), ..open() }, target()).1.is_ok());
    let sealed = |generation| Target { generation: Generation(generation), ..target() };
    // The answer to one seal may have been lost. A target that lost states is no reason to refuse what is newer.
    for generation in [8, 7, 1, 0] {
        assert!(answer(open(), sealed(generation)).1.is_ok(), "{generation}");
    }
    refused(open(), sealed(9), Code::SourceOlder, &["generation 7", "sealed as 9"]);
    assert!(answer(Open { accept_older: true, ..open() }, sealed(9)).1.is_ok());
    assert!(answer(open(), Target { is_taken_back: true, ..sealed(9) }).1.is_ok());
    // A source that knows of no state, as after it was built anew: the epoch alone decides.
    assert!(answer(Open { generation: Generation(0), ..open() }, sealed(9)).1.is_ok());
}

#[test]
fn what_the_registry_refuses_keeps_its_code() {
    let mut accepting = accepting();
    accepting.handle_message(Message::Open(Box::new(open())), CLOCK_MS).expect("a request");
    let error = SessionError { code: Code::IdentityNotAllowed, reason: "not on the list".into() };
    accepting.refuse(&error);
    let answer = accepting.poll_transmit().expect("a refusal");
    assert_eq!(take(open(), answer), Err(error));
    // A code of a later version is passed on in words.
    let unknown = Message::Error { code: "FB599".into(), message: "of the future".into() };
    let error = take(open(), unknown).expect_err("a refusal");
    assert_eq!((error.code, error.reason.as_str()), (Code::PeerFailed, "FB599: of the future"));
}

#[test]
fn one_request_and_one_answer_and_nothing_else() {
    let mut other = accepting();
    let error = other.handle_message(Message::Bye, CLOCK_MS).expect_err("no request");
    assert_eq!(error.code, Code::ProtocolViolation);
    assert_eq!(other.poll_transmit(), Some(error.to_message()));
    let mut twice = accepting();
    let request = || Message::Open(Box::new(open()));
    twice.handle_message(request(), CLOCK_MS).expect("a request");
    assert_eq!(
        twice.handle_message(request(), CLOCK_MS).expect_err("a second one").code,
        Code::ProtocolViolation
    );
    let (answer, _) = answer(open(), target());
    assert_eq!(take(open(), Message::Bye).expect_err("no answer").code, Code::ProtocolViolation);
    let mut opening = Opening::new(open(), Instant::now());
    let early = opening.handle_message(answer.clone(), CLOCK_MS).expect_err("nothing was asked");
    assert_eq!(early.code, Code::ProtocolViolation);
    let mut opening = Opening::new(open(), Instant::now());
    opening.poll_transmit();
    opening.handle_message(answer.clone(), CLOCK_MS).expect("an answer");
    assert_eq!(opening.handle_message(answer, CLOCK_MS).expect_err("again").code, Code::ProtocolViolation);
}

#[test]
fn an_answer_stays_within_what_was_asked() {
    let (_, outcome) = answer(open(), target());
    let good = outcome.expect("an agreement");
    for welcome in [
        Welcome { capabilities: Capabilities(0b1000), ..good.clone() },
        Welcome { data_connections: 5, ..good.clone() },
        Welcome { is_divergence_accepted: true, ..good.clone() },
        Welcome { length_bytes: (1 << 30) - 4097, pass_bytes: (1 << 30) - 4097, ..good.clone() },
        Welcome { pass_bytes: (1 << 30) - 1, ..good.clone() },
    ] {
        let error = take(open(), Message::Welcome(Box::new(welcome))).expect_err("beyond the request");
        assert_eq!(error.code, Code::ProtocolViolation);
    }
}

#[test]
fn silence_ends_either_side() {
    let start = Instant::now();
    let mut opening = Opening::new(open(), start);
    assert_eq!(opening.poll_timeout(), Some(start + WELCOME_MAX));
    opening.handle_time(start + WELCOME_MAX - Duration::from_millis(1)).expect("not yet");
    assert_eq!(opening.handle_time(start + WELCOME_MAX).expect_err("overdue").code, Code::TimedOut);
    let mut late = accepting();
    let due = late.poll_timeout().expect("a deadline");
    late.handle_time(due - SETUP_MAX).expect("not yet");
    let error = late.handle_time(due).expect_err("overdue");
    assert_eq!((error.code, late.poll_transmit()), (Code::TimedOut, Some(error.to_message())));
    assert_eq!(late.poll_timeout(), None);
    let mut asked = accepting();
    asked.handle_message(Message::Open(Box::new(open())), CLOCK_MS).expect("a request");
    asked.handle_time(due + SETUP_MAX).expect("what follows is this end's own time");
}

#[test]
fn a_longer_source_is_cut_where_only_zeros_follow() {
    let long = Open { length_bytes: 3 << 30, content_end_bytes: 2 << 30, ..open() };
    let (answer, outcome) = answer(long.clone(), target());
    let welcome = take(long, answer).expect("the excess is zero");
    assert_eq!((welcome.pass_bytes, outcome), (2 << 30, Ok(welcome)));
}

#[test]
fn another_disk_is_refused_until_that_is_accepted() {
    let other = Open { disk_mark: "GPT 00112233".into(), ..open() };
    refused(other.clone(), target(), Code::WrongDisk, &["GPT 00112233", "MBR 0badcafe"]);
    let (_, outcome) = answer(Open { accept_mismatch: true, ..other.clone() }, target());
    outcome.expect("accepted");
    let (_, outcome) = answer(other, Target { disk_mark: String::new(), ..target() });
    outcome.expect("a disk without a mark is no other disk");
    let large = Open { sector_bytes: 4096, ..open() };
    refused(large, target(), Code::SectorSizeDiffers, &["512", "4096"]);
}
