//! A pass of two ends, of which either may say anything at any time: honest frames in any order, said again, or forged.
//!
//! The bytes are a choice of the disk, then steps. A frame that is forged stands in the input as it crosses.

use bytes::Bytes;
use failback_model::limits::{BATCH_MAX_BLOCKS, DIGEST_WINDOW_BLOCKS, GROUP_MAX_BYTES, REFINE_WINDOW_BLOCKS};
use failback_model::{
    BlockIndex, BlockRange, BlockSize, ChunkIndex, Difference, Digest, Layout, PageSet, TruncatedDigest,
};
use failback_session::{
    Receiver, ReceiverOptions, ReceiverWork, RefinementMode, Sender, SenderOptions, SenderWork, SessionError,
};
use failback_wire::{BlockPatch, Data, Encoding, Frame, Message};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Root of the source; the target has it too unless a step says otherwise.
const ROOT: Digest = Digest([1; 32]);

/// Both ends, what is on its way, and what was started.
struct Pass {
    layout: Layout,
    window_bytes: u64,
    sender: Sender,
    receiver: Receiver,
    now: Instant,
    to_receiver: VecDeque<Message>,
    to_sender: VecDeque<Message>,
    last: Option<Message>,
    comparisons: VecDeque<(BlockRange, bool)>,
    sender_jobs: Vec<SenderWork>,
    receiver_jobs: Vec<ReceiverWork>,
    scanned_below: u64,
    is_sealed: [bool; 2],
}

/// Takes steps until an end fails or the bytes are used up.
pub fn session(data: &[u8]) {
    session_seals(data);
}

/// The same; whether both ends sealed.
pub fn session_seals(data: &[u8]) -> bool {
    let Some((&[which, window], rest)) = data.split_first_chunk() else { return false };
    let mut pass = Pass::new(which, window);
    let mut rest = Bytes::copy_from_slice(rest);
    while let Some((&[step, choice], _)) = rest.split_first_chunk() {
        rest = rest.slice(2..);
        let forged = match step % 16 {
            8 | 9 => match Frame::split_from(&rest) {
                Ok((frame, behind)) => {
                    rest = behind;
                    Message::decode(&frame).ok()
                }
                Err(_) => None,
            },
            _ => None,
        };
        if pass.step(step % 16, choice, forged).is_err() {
            pass.end();
            break;
        }
        pass.pump();
        pass.check();
    }
    pass.is_sealed == [true; 2]
}

impl Pass {
    fn new(which: u8, window: u8) -> Self {
        let size = BlockSize::new((16 << 10) << (which % 3)).expect("a block size");
        let blocks = u64::from(which >> 2) * if which & 3 == 3 { 40 } else { 1 };
        let layout = Layout::new((blocks * size.bytes()).saturating_sub(u64::from(window) * 16), size)
            .expect("a layout");
        let window_bytes = 1 << (window % 27);
        let refinement =
            [RefinementMode::Auto, RefinementMode::On, RefinementMode::Off][usize::from(window >> 5) % 3];
        let has_seeds = window & 16 != 0;
        let (holds_base, is_at_seal) = (window & 8 != 0, window & 4 != 0);
        Self {
            layout,
            window_bytes,
            sender: Sender::new(SenderOptions {
                layout,
                refinement,
                window_bytes,
                verify: false,
                holds_base,
            }),
            receiver: Receiver::new(ReceiverOptions {
                layout,
                has_seeds,
                is_new: false,
                is_at_seal,
                window_bytes,
            }),
            now: Instant::now(),
            to_receiver: VecDeque::new(),
            to_sender: VecDeque::new(),
            last: None,
            comparisons: VecDeque::new(),
            sender_jobs: Vec::new(),
            receiver_jobs: Vec::new(),
            scanned_below: 0,
            is_sealed: [false; 2],
        }
    }

    fn step(&mut self, step: u8, choice: u8, forged: Option<Message>) -> Result<(), SessionError> {
        let at = |count: usize| usize::from(choice) % count.max(1);
        let message = match step {
            0 => self.to_receiver.pop_front(),
            1 => self.to_sender.pop_front(),
            2 => self.to_receiver.remove(at(self.to_receiver.len())),
            3 => self.to_sender.remove(at(self.to_sender.len())),
            8 | 9 => forged,
            10 | 11 => self.last.clone(),
            _ => None,
        };
        if let Some(message) = message {
            self.last = Some(message.clone());
            return match step % 2 {
                0 => self.receiver.handle_message(message),
                _ => self.sender.handle_message(message),
            };
        }
        match step {
            4 if !self.sender_jobs.is_empty() => {
                let job = self.sender_jobs.swap_remove(at(self.sender_jobs.len()));
                self.finish_sender_job(job, choice)?;
            }
            5 if !self.receiver_jobs.is_empty() => {
                let job = self.receiver_jobs.swap_remove(at(self.receiver_jobs.len()));
                self.finish_receiver_job(job, choice);
            }
            6 => self.scan(choice),
            7 => self.compare(choice),
            12 => self.now += Duration::from_millis(100 * u64::from(choice)),
            13 if choice == 1 => self.sender.stop(),
            14 if choice == 1 => self.receiver.stop(),
            _ => {}
        }
        Ok(())
    }

