//! Cuts a disk into the steps of a scan: a segment with data in it, what is known and short runs between it, or zeros of any
//! length.
//!
//! **Invariant**: steps touch each other and cover the part that is scanned; zeros that reach over segments are one step, any
//! other step lies in one chunk, and no step reads more than a segment.

use crate::partly_trusted::Known;
use failback_blockio::{DiskError, UnitSource};
use failback_model::limits::CHUNK_BLOCKS;
use failback_model::{BlockIndex, BlockRange, ByteRange, Layout};

/// Runs that are read in one step: over a slow link each costs a round trip, and threads that wait are to share them.
const SCATTERED_MAX_RUNS: usize = 4;

/// How far the steps have come.
pub(super) struct Plan<'a> {
    layout: Layout,
    blocks: BlockRange,
    known: Option<&'a Known>,
    /// Ranges of what is known that the steps have passed.
    passed: usize,
    next_block: u64,
    next_ticket: u64,
    /// Data of the disk that was last asked for.
    data: ByteRange,
}

/// What one step covers. What is neither known nor data is a hole.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// First block.
    pub(super) start: u64,
    /// One past the last block.
    pub(super) end: u64,
    /// Blocks that are not read, since their digests are known; ascending.
    pub(super) known: Vec<BlockRange>,
    /// Blocks that are read, ascending.
    pub(super) data: Vec<BlockRange>,
    /// All of it is zero, which is known without reading digests.
    pub(super) is_zero: bool,
}

impl Part {
    pub(super) fn blocks(&self) -> BlockRange {
        BlockRange::new(self.start, self.end)
    }
}

impl<'a> Plan<'a> {
    /// From the first block of a part of a disk.
    pub(super) fn new(layout: Layout, blocks: BlockRange, known: Option<&'a Known>) -> Self {
        let start = blocks.start.0 * layout.block_size().bytes();
        let (next_block, data) = (blocks.start.0, ByteRange::new(start, start));
        Self { layout, blocks, known, passed: 0, next_block, next_ticket: 0, data }
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

    /// The next step; `None` at the end. A block with any data in it is read.
    pub(super) fn advance(&mut self, source: &dyn UnitSource) -> Result<Option<Part>, DiskError> {
        let (start, end) = (self.next_block, self.blocks.end.0);
        if start >= end {
            return Ok(None);
        }
        let part = match self.known_zeros(start) {
            Some(zeros) => zeros,
            None => self.mixed(source, start)?,
        };
        self.next_block = part.end;
        Ok(Some(part))
    }

    /// Blocks from `start` that are known to be zero, at least to the end of a chunk.
    fn known_zeros(&mut self, start: u64) -> Option<Part> {
        let range = self.known_from(start);
        let known = self.known.filter(|_| range.start.0 == start)?;
        // Where that can't be told, reading the digests tells it.
        let next = known.digests.next_data(BlockIndex(start)).ok()?.map_or(range.end.0, |next| next.0);
        let end = if next < range.end.0 { next - next % CHUNK_BLOCKS } else { range.end.0 };
        let is_long = end >= chunk_end(start).min(self.blocks.end.0);
        let known = vec![BlockRange::new(start, end.max(start))];
        is_long.then(|| Part { start, end, known, is_zero: true, ..Part::default() })
    }

    /// What is known and what is read, to the end of a chunk at most; or a hole as far as it goes.
    fn mixed(&mut self, source: &dyn UnitSource, start: u64) -> Result<Part, DiskError> {
        let (segment, limit) = (self.layout.segment_blocks(), chunk_end(start).min(self.blocks.end.0));
        let mut part = Part { start, end: start, ..Part::default() };
        let mut room = segment;
        while part.end < limit {
            let at = part.end;
            let known = self.known_from(at);
            if known.start.0 == at {
                part.end = known.end.0.min(limit);
                part.known.push(BlockRange::new(at, part.end));
                continue;
            }
            let segment_end = (at / segment + 1) * segment;
            let stop = known.start.0.min(limit).min(segment_end);
            let data = self.data_in(source, BlockRange::new(at, stop))?;
            let count = data.iter().map(|run| run.count()).sum::<u64>();
            if count > room {
                // The next step asks for these again.
                self.data = ByteRange::new(0, 0);
                break;
            }
            room -= count;
            part.data.extend(data);
            part.end = stop;
            let is_scattered = part.data.len() >= SCATTERED_MAX_RUNS;
            if is_scattered || stop == segment_end && known.start.0 > stop {
                break;
            }
        }
        if part.known.is_empty() && part.data.is_empty() {
            // Nothing in this segment: the hole reaches to the segment in which data starts.
            let known = self.known_from(part.end);
            let next = self.next_data(source, start)?.start.0;
            part.end = part.end.max(next - next % segment).min(known.start.0).min(self.blocks.end.0);
            part.is_zero = true;
        }
        Ok(part)
    }

    /// What is known of the blocks at and behind `at`: the first range, cut there; an empty one at the end where there is none.
    fn known_from(&mut self, at: u64) -> BlockRange {
        let (ranges, end) = (self.known.map_or(&[][..], |known| &known.ranges), self.blocks.end.0);
        while ranges.get(self.passed).is_some_and(|range| range.end.0 <= at || range.is_empty()) {
            self.passed += 1;
        }
        let next =
            ranges.get(self.passed).map(|range| (range.start.0.max(at).min(end), range.end.0.min(end)));
        let (start, stop) = next.unwrap_or((end, end));
        BlockRange::new(start, stop)
    }

    /// The blocks of a run that hold data.
    fn data_in(&mut self, source: &dyn UnitSource, run: BlockRange) -> Result<Vec<BlockRange>, DiskError> {
        let (mut data, mut at) = (Vec::new(), run.start.0);
        while at < run.end.0 {
            let part = self.next_data(source, at)?;
            if part.start >= run.end {
                break;
            }
            at = part.end.0.min(run.end.0);
            data.push(BlockRange::new(part.start.0, at));
        }
        Ok(data)
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

fn chunk_end(block: u64) -> u64 {
    (block / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS
}
