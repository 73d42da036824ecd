//! Ends before the seal: groups that close by age, and an end that stops in good order.

use crate::hostile::{blocks, data, new_receiver, receiver, sender};
use failback_model::limits::{GROUP_MAX_AGE, GROUP_MAX_BYTES, UNACKNOWLEDGED_MAX_MESSAGES};
use failback_model::{BlockRange, Code, Digest};
use failback_session::{Receiver, ReceiverWork, SenderWork};
use failback_wire::Message;
use std::time::{Duration, Instant};

fn zero(sequence: u64) -> Message {
    Message::Zero { sequence, ranges: vec![BlockRange::new(0, 1)] }
}

/// Lets a message in and has it applied.
fn apply(receiver: &mut Receiver, sequence: u64) {
    receiver.handle_message(zero(sequence)).expect("within reach");
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Zero { .. })));
    receiver.handle_applied(sequence, 1, Vec::new());
}

fn said(receiver: &mut Receiver) -> Vec<Message> {
    std::iter::from_fn(|| receiver.poll_transmit()).collect()
}

#[test]
fn a_group_closes_when_it_is_old() {
    let start = Instant::now();
    let mut receiver = receiver();
    assert_eq!(receiver.poll_timeout(), None, "no time was told yet");
    receiver.handle_time(start);
    assert_eq!(receiver.poll_timeout(), Some(start + GROUP_MAX_AGE), "the scan went on");
    apply(&mut receiver, 0);
    receiver.handle_time(start);
    assert_eq!(receiver.poll_timeout(), Some(start + GROUP_MAX_AGE));
    receiver.handle_time(start + GROUP_MAX_AGE - Duration::from_millis(1));
    assert!(receiver.poll_work().is_none());
    receiver.handle_time(start + GROUP_MAX_AGE);
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Commit)));
    // What comes while it commits is the next group's.
    apply(&mut receiver, 1);
    receiver.handle_time(start + 2 * GROUP_MAX_AGE);
    receiver.handle_time(start + 4 * GROUP_MAX_AGE);
    assert!(receiver.poll_work().is_none(), "one commit at a time");
    said(&mut receiver);
    receiver.handle_committed();
    assert_eq!(said(&mut receiver), [Message::Acknowledged { below: 1 }]);
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Commit)));
}

#[test]
fn a_group_closes_when_it_has_many_messages_and_acknowledges_no_gap() {
    let mut receiver = receiver();
    let many = UNACKNOWLEDGED_MAX_MESSAGES as u64;
    (1..many).for_each(|sequence| apply(&mut receiver, sequence));
    assert!(receiver.poll_work().is_none());
    apply(&mut receiver, 0);
    receiver.handle_message(zero(many)).expect("within reach");
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Commit)));
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Zero { .. })));
    // Applied after the commit began: not part of it.
    receiver.handle_applied(many, 0, Vec::new());
    said(&mut receiver);
    receiver.handle_committed();
    assert_eq!(said(&mut receiver), [Message::Acknowledged { below: many }]);
}

#[test]
fn nothing_is_written_while_one_group_commits_and_the_next_is_full() {
    let mut receiver = receiver();
    for sequence in 0..4 {
        receiver.handle_message(zero(sequence)).expect("within reach");
    }
    let write = |receiver: &mut Receiver, sequence| {
        assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Zero { .. })));
        receiver.handle_applied(sequence, GROUP_MAX_BYTES, Vec::new());
    };
    write(&mut receiver, 0);
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Commit)));
    write(&mut receiver, 1);
    assert!(receiver.poll_work().is_none(), "two groups are open");
    receiver.handle_message(Message::PageDigestRequest { blocks: blocks(&[5]) }).expect("scanned");
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::PageDigests { .. })), "reading goes on");
    receiver.handle_committed();
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Commit)));
    write(&mut receiver, 2);
    assert!(receiver.poll_work().is_none(), "two groups are open");
}

#[test]
fn what_was_scanned_is_kept_by_age_and_by_a_stop() {
    let start = Instant::now();
    let mut receiver = receiver();
    receiver.handle_time(start);
    receiver.handle_time(start + GROUP_MAX_AGE);
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Commit)));
    said(&mut receiver);
    receiver.handle_committed();
    assert_eq!(said(&mut receiver), [], "no message to acknowledge");
    receiver.handle_time(start + 9 * GROUP_MAX_AGE);
    assert!(receiver.poll_work().is_none() && receiver.poll_timeout().is_none());
    receiver.handle_scanned(BlockRange::new(2000, 2010), None);
    receiver.stop();
    assert!(!receiver.is_stopped());
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Commit)));
    receiver.handle_committed();
    assert!(receiver.is_stopped());
}

