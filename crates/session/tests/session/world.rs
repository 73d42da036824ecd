//! Both machines, their disks and what is under way between them, moved one event at a time.

mod receiving;

use crate::disk::{Block, digest, fold, page_digest, page_sets, part, ranges};
use crate::durable::{Durable, Leftover};
use crate::link::Link;
use crate::log::Log;
use bytes::Bytes;
use failback_model::limits::{CHUNK_BLOCKS, PAGE_BYTES};
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Difference, Digest, Layout, TruncatedDigest};
use failback_session::{
    Receiver, ReceiverOptions, ReceiverWork, RefinementMode, Sender, SenderOptions, SenderWork, SessionError,
};
use failback_testkit::Random;
use failback_wire::{BlockPatch, Data, Encoding, Message};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// What goes wrong, in percent of its chances.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Troubles {
    /// Offered blocks that no seed holds.
    pub(crate) seed_misses: u64,
    /// Blocks that do not verify the first time.
    pub(crate) failures: u64,
    /// A block that never verifies.
    pub(crate) broken_block: Option<BlockIndex>,
    /// Roots of the target that come out wrong, from this one on.
    pub(crate) wrong_roots_from: Option<u64>,
}

/// How a world is set up.
pub(crate) struct Setup {
    pub(crate) layout: Layout,
    pub(crate) source: Vec<Block>,
    pub(crate) target: Vec<Block>,
    pub(crate) window_bytes: u64,
    pub(crate) refinement: RefinementMode,
    pub(crate) has_seeds: bool,
    /// What the target trusts is of the state that the source's side was told of.
    pub(crate) is_at_seal: bool,
    /// What the source's side believes the target to hold.
    pub(crate) base: Option<Vec<Block>>,
    pub(crate) troubles: Troubles,
}

/// Both ends.
pub(crate) struct World {
    pub(crate) layout: Layout,
    pub(crate) random: Random,
    pub(crate) troubles: Troubles,
    pub(crate) sender_options: SenderOptions,
    pub(crate) receiver_options: ReceiverOptions,
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) source: Vec<Block>,
    pub(crate) target: Vec<Block>,
    /// The target's manifest: what its scan found and what was written since.
    pub(crate) entries: Vec<Digest>,
    pub(crate) to_target: Link,
    pub(crate) to_source: Link,
    pub(crate) comparisons: VecDeque<(BlockRange, u64, Option<Bytes>)>,
    base: Option<Vec<Block>>,
    pub(crate) sender_jobs: Vec<SenderWork>,
    pub(crate) receiver_jobs: Vec<ReceiverWork>,
    pub(crate) scanned_below: u64,
    /// What the target keeps when the session ends, however it ends.
    pub(crate) durable: Durable,
    /// Generation of the target as the source's side knows it.
    pub(crate) known_generation: u64,
    /// What this session sent.
    pub(crate) log: Log,
    /// Times each block was read by the target's scan.
    pub(crate) scans: HashMap<BlockIndex, u64>,
    /// Bytes of a commit group for each byte that is written: groups of small disks are to fill up too.
    pub(crate) group_scale: Option<u64>,
    /// Times each block was written.
    pub(crate) writes: HashMap<BlockIndex, u64>,
    pub(crate) failed_once: BTreeSet<BlockIndex>,
    pub(crate) roots: u64,
    pub(crate) sealed: [Option<Digest>; 2],
}

impl World {
    pub(crate) fn new(setup: Setup, random: Random) -> Self {
        let Setup { layout, source, target, window_bytes, refinement, has_seeds, is_at_seal, base, troubles } =
            setup;
        let sender_options =
            SenderOptions { layout, refinement, window_bytes, verify: false, holds_base: base.is_some() };
        let receiver_options = ReceiverOptions { layout, has_seeds, is_new: false, is_at_seal, window_bytes };
        let mut durable = Durable::new(source.len());
        if is_at_seal {
            target.iter().enumerate().for_each(|(block, values)| durable.scanned(block, digest(values)));
            durable.close();
            durable.commit();
        }
        Self {
            layout,
            random,
            troubles,
            sender_options,
            receiver_options,
            sender: Sender::new(sender_options),
            receiver: Receiver::new(receiver_options),
            durable,
            known_generation: 0,
            log: Log::default(),
            scans: HashMap::new(),
            group_scale: None,
            entries: vec![Digest::ZERO; source.len()],
            source,
            target,
            to_target: Link::default(),
            to_source: Link::default(),
            comparisons: VecDeque::new(),
            base,
            sender_jobs: Vec::new(),
            receiver_jobs: Vec::new(),
            scanned_below: 0,
            writes: HashMap::new(),
            failed_once: BTreeSet::new(),
            roots: 0,
            sealed: [None; 2],
        }
    }

