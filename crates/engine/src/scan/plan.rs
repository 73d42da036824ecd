//! Cuts a disk into the steps of a scan: a segment with data in it, or a hole of any length.
//!
//! **Invariant**: steps touch each other and cover the part that is scanned; a hole that reaches over segments is one step.

use failback_blockio::{DiskError, UnitSource};
use failback_model::{BlockRange, ByteRange, Layout};

/// How far the steps have come.
pub(super) struct Plan {
    layout: Layout,
    blocks: BlockRange,
    next_block: u64,
    next_ticket: u64,
    /// Data of the disk that was last asked for.
    data: ByteRange,
}

impl Plan {
    /// From the first block of a part of a disk.
    pub(super) fn new(layout: Layout, blocks: BlockRange) -> Self {
        let start = blocks.start.0 * layout.block_size().bytes();
        let (next_block, data) = (blocks.start.0, ByteRange::new(start, start));
        Self { layout, blocks, next_block, next_ticket: 0, data }
    }

    /// The number of the next step.
    pub(super) fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// The number of the step that was just taken.
    pub(super) fn take_ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket - 1
    }

    /// The next run of blocks, and which of them hold data: to the end of a segment, or a hole as far as it goes. A block
    /// with any data in it is read.
    pub(super) fn advance(
        &mut self,
        source: &dyn UnitSource,
    ) -> Result<Option<(BlockRange, Vec<BlockRange>)>, DiskError> {
        let (layout, end) = (self.layout, self.blocks.end.0);
        let start = self.next_block;
        if start >= end {
            return Ok(None);
        }
        let segment = layout.segment_blocks();
        let mut stop = ((start / segment + 1) * segment).min(end);
        let mut data = Vec::new();
        let mut at = start;
        while at < stop {
            let part = self.next_data(source, at)?;
            if part.start.0 >= stop {
                break;
            }
            at = part.end.0.min(stop);
            data.push(BlockRange::new(part.start.0, at));
        }
        if data.is_empty() {
            // Nothing in this segment: the hole reaches to the segment in which data starts.
            let next = self.next_data(source, start)?.start.0;
            stop = stop.max(next - next % segment).min(end);
        }
        self.next_block = stop;
        Ok(Some((BlockRange::new(start, stop), data)))
    }

    /// First blocks with data at or after `from`; an empty run at the end where there are none.
    fn next_data(&mut self, source: &dyn UnitSource, from: u64) -> Result<BlockRange, DiskError> {
        let (layout, end) = (self.layout, self.blocks.end.0);
        let start = layout.bytes_of(BlockRange::new(from, from)).start();
        if self.data.end() <= start {
            let rest = ByteRange::new(layout.length_bytes(), layout.length_bytes());
            self.data = source
                .next_data(start)?
                .and_then(|data| data.intersection(ByteRange::new(0, layout.length_bytes())))
                .unwrap_or(rest);
        }
        if self.data.is_empty() {
            return Ok(BlockRange::new(end, end));
        }
        let blocks = layout.blocks_covering(self.data);
        let first = blocks.start.0.max(from).min(end);
        Ok(BlockRange::new(first, blocks.end.0.min(end).max(first)))
    }
}
