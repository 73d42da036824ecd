//! An end that is there and does not do what is its turn, on a clock that is only told.

use crate::hostile::{blocks, data, greeting, new_receiver, new_sender, receiver, sender};
use failback_model::limits::{STALL_MAX, WORK_SIGN_INTERVAL};
use failback_model::{BlockIndex, BlockRange, Code, Digest};
use failback_session::{ReceiverWork, SenderWork, SessionError};
use failback_wire::{Message, Role};
use std::time::{Duration, Instant};

const INSTANT: Duration = Duration::from_millis(1);

/// Whether an end that is told the time every second gives up, and after how long.
fn gives_up(mut watch: impl FnMut(Instant) -> Result<(), SessionError>) -> Option<Duration> {
    let start = Instant::now();
    let seconds = 0..3 * STALL_MAX.as_secs();
    let error = seconds.map(Duration::from_secs).find_map(|at| Some((at, watch(start + at).err()?)));
    error.map(|(at, error)| {
        assert_eq!(error.code, Code::TimedOut, "{error}");
        at
    })
}

#[test]
fn a_sending_end_that_only_lives_is_given_up() {
    let mut silent = new_receiver(false);
    assert_eq!(gives_up(|now| silent.watch(now)), Some(STALL_MAX), "no greeting");
    let mut greeted = new_receiver(false);
    greeted.handle_message(Message::Hello(greeting(Role::Sending))).expect("a greeting");
    assert_eq!(gives_up(|now| greeted.watch(now)), Some(STALL_MAX), "no credit");
    let mut scanned = receiver();
    scanned.handle_scanned(BlockRange::new(2000, 70_000), None);
    assert_eq!(gives_up(|now| scanned.watch(now)), Some(STALL_MAX), "neither contents nor a seal");
    let mut asked = scanned;
    asked.handle_message(Message::PageDigestRequest { blocks: blocks(&[5]) }).expect("scanned");
    assert!(matches!(asked.poll_work(), Some(ReceiverWork::PageDigests { .. })));
    assert_eq!(gives_up(|now| asked.watch(now)), None, "the answer is this end's to give");
    asked.handle_page_digests(blocks(&[5]), &[failback_model::TruncatedDigest([0; 16]); 4]);
    assert_eq!(gives_up(|now| asked.watch(now)), Some(STALL_MAX), "page digests that are used for nothing");
}

#[test]
fn a_receiving_end_waits_for_itself_as_long_as_it_takes() {
    let mut scanning = receiver();
    assert_eq!(gives_up(|now| scanning.watch(now)), None, "it scans");
    let mut writing = receiver();
    writing.handle_scanned(BlockRange::new(2000, 70_000), None);
    writing.handle_message(Message::Data(data(0, 1, 4, 16_384))).expect("credit");
    assert!(matches!(writing.poll_work(), Some(ReceiverWork::Apply(_))));
    assert_eq!(gives_up(|now| writing.watch(now)), None, "it writes");
    writing.handle_applied(0, 16_384, Vec::new());
    writing.handle_message(Message::Seal { root: Digest::ZERO, messages: 1 }).expect("a seal");
    assert!(matches!(writing.poll_work(), Some(ReceiverWork::Seal { .. })));
    assert_eq!(gives_up(|now| writing.watch(now)), None, "it seals, and may read all anew");
    let mut stopping = new_receiver(false);
    stopping.stop();
    assert_eq!(gives_up(|now| stopping.watch(now)), None, "it ends anyhow");
}

#[test]
fn every_message_gives_the_sending_end_its_time_anew() {
    let start = Instant::now();
    let mut receiver = new_receiver(false);
    receiver.handle_message(Message::Hello(greeting(Role::Sending))).expect("a greeting");
    for round in 1..5 {
        let now = start + round * STALL_MAX;
        receiver.watch(now).expect("from here on it counts");
        receiver.watch(now + STALL_MAX - INSTANT).expect("not yet");
        receiver.handle_message(Message::DigestCredit { blocks: 0 }).expect("a sign of work");
    }
}

#[test]
fn a_receiving_end_that_only_lives_is_given_up() {
    let mut silent = new_sender();
    assert_eq!(gives_up(|now| silent.watch(now)), Some(STALL_MAX), "no greeting");
    let mut greeted = new_sender();
    greeted.handle_message(Message::Hello(greeting(Role::Receiving))).expect("a greeting");
    assert_eq!(gives_up(|now| greeted.watch(now)), Some(STALL_MAX), "no digests");
    let mut asking = sender();
    assert_eq!(gives_up(|now| asking.watch(now)), Some(STALL_MAX), "no page digests");
    let digests = vec![0; 10 * 64].into();
    let answer = Message::PageDigests { blocks: (0..10).map(BlockIndex).collect(), digests };
    asking.handle_message(answer).expect("asked for");
    let Some(SenderWork::Patch { job, .. }) = asking.poll_work() else { panic!("a job") };
    let rest = Message::ZeroDigests { blocks: BlockRange::new(10, 70_000) };
    asking.handle_message(rest).expect("in order");
    assert_eq!(gives_up(|now| asking.watch(now)), None, "this end packs, and compares");
    asking.handle_packed(job, vec![data(0, 0, 4, 16_384)], Some((40, 40)));
    assert_eq!(gives_up(|now| asking.watch(now)), Some(STALL_MAX), "what is sent is not written");
    asking.stop();
    assert_eq!(gives_up(|now| asking.watch(now)), Some(STALL_MAX), "nor made durable for a stop");
}

#[test]
fn a_target_that_is_read_anew_may_take_its_time_and_another_may_not() {
    for verify in [false, true] {
        let mut sender = crate::hostile::empty_sender(verify);
        sender.handle_message(Message::Hello(greeting(Role::Receiving))).expect("a greeting");
        sender.handle_message(Message::ZeroDigests { blocks: BlockRange::new(0, 70_000) }).expect("all");
        sender.handle_compared(BlockIndex(70_000), 1, [], []);
        while sender.poll_transmit().is_some() {}
        while !matches!(sender.poll_work().expect("a seal"), SenderWork::Seal) {}
        sender.handle_root(Digest::ZERO);
        assert_eq!(gives_up(|now| sender.watch(now)), (!verify).then_some(STALL_MAX));
    }
}

#[test]
fn a_sending_end_that_compares_for_long_says_so() {
    let start = Instant::now();
    let mut sender = new_sender();
    sender.handle_message(Message::Hello(greeting(Role::Receiving))).expect("a greeting");
    sender.handle_message(Message::ZeroDigests { blocks: BlockRange::new(0, 70_000) }).expect("all");
    while sender.poll_transmit().is_some() {}
    sender.watch(start).expect("nothing stands still");
    for round in 1..10 {
        let now = start + round * WORK_SIGN_INTERVAL;
        sender.watch(now).expect("nothing stands still");
        assert_eq!(sender.poll_transmit(), None, "nothing was compared");
        // Zeros that are read at this end: all of them are one digest of the other's.
        sender.handle_compared(BlockIndex(u64::from(round) * 7), 0, [], []);
        sender.watch(now).expect("nothing stands still");
        assert_eq!(sender.poll_transmit(), Some(Message::DigestCredit { blocks: 0 }));
        sender.watch(now + INSTANT).expect("nothing stands still");
        assert_eq!(sender.poll_transmit(), None, "once");
    }
}