    /// Takes what the machines want to say and to start.
    fn pump(&mut self) {
        self.receiver.handle_time(self.now);
        while let Some(work) = self.sender.poll_work() {
            match work {
                SenderWork::Compare { blocks, digests } => {
                    self.comparisons.push_back((blocks, digests.is_some()));
                }
                SenderWork::CompareBase { blocks } => self.comparisons.push_back((blocks, false)),
                SenderWork::Finish { .. } => self.is_sealed[0] = true,
                work => self.sender_jobs.push(work),
            }
        }
        while let Some(work) = self.receiver.poll_work() {
            match work {
                ReceiverWork::Finish { .. } => self.is_sealed[1] = true,
                work => self.receiver_jobs.push(work),
            }
        }
        self.to_receiver.extend(std::iter::from_fn(|| self.sender.poll_transmit()));
        self.to_sender.extend(std::iter::from_fn(|| self.receiver.poll_transmit()));
    }

    /// What either end has in hand is bounded, whatever the other one says.
    fn check(&self) {
        let most = self.window_bytes.max(self.layout.block_size().bytes());
        let (mut held, mut pages, mut chunks) = (0, 0, 0);
        for job in &self.receiver_jobs {
            match job {
                ReceiverWork::Apply(data) => held += content_bytes(data),
                ReceiverWork::Reference { offers, .. } => {
                    held += offers.len() as u64 * self.layout.block_size().bytes();
                }
                ReceiverWork::PageDigests { blocks } => pages += blocks.len(),
                ReceiverWork::ReadChunk { .. } => chunks += 1,
                _ => {}
            }
        }
        assert!(held <= most, "{held} bytes in hand");
        assert!(
            pages <= REFINE_WINDOW_BLOCKS && chunks <= BATCH_MAX_BLOCKS,
            "{pages} blocks, {chunks} chunks"
        );
        let jobs = self.sender_jobs.iter().map(|job| match job {
            SenderWork::Ship { blocks, .. } | SenderWork::Patch { blocks, .. } => blocks.len() as u64,
            _ => 0,
        });
        assert!(jobs.sum::<u64>() * self.layout.block_size().bytes() <= most);
        let waiting: u64 =
            self.comparisons.iter().map(|(blocks, is_data)| if *is_data { blocks.count() } else { 1 }).sum();
        assert!(waiting <= DIGEST_WINDOW_BLOCKS + BATCH_MAX_BLOCKS as u64, "{waiting} digests wait");
    }

    /// An end that failed stops in good order: what it started still answers.
    fn end(&mut self) {
        self.sender.stop();
        self.receiver.stop();
        for _ in 0..100_000 {
            self.pump();
            while let Some(job) = self.sender_jobs.pop() {
                if self.finish_sender_job(job, 0).is_err() {
                    break;
                }
            }
            let Some(job) = self.receiver_jobs.pop() else { return };
            self.finish_receiver_job(job, 1);
        }
        panic!("an end that stops has work without an end");
    }

    fn scan(&mut self, choice: u8) {
        let left = self.layout.block_count() - self.scanned_below;
        if !self.receiver.wants_digests() || left == 0 {
            return;
        }
        let count = left.min(1 + u64::from(choice >> 1));
        let blocks = BlockRange::new(self.scanned_below, self.scanned_below + count);
        self.scanned_below += count;
        if self.receiver.may_leave_out() && choice & 2 == 2 {
            return self.receiver.handle_known(blocks);
        }
        let digests = vec![TruncatedDigest([choice; 16]); count as usize];
        self.receiver.handle_scanned(blocks, (choice & 1 == 1).then_some(&digests));
    }

    /// Some blocks of the next run differ, some of them by being zero at the source.
    fn compare(&mut self, choice: u8) {
        if !self.sender.wants_differences() {
            return;
        }
        let Some((blocks, is_data)) = self.comparisons.pop_front() else { return };
        let cost = if is_data { blocks.count() } else { 1 };
        let kind = |block: &BlockIndex| (block.0 + u64::from(choice)) % 4;
        // A run of zeros may be as long as a disk; what differs in it is told of its first blocks.
        let listed: Vec<_> = blocks.iter().take(64).collect();
        let differing = listed
            .iter()
            .filter(|block| kind(block) < u64::from(choice % 4))
            .map(|&block| Difference { block, digest: Digest([3; 32]), target_is_zero: !is_data });
        let zeros = listed.iter().filter(|block| kind(block) == 3);
        let zeros: Vec<_> = zeros.map(|block| BlockRange::new(block.0, block.0 + 1)).collect();
        self.sender.handle_compared(blocks.end, cost, differing, zeros);
    }

