//! Each machine against another end that breaks the protocol: an error that says so, never a panic.

mod receiving;
mod sending;

use crate::disk::layout;
use crate::explore::{run, walk};
use bytes::Bytes;
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Code, Difference, Digest, Layout, PageSet};
use failback_session::{Receiver, ReceiverOptions, RefinementMode, Sender, SenderOptions, SenderWork};
use failback_wire::{BlockPatch, Data, Encoding, Hello, Message, Role};

/// Blocks of the disk; its last block has two pages, the second of 100 bytes.
const BLOCKS: u64 = 70_000;

fn disk() -> Layout {
    layout(BLOCKS, 3 * 4096 - 100)
}

pub(crate) fn blocks(list: &[u64]) -> Vec<BlockIndex> {
    list.iter().map(|&block| BlockIndex(block)).collect()
}

fn bytes(count: usize) -> Bytes {
    vec![0; count].into()
}

pub(crate) fn greeting(role: Role) -> Hello {
    let layout = disk();
    Hello {
        role,
        length_bytes: layout.length_bytes(),
        block_bytes: layout.block_size().bytes() as u32,
        has_seeds: false,
        is_new: false,
        verify: false,
        digests_known: false,
    }
}

/// Whole pages of one block, numbered.
pub(crate) fn data(sequence: u64, block: u64, pages: usize, payload_bytes: usize) -> Data {
    let (data, zero) = (PageSet::first(pages), PageSet::EMPTY);
    let patch = BlockPatch { block: BlockIndex(block), digest: Digest([1; 32]), data, zero };
    Data { sequence, patches: vec![patch], encoding: Encoding::Raw, payload: bytes(payload_bytes) }
}

fn greetings(role: Role) -> [Hello; 3] {
    let other = if role == Role::Sending { Role::Receiving } else { Role::Sending };
    let good = greeting(role);
    [
        greeting(other),
        Hello { length_bytes: good.length_bytes + 1, ..good.clone() },
        Hello { block_bytes: 65_536, ..good },
    ]
}

pub(crate) fn new_sender() -> Sender {
    empty_sender(false)
}

/// A sending end that may ask for the target to be read anew.
pub(crate) fn empty_sender(verify: bool) -> Sender {
    let (layout, refinement) = (disk(), RefinementMode::On);
    Sender::new(SenderOptions { layout, refinement, window_bytes: 1 << 20, verify, holds_base: false })
}

/// A sending end that was greeted and told of ten blocks that differ; it asks for their pages.
pub(crate) fn sender() -> Sender {
    let mut sender = new_sender();
    sender.handle_message(Message::Hello(greeting(Role::Receiving))).expect("a greeting");
    let digests = Message::Digests { first: BlockIndex(0), digests: bytes(160) };
    sender.handle_message(digests).expect("the first digests");
    assert!(matches!(sender.poll_work(), Some(SenderWork::Compare { .. })));
    let difference = |block| Difference { block, digest: Digest([1; 32]), target_is_zero: false };
    sender.handle_compared(BlockIndex(10), 10, (0..10).map(BlockIndex).map(difference), []);
    let asked = std::iter::from_fn(|| sender.poll_transmit()).last();
    assert_eq!(asked, Some(Message::PageDigestRequest { blocks: (0..10).map(BlockIndex).collect() }));
    sender
}

pub(crate) fn new_receiver(has_seeds: bool) -> Receiver {
    new_receiver_of(has_seeds, 1 << 20)
}

fn new_receiver_of(has_seeds: bool, window_bytes: u64) -> Receiver {
    Receiver::new(ReceiverOptions {
        layout: disk(),
        has_seeds,
        is_new: false,
        is_at_seal: false,
        window_bytes,
    })
}

/// A receiving end that was greeted, has seeds, and scanned 2000 blocks.
pub(crate) fn receiver() -> Receiver {
    let mut receiver = new_receiver(true);
    receiver.handle_message(Message::Hello(greeting(Role::Sending))).expect("a greeting");
    receiver.handle_message(Message::DigestCredit { blocks: 5000 }).expect("credit");
    receiver.handle_scanned(BlockRange::new(0, 2000), None);
    receiver
}

#[track_caller]
fn sender_refuses(mut sender: Sender, message: Message) {
    let error = sender.handle_message(message.clone()).expect_err("a violation");
    assert_eq!(error.code, Code::ProtocolViolation, "{message:?}");
}

#[track_caller]
fn receiver_refuses(mut receiver: Receiver, message: Message) {
    let error = receiver.handle_message(message.clone()).expect_err("a violation");
    assert_eq!(error.code, Code::ProtocolViolation, "{message:?}");
}

/// What only the sending end says.
fn of_sender() -> Vec<Message> {
    vec![
        Message::DigestCredit { blocks: 1 },
        Message::PageDigestRequest { blocks: blocks(&[1]) },
        Message::Data(data(0, 0, 1, 4096)),
        Message::Zero { sequence: 0, ranges: vec![BlockRange::new(0, 1)] },
        Message::References { sequence: 0, offers: Vec::new() },
        Message::Seal { root: Digest::ZERO, messages: 0 },
        Message::ChunkRequest { chunks: vec![ChunkIndex(0)] },
    ]
}

