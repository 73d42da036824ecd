//! The repair of large disks, whose digests come in several messages.

use crate::disk::{HIDDEN, layout};
use crate::explore::{run, walk};
use failback_model::limits::GROUP_MAX_BYTES;
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Code, Digest, Layout, TruncatedDigest};
use failback_session::{
    Receiver, ReceiverOptions, ReceiverWork, RefinementMode, Sender, SenderOptions, SenderWork,
};
use failback_wire::{Class, Hello, Message, Role};

/// Chunks of the large disk: their digests are two messages.
const CHUNKS: u64 = 1500;

/// A sending end whose seal was answered with the digests of every chunk, both comparisons open.
fn comparing() -> (Sender, Layout) {
    let layout = layout(CHUNKS * 1024, 0);
    let mut sender = sealing(layout);
    for (first, count) in [(0, 1024), (1024, CHUNKS as usize - 1024)] {
        let digests = vec![0; count * 32].into();
        let message = Message::ChunkDigests { first: ChunkIndex(first), digests };
        sender.handle_message(message).expect("the next chunks");
        assert!(matches!(sender.poll_work(), Some(SenderWork::CompareChunks { .. })));
    }
    (sender, layout)
}

/// A sending end that waits for the answer to its seal; nothing differed.
pub(crate) fn sealing(layout: Layout) -> Sender {
    let refinement = RefinementMode::Auto;
    let mut sender = Sender::new(SenderOptions {
        layout,
        refinement,
        window_bytes: 64 << 20,
        verify: false,
        holds_base: false,
    });
    sender.handle_message(Message::Hello(greeting(layout))).expect("a greeting");
    sender.handle_message(Message::ZeroDigests { blocks: layout.blocks() }).expect("all digests");
    assert!(matches!(sender.poll_work(), Some(SenderWork::Compare { .. })));
    sender.handle_compared(BlockIndex(layout.block_count()), 1, [], []);
    while sender.poll_transmit().is_some() {}
    assert!(matches!(sender.poll_work(), Some(SenderWork::Seal)));
    sender.handle_root(Digest::ZERO);
    assert_eq!(sender.poll_transmit(), Some(Message::Seal { root: Digest::ZERO, messages: 0 }));
    sender
}

/// A receiving end's first message.
fn greeting(layout: Layout) -> Hello {
    Hello {
        role: Role::Receiving,
        length_bytes: layout.length_bytes(),
        block_bytes: layout.block_size().bytes() as u32,
        has_seeds: false,
        is_new: false,
        verify: false,
        digests_known: false,
    }
}

#[test]
fn chunks_are_asked_for_once_and_in_order_when_the_last_comparison_ends() {
    for is_reversed in [false, true] {
        let (mut sender, layout) = comparing();
        let mut differing = [vec![], vec![ChunkIndex(1030), ChunkIndex(1499)]];
        if is_reversed {
            differing.reverse();
            differing[1] = vec![ChunkIndex(7)];
        }
        let mut expected: Vec<_> = differing.concat();
        expected.sort_unstable();
        let [first, second] = differing;
        sender.handle_chunks_compared(first).expect("a comparison");
        assert_eq!(sender.poll_transmit(), None, "the other comparison is open");
        sender.handle_chunks_compared(second).expect("a comparison");
        assert_eq!(sender.poll_transmit(), Some(Message::ChunkRequest { chunks: expected.clone() }));
        for &chunk in &expected {
            let digests = vec![0; 1024 * 32].into();
            sender.handle_message(Message::FullDigests { chunk, digests }).expect("asked for");
        }
        for chunk in &expected {
            assert!(matches!(sender.poll_work(), Some(SenderWork::CompareChunk { .. })));
            let block = layout.chunk_blocks(*chunk).start;
            sender.handle_chunk_compared(vec![block]).expect("a comparison");
        }
        let Some(SenderWork::Ship { blocks, .. }) = sender.poll_work() else { panic!("blocks to ship") };
        assert_eq!(blocks.len(), expected.len());
        assert!(sender.poll_work().is_none(), "no seal before they are written");
    }
}

#[test]
fn more_chunks_than_one_request_holds_are_too_many_and_none_is_a_riddle() {
    let (mut sender, _) = comparing();
    sender.handle_chunks_compared((0..1024).map(ChunkIndex).collect()).expect("a comparison");
    let error = sender.handle_chunks_compared(vec![ChunkIndex(1024)]).expect_err("too many");
    assert_eq!(error.code, Code::RootMismatch);
    assert!(error.reason.contains("1025 chunks"), "{error}");

    let (mut sender, _) = comparing();
    sender.handle_chunks_compared(Vec::new()).expect("a comparison");
    let error = sender.handle_chunks_compared(Vec::new()).expect_err("roots differ, chunks do not");
    assert_eq!(error.code, Code::RootMismatch);
}

