//! The sending end: decides for every block that differs how it travels, and counts it home.
//!
//! **Invariant**: a block that differs is in exactly one place: a queue, an open request, a job or an unwritten message.
//! The pass is sealed when all of these are empty and the comparison has ended.

mod flight;
mod next;
mod queues;
mod reach;
mod repair;
mod turn;
mod work;

pub use work::{Job, SenderOptions, SenderWork};

use crate::error::SessionError;
use crate::refinement::RefinementPolicy;
use crate::stall::Stall;
use bytes::Bytes;
use failback_model::limits::{
    BATCH_MAX_BLOCKS, DIGEST_WINDOW_BLOCKS, MISMATCH_LIST_MAX_BLOCKS, RESENT_MAX_BLOCKS,
};
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Code, Difference, Digest};
use failback_wire::{Data, Hello, Message, Role};
use flight::{Flight, Missing};
use queues::Queues;
use repair::Repair;
use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

/// Differences that may wait before the comparison should pause.
const QUEUE_MAX_BLOCKS: usize = 16 << 10;

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Running,
    Rooting,
    Sealing { root: Digest },
    Repairing,
    Done,
}

/// The sending end of one pass.
#[derive(Debug)]
pub struct Sender {
    options: SenderOptions,
    phase: Phase,
    is_stopping: bool,
    stall: Stall,
    /// Whether anything was compared since credit was last returned, and when that was shown.
    has_compared: bool,
    shown_at: Option<Instant>,
    target_has_seeds: bool,
    compared_below: u64,
    announced_below: u64,
    digest_credit: u64,
    consumed_digests: u64,
    queues: Queues,
    flight: Flight,
    acknowledged_below: u64,
    /// Blocks that differ and are not written.
    unsettled_blocks: u64,
    resent: BTreeSet<BlockIndex>,
    repair: Option<Repair>,
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
            digests_known: options.holds_base,
        });
        Self {
            options,
            phase: Phase::Greeting,
            is_stopping: false,
            stall: Stall::default(),
            has_compared: false,
            shown_at: None,
            target_has_seeds: false,
            compared_below: 0,
            announced_below: 0,
            // The last run that has credit may be larger than what is left of it, by less than a batch.
            digest_credit: DIGEST_WINDOW_BLOCKS + BATCH_MAX_BLOCKS as u64,
            consumed_digests: 0,
            queues: Queues::new(RefinementPolicy::new(options.refinement)),
            flight: Flight::new(options.window_bytes),
            acknowledged_below: 0,
            unsettled_blocks: 0,
            resent: BTreeSet::new(),
            repair: None,
            transmit: VecDeque::from([hello, Message::DigestCredit { blocks: DIGEST_WINDOW_BLOCKS }]),
            work: VecDeque::new(),
        }
    }

    /// Whether the comparison should go on: false while too many differences wait.
    pub fn wants_differences(&self) -> bool {
        self.phase == Phase::Running && !self.is_stopping && self.queues.waiting() < QUEUE_MAX_BLOCKS
    }

    /// Stops in good order: nothing more is started, what was started goes out. Go on until [`Self::is_stopped`]; what is
    /// durable at the target by then is not sent again by the next session.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        self.work.clear();
    }

    /// Whether all that was sent is durable at the target after [`Self::stop`].
    pub fn is_stopped(&self) -> bool {
        let is_durable = self.acknowledged_below == self.flight.messages();
        self.is_stopping && self.transmit.is_empty() && self.flight.is_empty() && is_durable
    }

    /// Blocks sent whole because what arrived did not verify, or the roots differed.
    pub fn resent_blocks(&self) -> u64 {
        self.resent.len() as u64
    }

    /// Numbered messages below this are durable at the target.
    pub fn acknowledged_below(&self) -> u64 {
        self.acknowledged_below
    }

    /// Blocks that differ and that the other end has not written yet, wherever they wait.
    pub fn unsettled_blocks(&self) -> u64 {
        self.unsettled_blocks
    }

    /// Contents that were started or sent and are not written yet.
    pub fn credit_used_bytes(&self) -> u64 {
        self.flight.credit_used_bytes()
    }

    /// Next message to send.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        if let Some(message) = self.transmit.pop_front() {
            return Some(message);
        }
        if self.is_stopping {
            return None;
        }
        self.next_zeros().or_else(|| self.next_offers()).or_else(|| self.next_page_request())
    }

    /// Next piece of work to start.
    pub fn poll_work(&mut self) -> Option<SenderWork> {
        if self.is_stopping {
            return None;
        }
        if let Some(work) = self.work.pop_front() {
            return Some(work);
        }
        self.next_patch().or_else(|| self.next_ship()).or_else(|| self.next_seal())
    }

    /// Takes a message of the receiving end.
    pub fn handle_message(&mut self, message: Message) -> Result<(), SessionError> {
        self.stall.moved();
        match message {
            Message::Hello(hello) => self.handle_hello(&hello),
            Message::Digests { first, digests } => {
                let count = (digests.len() / 16) as u64;
                let end =
                    first.0.checked_add(count).ok_or_else(|| SessionError::violation("digests past 2^64"))?;
                let blocks = BlockRange::new(first.0, end);
                self.announce(blocks, count, SenderWork::Compare { blocks, digests: Some(digests) })
            }
            Message::ZeroDigests { blocks } => {
                self.announce(blocks, 1, SenderWork::Compare { blocks, digests: None })
            }
            Message::KnownDigests { blocks } if self.options.holds_base => {
                self.announce(blocks, 1, SenderWork::CompareBase { blocks })
            }
            Message::PageDigests { blocks, digests } => {
                self.queues.take_page_digests(self.options.layout, blocks, digests)
            }
            Message::Written { sequence, missing } => self.handle_written(sequence, missing),
            Message::Acknowledged { below } if below <= self.flight.messages() => {
                self.acknowledged_below = self.acknowledged_below.max(below);
                Ok(())
            }
            Message::Sealed { root } if self.phase == (Phase::Sealing { root }) => {
                self.phase = Phase::Done;
                self.work.push_back(SenderWork::Finish { root });
                Ok(())
            }
            Message::ChunkDigests { first, digests } => self.handle_chunk_digests(first, digests),
            Message::FullDigests { chunk, digests } => self.handle_full_digests(chunk, digests),
            Message::Error { code, message } => Err(SessionError::peer_failed(&code, &message)),
            _ => {
                Err(SessionError::violation("a message out of phase, or one that only the sending end sends"))
            }
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
        self.stall.moved();
        self.has_compared = true;
        self.compared_below = self.compared_below.max(below.0);
        for difference in differences {
            self.unsettled_blocks += 1;
            if self.target_has_seeds {
                self.queues.push_offer(difference);
            } else {
                self.queues.push(difference);
            }
        }
        self.queues.push_zeros(zeros.into_iter().inspect(|zeros| self.unsettled_blocks += zeros.count()));
        self.consumed_digests += digests;
        if self.consumed_digests >= DIGEST_WINDOW_BLOCKS / 4 {
            self.return_credit();
        }
    }

    /// Takes what a job packed. The sequence numbers are set here; `differing` is the job's page count, for the policy.
    pub fn handle_packed(&mut self, job: Job, messages: Vec<Data>, refined: Option<(usize, usize)>) {
        self.stall.moved();
        let finished = self.flight.finish(job);
        if let Some((differing, pages)) = refined {
            self.queues.policy.observe(finished.blocks, differing, pages);
        }
        for mut data in messages {
            data.sequence = self.flight.number_pages(&data, finished);
            self.transmit.push_back(Message::Data(data));
        }
    }

    /// Takes the source's root.
    pub fn handle_root(&mut self, root: Digest) {
        self.phase = Phase::Sealing { root };
        self.transmit.push_back(Message::Seal { root, messages: self.flight.messages() });
    }

    /// Takes the chunks of one [`SenderWork::CompareChunks`] that differ.
    pub fn handle_chunks_compared(&mut self, differing: Vec<ChunkIndex>) -> Result<(), SessionError> {
        if let Some(chunks) = self.open_repair()?.finish_chunks(differing)? {
            self.transmit.push_back(Message::ChunkRequest { chunks });
        }
        Ok(())
    }

    /// Takes the blocks of one [`SenderWork::CompareChunk`] that differ: they are read again and shipped whole.
    pub fn handle_chunk_compared(&mut self, differing: Vec<BlockIndex>) -> Result<(), SessionError> {
        if self.open_repair()?.finish_digests() {
            self.phase = Phase::Running;
        }
        self.unsettled_blocks += differing.len() as u64;
        self.send_whole(differing)
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
        if hello.is_new {
            // It may be of a kind that is written once, from front to back.
            self.flight.keep_reach();
        }
        self.phase = Phase::Running;
        Ok(())
    }

    fn announce(&mut self, blocks: BlockRange, cost: u64, work: SenderWork) -> Result<(), SessionError> {
        let is_next =
            self.phase == Phase::Running && blocks.start.0 == self.announced_below && !blocks.is_empty();
        if !is_next || blocks.end.0 > self.options.layout.block_count() {
            return Err(SessionError::violation(format!(
                "digests of blocks {}..{} out of order",
                blocks.start.0, blocks.end.0
            )));
        }
        self.digest_credit = self
            .digest_credit
            .checked_sub(cost)
            .ok_or_else(|| SessionError::violation("more digests than there was credit for"))?;
        self.announced_below = blocks.end.0;
        self.work.push_back(work);
        Ok(())
    }

    fn handle_written(&mut self, sequence: u64, missing: Vec<BlockIndex>) -> Result<(), SessionError> {
        let missing_blocks = missing.len() as u64;
        let (blocks, missing) = self.flight.take_written(sequence, missing)?;
        // A violation is told by now: no more is missing than the message held.
        self.unsettled_blocks = (self.unsettled_blocks + missing_blocks).saturating_sub(blocks);
        match missing {
            Missing::Failed(blocks) => self.resend(blocks),
            Missing::NotInSeeds(differences) => {
                differences.into_iter().for_each(|difference| self.queues.push(difference));
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
        self.send_whole(blocks)
    }

    /// Sends blocks that the target did not take as they were, or lost since.
    fn send_whole(&mut self, blocks: Vec<BlockIndex>) -> Result<(), SessionError> {
        self.resent.extend(&blocks);
        if self.resent.len() > RESENT_MAX_BLOCKS {
            let reason = format!("the target did not take {} blocks", self.resent.len());
            return Err(SessionError { code: Code::VerifyFailed, reason });
        }
        self.queues.push_whole(blocks);
        Ok(())
    }

    fn handle_chunk_digests(&mut self, first: ChunkIndex, digests: Bytes) -> Result<(), SessionError> {
        if matches!(self.phase, Phase::Sealing { .. }) {
            if self.repair.is_some() {
                return Err(self.second_mismatch());
            }
            self.repair = Some(Repair::new(self.options.layout));
            self.phase = Phase::Repairing;
        }
        self.open_repair()?.take_chunks(first, (digests.len() / 32) as u64)?;
        self.work.push_back(SenderWork::CompareChunks { first, digests });
        Ok(())
    }

    fn handle_full_digests(&mut self, chunk: ChunkIndex, digests: Bytes) -> Result<(), SessionError> {
        self.open_repair()?.take_digests(chunk, digests.len() / 32)?;
        self.work.push_back(SenderWork::CompareChunk { chunk, digests });
        Ok(())
    }

    fn open_repair(&mut self) -> Result<&mut Repair, SessionError> {
        match &mut self.repair {
            Some(repair) if self.phase == Phase::Repairing => Ok(repair),
            _ => Err(SessionError::violation("digests for a repair that is not open")),
        }
    }

    fn second_mismatch(&self) -> SessionError {
        let list: Vec<_> =
            self.resent.iter().take(MISMATCH_LIST_MAX_BLOCKS).map(|block| block.0.to_string()).collect();
        let reason = format!("roots differ again after blocks {} were sent whole", list.join(", "));
        SessionError { code: Code::RootMismatch, reason }
    }
}