/// What only the receiving end says.
fn of_receiver() -> Vec<Message> {
    vec![
        Message::Digests { first: BlockIndex(0), digests: bytes(16) },
        Message::ZeroDigests { blocks: BlockRange::new(0, 1) },
        Message::KnownDigests { blocks: BlockRange::new(0, 1) },
        Message::PageDigests { blocks: blocks(&[0]), digests: bytes(64) },
        Message::Written { sequence: 0, missing: Vec::new() },
        Message::Acknowledged { below: 1 },
        Message::Sealed { root: Digest::ZERO },
        Message::ChunkDigests { first: ChunkIndex(0), digests: bytes(32) },
        Message::FullDigests { chunk: ChunkIndex(0), digests: bytes(32 * 1024) },
    ]
}

#[test]
fn known_digests_are_taken_in_order_by_whoever_holds_the_base_and_by_nobody_else() {
    let known = |start, end| Message::KnownDigests { blocks: BlockRange::new(start, end) };
    sender_refuses(sender(), known(10, 20));
    let sender = |holds_base| {
        let (layout, refinement) = (disk(), RefinementMode::On);
        let options = SenderOptions { layout, refinement, window_bytes: 1 << 20, verify: false, holds_base };
        let mut sender = Sender::new(options);
        let Some(Message::Hello(hello)) = sender.poll_transmit() else { panic!("it greets first") };
        assert_eq!(hello.digests_known, holds_base);
        // What the other end says of its own digests is not asked.
        let greeting = Hello { digests_known: true, ..greeting(Role::Receiving) };
        sender.handle_message(Message::Hello(greeting)).expect("a greeting");
        sender
    };
    sender_refuses(sender(false), known(0, 20));
    for message in [known(1, 20), known(0, 0), known(0, BLOCKS + 1), known(5, 5)] {
        sender_refuses(sender(true), message);
    }
    let mut holder = sender(true);
    holder.handle_message(known(0, 20)).expect("the first digests");
    assert!(matches!(holder.poll_work(), Some(SenderWork::CompareBase { .. })));
    // Whoever might leave digests out may send them.
    let digests = Message::Digests { first: BlockIndex(20), digests: bytes(160) };
    holder.handle_message(digests).expect("the next digests");
    sender_refuses(holder, known(0, 40));
    let mut holder = sender(true);
    let mut sent = (0..BLOCKS).map(|block| holder.handle_message(known(block, block + 1)));
    assert!(sent.any(|taken| taken.is_err()), "each takes credit");
}

#[test]
fn digests_are_left_out_only_where_both_ends_know_them() {
    for (is_at_seal, digests_known) in [(false, false), (false, true), (true, false), (true, true)] {
        let layout = disk();
        let options =
            ReceiverOptions { layout, has_seeds: false, is_new: false, is_at_seal, window_bytes: 1 << 20 };
        let mut receiver = Receiver::new(options);
        assert!(!receiver.may_leave_out(), "before the greeting");
        let greeting = Hello { digests_known, ..greeting(Role::Sending) };
        receiver.handle_message(Message::Hello(greeting)).expect("a greeting");
        assert_eq!(receiver.may_leave_out(), is_at_seal && digests_known);
        assert!(!receiver.wants_digests(), "they need credit as others do");
        receiver_refuses(receiver, Message::KnownDigests { blocks: BlockRange::new(0, 1) });
    }
}

#[test]
fn neither_end_takes_its_own_messages_or_any_before_the_greeting() {
    for message in of_sender() {
        sender_refuses(sender(), message.clone());
        receiver_refuses(new_receiver(true), message);
    }
    for message in of_receiver() {
        sender_refuses(new_sender(), message.clone());
        receiver_refuses(receiver(), message);
    }
}

#[test]
fn greetings_come_once_and_agree_about_the_disk() {
    sender_refuses(sender(), Message::Hello(greeting(Role::Receiving)));
    receiver_refuses(receiver(), Message::Hello(greeting(Role::Sending)));
    for hello in greetings(Role::Receiving) {
        sender_refuses(new_sender(), Message::Hello(hello));
    }
    for hello in greetings(Role::Sending) {
        receiver_refuses(new_receiver(false), Message::Hello(hello));
    }
}

#[test]
fn an_error_of_the_other_end_is_passed_on() {
    let message = Message::Error { code: "FB203".into(), message: "write failed".into() };
    for error in [
        new_sender().handle_message(message.clone()).expect_err("an error"),
        new_receiver(false).handle_message(message).expect_err("an error"),
    ] {
        assert_eq!((error.code, error.to_string()), (Code::PeerFailed, "FB203: write failed".into()));
    }
}

#[test]
fn strangers_at_any_time_give_an_error_or_nothing() {
    let mut refused = 0;
    for seed in 0..1000 {
        let mut walk = walk(seed, |setup, random| setup.has_seeds = random.below(2) == 0);
        walk.strangers_permille = 1 + seed % 100;
        walk.world.to_target.history = Some(Vec::new());
        walk.world.to_source.history = Some(Vec::new());
        match run(seed, &mut walk) {
            Ok(()) => {}
            Err(error) => {
                let codes =
                    [Code::ProtocolViolation, Code::PeerFailed, Code::VerifyFailed, Code::RootMismatch];
                assert!(codes.contains(&error.code), "seed {seed}: {error}");
                refused += u64::from(error.code == Code::ProtocolViolation);
            }
        }
    }
    assert!(refused > 500, "{refused} walks were ended by a violation");
}