#[test]
fn a_receiving_end_that_stops_commits_what_it_took_and_takes_no_more() {
    let mut receiver = receiver();
    apply(&mut receiver, 0);
    receiver.handle_message(zero(1)).expect("within reach");
    receiver.handle_message(Message::PageDigestRequest { blocks: blocks(&[5]) }).expect("scanned");
    receiver.stop();
    assert!(!receiver.is_stopped() && !receiver.wants_digests());
    for message in [zero(2), zero(2), Message::DigestCredit { blocks: u64::MAX }] {
        receiver.handle_message(message).expect("ignored");
    }
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Zero { sequence: 1, .. })));
    assert!(receiver.poll_work().is_none(), "one message is in hand");
    receiver.handle_applied(1, 1, Vec::new());
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Commit)));
    assert!(!receiver.is_stopped());
    said(&mut receiver);
    receiver.handle_committed();
    assert_eq!(said(&mut receiver), [Message::Acknowledged { below: 2 }]);
    assert!(receiver.is_stopped() && receiver.poll_work().is_none());
    let mut idle = new_receiver(false);
    idle.stop();
    assert!(idle.is_stopped());
}

#[test]
fn a_receiving_end_that_stops_in_its_seal_ends_the_seal() {
    let mut receiver = receiver();
    receiver.handle_message(Message::Seal { root: Digest::ZERO, messages: 0 }).expect("a seal");
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Seal { .. })));
    receiver.stop();
    assert!(!receiver.is_stopped());
    receiver.handle_root(Digest::ZERO);
    assert!(!receiver.is_stopped(), "the seal is to be recorded");
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Finish { .. })));
    assert!(receiver.is_stopped());
    assert!(said(&mut receiver).contains(&Message::Sealed { root: Digest::ZERO }));
}

#[test]
fn a_sending_end_that_stops_waits_for_what_it_started_to_be_durable() {
    let mut sender = sender();
    let page_digests = |list: &[u64]| Message::PageDigests {
        blocks: blocks(list),
        digests: vec![0; list.len() * 64].into(),
    };
    sender.handle_message(page_digests(&[0])).expect("asked for");
    let Some(SenderWork::Patch { job, .. }) = sender.poll_work() else { panic!("a job") };
    sender.handle_message(page_digests(&[1])).expect("asked for");
    sender.stop();
    assert!(!sender.is_stopped() && !sender.wants_differences());
    assert!(sender.poll_work().is_none() && sender.poll_transmit().is_none());
    sender.handle_packed(job, vec![data(0, 0, 4, 16_384)], Some((4, 4)));
    assert!(matches!(sender.poll_transmit(), Some(Message::Data(_))));
    sender.handle_message(Message::Written { sequence: 0, missing: blocks(&[0]) }).expect("it was sent");
    assert!(!sender.is_stopped(), "written is not durable");
    sender.handle_message(Message::Acknowledged { below: 1 }).expect("it was sent");
    assert!(sender.is_stopped());
    assert!(sender.poll_work().is_none() && sender.poll_transmit().is_none());
}

#[test]
fn frames_that_come_after_a_stop_have_no_effect() {
    let mut receiver = receiver();
    apply(&mut receiver, 0);
    receiver.handle_message(zero(1)).expect("within reach");
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Zero { sequence: 1, .. })));
    receiver.stop();
    said(&mut receiver);
    // They were buffered; some of them would be violations.
    for message in [
        zero(3),
        zero(0),
        Message::Data(data(4, 1, 1, 4096)),
        Message::Data(data(5, 1, 2, 4096)),
        Message::References { sequence: 5, offers: Vec::new() },
        Message::PageDigestRequest { blocks: blocks(&[5]) },
        Message::Seal { root: Digest::ZERO, messages: 3 },
        Message::Bye,
    ] {
        receiver.handle_message(message).expect("ignored");
    }
    assert!(receiver.poll_work().is_none() && receiver.poll_transmit().is_none());
    let error = Message::Error { code: "FB203".into(), message: String::new() };
    assert_eq!(receiver.handle_message(error).expect_err("the other end failed").code, Code::PeerFailed);
    receiver.handle_applied(1, u64::MAX, Vec::new());
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Commit)));
    receiver.handle_committed();
    let answers = said(&mut receiver);
    assert_eq!(answers.last(), Some(&Message::Acknowledged { below: 2 }));
    assert!(receiver.is_stopped() && receiver.poll_work().is_none() && !receiver.wants_digests());
}
