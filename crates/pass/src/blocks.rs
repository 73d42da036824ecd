//! Reading a list of blocks into one buffer: neighbours in one call.

use failback_blockio::{AlignedBuffer, BufferPool, DiskError, UnitSource};
use failback_engine::read_around_holes;
use failback_model::limits::PACK_MAX_BYTES;
use failback_model::{BlockIndex, BlockRange, Layout};

/// Blocks that lie one behind the other in a buffer, in the order of their list.
pub(crate) struct BlockBuffer {
    layout: Layout,
    blocks: Vec<BlockIndex>,
    buffer: AlignedBuffer,
    bytes_read: u64,
}

impl BlockBuffer {
    /// Reads the blocks; `blocks` ascends, so that only the last can be short.
    pub(crate) fn read(
        source: &dyn UnitSource,
        layout: Layout,
        blocks: Vec<BlockIndex>,
        pool: &BufferPool,
    ) -> Result<Self, DiskError> {
        let length: u64 = blocks.iter().map(|&block| layout.block_bytes(block).length_bytes()).sum();
        // Buffers of one size are used again and again; memory that is new each time costs more than the reading.
        let mut buffer = pool.acquire((length as usize).max(PACK_MAX_BYTES));
        buffer.set_length(length as usize);
        let (mut at, mut bytes_read) = (0, 0);
        for run in runs(&blocks) {
            let bytes = layout.bytes_of(run);
            let end = at + bytes.length_bytes() as usize;
            bytes_read += read_around_holes(source, bytes.start(), &mut buffer[at..end])?;
            at = end;
        }
        Ok(Self { layout, blocks, buffer, bytes_read })
    }

    /// The blocks with their bytes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (BlockIndex, &[u8])> {
        let mut at = 0;
        self.blocks.iter().map(move |&block| {
            let start = at;
            at += self.layout.block_bytes(block).length_bytes() as usize;
            (block, &self.buffer[start..at])
        })
    }

    /// The list.
    pub(crate) fn into_blocks(self) -> Vec<BlockIndex> {
        self.blocks
    }

    /// Bytes that were read: holes are not.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}

/// Ascending blocks as runs of neighbours.
fn runs(blocks: &[BlockIndex]) -> impl Iterator<Item = BlockRange> + '_ {
    blocks.chunk_by(|a, b| a.0 + 1 == b.0).map(|run| BlockRange::new(run[0].0, run[0].0 + run.len() as u64))
}
