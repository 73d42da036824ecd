//! Sizes, indexes and ranges of a disk. A byte offset, a block index and a chunk index are different types.

use crate::limits::{
    BLOCK_DEFAULT_BYTES, BLOCK_MAX_BYTES, BLOCK_MIN_BYTES, CHUNK_BLOCKS, DISK_MAX_BYTES, PAGE_BYTES,
    SEGMENT_BLOCKS, SEGMENT_MAX_BYTES, UNIT_MIN_BYTES,
};
use std::fmt;

/// A size that no disk or block may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// Not a power of two between 16 KiB and 1 MiB.
    #[error("block size {0} is not a power of two between 16K and 1M")]
    BlockSize(u64),
    /// Neither 512 nor 4096.
    #[error("logical sector size {0} is neither 512 nor 4096")]
    SectorSize(u64),
    /// Above 64 TiB.
    #[error("disk of {0} bytes is larger than 64 TiB")]
    DiskLength(u64),
}

/// Bytes `start..end` of a disk or file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// Bytes `start..end`. Panics if `end < start`: a bug of the caller, never of its input.
    pub const fn new(start: u64, end: u64) -> Self {
        assert!(start <= end, "a range ends at or after its start");
        Self { start, end }
    }

    /// `length_bytes` bytes from `start`; `None` where that passes 2^64.
    pub const fn at(start: u64, length_bytes: u64) -> Option<Self> {
        match start.checked_add(length_bytes) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// First byte.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// One past the last byte.
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Number of bytes.
    pub const fn length_bytes(self) -> u64 {
        self.end - self.start
    }

    /// Whether it holds no byte.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes in both; `None` where they share none.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start < end).then_some(Self { start, end })
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// Position of a block in a disk, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockIndex(pub u64);

/// Position of a chunk of 1024 blocks in a manifest, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkIndex(pub u64);

/// Blocks `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockRange {
    /// First block.
    pub start: BlockIndex,
    /// One past the last block.
    pub end: BlockIndex,
}

impl BlockRange {
    /// Blocks `start..end`. Panics if `end < start`.
    pub const fn new(start: u64, end: u64) -> Self {
        assert!(start <= end, "a range ends at or after its start");
        Self { start: BlockIndex(start), end: BlockIndex(end) }
    }

    /// Number of blocks.
    pub const fn count(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether it holds no block.
    pub const fn is_empty(self) -> bool {
        self.count() == 0
    }

    /// The blocks in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = BlockIndex> + DoubleEndedIterator {
        let count = usize::try_from(self.count()).expect("block counts fit a word");
        (0..count).map(move |i| BlockIndex(self.start.0 + i as u64))
    }
}

/// Size of a block: a power of two, 16 KiB to 1 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockSize(u32);

impl BlockSize {
    /// 16 KiB.
    pub const MIN: Self = Self(BLOCK_MIN_BYTES as u32);
    /// 64 KiB.
    pub const DEFAULT: Self = Self(BLOCK_DEFAULT_BYTES as u32);

    /// Checks a size in bytes.
    pub fn new(bytes: u64) -> Result<Self, GeometryError> {
        if bytes.is_power_of_two() && (BLOCK_MIN_BYTES..=BLOCK_MAX_BYTES).contains(&bytes) {
            Ok(Self(bytes as u32))
        } else {
            Err(GeometryError::BlockSize(bytes))
        }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64
    }

    /// Pages in a whole block.
    pub const fn pages(self) -> usize {
        (self.0 as u64 / PAGE_BYTES) as usize
    }
}

/// Logical sector size of a disk: 512 or 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SectorSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

impl SectorSize {
    /// Checks a size in bytes.
    pub fn new(bytes: u64) -> Result<Self, GeometryError> {
        match bytes {
            512 => Ok(Self::B512),
            4096 => Ok(Self::B4096),
            other => Err(GeometryError::SectorSize(other)),
        }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}

/// What a guest sees of a disk: its length and its logical sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskGeometry {
    /// Bytes that the guest can address; need not be a multiple of anything.
    pub length_bytes: u64,
    /// Logical sector size.
    pub sector_size: SectorSize,
}

/// A disk's length cut into blocks: the last block may be short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    length_bytes: u64,
    block_size: BlockSize,
}

impl Layout {
    /// Checks that the disk is at most 64 TiB.
    pub fn new(length_bytes: u64, block_size: BlockSize) -> Result<Self, GeometryError> {
        if length_bytes > DISK_MAX_BYTES {
            return Err(GeometryError::DiskLength(length_bytes));
        }
        Ok(Self { length_bytes, block_size })
    }

