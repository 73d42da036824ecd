//! Both machines, their disks and what is under way between them, moved one event at a time.

use crate::disk::{Block, PAGES, digest, fold, page_digest, page_sets, part, ranges};
use crate::link::Link;
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
    pub(crate) troubles: Troubles,
}

/// Both ends.
pub(crate) struct World {
    pub(crate) layout: Layout,
    pub(crate) random: Random,
    pub(crate) troubles: Troubles,
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) source: Vec<Block>,
    pub(crate) target: Vec<Block>,
    /// The target's manifest: what its scan found and what was written since.
    pub(crate) entries: Vec<Digest>,
    pub(crate) to_target: Link,
    pub(crate) to_source: Link,
    pub(crate) comparisons: VecDeque<(BlockRange, Option<Bytes>)>,
    pub(crate) sender_jobs: Vec<SenderWork>,
    pub(crate) receiver_jobs: Vec<ReceiverWork>,
    pub(crate) scanned_below: u64,
    /// Times each block was written.
    pub(crate) writes: HashMap<BlockIndex, u64>,
    pub(crate) failed_once: BTreeSet<BlockIndex>,
    pub(crate) roots: u64,
    pub(crate) sealed: [Option<Digest>; 2],
}

impl World {
    pub(crate) fn new(setup: Setup, random: Random) -> Self {
        let Setup { layout, source, target, window_bytes, refinement, has_seeds, troubles } = setup;
        Self {
            layout,
            random,
            troubles,
            sender: Sender::new(SenderOptions { layout, refinement, window_bytes, verify: false }),
            receiver: Receiver::new(ReceiverOptions { layout, has_seeds, is_new: false, window_bytes }),
            entries: vec![Digest::ZERO; source.len()],
            source,
            target,
            to_target: Link::default(),
            to_source: Link::default(),
            comparisons: VecDeque::new(),
            sender_jobs: Vec::new(),
            receiver_jobs: Vec::new(),
            scanned_below: 0,
            writes: HashMap::new(),
            failed_once: BTreeSet::new(),
            roots: 0,
            sealed: [None; 2],
        }
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
        let digests: Vec<Digest> = part(&self.target, blocks).iter().map(digest).collect();
        let truncated: Vec<TruncatedDigest> = digests.iter().map(Digest::truncated).collect();
        let is_zero = digests.iter().all(Digest::is_zero);
        self.entries[blocks.start.0 as usize..end as usize].copy_from_slice(&digests);
        self.receiver.handle_scanned(blocks, (!is_zero).then_some(&truncated));
    }

    /// Compares the next announced run.
    pub(crate) fn compare(&mut self) {
        let Some((blocks, theirs)) = self.comparisons.pop_front() else { return };
        let cost = theirs.as_ref().map_or(1, |_| blocks.count());
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
            SenderWork::Compare { blocks, digests } => self.comparisons.push_back((blocks, digests)),
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
            SenderWork::Finish { root } => self.sealed[0] = Some(root),
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

    /// Ends one piece of the receiving end's work.
    pub(crate) fn finish_receiver_job(&mut self, job: ReceiverWork) {
        match job {
            ReceiverWork::PageDigests { blocks } => {
                let at = self.random.below(blocks.len() as u64 + 1) as usize;
                for part in [&blocks[..at], &blocks[at..]].into_iter().filter(|part| !part.is_empty()) {
                    let pages = part.iter().flat_map(|&block| {
                        let pages = self.layout.pages_of(block);
                        self.target[block.0 as usize][..pages].iter().map(|&value| page_digest(value))
                    });
                    let digests: Vec<_> = pages.collect();
                    self.receiver.handle_page_digests(part.to_vec(), &digests);
                }
            }
            ReceiverWork::Apply(data) => self.apply(&data),
            ReceiverWork::Zero { sequence, ranges } => {
                let blocks = ranges.iter().flat_map(|range| range.iter());
                let missing = blocks.filter(|&block| !self.write(block, [0; PAGES], Digest::ZERO)).collect();
                self.receiver.handle_applied(sequence, PAGE_BYTES, missing);
            }
            ReceiverWork::Reference { sequence, offers } => {
                let missing = offers.iter().filter(|offer| {
                    let values = self.source[offer.block.0 as usize];
                    self.chance(self.troubles.seed_misses) || !self.write(offer.block, values, offer.digest)
                });
                let missing = missing.map(|offer| offer.block).collect();
                self.receiver.handle_applied(sequence, PAGE_BYTES, missing);
            }
            ReceiverWork::Commit => self.receiver.handle_committed(),
            ReceiverWork::Seal { .. } => {
                let is_wrong = self.troubles.wrong_roots_from.is_some_and(|from| self.roots >= from);
                self.roots += 1;
                self.receiver.handle_root(if is_wrong { Digest([9; 32]) } else { root_of(&self.entries) });
            }
            ReceiverWork::ChunkDigests => {
                let digests = self.chunk_digests(&self.entries);
                self.receiver.handle_chunk_digests(&digests);
            }
            ReceiverWork::ReadChunk { chunk } => {
                let blocks = self.layout.chunk_blocks(chunk);
                let digests: Vec<_> = part(&self.target, blocks).iter().map(digest).collect();
                self.receiver.handle_full_digests(chunk, &digests);
            }
            ReceiverWork::Finish { root } => self.sealed[1] = Some(root),
        }
    }

    fn apply(&mut self, data: &Data) {
        let (mut at, mut missing) = (0, Vec::new());
        for patch in &data.patches {
            let mut values = self.target[patch.block.0 as usize];
            patch.zero.iter().for_each(|page| values[page] = 0);
            for page in patch.data.iter() {
                values[page] = data.payload[at];
                at += match data.encoding {
                    Encoding::Raw => self.layout.page_bytes(patch.block, page).len(),
                    Encoding::Zstd { .. } => 1,
                };
            }
            if !self.write(patch.block, values, patch.digest) {
                missing.push(patch.block);
            }
        }
        assert_eq!(at, data.payload.len(), "the machine checked the payload's length");
        // Large numbers close groups.
        self.receiver.handle_applied(data.sequence, self.random.below(24 << 20), missing);
    }

    /// Writes a block if it verifies, and nothing goes wrong.
    fn write(&mut self, block: BlockIndex, values: Block, expected: Digest) -> bool {
        let is_broken = self.troubles.broken_block == Some(block);
        let fails = self.chance(self.troubles.failures) && self.failed_once.insert(block);
        if is_broken || fails || digest(&values) != expected {
            return false;
        }
        *self.writes.entry(block).or_default() += 1;
        self.target[block.0 as usize] = values;
        self.entries[block.0 as usize] = expected;
        true
    }

    fn chunk_digests(&self, entries: &[Digest]) -> Vec<Digest> {
        entries.chunks(CHUNK_BLOCKS as usize).map(fold).collect()
    }
}

fn root_of(entries: &[Digest]) -> Digest {
    fold(entries)
}
