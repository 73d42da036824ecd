//! A receiving end whose peer breaks the protocol.

use super::{
    BLOCKS, blocks, bytes, data, greeting, new_receiver, new_receiver_of, of_sender, receiver,
    receiver_refuses,
};
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Code, Digest, TruncatedDigest};
use failback_session::{Receiver, ReceiverOptions, ReceiverWork};
use failback_wire::{Data, Encoding, Hello, Message, Offer, Role};

#[test]
fn pages_are_asked_for_after_their_digests_and_a_bounded_number_at_once() {
    let ask = |list: Vec<BlockIndex>| Message::PageDigestRequest { blocks: list };
    for list in [&[][..], &[2000], &[1, 2000], &[BLOCKS], &[u64::MAX - 1]] {
        receiver_refuses(receiver(), ask(blocks(list)));
    }
    let mut open = receiver();
    open.handle_message(ask((0..1024).map(BlockIndex).collect())).expect("within the window");
    receiver_refuses(open, ask(blocks(&[1024])));
    let mut open = receiver();
    open.handle_message(ask(blocks(&[5]))).expect("within the window");
    receiver_refuses(open, ask(blocks(&[5])));
}

#[test]
fn page_digests_are_remembered_for_a_bounded_number_of_blocks() {
    let ask =
        |from: u64, to: u64| Message::PageDigestRequest { blocks: (from..to).map(BlockIndex).collect() };
    let answered = |blocks: std::ops::Range<u64>| {
        let mut receiver = receiver();
        receiver.handle_message(ask(blocks.start, blocks.end)).expect("within the window");
        assert!(matches!(receiver.poll_work(), Some(ReceiverWork::PageDigests { .. })));
        let digests = vec![TruncatedDigest::ZERO; 4 * blocks.clone().count()];
        receiver.handle_page_digests(blocks.map(BlockIndex).collect(), &digests);
        receiver
    };
    // An answer frees nothing: its page digests are remembered until the pages come.
    receiver_refuses(answered(0..1024), ask(1024, 1025));
    let mut receiver = answered(0..1024);
    receiver.handle_message(Message::Data(data(0, 3, 4, 16_384))).expect("the pages of one");
    receiver.handle_message(ask(1024, 1025)).expect("one came");
    receiver_refuses(receiver, ask(1025, 1026));
    // Nor may a block that was asked for come too early or in another way: its digests would stay for ever.
    let mut unanswered = self::receiver();
    unanswered.handle_message(ask(3, 4)).expect("within the window");
    let early = Message::Data(data(0, 3, 4, 16_384));
    assert_eq!(unanswered.handle_message(early).expect_err("too early").code, Code::ProtocolViolation);
    // The answer was on its way.
    unanswered.stop();
    unanswered.handle_page_digests(blocks(&[3]), &[TruncatedDigest::ZERO; 4]);
    let ranges = vec![BlockRange::new(0, 1), BlockRange::new(2, 5)];
    receiver_refuses(answered(3..4), Message::Zero { sequence: 0, ranges });
    let offers = vec![Offer { block: BlockIndex(3), digest: Digest([1; 32]) }];
    receiver_refuses(answered(3..4), Message::References { sequence: 0, offers });
}

#[test]
fn contents_lie_within_the_disk_and_fit_their_pages() {
    let last = BLOCKS - 1;
    for (block, pages, payload) in
        [(BLOCKS, 1, 4096), (u64::MAX, 1, 4096), (last, 3, 4096 * 3), (last, 2, 8192), (0, 4, 16_383)]
    {
        receiver_refuses(receiver(), Message::Data(data(0, block, pages, payload)));
    }
    receiver().handle_message(Message::Data(data(0, last, 2, 4196))).expect("the short last page");
    for range in [BlockRange::new(last, BLOCKS + 1), BlockRange::new(0, u64::MAX)] {
        receiver_refuses(receiver(), Message::Zero { sequence: 0, ranges: vec![range] });
    }
}

#[test]
fn no_more_digests_are_granted_than_the_window_holds() {
    let credit = |blocks| Message::DigestCredit { blocks };
    for blocks in [(64 << 10) + 1, 1 << 63, u64::MAX] {
        receiver_refuses(receiver(), credit(blocks));
    }
    let mut open = receiver();
    // One run of zeros is used up of the 5000.
    open.handle_message(credit((64 << 10) - 4999)).expect("within the window");
    receiver_refuses(open, credit(1));
}

#[test]
fn offers_need_seeds_and_credit() {
    let offers = |sequence, list: std::ops::Range<u64>| {
        let digest = Digest([1; 32]);
        let offers = list.map(|block| Offer { block: BlockIndex(block), digest }).collect();
        Message::References { sequence, offers }
    };
    let mut seedless = new_receiver(false);
    seedless.handle_message(Message::Hello(greeting(Role::Sending))).expect("a greeting");
    receiver_refuses(seedless, offers(0, 0..1));
    receiver_refuses(receiver(), offers(0, BLOCKS..BLOCKS + 1));
    receiver_refuses(receiver(), offers(0, 0..65));
    let mut full = receiver();
    full.handle_message(offers(0, 0..64)).expect("as much as the window holds");
    receiver_refuses(full, offers(1, 64..65));
    let mut open = new_receiver_of(true, 1 << 30);
    open.handle_message(Message::Hello(greeting(Role::Sending))).expect("a greeting");
    for part in 0..64 {
        open.handle_message(offers(part, part * 64..(part + 1) * 64)).expect("a wide window");
    }
    receiver_refuses(open, offers(64, 4096..4097));
}

