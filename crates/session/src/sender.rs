//! The sending end: decides for every block that differs how it travels, and counts it home.
//!
//! **Invariant**: a block that differs is in exactly one place: a queue, an open request, a job or an unwritten message.
//! The pass is sealed when all of these are empty and the comparison has ended.

use crate::credit::Credit;
use crate::error::SessionError;
use crate::refinement::{RefinementMode, RefinementPolicy};
use bytes::Bytes;
use failback_model::limits::{
    BATCH_MAX_BLOCKS, DIGEST_WINDOW_BLOCKS, MISMATCH_LIST_MAX_BLOCKS, PACK_MAX_BYTES, PAGE_BYTES,
    REFERENCE_WINDOW_BLOCKS, REFINE_WINDOW_BLOCKS, UNACKNOWLEDGED_MAX_MESSAGES,
};
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Code, Difference, Digest, Layout};
use failback_wire::{Data, Hello, Message, Offer, Role};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// Differences that may wait before the comparison should pause.
const QUEUE_MAX_BLOCKS: usize = 16 << 10;
/// Credit of a message that carries no pages.
const SMALL_MESSAGE_BYTES: u64 = PAGE_BYTES;

/// How a pass is sent.
#[derive(Debug, Clone, Copy)]
pub struct SenderOptions {
    /// The source's disk.
    pub layout: Layout,
    /// Narrowing to pages.
    pub refinement: RefinementMode,
    /// Bytes of pages under way.
    pub window_bytes: u64,
    /// Ask the target to be read anew before it is sealed.
    pub verify: bool,
}

/// Number of a piece of work that answers with [`Sender::handle_packed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Job(u64);

/// What the sending end wants done.
#[derive(Debug)]
pub enum SenderWork {
    /// The target's digests in disk order (`None`: zeros): compare, then [`Sender::handle_compared`].
    Compare {
        /// Which blocks.
        blocks: BlockRange,
        /// 16 bytes a block.
        digests: Option<Bytes>,
    },
    /// Read these blocks and pack them whole, then [`Sender::handle_packed`].
    Ship {
        /// Answer with it.
        job: Job,
        /// Ascending.
        blocks: Vec<BlockIndex>,
    },
    /// Read these blocks, keep the pages whose digests differ and pack them, then [`Sender::handle_packed`].
    Patch {
        /// Answer with it.
        job: Job,
        /// Ascending.
        blocks: Vec<BlockIndex>,
        /// The target's page digests, 16 bytes a page, block after block.
        digests: Bytes,
    },
    /// Compute the source's root, then [`Sender::handle_root`].
    Seal,
    /// Compare the target's chunk digests, then [`Sender::handle_chunks_compared`].
    CompareChunks {
        /// First chunk.
        first: ChunkIndex,
        /// 32 bytes a chunk.
        digests: Bytes,
    },
    /// Compare one chunk's digests, then [`Sender::handle_chunk_compared`].
    CompareChunk {
        /// Which chunk.
        chunk: ChunkIndex,
        /// 32 bytes a block.
        digests: Bytes,
    },
    /// The pass is sealed at both ends.
    Finish {
        /// The root of both.
        root: Digest,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Running,
    Rooting,
    Sealing,
    CollectingChunks,
    CollectingDigests { open: usize },
    Done,
}

/// What a numbered message holds until it is written.
#[derive(Debug)]
enum Outstanding {
    Pages { credit_bytes: u64 },
    Zeros,
    Offers(Vec<Difference>),
}

/// The sending end of one pass.
#[derive(Debug)]
pub struct Sender {
    options: SenderOptions,
    phase: Phase,
    policy: RefinementPolicy,
    target_has_seeds: bool,
    compared_below: u64,
    announced_below: u64,
    consumed_digests: u64,
    whole: VecDeque<BlockIndex>,
    to_refine: VecDeque<BlockIndex>,
    refined: VecDeque<(Vec<BlockIndex>, Bytes)>,
    refined_blocks: usize,
    offers: VecDeque<Difference>,
    zeros: VecDeque<BlockRange>,
    open_refinements: HashSet<BlockIndex>,
    jobs: HashMap<Job, u64>,
    next_job: u64,
    outstanding: HashMap<u64, Outstanding>,
    offered_blocks: usize,
    next_sequence: u64,
    acknowledged_below: u64,
    data_credit: Credit,
    resent: BTreeSet<BlockIndex>,
    mismatched_chunks: Vec<ChunkIndex>,
    chunks_compared: u64,
    is_repaired: bool,
    transmit: VecDeque<Message>,
    work: VecDeque<SenderWork>,
}

impl Sender {
    /// A new pass; its first message is the greeting.
    pub fn new(options: SenderOptions) -> Self {
        let hello = Message::Hello(Hello {
            role: Role::Sending,
            length_bytes: options.layout.length_bytes(),
            block_bytes: options.layout.block_size().bytes() as u32,
            has_seeds: false,
            is_new: false,
            verify: options.verify,
        });
        Self {
            options,
            phase: Phase::Greeting,
            policy: RefinementPolicy::new(options.refinement),
            target_has_seeds: false,
            compared_below: 0,
            announced_below: 0,
            consumed_digests: 0,
            whole: VecDeque::new(),
            to_refine: VecDeque::new(),
            refined: VecDeque::new(),
            refined_blocks: 0,
            offers: VecDeque::new(),
            zeros: VecDeque::new(),
            open_refinements: HashSet::new(),
            jobs: HashMap::new(),
            next_job: 0,
            outstanding: HashMap::new(),
            offered_blocks: 0,
            next_sequence: 0,
            acknowledged_below: 0,
            data_credit: Credit::new(options.window_bytes),
            resent: BTreeSet::new(),
            mismatched_chunks: Vec::new(),
            chunks_compared: 0,
            is_repaired: false,
            transmit: VecDeque::from([hello, Message::DigestCredit { blocks: DIGEST_WINDOW_BLOCKS }]),
            work: VecDeque::new(),
        }
    }

