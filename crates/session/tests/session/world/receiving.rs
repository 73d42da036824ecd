//! The receiving end's work.

use super::{World, root_of};
use crate::disk::{Block, PAGES, digest, page_digest, part};
use failback_model::limits::PAGE_BYTES;
use failback_model::{BlockIndex, ChunkIndex, Digest};
use failback_session::ReceiverWork;
use failback_wire::{Data, Encoding};

impl World {
    /// One piece of the receiving end's work starts.
    pub(crate) fn start_receiver_job(&mut self, job: &ReceiverWork) {
        if matches!(job, ReceiverWork::Commit | ReceiverWork::Seal { .. }) {
            self.durable.close();
        }
    }

    /// Ends one piece of the receiving end's work.
    pub(crate) fn finish_receiver_job(&mut self, job: ReceiverWork) {
        match job {
            ReceiverWork::PageDigests { blocks } => {
                let at = self.random.below(blocks.len() as u64 + 1) as usize;
                for part in [&blocks[..at], &blocks[at..]].into_iter().filter(|part| !part.is_empty()) {
                    let pages = part.iter().flat_map(|&block| {
                        let values = self.target[block.0 as usize];
                        let page = move |page| page_digest(values.get(page).copied().unwrap_or(0));
                        (0..self.layout.pages_of(block)).map(page)
                    });
                    let digests: Vec<_> = pages.collect();
                    self.receiver.handle_page_digests(part.to_vec(), &digests);
                }
            }
            ReceiverWork::Apply(data) => self.apply(&data),
            ReceiverWork::Zero { sequence, ranges } => {
                let blocks = ranges.iter().flat_map(|range| range.iter());
                let missing = blocks.filter(|&block| !self.write(block, [0; PAGES], Digest::ZERO)).collect();
                let bytes = ranges.iter().map(|range| range.count()).sum::<u64>() * self.block_bytes();
                self.receiver.handle_applied(sequence, self.group_bytes(bytes, PAGE_BYTES), missing);
            }
            ReceiverWork::Reference { sequence, offers } => {
                let missing = offers.iter().filter(|offer| {
                    let values = self.source[offer.block.0 as usize];
                    self.chance(self.troubles.seed_misses) || !self.write(offer.block, values, offer.digest)
                });
                let missing: Vec<_> = missing.map(|offer| offer.block).collect();
                let bytes = (offers.len() - missing.len()) as u64 * self.block_bytes();
                self.receiver.handle_applied(sequence, self.group_bytes(bytes, PAGE_BYTES), missing);
            }
            ReceiverWork::Commit => {
                self.durable.commit();
                self.receiver.handle_committed();
            }
            ReceiverWork::Seal { .. } => {
                self.durable.commit();
                let is_wrong = self.troubles.wrong_roots_from.is_some_and(|from| self.roots >= from);
                self.roots += 1;
                self.receiver.handle_root(if is_wrong { Digest([9; 32]) } else { root_of(&self.entries) });
            }
            ReceiverWork::ChunkDigests { chunks } => {
                let digests = self.chunk_digests(&self.entries);
                let part = &digests[chunks.start as usize..chunks.end as usize];
                self.receiver.handle_chunk_digests(ChunkIndex(chunks.start), part);
            }
            ReceiverWork::ReadChunk { chunk } => {
                let blocks = self.layout.chunk_blocks(chunk);
                let digests: Vec<_> = part(&self.target, blocks).iter().map(digest).collect();
                self.receiver.handle_full_digests(chunk, &digests);
            }
            ReceiverWork::Finish { root } => {
                self.durable.seal(root);
                self.sealed[1] = Some(root);
            }
        }
    }

    fn block_bytes(&self) -> u64 {
        self.layout.block_size().bytes()
    }

    /// What a message counts for in its commit group.
    fn group_bytes(&self, written: u64, otherwise: u64) -> u64 {
        self.group_scale.map_or(otherwise, |scale| written * scale)
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
        let otherwise = self.random.below(24 << 20);
        let bytes = (data.patches.len() - missing.len()) as u64 * self.block_bytes();
        self.receiver.handle_applied(data.sequence, self.group_bytes(bytes, otherwise), missing);
    }

    /// Writes a block if it verifies, and nothing goes wrong.
    fn write(&mut self, block: BlockIndex, values: Block, expected: Digest) -> bool {
        let is_broken = self.troubles.broken_block == Some(block);
        let fails = self.chance(self.troubles.failures) && self.failed_once.insert(block);
        if is_broken || fails || digest(&values) != expected {
            return false;
        }
        *self.writes.entry(block).or_default() += 1;
        let index = block.0 as usize;
        self.durable.begin(index, self.target[index]);
        self.target[index] = values;
        self.entries[index] = expected;
        self.durable.written(index, expected);
        true
    }
}
