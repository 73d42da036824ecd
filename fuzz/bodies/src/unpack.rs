//! Data messages from a peer: past the receiving end's checks, through unpacking, onto a disk.
//!
//! The first byte chooses the disk, the second whether the digests in the message are made right; then frames.

use bytes::Bytes;
use failback_engine::{Unpacked, old_pages_of, unpack as unpack_data};
use failback_model::{BlockIndex, BlockSize, Layout, block_digest};
use failback_session::{Receiver, ReceiverOptions, ReceiverWork};
use failback_testkit::Random;
use failback_wire::{Data, Encoding, Frame, Hello, Message, Role};

/// Unpacks what the receiving end lets through.
pub fn unpack(data: &[u8]) {
    let Some((&[which, mode], frames)) = data.split_first_chunk() else { return };
    let (layout, mut disk) = unpack_disk(which);
    let mut receiver = greeted(layout);
    let mut rest = Bytes::copy_from_slice(frames);
    while let Ok((frame, behind)) = Frame::split_from(&rest) {
        rest = behind;
        let Ok(message) = Message::decode(&frame) else { return };
        if receiver.handle_message(message).is_err() {
            return;
        }
        while let Some(work) = receiver.poll_work() {
            match work {
                ReceiverWork::Apply(data) if mode & 1 == 0 => apply(layout, &mut disk, &data),
                ReceiverWork::Apply(data) => {
                    let data = with_true_digests(layout, &disk, data);
                    apply(layout, &mut disk, &data);
                }
                ReceiverWork::Seal { .. } => return,
                _ => {}
            }
        }
    }
}

/// The disk that a first byte chooses: a few blocks, the last of them short in most; half data, half zero.
pub fn unpack_disk(which: u8) -> (Layout, Vec<u8>) {
    let block_size = BlockSize::new((16 << 10) << (which & 3).min(2)).expect("16K, 32K or 64K");
    let length_bytes = 2 * block_size.bytes() + u64::from(which >> 2) * 1031;
    let layout = Layout::new(length_bytes, block_size).expect("a small disk");
    let mut disk = vec![0; length_bytes as usize];
    Random::part(1, u64::from(which)).fill(&mut disk[..length_bytes as usize / 2]);
    (layout, disk)
}

fn greeted(layout: Layout) -> Receiver {
    let mut receiver = Receiver::new(ReceiverOptions {
        layout,
        has_seeds: false,
        is_new: false,
        is_at_seal: false,
        window_bytes: 64 << 20,
    });
    let hello = Hello {
        role: Role::Sending,
        length_bytes: layout.length_bytes(),
        block_bytes: layout.block_size().bytes() as u32,
        has_seeds: false,
        is_new: false,
        verify: false,
        digests_known: false,
    };
    receiver.handle_message(Message::Hello(hello)).expect("a greeting");
    receiver
}

fn block_of(layout: Layout, block: BlockIndex) -> std::ops::Range<usize> {
    let bytes = layout.block_bytes(block);
    bytes.start() as usize..bytes.end() as usize
}

/// Unpacks and writes. Blocks are as named or as they were, and no other byte changes.
fn apply(layout: Layout, disk: &mut [u8], data: &Data) {
    let unpacked = unpack_data(layout, data, &|block| old_pages_of(&disk[block_of(layout, block)]));
    let before = disk.to_vec();
    write(disk, &unpacked);
    let named: Vec<BlockIndex> = data.patches.iter().map(|patch| patch.block).collect();
    let mut answered: Vec<BlockIndex> = unpacked.digests.iter().map(|(block, _)| *block).collect();
    answered.extend(&unpacked.failed);
    answered.sort_unstable();
    assert_eq!(answered, named, "each block verified or failed, once");
    for (block, digest) in &unpacked.digests {
        assert_eq!(block_digest(&disk[block_of(layout, *block)]), *digest, "block {}", block.0);
    }
    for block in
        layout.blocks().iter().filter(|block| !unpacked.digests.iter().any(|(done, _)| done == block))
    {
        let bytes = block_of(layout, block);
        assert!(disk[bytes.clone()] == before[bytes], "block {} was not to change", block.0);
    }
}

/// Puts writes and zeros onto the disk; both ascend, and no byte is in two of them.
fn write(disk: &mut [u8], unpacked: &Unpacked) {
    let mut touched = vec![false; disk.len()];
    let writes = unpacked.writes.iter().map(|write| {
        let start = write.offset_bytes as usize;
        (start..start + write.bytes.len(), Some(&write.bytes))
    });
    let zeros = unpacked.zeros.iter().map(|range| (range.start() as usize..range.end() as usize, None));
    for (range, bytes) in writes.chain(zeros) {
        assert!(touched[range.clone()].iter().all(|touched| !touched), "{range:?} twice");
        touched[range.clone()].fill(true);
        match bytes {
            Some(bytes) => disk[range].copy_from_slice(bytes),
            None => disk[range].fill(0),
        }
    }
    assert!(unpacked.writes.is_sorted_by_key(|write| write.offset_bytes));
    assert!(unpacked.zeros.is_sorted_by_key(|range| range.start()));
}

/// The same message with digests of the blocks as they will stand; compressed ones are left as they are.
fn with_true_digests(layout: Layout, disk: &[u8], mut data: Data) -> Data {
    if data.encoding != Encoding::Raw {
        return data;
    }
    let mut at = 0;
    for patch in &mut data.patches {
        let mut block = disk[block_of(layout, patch.block)].to_vec();
        for page in patch.data.iter() {
            let range = layout.page_bytes(patch.block, page);
            let length = range.len();
            block[range].copy_from_slice(&data.payload[at..at + length]);
            at += length;
        }
        patch.zero.iter().for_each(|page| block[layout.page_bytes(patch.block, page)].fill(0));
        patch.digest = block_digest(&block);
    }
    data
}
