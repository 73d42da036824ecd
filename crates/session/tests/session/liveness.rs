//! Silence, questions, answers and goodbyes, on a clock that is only told.

use failback_model::Code;
use failback_model::limits::{GOODBYE_MAX, IDLE_MAX, PING_IDLE};
use failback_session::liveness::Liveness;
use failback_wire::{Join, Message, Version};
use std::time::{Duration, Instant};

const INSTANT: Duration = Duration::from_millis(1);

/// Lets the clock run to where it is wanted; what was said then.
fn turn(liveness: &mut Liveness) -> (Instant, Vec<Message>) {
    let now = liveness.poll_timeout().expect("a moment to look at the clock");
    liveness.handle_time(now).expect("still there");
    (now, std::iter::from_fn(|| liveness.poll_transmit()).collect())
}

#[test]
fn silence_is_asked_about_and_then_the_end() {
    let start = Instant::now();
    let mut liveness = Liveness::new(start);
    liveness.handle_time(start + PING_IDLE - INSTANT).expect("not yet");
    assert_eq!(liveness.poll_transmit(), None);
    for nonce in 1..=4 {
        let (now, said) = turn(&mut liveness);
        assert_eq!((now, said), (start + PING_IDLE * nonce, vec![Message::Ping { nonce: nonce.into() }]));
    }
    assert_eq!(liveness.poll_timeout(), Some(start + IDLE_MAX));
    assert_eq!(liveness.handle_time(start + IDLE_MAX).expect_err("gone").code, Code::TimedOut);
}

#[test]
fn an_answer_and_any_bytes_end_the_silence() {
    let start = Instant::now();
    let mut liveness = Liveness::new(start);
    let (asked, _) = turn(&mut liveness);
    liveness.handle_message(&Message::Pong { nonce: 1 }, asked + INSTANT).expect("the answer");
    assert_eq!(liveness.round_trip(), Some(INSTANT));
    assert_eq!(liveness.poll_timeout(), Some(asked + INSTANT + PING_IDLE));
    let mut now = asked;
    for _ in 0..20 {
        now += PING_IDLE - INSTANT;
        liveness.handle_received(now);
        liveness.handle_time(now + INSTANT).expect("bytes came");
        assert_eq!(liveness.poll_transmit(), None);
    }
    // A question that is still to be said is not, once bytes came.
    liveness.handle_time(now + PING_IDLE).expect("still there");
    liveness.handle_received(now + PING_IDLE);
    assert_eq!(liveness.poll_transmit(), None);
}

#[test]
fn one_answer_waits_however_much_is_asked() {
    let now = Instant::now();
    let mut liveness = Liveness::new(now);
    for nonce in 0..1000 {
        liveness.handle_message(&Message::Ping { nonce }, now).expect("a question");
    }
    assert_eq!(liveness.poll_transmit(), Some(Message::Pong { nonce: 999 }));
    assert_eq!(liveness.poll_transmit(), None);
}

#[test]
fn answers_to_nothing_and_messages_of_other_times_are_violations() {
    let now = Instant::now();
    let join = Join { version: Version::V1, token: failback_model::SessionToken([0; 16]), index: 0 };
    for message in [
        Message::Pong { nonce: 0 },
        Message::Pong { nonce: 1 },
        Message::Join(join),
        Message::Joined { index: 0 },
        Message::Acknowledged { below: 0 },
    ] {
        let error = Liveness::new(now).handle_message(&message, now).expect_err("out of place");
        assert_eq!(error.code, Code::ProtocolViolation, "{message:?}");
    }
    let mut twice = Liveness::new(now);
    turn(&mut twice);
    twice.handle_message(&Message::Pong { nonce: 1 }, now).expect("the answer");
    assert!(twice.handle_message(&Message::Pong { nonce: 1 }, now).is_err());
    let mut left = Liveness::new(now);
    left.handle_message(&Message::Bye, now).expect("a goodbye");
    assert!(left.handle_message(&Message::Ping { nonce: 1 }, now).is_err());
    assert!(left.handle_message(&Message::Bye, now).is_err());
}

#[test]
fn a_connection_without_a_goodbye_was_lost() {
    let now = Instant::now();
    let mut liveness = Liveness::new(now);
    let error = liveness.handle_closed("connection reset by peer").expect_err("lost");
    assert_eq!((error.code, error.reason.as_str()), (Code::ConnectionLost, "connection reset by peer"));
    liveness.handle_message(&Message::Bye, now).expect("a goodbye");
    liveness.handle_closed("end of stream").expect("on purpose");
    assert!(liveness.has_left() && !liveness.is_over());
    assert_eq!(liveness.goodbye(now), Message::Bye);
    assert!(liveness.is_over() && liveness.poll_timeout().is_none());
}

#[test]
fn a_goodbye_is_the_last_word_and_waits_for_the_others_for_a_while() {
    let start = Instant::now();
    let mut liveness = Liveness::new(start);
    let (now, _) = turn(&mut liveness);
    liveness.handle_message(&Message::Ping { nonce: 3 }, now).expect("a question");
    assert_eq!(liveness.goodbye(now), Message::Bye);
    assert_eq!(liveness.poll_transmit(), None, "nothing follows");
    assert_eq!(liveness.poll_timeout(), Some(now + GOODBYE_MAX));
    liveness.handle_time(now + GOODBYE_MAX - INSTANT).expect("not yet");
    assert_eq!(liveness.handle_time(now + GOODBYE_MAX).expect_err("overdue").code, Code::TimedOut);
    liveness.handle_message(&Message::Bye, now).expect("late, but there");
    liveness.handle_time(now + GOODBYE_MAX).expect("over");
}
