//! A sending end whose peer breaks the protocol.

use super::{BLOCKS, blocks, bytes, data, disk, sender, sender_refuses};
use crate::repair::sealing;
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Digest};
use failback_session::{Sender, SenderWork};
use failback_wire::{BlockPatch, Data, Message};

/// That one, with message 0 sent: blocks 0 and 2 whole.
fn sender_with_message() -> Sender {
    let mut sender = sender();
    let digests = Message::PageDigests { blocks: blocks(&[0, 2]), digests: bytes(2 * 4 * 16) };
    sender.handle_message(digests).expect("asked for");
    let Some(SenderWork::Patch { job, .. }) = sender.poll_work() else { panic!("a job") };
    let mut packed = data(0, 0, 4, 2 * 16_384);
    packed.patches.push(BlockPatch { block: BlockIndex(2), ..packed.patches[0].clone() });
    sender.handle_packed(job, vec![packed], Some((8, 8)));
    assert!(matches!(sender.poll_transmit(), Some(Message::Data(Data { sequence: 0, .. }))));
    sender
}

#[test]
fn digests_come_in_order_within_the_disk_and_within_their_credit() {
    for (first, count) in [(0, 1), (9, 1), (11, 1), (BLOCKS, 1), (u64::MAX - 1, 2)] {
        sender_refuses(sender(), Message::Digests { first: BlockIndex(first), digests: bytes(16 * count) });
    }
    for (start, end) in [(10, 10), (9, 11), (11, 12), (10, BLOCKS + 1), (10, u64::MAX)] {
        sender_refuses(sender(), Message::ZeroDigests { blocks: BlockRange::new(start, end) });
    }
    let mut sender = sender();
    let run =
        |batch: u64| Message::Digests { first: BlockIndex(10 + batch * 1024), digests: bytes(16 << 10) };
    for batch in 0..64 {
        sender.handle_message(run(batch)).expect("64 Ki digests have credit");
    }
    sender_refuses(sender, run(64));
}

#[test]
fn page_digests_answer_what_was_asked() {
    let answers = [(&[10][..], 4), (&[0, 10], 8), (&[0], 3), (&[0], 5), (&[], 1)];
    for (list, pages) in answers {
        let digests = bytes(pages * 16);
        sender_refuses(sender(), Message::PageDigests { blocks: blocks(list), digests });
    }
    let answer = Message::PageDigests { blocks: blocks(&[0, 2]), digests: bytes(2 * 4 * 16) };
    sender_refuses(sender_with_message(), answer);
}

#[test]
fn written_names_an_open_message_and_blocks_of_it() {
    for (sequence, missing) in [(1, &[][..]), (0, &[1]), (0, &[0, 1]), (0, &[BLOCKS]), (0, &[3])] {
        sender_refuses(sender_with_message(), Message::Written { sequence, missing: blocks(missing) });
    }
    sender_refuses(sender_with_message(), Message::Acknowledged { below: 2 });
    let mut sender = sender_with_message();
    sender.handle_message(Message::Written { sequence: 0, missing: blocks(&[2]) }).expect("it was sent");
    sender_refuses(sender, Message::Written { sequence: 0, missing: Vec::new() });
}

#[test]
fn a_seal_is_answered_once_with_the_same_root_or_all_chunks_in_order() {
    let chunks = |first, count: usize| Message::ChunkDigests { first, digests: bytes(32 * count) };
    let disk = disk();
    sender_refuses(sealing(disk), Message::Sealed { root: Digest([1; 32]) });
    sender_refuses(sealing(disk), chunks(ChunkIndex(1), 1));
    sender_refuses(sealing(disk), chunks(ChunkIndex(0), disk.chunk_count() as usize + 1));
    sender_refuses(sealing(disk), Message::ZeroDigests { blocks: BlockRange::new(0, 1) });
    let mut sealed = sealing(disk);
    sealed.handle_message(Message::Sealed { root: Digest::ZERO }).expect("its root");
    sender_refuses(sealed, Message::Sealed { root: Digest::ZERO });
    let repairing = || {
        let mut sender = sealing(disk);
        sender.handle_message(chunks(ChunkIndex(0), 60)).expect("the first chunks");
        sender.handle_message(chunks(ChunkIndex(60), 9)).expect("the last chunks");
        sender.handle_chunks_compared(vec![ChunkIndex(3)]).expect("a comparison");
        sender.handle_chunks_compared(vec![ChunkIndex(68)]).expect("a comparison");
        sender
    };
    let full = |chunk, blocks: usize| Message::FullDigests { chunk, digests: bytes(32 * blocks) };
    for message in [
        chunks(ChunkIndex(0), 1),
        chunks(ChunkIndex(69), 1),
        Message::Sealed { root: Digest::ZERO },
        full(ChunkIndex(4), 1024),
        full(ChunkIndex(u64::MAX), 1024),
        full(ChunkIndex(3), 1023),
        full(ChunkIndex(68), 1024),
    ] {
        sender_refuses(repairing(), message);
    }
    let mut sender = repairing();
    sender.handle_message(full(ChunkIndex(3), 1024)).expect("asked for");
    sender_refuses(sender, full(ChunkIndex(3), 1024));
}
