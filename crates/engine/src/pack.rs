//! Pages of neighbouring blocks packed into data messages, compressed where that pays.
//!
//! **Invariant**: a message's pages are at most 1 MiB, in the order of its patches, and each block is in one message.

use crate::compression::compress;
use crate::refine::RefinedBlock;
use bytes::{BufMut, Bytes, BytesMut};
use failback_model::limits::{BATCH_MAX_BLOCKS, PACK_MAX_BYTES, PAGE_BYTES};
use failback_model::{BlockIndex, PageSet};
use failback_wire::{BlockPatch, Data, Encoding};

/// Collects refined blocks into data messages. Sequence numbers are left at 0: the session sets them.
#[derive(Debug)]
pub struct Packer {
    level: Option<i32>,
    patches: Vec<BlockPatch>,
    payload: BytesMut,
    done: Vec<Data>,
}

impl Packer {
    /// `level`: zstd level, or `None` to send pages as they are.
    pub fn new(level: Option<i32>) -> Self {
        Self { level, patches: Vec::new(), payload: BytesMut::new(), done: Vec::new() }
    }

    /// Adds the chosen pages of a block. Blocks ascend.
    pub fn add(&mut self, index: BlockIndex, block: &[u8], refined: &RefinedBlock) {
        let most = refined.data.count() * PAGE_BYTES as usize;
        if self.payload.len() + most > PACK_MAX_BYTES || self.patches.len() == BATCH_MAX_BLOCKS {
            self.close();
        }
        for run in page_runs(&refined.data) {
            let end = (run.end * PAGE_BYTES as usize).min(block.len());
            self.payload.put_slice(&block[run.start * PAGE_BYTES as usize..end]);
        }
        let RefinedBlock { digest, data, zero } = *refined;
        self.patches.push(BlockPatch { block: index, digest, data, zero });
    }

    /// Adds blocks that follow each other and travel whole and uncompressed, without copying them.
    pub fn add_shared(&mut self, patches: Vec<BlockPatch>, bytes: Bytes) {
        self.close();
        self.done.push(Data { sequence: 0, patches, encoding: Encoding::Raw, payload: bytes });
    }

    /// The messages, in order.
    pub fn finish(mut self) -> Vec<Data> {
        self.close();
        self.done
    }

    fn close(&mut self) {
        if self.patches.is_empty() {
            return;
        }
        let payload = self.payload.split().freeze();
        let (encoding, payload) = match self.level.and_then(|level| compress(&payload, level)) {
            Some(compressed) => (Encoding::Zstd { content_bytes: payload.len() as u32 }, compressed),
            None => (Encoding::Raw, payload),
        };
        self.done.push(Data { sequence: 0, patches: std::mem::take(&mut self.patches), encoding, payload });
    }
}

/// Pages of a set as runs of neighbours.
pub(crate) fn page_runs(pages: &PageSet) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let mut pages = pages.iter().peekable();
    std::iter::from_fn(move || {
        let start = pages.next()?;
        let mut end = start + 1;
        while pages.next_if_eq(&end).is_some() {
            end += 1;
        }
        Some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refine::whole;

    #[test]
    fn packs_stay_within_a_mebibyte_and_hold_pages_in_order() {
        let block = vec![3u8; 65_536];
        let mut packer = Packer::new(None);
        for index in 0..40 {
            packer.add(BlockIndex(index), &block, &whole(&block));
        }
        let messages = packer.finish();
        assert_eq!(messages.iter().map(|data| data.patches.len()).collect::<Vec<_>>(), [16, 16, 8]);
        assert!(messages.iter().all(|data| data.payload.len() == data.patches.len() * 65_536));
    }

    #[test]
    fn text_is_compressed_and_noise_is_not() {
        let text = b"a line of a log file\n".repeat(4000);
        let mut state = 1u64;
        let noise: Vec<u8> = (0..65_536)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        for (bytes, is_compressed) in [(&text[..65_536], true), (&noise[..], false)] {
            let mut packer = Packer::new(Some(1));
            packer.add(BlockIndex(0), bytes, &whole(bytes));
            let [data] = &packer.finish()[..] else { panic!("one block packs into one message") };
            assert_eq!(matches!(data.encoding, Encoding::Zstd { content_bytes: 65_536 }), is_compressed);
        }
    }
}