    fn finish_sender_job(&mut self, job: SenderWork, choice: u8) -> Result<(), SessionError> {
        match job {
            SenderWork::Ship { job, blocks } => {
                let messages = self.pack(&blocks, choice);
                self.sender.handle_packed(job, messages, None);
            }
            SenderWork::Patch { job, blocks, .. } => {
                let messages = self.pack(&blocks, choice);
                self.sender.handle_packed(job, messages, Some((blocks.len(), 4 * blocks.len())));
            }
            SenderWork::Seal => self.sender.handle_root(ROOT),
            SenderWork::CompareChunks { first, digests } => {
                let differing = if choice & 1 == 0 { digests.len() as u64 / 32 } else { 0 };
                let differing = (first.0..first.0 + differing).map(ChunkIndex).collect();
                self.sender.handle_chunks_compared(differing)?;
            }
            SenderWork::CompareChunk { chunk, .. } => {
                let blocks = self.layout.chunk_blocks(chunk).iter().take(usize::from(choice)).collect();
                self.sender.handle_chunk_compared(blocks)?;
            }
            SenderWork::Compare { .. } | SenderWork::CompareBase { .. } | SenderWork::Finish { .. } => {}
        }
        Ok(())
    }

    /// One message for all blocks or one for each, of whole blocks or of their first pages, packed tight or not.
    fn pack(&self, blocks: &[BlockIndex], choice: u8) -> Vec<Data> {
        let parts = blocks.chunks(if choice & 1 == 0 { blocks.len() } else { 1 });
        let pack = |blocks: &[BlockIndex]| {
            let mut content_bytes = 0;
            let patch = |&block: &BlockIndex| {
                let pages = self.layout.pages_of(block);
                let data = PageSet::first(if choice & 2 == 0 { pages } else { pages.min(1) });
                content_bytes +=
                    data.iter().map(|page| self.layout.page_bytes(block, page).len()).sum::<usize>();
                BlockPatch { block, digest: Digest([3; 32]), data, zero: PageSet::EMPTY }
            };
            let patches = blocks.iter().map(patch).collect();
            let (encoding, length) = match choice & 4 {
                0 => (Encoding::Raw, content_bytes),
                _ => (Encoding::Zstd { content_bytes: content_bytes as u32 }, 9),
            };
            Data { sequence: 0, patches, encoding, payload: vec![0; length].into() }
        };
        parts.map(pack).collect()
    }

    fn finish_receiver_job(&mut self, job: ReceiverWork, choice: u8) {
        let bytes = if choice & 64 == 0 { 4096 } else { GROUP_MAX_BYTES };
        let missing = |blocks: Vec<BlockIndex>| if choice & 3 == 0 { blocks } else { Vec::new() };
        match job {
            ReceiverWork::PageDigests { blocks } => {
                let pages = blocks.iter().map(|&block| self.layout.pages_of(block)).sum();
                self.receiver.handle_page_digests(blocks, &vec![TruncatedDigest::ZERO; pages]);
            }
            ReceiverWork::Apply(data) => {
                let blocks = data.patches.iter().map(|patch| patch.block).collect();
                self.receiver.handle_applied(data.sequence, bytes, missing(blocks));
            }
            ReceiverWork::Zero { sequence, .. } => {
                self.receiver.handle_applied(sequence, bytes, Vec::new());
            }
            ReceiverWork::Reference { sequence, offers } => {
                let blocks = offers.iter().map(|offer| offer.block).collect();
                self.receiver.handle_applied(sequence, bytes, missing(blocks));
            }
            ReceiverWork::Commit => self.receiver.handle_committed(),
            ReceiverWork::Seal { .. } => {
                self.receiver.handle_root(if choice & 7 == 7 { Digest([2; 32]) } else { ROOT });
            }
            ReceiverWork::ChunkDigests { chunks } => {
                let digests = vec![Digest::ZERO; chunks.clone().count()];
                self.receiver.handle_chunk_digests(ChunkIndex(chunks.start), &digests);
            }
            ReceiverWork::ReadChunk { chunk } => {
                let digests = vec![Digest::ZERO; self.layout.chunk_blocks(chunk).count() as usize];
                self.receiver.handle_full_digests(chunk, &digests);
            }
            ReceiverWork::Finish { .. } => {}
        }
    }
}

fn content_bytes(data: &Data) -> u64 {
    match data.encoding {
        Encoding::Raw => data.payload.len() as u64,
        Encoding::Zstd { content_bytes } => u64::from(content_bytes),
    }
}