    /// Both ends start anew, from what is durable at the target; the target's end was killed where something is left over.
    pub(crate) fn reopen(&mut self, leftover: Option<Leftover>) {
        if let Some(leftover) = leftover {
            self.durable.kill(&mut self.target, leftover, &mut self.random);
        }
        assert!(self.durable.begun().is_empty(), "an end that stops in good order leaves nothing uncertain");
        for (block, values) in self.target.iter().enumerate() {
            let known = self.durable.known(block);
            assert!(
                known.is_none_or(|known| known == digest(values)),
                "block {block} is trusted, but is not that"
            );
        }
        // What a cut session left is no state that was sealed; the source's side may still think so.
        self.receiver_options.is_at_seal = false;
        self.sender = Sender::new(self.sender_options);
        self.receiver = Receiver::new(self.receiver_options);
        self.entries = vec![Digest::ZERO; self.source.len()];
        (self.to_target, self.to_source) = (Link::default(), Link::default());
        self.comparisons.clear();
        self.sender_jobs.clear();
        self.receiver_jobs.clear();
        self.scanned_below = 0;
        self.sealed = [None; 2];
    }

    /// The source's root.
    pub(crate) fn source_root(&self) -> Digest {
        root_of(&self.source.iter().map(digest).collect::<Vec<_>>())
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    /// Hands over the target's next run of digests.
    pub(crate) fn scan(&mut self) {
        let length = 1 + self.random.below(64);
        let end = (self.scanned_below + length).min(self.layout.block_count());
        let blocks = BlockRange::new(self.scanned_below, end);
        self.scanned_below = end;
        let digests: Vec<Digest> = blocks.iter().map(|block| self.read_digest(block)).collect();
        let truncated: Vec<TruncatedDigest> = digests.iter().map(Digest::truncated).collect();
        let is_zero = digests.iter().all(Digest::is_zero);
        self.entries[blocks.start.0 as usize..end as usize].copy_from_slice(&digests);
        // What was found otherwise is told.
        if self.receiver.may_leave_out() && self.random.below(8) > 0 {
            return self.receiver.handle_known(blocks);
        }
        self.receiver.handle_scanned(blocks, (!is_zero).then_some(&truncated));
    }

    /// What the journal knows of a block, or what the medium holds.
    fn read_digest(&mut self, block: BlockIndex) -> Digest {
        let index = block.0 as usize;
        if let Some(known) = self.durable.known(index) {
            return known;
        }
        *self.scans.entry(block).or_default() += 1;
        let found = digest(&self.target[index]);
        self.durable.scanned(index, found);
        found
    }

    /// Compares the next announced run.
    pub(crate) fn compare(&mut self) {
        let Some((blocks, cost, theirs)) = self.comparisons.pop_front() else { return };
        let theirs: Vec<TruncatedDigest> = match &theirs {
            Some(bytes) => Message::truncated_digests(bytes).collect(),
            None => vec![TruncatedDigest::ZERO; blocks.count() as usize],
        };
        let (mut differing, mut zeros) = (Vec::new(), Vec::new());
        for (block, theirs) in blocks.iter().zip(theirs) {
            let digest = digest(&self.source[block.0 as usize]);
            if digest.truncated() == theirs {
                continue;
            }
            if digest.is_zero() {
                zeros.push(block);
            } else {
                let target_is_zero = theirs == TruncatedDigest::ZERO;
                differing.push(Difference { block, digest, target_is_zero });
            }
        }
        self.sender.handle_compared(blocks.end, cost, differing, ranges(zeros));
    }

    /// Ends one piece of the sending end's work.
    pub(crate) fn finish_sender_job(&mut self, job: SenderWork) -> Result<(), SessionError> {
        match job {
            SenderWork::Compare { blocks, digests } => {
                let cost = digests.as_ref().map_or(1, |_| blocks.count());
                self.comparisons.push_back((blocks, cost, digests));
            }
            SenderWork::CompareBase { blocks } => {
                let base = part(self.base.as_ref().expect("only whoever holds a base is asked"), blocks);
                let digests = base.iter().flat_map(|values| digest(values).truncated().0).collect();
                self.comparisons.push_back((blocks, 1, Some(digests)));
            }
            SenderWork::Ship { job, blocks } => {
                let messages = self.pack(&blocks, |_, _| true);
                self.sender.handle_packed(job, messages, None);
            }
            SenderWork::Patch { job, blocks, digests } => {
                let theirs: Vec<TruncatedDigest> = Message::truncated_digests(&digests).collect();
                let first: HashMap<_, _> = blocks
                    .iter()
                    .scan(0, |at, &block| {
                        let first = *at;
                        *at += self.layout.pages_of(block);
                        Some((block, first))
                    })
                    .collect();
                let differs = |block: BlockIndex, page: usize| {
                    page_digest(self.source[block.0 as usize][page]) != theirs[first[&block] + page]
                };
                let messages = self.pack(&blocks, differs);
                let shipped =
                    messages.iter().flat_map(|data| &data.patches).map(|patch| patch.data.count()).sum();
                self.sender.handle_packed(job, messages, Some((shipped, theirs.len())));
            }
            SenderWork::Seal => self.sender.handle_root(self.source_root()),
            SenderWork::CompareChunks { first, digests } => {
                let own = self.chunk_digests(&self.source.iter().map(digest).collect::<Vec<_>>());
                let theirs = (first.0..).zip(Message::full_digests(&digests));
                let differing = theirs.filter(|(chunk, theirs)| own[*chunk as usize] != *theirs);
                let differing = differing.map(|(chunk, _)| ChunkIndex(chunk)).collect();
                self.sender.handle_chunks_compared(differing)?;
            }
            SenderWork::CompareChunk { chunk, digests } => {
                let blocks = self.layout.chunk_blocks(chunk).iter().zip(Message::full_digests(&digests));
                let differing =
                    blocks.filter(|(block, theirs)| digest(&self.source[block.0 as usize]) != *theirs);
                let differing = differing.map(|(block, _)| block).collect();
                self.sender.handle_chunk_compared(differing)?;
            }
            SenderWork::Finish { root } => {
                let left = (self.sender.unsettled_blocks(), self.sender.credit_used_bytes());
                assert_eq!(left, (0, 0), "a sealed pass has nothing left to send");
                self.known_generation += 1;
                self.sealed[0] = Some(root);
            }
        }
        Ok(())
    }

    /// Packs chosen pages of blocks into one or two messages.
    fn pack(&self, blocks: &[BlockIndex], chosen: impl Fn(BlockIndex, usize) -> bool) -> Vec<Data> {
        let pack = |blocks: &[BlockIndex]| {
            let mut payload = Vec::new();
            let patches = blocks.iter().map(|&block| {
                let values = &self.source[block.0 as usize];
                let exists = |page: usize| page < self.layout.pages_of(block);
                let (data, zero) = page_sets(values, |page| exists(page) && chosen(block, page));
                for page in data.iter() {
                    let length = self.layout.page_bytes(block, page).len();
                    payload.resize(payload.len() + length, values[page]);
                }
                BlockPatch { block, digest: digest(values), data, zero }
            });
            let patches = patches.collect();
            let content_bytes = payload.len() as u32;
            let encoding = if content_bytes > 0 && blocks[0].0.is_multiple_of(2) {
                // Pages of one value each compress to that value.
                payload = payload.chunks(PAGE_BYTES as usize).map(|page| page[0]).collect();
                Encoding::Zstd { content_bytes }
            } else {
                Encoding::Raw
            };
            Data { sequence: 0, patches, encoding, payload: payload.into() }
        };
        let (left, right) = blocks.split_at(blocks.len() / 3);
        [left, right].into_iter().filter(|part| !part.is_empty()).map(pack).collect()
    }

    fn chunk_digests(&self, entries: &[Digest]) -> Vec<Digest> {
        entries.chunks(CHUNK_BLOCKS as usize).map(fold).collect()
    }
}

fn root_of(entries: &[Digest]) -> Digest {
    fold(entries)
}