#[test]
fn offers_count_at_the_length_of_their_blocks() {
    let block_bytes = 1 << 20;
    let layout =
        failback_model::Layout::new(1 << 30, failback_model::BlockSize::new(block_bytes).unwrap()).unwrap();
    let options =
        ReceiverOptions { layout, has_seeds: true, is_new: false, is_at_seal: false, window_bytes: 64 << 20 };
    let greeting =
        Hello { length_bytes: 1 << 30, block_bytes: block_bytes as u32, ..greeting(Role::Sending) };
    let offer = |block| {
        let offers = vec![Offer { block: BlockIndex(block), digest: Digest([1; 32]) }];
        Message::References { sequence: block, offers }
    };
    let mut receiver = Receiver::new(options);
    receiver.handle_message(Message::Hello(greeting)).expect("a greeting");
    for block in 0..64 {
        receiver.handle_message(offer(block)).expect("within the window");
    }
    receiver_refuses(receiver, offer(64));
}

#[test]
fn numbers_come_once_within_reach_and_with_credit() {
    let zero = |sequence| Message::Zero { sequence, ranges: vec![BlockRange::new(0, 1)] };
    let mut open = receiver();
    open.handle_message(zero(3)).expect("any order");
    receiver_refuses(open, zero(3));
    let mut done = receiver();
    done.handle_message(zero(0)).expect("the first");
    assert!(matches!(done.poll_work(), Some(ReceiverWork::Zero { sequence: 0, .. })));
    done.handle_applied(0, 0, Vec::new());
    receiver_refuses(done, zero(0));
    receiver_refuses(receiver(), zero(64 << 10));
    receiver_refuses(receiver(), zero(u64::MAX));
    let mut full = receiver();
    let payload = bytes(1 << 20);
    let pack = |sequence| {
        let patches = (0..64).map(|block| data(0, block, 4, 0).patches.remove(0)).collect();
        Message::Data(Data { sequence, patches, encoding: Encoding::Raw, payload: payload.clone() })
    };
    full.handle_message(pack(0)).expect("as much as the window holds");
    receiver_refuses(full, pack(1));
}

#[test]
fn what_compresses_well_counts_at_its_full_size() {
    let pack = |sequence| {
        let patches = (0..64).map(|block| data(0, block, 4, 0).patches.remove(0)).collect();
        let encoding = Encoding::Zstd { content_bytes: 1 << 20 };
        Message::Data(Data { sequence, patches, encoding, payload: bytes(40) })
    };
    let mut full = receiver();
    full.handle_message(pack(0)).expect("as much as the window holds");
    receiver_refuses(full, pack(1));
}

#[test]
fn a_seal_comes_once_and_counts_what_came() {
    let seal = |messages| Message::Seal { root: Digest::ZERO, messages };
    let zero = |sequence| Message::Zero { sequence, ranges: vec![BlockRange::new(0, 1)] };
    for messages in [0, 1, u64::MAX, (64 << 10) + 1] {
        let mut open = receiver();
        open.handle_message(zero(1)).expect("any order");
        receiver_refuses(open, seal(messages));
    }
    let mut sealing = receiver();
    sealing.handle_message(seal(2)).expect("a seal");
    sealing.handle_message(zero(1)).expect("counted by the seal");
    receiver_refuses(sealing, zero(2));
    let mut sealing = receiver();
    sealing.handle_message(seal(0)).expect("a seal");
    receiver_refuses(sealing, seal(0));
}

#[test]
fn chunks_are_asked_for_once_after_their_digests_and_nothing_follows_the_seal() {
    let ask = |chunk| Message::ChunkRequest { chunks: vec![ChunkIndex(chunk)] };
    let answered = |root| {
        let mut receiver = receiver();
        receiver.handle_message(Message::Seal { root: Digest::ZERO, messages: 0 }).expect("a seal");
        assert!(matches!(receiver.poll_work(), Some(ReceiverWork::Seal { verify: false })));
        receiver.handle_root(root);
        while receiver.poll_transmit().is_some() {}
        receiver
    };
    let offered = || {
        let mut receiver = answered(Digest([1; 32]));
        assert!(matches!(receiver.poll_work(), Some(ReceiverWork::ChunkDigests { .. })));
        receiver.handle_chunk_digests(ChunkIndex(0), &[Digest::ZERO; 69]);
        receiver
    };
    receiver_refuses(receiver(), ask(0));
    receiver_refuses(offered(), ask(69));
    let mut asked = offered();
    asked.handle_message(ask(68)).expect("a chunk of the disk");
    receiver_refuses(asked, ask(67));
    for message in of_sender() {
        receiver_refuses(answered(Digest::ZERO), message);
    }
}
