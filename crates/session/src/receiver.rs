//! The receiving end: tells what the target holds, applies what arrives, closes commit groups, proves the root.
//!
//! **Invariant**: `Acknowledged` is sent only for messages that a finished commit made durable, `Sealed` only when the
//! target's own root equals the source's.

mod admission;
mod requests;
mod work;

pub use work::{ReceiverOptions, ReceiverWork};

use crate::credit::{charge_bytes, offer_charge_bytes};
use crate::error::SessionError;
use crate::sequence::SequenceSet;
use admission::{Admission, Charge};
use bytes::{BufMut, Bytes, BytesMut};
use failback_model::limits::{BATCH_MAX_BLOCKS, GROUP_MAX_BYTES, OFFER_MAX_BYTES};
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Code, Digest, TruncatedDigest};
use failback_wire::{Data, Encoding, Hello, Message, Role};
use requests::Requests;
use std::collections::VecDeque;

/// The receiving end of one pass.
#[derive(Debug)]
pub struct Receiver {
    options: ReceiverOptions,
    verify: bool,
    is_greeted: bool,
    scanned_below: u64,
    digest_credit: i64,
    requests: Requests,
    admission: Admission,
    uncommitted: Vec<u64>,
    uncommitted_bytes: u64,
    committing: Option<Vec<u64>>,
    is_group_due: bool,
    held: Vec<Message>,
    durable: SequenceSet,
    seal: Option<(Digest, u64)>,
    is_sealing: bool,
    is_sealed: bool,
    has_offered_chunks: bool,
    transmit: VecDeque<Message>,
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
        });
        Self {
            options,
            verify: false,
            is_greeted: false,
            scanned_below: 0,
            digest_credit: 0,
            requests: Requests::default(),
            admission: Admission::new(options.window_bytes),
            uncommitted: Vec::new(),
            uncommitted_bytes: 0,
            committing: None,
            is_group_due: false,
            held: Vec::new(),
            durable: SequenceSet::default(),
            seal: None,
            is_sealing: false,
            is_sealed: false,
            has_offered_chunks: false,
            transmit: VecDeque::from([hello]),
            work: VecDeque::new(),
        }
    }

    /// Whether the scan's next run may be handed over.
    pub fn wants_digests(&self) -> bool {
        self.digest_credit > 0
    }

    /// Next message to send.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        self.transmit.pop_front()
    }

    /// Next piece of work to start.
    pub fn poll_work(&mut self) -> Option<ReceiverWork> {
        self.work.pop_front().or_else(|| self.next_commit()).or_else(|| self.next_seal())
    }

    /// Takes the next run of the target's digests in disk order, of at most 1024 blocks; `None` for zeros, of any number.
    /// The run that uses up the credit may be larger than what is left of it: that much less is wanted later.
    pub fn handle_scanned(&mut self, blocks: BlockRange, digests: Option<&[TruncatedDigest]>) {
        debug_assert_eq!(blocks.start.0, self.scanned_below, "runs come in disk order");
        self.scanned_below = blocks.end.0;
        let Some(digests) = digests else {
            self.digest_credit -= 1;
            self.transmit.push_back(Message::ZeroDigests { blocks });
            return;
        };
        self.digest_credit -= digests.len() as i64;
        let mut first = blocks.start;
        for part in digests.chunks(BATCH_MAX_BLOCKS) {
            let payload: Vec<u8> = part.iter().flat_map(|digest| digest.0).collect();
            self.transmit.push_back(Message::Digests { first, digests: payload.into() });
            first.0 += part.len() as u64;
        }
    }

    /// Takes page digests of some of the requested blocks.
    pub fn handle_page_digests(&mut self, blocks: Vec<BlockIndex>, digests: &[TruncatedDigest]) {
        self.requests.answer(&blocks);
        let payload: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
        self.transmit.push_back(Message::PageDigests { blocks, digests: payload.into() });
    }

    /// Takes the outcome of a numbered message: so many bytes written, these blocks not written.
    pub fn handle_applied(&mut self, sequence: u64, written_bytes: u64, missing: Vec<BlockIndex>) {
        self.admission.finish(sequence);
        self.uncommitted.push(sequence);
        self.uncommitted_bytes += written_bytes;
        let written = Message::Written { sequence, missing };
        // Credit that comes back while one group is being committed and the next is full would let a third one grow.
        if self.committing.is_some() && self.uncommitted_bytes >= GROUP_MAX_BYTES {
            self.held.push(written);
        } else {
            self.transmit.push_back(written);
        }
    }

    /// Whether anything applied waits for a commit: the clock of the open group runs.
    pub fn has_open_group(&self) -> bool {
        !self.uncommitted.is_empty()
    }

    /// The open group is old enough: it closes as soon as the one before is durable.
    pub fn handle_group_timeout(&mut self) {
        self.is_group_due = self.has_open_group();
    }

    /// The commit that was asked for is durable.
    pub fn handle_committed(&mut self) {
        let before = self.durable.below();
        for sequence in self.committing.take().into_iter().flatten() {
            self.durable.insert(sequence);
        }
        if self.durable.below() > before {
            self.transmit.push_back(Message::Acknowledged { below: self.durable.below() });
        }
        self.transmit.extend(self.held.drain(..));
    }

    /// Takes the target's root, durable.
    pub fn handle_root(&mut self, root: Digest) {
        let Some((source_root, messages)) = self.seal.take() else { return };
        self.is_sealing = false;
        self.admission.unseal();
        self.durable.advance_to(messages);
        self.transmit.push_back(Message::Acknowledged { below: messages });
        if root == source_root {
            self.is_sealed = true;
            self.transmit.push_back(Message::Sealed { root });
            self.work.push_back(ReceiverWork::Finish { root });
        } else if self.options.layout.chunk_count() > 0 {
            self.work.push_back(ReceiverWork::ChunkDigests);
        } else {
            let message = "the roots of a disk without blocks differ".into();
            self.transmit.push_back(Message::Error { code: Code::RootMismatch.as_str().into(), message });
        }
    }

    /// Takes all chunk digests, in order.
    pub fn handle_chunk_digests(&mut self, digests: &[Digest]) {
        self.has_offered_chunks = true;
        let mut first = ChunkIndex(0);
        for part in digests.chunks(BATCH_MAX_BLOCKS) {
            self.transmit.push_back(Message::ChunkDigests { first, digests: pack_digests(part) });
            first.0 += part.len() as u64;
        }
    }

    /// Takes one chunk's digests as they are on the medium.
    pub fn handle_full_digests(&mut self, chunk: ChunkIndex, digests: &[Digest]) {
        self.transmit.push_back(Message::FullDigests { chunk, digests: pack_digests(digests) });
    }

    /// Takes a message of the sending end.
    pub fn handle_message(&mut self, message: Message) -> Result<(), SessionError> {
        match message {
            Message::Hello(hello) => return self.handle_hello(&hello),
            Message::Error { code, message } => {
                return Err(SessionError { code: Code::PeerFailed, reason: format!("{code}: {message}") });
            }
            _ if !self.is_greeted || self.is_sealed => {
                return Err(SessionError::violation("a message before the greeting or after the seal"));
            }
            Message::DigestCredit { blocks } => {
                let blocks = i64::try_from(blocks).unwrap_or(i64::MAX);
                self.digest_credit = self.digest_credit.saturating_add(blocks);
            }
            Message::PageDigestRequest { blocks } => self.handle_page_request(blocks)?,
            Message::Data(data) => {
                self.check_data(&data)?;
                data.patches.iter().try_for_each(|patch| self.requests.close(patch.block))?;
                self.admission.admit(data.sequence, Charge { bytes: charge_bytes(&data), offers: 0 })?;
                self.work.push_back(ReceiverWork::Apply(data));
            }
            Message::Zero { sequence, ranges } => {
                self.check_below(ranges.last().map(|range| range.end.0))?;
                self.requests.refuse_ranges(&ranges)?;
                self.admission.admit(sequence, Charge::SMALL)?;
                self.work.push_back(ReceiverWork::Zero { sequence, ranges });
            }
            Message::References { sequence, offers } => {
                self.check_below(offers.last().map(|offer| offer.block.0.saturating_add(1)))?;
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
                self.work.push_back(ReceiverWork::Reference { sequence, offers });
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
        self.is_greeted = true;
        Ok(())
    }

    fn handle_page_request(&mut self, blocks: Vec<BlockIndex>) -> Result<(), SessionError> {
        self.check_below(blocks.last().map(|block| block.0.saturating_add(1)))?;
        let is_scanned = blocks.last().is_none_or(|block| block.0 < self.scanned_below);
        if blocks.is_empty() || !is_scanned {
            return Err(SessionError::violation("a page digest request of no block, or before its digest"));
        }
        self.requests.open(&blocks)?;
        self.work.push_back(ReceiverWork::PageDigests { blocks });
        Ok(())
    }

    fn check_below(&self, end: Option<u64>) -> Result<(), SessionError> {
        if end.is_some_and(|end| end > self.options.layout.block_count()) {
            return Err(SessionError::violation("a block past the disk's end"));
        }
        Ok(())
    }

    /// Blocks lie in the disk, pages in their blocks, and the content is exactly as long as its pages.
    fn check_data(&self, data: &Data) -> Result<(), SessionError> {
        let layout = self.options.layout;
        self.check_below(data.patches.last().map(|patch| patch.block.0.saturating_add(1)))?;
        let mut expected = 0;
        for patch in &data.patches {
            let pages = layout.pages_of(patch.block);
            if patch.data.end().max(patch.zero.end()) > pages {
                return Err(SessionError::violation(format!("block {} has no such page", patch.block.0)));
            }
            expected +=
                patch.data.iter().map(|page| layout.page_bytes(patch.block, page).len()).sum::<usize>();
        }
        let content = match data.encoding {
            Encoding::Raw => data.payload.len(),
            Encoding::Zstd { content_bytes } => content_bytes as usize,
        };
        if content != expected {
            return Err(SessionError::violation(format!("{content} bytes for pages of {expected} bytes")));
        }
        Ok(())
    }

    fn handle_chunk_request(&mut self, chunks: Vec<ChunkIndex>) -> Result<(), SessionError> {
        if !std::mem::take(&mut self.has_offered_chunks) {
            return Err(SessionError::violation("a chunk request that follows no chunk digests"));
        }
        if chunks.last().is_some_and(|chunk| chunk.0 >= self.options.layout.chunk_count()) {
            return Err(SessionError::violation("a chunk past the disk's end"));
        }
        self.work.extend(chunks.into_iter().map(|chunk| ReceiverWork::ReadChunk { chunk }));
        Ok(())
    }

    fn next_commit(&mut self) -> Option<ReceiverWork> {
        let is_due = self.uncommitted_bytes >= GROUP_MAX_BYTES || self.is_group_due;
        if self.committing.is_some() || !is_due || self.uncommitted.is_empty() {
            return None;
        }
        self.is_group_due = false;
        self.uncommitted_bytes = 0;
        self.committing = Some(std::mem::take(&mut self.uncommitted));
        Some(ReceiverWork::Commit)
    }

    fn next_seal(&mut self) -> Option<ReceiverWork> {
        if self.is_sealing || self.committing.is_some() || !self.admission.is_complete() {
            return None;
        }
        self.is_sealing = true;
        self.uncommitted.clear();
        self.uncommitted_bytes = 0;
        Some(ReceiverWork::Seal { verify: self.verify })
    }
}

fn pack_digests(digests: &[Digest]) -> Bytes {
    let mut payload = BytesMut::with_capacity(digests.len() * 32);
    digests.iter().for_each(|digest| payload.put_slice(&digest.0));
    payload.freeze()
}
