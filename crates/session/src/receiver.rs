//! The receiving end: tells what the target holds, applies what arrives, closes commit groups, proves the root.
//!
//! **Invariant**: `Acknowledged` is sent only for messages that a finished commit made durable, `Sealed` only when the
//! target's own root equals the source's; and once the pass was stopped, nothing that still comes has any effect.

mod admission;
mod check;
mod groups;
mod next;
mod repair;
mod requests;
mod turn;
mod work;

pub use work::{ReceiverOptions, ReceiverWork};

use crate::credit::{charge_bytes, offer_charge_bytes};
use crate::error::SessionError;
use crate::stall::Stall;
use admission::{Admission, Charge};
use bytes::{BufMut, Bytes, BytesMut};
use failback_model::limits::{BATCH_MAX_BLOCKS, DIGEST_WINDOW_BLOCKS, OFFER_MAX_BYTES};
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Code, Digest, TruncatedDigest};
use failback_wire::{Class, Hello, Message, Role};
use groups::Groups;
use repair::Repair;
use requests::Requests;
use std::collections::VecDeque;
use std::time::Instant;

/// The receiving end of one pass.
#[derive(Debug)]
pub struct Receiver {
    options: ReceiverOptions,
    is_stopping: bool,
    stall: Stall,
    verify: bool,
    is_greeted: bool,
    may_leave_out: bool,
    scanned_below: u64,
    digest_credit: i64,
    requests: Requests,
    admission: Admission,
    groups: Groups,
    seal: Option<(Digest, u64)>,
    is_sealing: bool,
    is_sealed: bool,
    repair: Repair,
    transmit: VecDeque<Message>,
    /// What keeps its order, and waits for everything else: digests are many, and all else is waited for.
    ordered: VecDeque<Message>,
    /// Numbered messages that were let in and wait to be applied.
    to_apply: VecDeque<ReceiverWork>,
    work: VecDeque<ReceiverWork>,
}

impl Receiver {
    /// A new pass; its first message is the greeting.
    pub fn new(options: ReceiverOptions) -> Self {
        let hello = Message::Hello(Hello {
            role: Role::Receiving,
            length_bytes: options.layout.length_bytes(),
            block_bytes: options.layout.block_size().bytes() as u32,
            has_seeds: options.has_seeds,
            is_new: options.is_new,
            verify: false,
            digests_known: false,
        });
        Self {
            options,
            is_stopping: false,
            stall: Stall::default(),
            verify: false,
            is_greeted: false,
            may_leave_out: false,
            scanned_below: 0,
            digest_credit: 0,
            requests: Requests::default(),
            admission: Admission::new(options.window_bytes, options.layout.block_size().bytes()),
            groups: Groups::default(),
            seal: None,
            is_sealing: false,
            is_sealed: false,
            repair: Repair::default(),
            transmit: VecDeque::from([hello]),
            ordered: VecDeque::new(),
            to_apply: VecDeque::new(),
            work: VecDeque::new(),
        }
    }

    /// Whether the scan's next run may be handed over.
    pub fn wants_digests(&self) -> bool {
        self.digest_credit > 0 && !self.is_stopping
    }

    /// Tells the time, best after every event: a group that is old enough is committed.
    pub fn handle_time(&mut self, now: Instant) {
        self.groups.handle_time(now);
    }