    /// Whether the comparison should go on: false while too many differences wait.
    pub fn wants_differences(&self) -> bool {
        self.phase == Phase::Running
            && self.whole.len() + self.to_refine.len() + self.offers.len() + self.zeros.len()
                < QUEUE_MAX_BLOCKS
    }

    /// Blocks sent whole because what arrived did not verify, or the roots differed.
    pub fn resent_blocks(&self) -> u64 {
        self.resent.len() as u64
    }

    /// Numbered messages below this are durable at the target.
    pub fn acknowledged_below(&self) -> u64 {
        self.acknowledged_below
    }

    /// Next message to send.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        if let Some(message) = self.transmit.pop_front() {
            return Some(message);
        }
        self.next_zeros().or_else(|| self.next_offers()).or_else(|| self.next_page_request())
    }

    /// Next piece of work to start.
    pub fn poll_work(&mut self) -> Option<SenderWork> {
        if let Some(work) = self.work.pop_front() {
            return Some(work);
        }
        self.next_patch().or_else(|| self.next_ship()).or_else(|| self.next_seal())
    }

    /// Takes a message of the receiving end.
    pub fn handle_message(&mut self, message: Message) -> Result<(), SessionError> {
        match message {
            Message::Hello(hello) => self.handle_hello(&hello),
            Message::Digests { first, digests } => {
                let count = (digests.len() / 16) as u64;
                let end =
                    first.0.checked_add(count).ok_or_else(|| SessionError::violation("digests past 2^64"))?;
                self.announce(BlockRange::new(first.0, end), Some(digests))
            }
            Message::ZeroDigests { blocks } => self.announce(blocks, None),
            Message::PageDigests { blocks, digests } => self.handle_page_digests(blocks, digests),
            Message::Written { sequence, missing } => self.handle_written(sequence, missing),
            Message::Acknowledged { below } if below <= self.next_sequence => {
                self.acknowledged_below = self.acknowledged_below.max(below);
                Ok(())
            }
            Message::Sealed { root } if self.phase == Phase::Sealing => {
                self.phase = Phase::Done;
                self.work.push_back(SenderWork::Finish { root });
                Ok(())
            }
            Message::ChunkDigests { first, digests } => self.handle_chunk_digests(first, digests),
            Message::FullDigests { chunk, digests } => self.handle_full_digests(chunk, digests),
            Message::Error { code, message } => {
                Err(SessionError { code: Code::PeerFailed, reason: format!("{code}: {message}") })
            }
            _ => Err(SessionError::violation(format!("unexpected message in phase {:?}", self.phase))),
        }
    }

    /// Takes the outcome of comparing: all blocks below `below` are compared; `digests` of the target were used up.
    /// `differences` and `zeros` (whole zero blocks at the source that are not zero at the target) ascend.
    pub fn handle_compared(
        &mut self,
        below: BlockIndex,
        digests: u64,
        differences: impl IntoIterator<Item = Difference>,
        zeros: impl IntoIterator<Item = BlockRange>,
    ) {
        self.compared_below = self.compared_below.max(below.0);
        for difference in differences {
            if self.target_has_seeds {
                self.offers.push_back(difference);
            } else {
                self.queue(difference);
            }
        }
        self.zeros.extend(zeros);
        self.consumed_digests += digests;
        if self.consumed_digests >= DIGEST_WINDOW_BLOCKS / 4 {
            self.transmit.push_back(Message::DigestCredit { blocks: self.consumed_digests });
            self.consumed_digests = 0;
        }
    }

    /// Takes what a job packed. The sequence numbers are set here; `differing` is the job's page count, for the policy.
    pub fn handle_packed(&mut self, job: Job, messages: Vec<Data>, refined: Option<(usize, usize)>) {
        let reserved = self.jobs.remove(&job).expect("a job answers once");
        self.data_credit.give_back(reserved);
        if let Some((differing, pages)) = refined {
            self.policy.observe(differing, pages);
        }
        for mut data in messages {
            let credit_bytes = (data.payload.len() as u64).max(SMALL_MESSAGE_BYTES);
            self.data_credit.take(credit_bytes);
            data.sequence = self.number(Outstanding::Pages { credit_bytes });
            self.transmit.push_back(Message::Data(data));
        }
    }

    /// Takes the source's root.
    pub fn handle_root(&mut self, root: Digest) {
        self.phase = Phase::Sealing;
        self.transmit.push_back(Message::Seal { root, messages: self.next_sequence });
    }

    /// Takes the chunks of one [`SenderWork::CompareChunks`] that differ.
    pub fn handle_chunks_compared(&mut self, differing: Vec<ChunkIndex>) -> Result<(), SessionError> {
        self.mismatched_chunks.extend(differing);
        if self.chunks_compared < self.options.layout.chunk_count() {
            return Ok(());
        }
        let open = self.mismatched_chunks.len();
        if open == 0 || open > BATCH_MAX_BLOCKS {
            let reason = format!("roots differ and so do {open} chunks of 1024 blocks: too many to repair");
            return Err(SessionError { code: Code::RootMismatch, reason });
        }
        self.phase = Phase::CollectingDigests { open };
        self.transmit
            .push_back(Message::ChunkRequest { chunks: std::mem::take(&mut self.mismatched_chunks) });
        Ok(())
    }

    /// Takes the blocks of one [`SenderWork::CompareChunk`] that differ: they are read again and shipped whole.
    pub fn handle_chunk_compared(&mut self, differing: Vec<BlockIndex>) -> Result<(), SessionError> {
        let Phase::CollectingDigests { open } = &mut self.phase else {
            return Err(SessionError::violation("digests of a chunk that was not asked for"));
        };
        *open -= 1;
        if *open == 0 {
            self.phase = Phase::Running;
        }
        self.resent.extend(&differing);
        self.whole.extend(differing);
        Ok(())
    }

    fn handle_hello(&mut self, hello: &Hello) -> Result<(), SessionError> {
        let layout = self.options.layout;
        if self.phase != Phase::Greeting || hello.role != Role::Receiving {
            return Err(SessionError::violation("a second greeting, or one from a sending end"));
        }
        if (hello.length_bytes, u64::from(hello.block_bytes))
            != (layout.length_bytes(), layout.block_size().bytes())
        {
            return Err(SessionError::violation("the ends disagree about the disk's length or block size"));
        }
        self.target_has_seeds = hello.has_seeds;
        self.phase = Phase::Running;
        Ok(())
    }

    fn announce(&mut self, blocks: BlockRange, digests: Option<Bytes>) -> Result<(), SessionError> {
        let is_next =
            self.phase == Phase::Running && blocks.start.0 == self.announced_below && !blocks.is_empty();
        if !is_next || blocks.end.0 > self.options.layout.block_count() {
            return Err(SessionError::violation(format!("digests of blocks {blocks:?} out of order")));
        }
        self.announced_below = blocks.end.0;
        self.work.push_back(SenderWork::Compare { blocks, digests });
        Ok(())
    }

    fn queue(&mut self, difference: Difference) {
        if !difference.target_is_zero && self.policy.choose() {
            self.to_refine.push_back(difference.block);
        } else {
            self.whole.push_back(difference.block);
        }
    }

    fn handle_page_digests(&mut self, blocks: Vec<BlockIndex>, digests: Bytes) -> Result<(), SessionError> {
        let layout = self.options.layout;
        if !blocks.iter().all(|block| self.open_refinements.remove(block)) {
            return Err(SessionError::violation("page digests of a block that was not asked for"));
        }
        let pages: usize = blocks.iter().map(|&block| layout.pages_of(block)).sum();
        if blocks.is_empty() || digests.len() != pages * 16 {
            return Err(SessionError::violation("page digests do not fit their blocks"));
        }
        self.refined_blocks += blocks.len();
        self.refined.push_back((blocks, digests));
        Ok(())
    }

    fn handle_written(&mut self, sequence: u64, missing: Vec<BlockIndex>) -> Result<(), SessionError> {
        let Some(outstanding) = self.outstanding.remove(&sequence) else {
            return Err(SessionError::violation(format!(
                "message {sequence} was written twice or never sent"
            )));
        };
        if missing.last().is_some_and(|block| block.0 >= self.options.layout.block_count()) {
            return Err(SessionError::violation("a missing block past the disk's end"));
        }
        match outstanding {
            Outstanding::Pages { credit_bytes } => {
                self.data_credit.give_back(credit_bytes);
                self.resend(missing)
            }
            Outstanding::Zeros => {
                self.data_credit.give_back(SMALL_MESSAGE_BYTES);
                self.resend(missing)
            }
            Outstanding::Offers(offers) => {
                self.data_credit.give_back(SMALL_MESSAGE_BYTES);
                self.offered_blocks -= offers.len();
                let missing: HashSet<_> = missing.into_iter().collect();
                offers
                    .into_iter()
                    .filter(|offer| missing.contains(&offer.block))
                    .for_each(|offer| self.queue(offer));
                Ok(())
            }
        }
    }

    /// Sends blocks whole that did not verify; a block gets one second chance.
    fn resend(&mut self, blocks: Vec<BlockIndex>) -> Result<(), SessionError> {
        if let Some(block) = blocks.iter().find(|block| self.resent.contains(block)) {
            let reason = format!("block {} did not verify, even when it was sent whole", block.0);
            return Err(SessionError { code: Code::VerifyFailed, reason });
        }
        self.resent.extend(&blocks);
        self.whole.extend(blocks);
        Ok(())
    }

    fn handle_chunk_digests(&mut self, first: ChunkIndex, digests: Bytes) -> Result<(), SessionError> {
        if self.phase == Phase::Sealing {
            if self.is_repaired {
                return Err(self.second_mismatch());
            }
            self.is_repaired = true;
            self.phase = Phase::CollectingChunks;
        }
        let count = (digests.len() / 32) as u64;
        let in_order = self.phase == Phase::CollectingChunks && first.0 == self.chunks_compared;
        if !in_order || self.chunks_compared + count > self.options.layout.chunk_count() {
            return Err(SessionError::violation("chunk digests out of order"));
        }
        self.chunks_compared += count;
        self.work.push_back(SenderWork::CompareChunks { first, digests });
        Ok(())
    }

    fn second_mismatch(&self) -> SessionError {
        let list: Vec<_> =
            self.resent.iter().take(MISMATCH_LIST_MAX_BLOCKS).map(|block| block.0.to_string()).collect();
        let reason = format!("roots differ again after blocks {} were sent whole", list.join(", "));
        SessionError { code: Code::RootMismatch, reason }
    }

    fn handle_full_digests(&mut self, chunk: ChunkIndex, digests: Bytes) -> Result<(), SessionError> {
        let layout = self.options.layout;
        let fits =
            chunk.0 < layout.chunk_count() && layout.chunk_blocks(chunk).count() * 32 == digests.len() as u64;
        if !fits || !matches!(self.phase, Phase::CollectingDigests { .. }) {
            return Err(SessionError::violation("digests of a chunk that was not asked for"));
        }
        self.work.push_back(SenderWork::CompareChunk { chunk, digests });
        Ok(())
    }

    fn number(&mut self, outstanding: Outstanding) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.outstanding.insert(sequence, outstanding);
        sequence
    }

    fn may_send_small(&self) -> bool {
        self.outstanding.len() < UNACKNOWLEDGED_MAX_MESSAGES && self.data_credit.allows(SMALL_MESSAGE_BYTES)
    }

    fn next_zeros(&mut self) -> Option<Message> {
        if self.zeros.is_empty() || !self.may_send_small() {
            return None;
        }
        let mut ranges: Vec<BlockRange> = Vec::new();
        while ranges.len() < BATCH_MAX_BLOCKS {
            let Some(range) = self.zeros.pop_front() else { break };
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                Some(last) if last.end > range.start => {
                    self.zeros.push_front(range);
                    break;
                }
                _ => ranges.push(range),
            }
        }
        self.data_credit.take(SMALL_MESSAGE_BYTES);
        let sequence = self.number(Outstanding::Zeros);
        Some(Message::Zero { sequence, ranges })
    }

    fn next_offers(&mut self) -> Option<Message> {
        let room = REFERENCE_WINDOW_BLOCKS.saturating_sub(self.offered_blocks).min(BATCH_MAX_BLOCKS / 4);
        let count = self.offers.len().min(room);
        if count == 0 || !self.may_send_small() {
            return None;
        }
        let taken: Vec<_> = self.offers.drain(..count).collect();
        let offers = taken.iter().map(|offer| Offer { block: offer.block, digest: offer.digest }).collect();
        self.offered_blocks += count;
        self.data_credit.take(SMALL_MESSAGE_BYTES);
        let sequence = self.number(Outstanding::Offers(taken));
        Some(Message::References { sequence, offers })
    }

    fn next_page_request(&mut self) -> Option<Message> {
        let open = self.open_refinements.len() + self.refined_blocks;
        let room = REFINE_WINDOW_BLOCKS.saturating_sub(open).min(BATCH_MAX_BLOCKS / 4);
        let blocks = take_ascending(&mut self.to_refine, room);
        if blocks.is_empty() {
            return None;
        }
        self.open_refinements.extend(&blocks);
        Some(Message::PageDigestRequest { blocks })
    }

    fn next_patch(&mut self) -> Option<SenderWork> {
        let (blocks, _) = self.refined.front()?;
        let job = self.reserve(blocks.len())?;
        let (blocks, digests) = self.refined.pop_front()?;
        self.refined_blocks -= blocks.len();
        Some(SenderWork::Patch { job, blocks, digests })
    }

    fn next_ship(&mut self) -> Option<SenderWork> {
        let most = PACK_MAX_BYTES / self.options.layout.block_size().bytes() as usize;
        let count = self.whole.len().min(most);
        if count == 0 {
            return None;
        }
        let job = self.reserve(count)?;
        Some(SenderWork::Ship { job, blocks: take_ascending(&mut self.whole, count) })
    }

    /// Takes credit for the most that a job of so many blocks can pack.
    fn reserve(&mut self, blocks: usize) -> Option<Job> {
        let bytes = blocks as u64 * self.options.layout.block_size().bytes();
        if !self.data_credit.allows(bytes) || self.outstanding.len() >= UNACKNOWLEDGED_MAX_MESSAGES {
            return None;
        }
        self.data_credit.take(bytes);
        let job = Job(self.next_job);
        self.next_job += 1;
        self.jobs.insert(job, bytes);
        Some(job)
    }

    fn next_seal(&mut self) -> Option<SenderWork> {
        let is_drained = self.phase == Phase::Running
            && self.compared_below == self.options.layout.block_count()
            && [
                self.whole.len(),
                self.to_refine.len(),
                self.refined.len(),
                self.offers.len(),
                self.zeros.len(),
            ] == [0; 5]
            && self.open_refinements.is_empty()
            && self.jobs.is_empty()
            && self.outstanding.is_empty()
            && self.transmit.is_empty();
        if !is_drained {
            return None;
        }
        debug_assert!(self.data_credit.is_idle(), "all credit is back when nothing is under way");
        self.phase = Phase::Rooting;
        Some(SenderWork::Seal)
    }
}

/// Takes at most `count` blocks off the front, as long as they ascend: a resent block may stand behind later ones.
fn take_ascending(queue: &mut VecDeque<BlockIndex>, count: usize) -> Vec<BlockIndex> {
    let mut taken: Vec<BlockIndex> = Vec::with_capacity(count.min(queue.len()));
    while taken.len() < count {
        match queue.front() {
            Some(&block) if taken.last().is_none_or(|&last| last < block) => taken.push(block),
            _ => break,
        }
        queue.pop_front();
    }
    taken
}