#[test]
fn what_a_seal_made_durable_is_acknowledged_even_if_roots_differ() {
    let layout = layout(4, 0);
    let mut receiver = Receiver::new(ReceiverOptions {
        layout,
        has_seeds: false,
        is_new: true,
        is_at_seal: false,
        window_bytes: 1 << 20,
    });
    let hello = Hello { role: Role::Sending, ..greeting(layout) };
    receiver.handle_message(Message::Hello(hello)).expect("a greeting");
    let zero = |receiver: &mut Receiver, sequence| {
        let ranges = vec![BlockRange::new(0, 1)];
        receiver.handle_message(Message::Zero { sequence, ranges }).expect("the next message");
        assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Zero { .. })));
        receiver.handle_applied(sequence, GROUP_MAX_BYTES * sequence, Vec::new());
    };
    zero(&mut receiver, 0);
    receiver.handle_message(Message::Seal { root: Digest::ZERO, messages: 1 }).expect("a seal");
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Seal { .. })));
    receiver.handle_root(Digest([1; 32]));
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::ChunkDigests { .. })));
    zero(&mut receiver, 1);
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Commit)), "a group is full");
    receiver.handle_committed();
    let sent = std::iter::from_fn(|| receiver.poll_transmit());
    let acknowledged = sent.filter(|message| matches!(message, Message::Acknowledged { .. }));
    assert_eq!(
        acknowledged.collect::<Vec<_>>(),
        [Message::Acknowledged { below: 1 }, Message::Acknowledged { below: 2 }]
    );
}

#[test]
fn walks_over_several_chunks_repair_each() {
    for seed in 0..20 {
        let mut walk = walk(seed, |setup, random| {
            setup.layout = layout(2500, 1000);
            setup.source = vec![[1; 4]; 2500];
            setup.target = setup.source.clone();
            for block in [3, 1024, 2499] {
                setup.target[block][0] |= HIDDEN;
            }
            setup.target[random.below(2500) as usize][1] = 2;
        });
        run(seed, &mut walk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        walk.assert_sealed();
        assert_eq!(walk.world.roots, 2, "seed {seed}: one repair");
    }
}

#[test]
fn chunk_digests_are_offered_piece_by_piece() {
    let layout = layout(3000 * 1024, 0);
    let mut receiver = Receiver::new(ReceiverOptions {
        layout,
        has_seeds: false,
        is_new: true,
        is_at_seal: false,
        window_bytes: 1 << 20,
    });
    let hello = Hello { role: Role::Sending, ..greeting(layout) };
    receiver.handle_message(Message::Hello(hello)).expect("a greeting");
    receiver.handle_message(Message::Seal { root: Digest::ZERO, messages: 0 }).expect("a seal");
    assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Seal { .. })));
    receiver.handle_root(Digest([1; 32]));
    let mut offered = Vec::new();
    while let Some(ReceiverWork::ChunkDigests { chunks }) = receiver.poll_work() {
        assert!(receiver.poll_work().is_none(), "one piece at a time");
        let digests = vec![Digest::ZERO; chunks.clone().count()];
        receiver.handle_chunk_digests(ChunkIndex(chunks.start), &digests);
        assert!(receiver.poll_work().is_none(), "what was offered goes out first");
        let ask = Message::ChunkRequest { chunks: vec![ChunkIndex(0)] };
        let sent = std::iter::from_fn(|| receiver.poll_transmit());
        assert!(sent.last().is_some_and(|last| matches!(last, Message::ChunkDigests { .. })));
        offered.push(chunks.clone());
        if chunks.end == 3000 {
            receiver.handle_message(ask).expect("all were offered");
        }
    }
    assert_eq!(offered, [0..1024, 1024..2048, 2048..3000]);
}

#[test]
fn digests_wait_for_everything_else() {
    let layout = layout(100, 0);
    let mut receiver = Receiver::new(ReceiverOptions {
        layout,
        has_seeds: false,
        is_new: false,
        is_at_seal: false,
        window_bytes: 1 << 20,
    });
    let hello = Hello { role: Role::Sending, ..greeting(layout) };
    receiver.handle_message(Message::Hello(hello)).expect("a greeting");
    receiver.handle_message(Message::DigestCredit { blocks: 1000 }).expect("credit");
    receiver
        .handle_message(Message::Zero { sequence: 0, ranges: vec![BlockRange::new(0, 1)] })
        .expect("zeros");
    receiver.handle_scanned(BlockRange::new(0, 50), None);
    receiver.handle_scanned(BlockRange::new(50, 99), Some(&[TruncatedDigest::ZERO; 49]));
    let asked = vec![BlockIndex(60)];
    receiver.handle_message(Message::PageDigestRequest { blocks: asked.clone() }).expect("scanned");
    receiver.handle_page_digests(asked, &[TruncatedDigest::ZERO; 4]);
    receiver.handle_applied(0, 16 << 10, Vec::new());
    receiver.handle_scanned(BlockRange::new(99, 100), None);
    let sent: Vec<_> =
        std::iter::from_fn(|| receiver.poll_transmit()).map(|message| message.class()).collect();
    let expected =
        [Class::Ordered, Class::Bulk, Class::Urgent, Class::Ordered, Class::Ordered, Class::Ordered];
    assert_eq!(sent, expected, "the greeting, then what is waited for");
}