    /// When [`Self::handle_time`] wants to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.groups.poll_timeout()
    }

    /// Stops in good order: nothing more is taken in, frames that were sent before or buffered included; what was taken in
    /// is written and committed. Go on until [`Self::is_stopped`]. So a session that a newer one replaces, or whose other
    /// end is gone, loses nothing that came.
    pub fn stop(&mut self) {
        if !std::mem::replace(&mut self.is_stopping, true) {
            self.work.clear();
        }
    }

    /// Whether all that was taken in is durable after [`Self::stop`].
    pub fn is_stopped(&self) -> bool {
        let is_done = self.admission.is_idle() && self.groups.is_clean();
        self.is_stopping && is_done && !self.is_sealing && self.work.is_empty()
    }

    /// Next message to send.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        self.transmit.pop_front().or_else(|| self.ordered.pop_front())
    }

    /// Next piece of work to start.
    pub fn poll_work(&mut self) -> Option<ReceiverWork> {
        let work = self.work.pop_front().or_else(|| self.next_commit());
        let work = work.or_else(|| self.next_to_apply()).or_else(|| self.next_seal());
        work.or_else(|| self.next_chunks())
    }

    /// Takes the next run of the target's digests in disk order, of at most 1024 blocks; `None` for zeros, of any number.
    /// The run that uses up the credit may be larger than what is left of it: that much less is wanted later.
    pub fn handle_scanned(&mut self, blocks: BlockRange, digests: Option<&[TruncatedDigest]>) {
        debug_assert_eq!(blocks.start.0, self.scanned_below, "runs come in disk order");
        self.scanned_below = blocks.end.0;
        self.groups.add_scanned();
        let Some(digests) = digests else {
            self.digest_credit -= 1;
            self.send(Message::ZeroDigests { blocks });
            return;
        };
        self.digest_credit -= digests.len() as i64;
        let mut first = blocks.start;
        for part in digests.chunks(BATCH_MAX_BLOCKS) {
            let payload: Vec<u8> = part.iter().flat_map(|digest| digest.0).collect();
            self.send(Message::Digests { first, digests: payload.into() });
            first.0 += part.len() as u64;
        }
    }

    /// Whether the sending end holds the digests that are trusted here: a run of those may be named instead.
    pub fn may_leave_out(&self) -> bool {
        self.may_leave_out
    }

    /// Takes the next run in disk order where it is trusted and [`Self::may_leave_out`]; of any number of blocks.
    pub fn handle_known(&mut self, blocks: BlockRange) {
        debug_assert_eq!(blocks.start.0, self.scanned_below, "runs come in disk order");
        self.scanned_below = blocks.end.0;
        self.stall.moved();
        if let Some(Message::KnownDigests { blocks: last }) = self.ordered.back_mut() {
            last.end = blocks.end;
            return;
        }
        self.digest_credit -= 1;
        self.send(Message::KnownDigests { blocks });
    }

    /// Takes page digests of some of the requested blocks.
    pub fn handle_page_digests(&mut self, blocks: Vec<BlockIndex>, digests: &[TruncatedDigest]) {
        self.requests.answer(&blocks);
        let payload: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
        self.send(Message::PageDigests { blocks, digests: payload.into() });
    }

    /// Takes the outcome of a numbered message: so many bytes written, these blocks not written.
    pub fn handle_applied(&mut self, sequence: u64, written_bytes: u64, missing: Vec<BlockIndex>) {
        self.admission.finish(sequence);
        self.groups.add(written_bytes);
        self.send(Message::Written { sequence, missing });
    }

    /// The commit that was asked for is durable.
    pub fn handle_committed(&mut self) {
        if let Some(below) = self.groups.finish() {
            self.send(Message::Acknowledged { below });
        }
    }

    /// Takes the target's root, durable.
    pub fn handle_root(&mut self, root: Digest) {
        let Some((source_root, messages)) = self.seal.take() else { return };
        self.is_sealing = false;
        self.admission.unseal();
        self.groups.seal(messages);
        self.send(Message::Acknowledged { below: messages });
        if root == source_root {
            self.is_sealed = true;
            self.send(Message::Sealed { root });
            self.work.push_back(ReceiverWork::Finish { root });
        } else if self.options.layout.chunk_count() > 0 {
            self.repair.start(self.options.layout.chunk_count());
        } else {
            let reason = "the roots of a disk without blocks differ".into();
            self.send(SessionError { code: Code::RootMismatch, reason }.to_message());
        }
    }

    /// Takes the digests of the chunks that were asked for, from `first`.
    pub fn handle_chunk_digests(&mut self, first: ChunkIndex, digests: &[Digest]) {
        self.repair.offer();
        self.send(Message::ChunkDigests { first, digests: pack_digests(digests) });
    }

    /// Takes one chunk's digests as they are on the medium.
    pub fn handle_full_digests(&mut self, chunk: ChunkIndex, digests: &[Digest]) {
        self.send(Message::FullDigests { chunk, digests: pack_digests(digests) });
    }

    /// Takes a message of the sending end.
    pub fn handle_message(&mut self, message: Message) -> Result<(), SessionError> {
        self.stall.moved();
        match message {
            Message::Error { code, message } => return Err(SessionError::peer_failed(&code, &message)),
            _ if self.is_stopping => {}
            Message::Hello(hello) => return self.handle_hello(&hello),
            _ if !self.is_greeted || self.is_sealed => {
                return Err(SessionError::violation("a message before the greeting or after the seal"));
            }
            Message::DigestCredit { blocks } => self.handle_digest_credit(blocks)?,
            Message::PageDigestRequest { blocks } => self.handle_page_request(blocks)?,
            Message::Data(data) => {
                check::data(self.options.layout, &data)?;
                data.patches.iter().try_for_each(|patch| self.requests.close(patch.block))?;
                self.admission.admit(data.sequence, Charge { bytes: charge_bytes(&data), offers: 0 })?;
                self.to_apply.push_back(ReceiverWork::Apply(data));
            }
            Message::Zero { sequence, ranges } => {
                check::end(self.options.layout, ranges.last().map(|range| range.end.0))?;
                self.requests.refuse_ranges(&ranges)?;
                self.admission.admit(sequence, Charge::SMALL)?;
                self.to_apply.push_back(ReceiverWork::Zero { sequence, ranges });
            }
            Message::References { sequence, offers } => {
                check::end(self.options.layout, offers.last().map(|offer| offer.block.0.saturating_add(1)))?;
                if !self.options.has_seeds {
                    return Err(SessionError::violation("references, though there are no seeds"));
                }
                offers.iter().try_for_each(|offer| self.requests.refuse_block(offer.block))?;
                let block_bytes = self.options.layout.block_size().bytes();
                let bytes = offer_charge_bytes(offers.len(), block_bytes);
                if bytes > OFFER_MAX_BYTES {
                    return Err(SessionError::violation("more offers than one message may hold"));
                }
                self.admission.admit(sequence, Charge { bytes, offers: offers.len() })?;
                self.to_apply.push_back(ReceiverWork::Reference { sequence, offers });
            }
            Message::Seal { root, messages } => {
                self.admission.seal(messages)?;
                self.seal = Some((root, messages));
            }
            Message::ChunkRequest { chunks } => self.handle_chunk_request(chunks)?,
            _ => return Err(SessionError::violation("a message that only the receiving end sends")),
        }
        Ok(())
    }

    fn handle_hello(&mut self, hello: &Hello) -> Result<(), SessionError> {
        let layout = self.options.layout;
        if self.is_greeted || hello.role != Role::Sending {
            return Err(SessionError::violation("a second greeting, or one from a receiving end"));
        }
        if (hello.length_bytes, u64::from(hello.block_bytes))
            != (layout.length_bytes(), layout.block_size().bytes())
        {
            return Err(SessionError::violation("the ends disagree about the disk's length or block size"));
        }
        self.verify = hello.verify;
        self.may_leave_out = self.options.is_at_seal && hello.digests_known;
        self.is_greeted = true;
        Ok(())
    }

    /// What is granted was used up before: no more than the window is ever open.
    fn handle_digest_credit(&mut self, blocks: u64) -> Result<(), SessionError> {
        let credit = i64::try_from(blocks).ok().and_then(|blocks| self.digest_credit.checked_add(blocks));
        self.digest_credit = credit
            .filter(|&credit| credit <= DIGEST_WINDOW_BLOCKS as i64)
            .ok_or_else(|| SessionError::violation("credit for more digests than the window holds"))?;
        Ok(())
    }

    fn handle_page_request(&mut self, blocks: Vec<BlockIndex>) -> Result<(), SessionError> {
        check::end(self.options.layout, blocks.last().map(|block| block.0.saturating_add(1)))?;
        let is_scanned = blocks.last().is_none_or(|block| block.0 < self.scanned_below);
        if blocks.is_empty() || !is_scanned {
            return Err(SessionError::violation("a page digest request of no block, or before its digest"));
        }
        self.requests.open(&blocks)?;
        self.work.push_back(ReceiverWork::PageDigests { blocks });
        Ok(())
    }

    fn handle_chunk_request(&mut self, chunks: Vec<ChunkIndex>) -> Result<(), SessionError> {
        self.repair.answer()?;
        if chunks.last().is_some_and(|chunk| chunk.0 >= self.options.layout.chunk_count()) {
            return Err(SessionError::violation("a chunk past the disk's end"));
        }
        self.work.extend(chunks.into_iter().map(|chunk| ReceiverWork::ReadChunk { chunk }));
        Ok(())
    }

    /// Says something.
    fn send(&mut self, message: Message) {
        self.stall.moved();
        match message.class() {
            Class::Ordered => self.ordered.push_back(message),
            _ => self.transmit.push_back(message),
        }
    }
}

fn pack_digests(digests: &[Digest]) -> Bytes {
    let mut payload = BytesMut::with_capacity(digests.len() * 32);
    digests.iter().for_each(|digest| payload.put_slice(&digest.0));
    payload.freeze()
}