    /// Length of the disk in bytes.
    pub const fn length_bytes(self) -> u64 {
        self.length_bytes
    }

    /// Size of every block but the last.
    pub const fn block_size(self) -> BlockSize {
        self.block_size
    }

    /// Number of blocks, a short last one included.
    pub const fn block_count(self) -> u64 {
        self.length_bytes.div_ceil(self.block_size.bytes())
    }

    /// All blocks.
    pub const fn blocks(self) -> BlockRange {
        BlockRange::new(0, self.block_count())
    }

    /// Number of chunks, a short last one included.
    pub const fn chunk_count(self) -> u64 {
        self.block_count().div_ceil(CHUNK_BLOCKS)
    }

    /// Blocks of a chunk. Panics if there is no such chunk.
    pub const fn chunk_blocks(self, chunk: ChunkIndex) -> BlockRange {
        let start = chunk.0 * CHUNK_BLOCKS;
        let end = start + CHUNK_BLOCKS;
        let count = self.block_count();
        BlockRange::new(start, if end < count { end } else { count })
    }

    /// Bytes of one block. Panics if there is no such block.
    pub const fn block_bytes(self, block: BlockIndex) -> ByteRange {
        self.bytes_of(BlockRange::new(block.0, block.0 + 1))
    }

    /// Bytes of a run of blocks, ending at the disk's end at the latest.
    pub const fn bytes_of(self, blocks: BlockRange) -> ByteRange {
        let start = blocks.start.0 * self.block_size.bytes();
        let end = blocks.end.0 * self.block_size.bytes();
        ByteRange::new(start, if end < self.length_bytes { end } else { self.length_bytes })
    }

    /// Smallest run of blocks that covers these bytes of the disk.
    pub const fn blocks_covering(self, bytes: ByteRange) -> BlockRange {
        let size = self.block_size.bytes();
        let end = bytes.end().div_ceil(size);
        let count = self.block_count();
        BlockRange::new(bytes.start() / size, if end < count { end } else { count })
    }

    /// Pages of one block, a short last one included.
    pub const fn pages_of(self, block: BlockIndex) -> usize {
        self.block_bytes(block).length_bytes().div_ceil(PAGE_BYTES) as usize
    }

    /// Bytes of page `page` (from 0) within its block, from the block's start.
    pub fn page_bytes(self, block: BlockIndex, page: usize) -> std::ops::Range<usize> {
        let length = self.block_bytes(block).length_bytes();
        let start = page as u64 * PAGE_BYTES;
        start as usize..(start + PAGE_BYTES).min(length) as usize
    }

    /// Blocks scanned, compared and announced together: 64, or 4 MiB of larger blocks.
    pub const fn segment_blocks(self) -> u64 {
        let most = SEGMENT_MAX_BYTES / self.block_size.bytes();
        if most < SEGMENT_BLOCKS { most } else { SEGMENT_BLOCKS }
    }

    /// Blocks read together from a source whose reads pay up to `read_bytes`: at least 256 KiB, at most 4 MiB, whole blocks.
    pub fn unit_blocks(self, read_bytes: u64) -> u64 {
        (read_bytes.clamp(UNIT_MIN_BYTES, SEGMENT_MAX_BYTES) / self.block_size.bytes()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_last_block_and_page_keep_their_true_length() {
        let layout = Layout::new(3 * 65536 + 5000, BlockSize::DEFAULT).unwrap();
        assert_eq!(layout.block_count(), 4);
        assert_eq!(layout.block_bytes(BlockIndex(3)), ByteRange::new(196_608, 201_608));
        assert_eq!(layout.pages_of(BlockIndex(3)), 2);
        assert_eq!(layout.page_bytes(BlockIndex(3), 1), 4096..5000);
        assert_eq!(layout.blocks_covering(ByteRange::new(65_535, 65_537)), BlockRange::new(0, 2));
    }

    #[test]
    fn an_empty_disk_has_no_blocks_and_a_huge_one_is_counted() {
        let empty = Layout::new(0, BlockSize::DEFAULT).unwrap();
        assert_eq!((empty.block_count(), empty.chunk_count()), (0, 0));
        let huge = Layout::new(64 << 40, BlockSize::new(16 << 10).unwrap()).unwrap();
        assert_eq!(huge.block_count(), 1 << 32);
        assert!(Layout::new((64 << 40) + 1, BlockSize::DEFAULT).is_err());
    }
}
