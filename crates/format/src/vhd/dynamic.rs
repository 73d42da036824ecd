//! The dynamic header and the block allocation table behind it.
//!
//! **Invariant**: a [`DynamicHeader`]'s table lies within its file and has an entry for every block of its disk, so
//! no offset computed from it overflows.

use super::{SECTOR_BYTES, checksum};
use crate::error::FormatError;
use crate::field::{array, put, u32_be, u64_be};
use failback_model::ByteRange;

/// Bytes of a dynamic header.
pub const DYNAMIC_HEADER_BYTES: u64 = 1024;
/// Entry of a block that is not there: it reads as zero.
pub const BLOCK_UNUSED: u32 = u32::MAX;

const COOKIE: &[u8; 8] = b"cxsparse";
const DATA_OFFSET_AT: usize = 8;
const TABLE_OFFSET_AT: usize = 16;
const VERSION_AT: usize = 24;
const TABLE_ENTRIES_AT: usize = 28;
const BLOCK_SIZE_AT: usize = 32;
const CHECKSUM_AT: usize = 36;
const VERSION_1_0: u32 = 0x0001_0000;
const ENTRY_BYTES: u64 = 4;

/// What a dynamic disk's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamicHeader {
    /// Where the block allocation table starts, in bytes.
    pub table_offset_bytes: u64,
    /// Entries in the table: at least the disk's blocks.
    pub table_entries: u32,
    /// Bytes of a block, its bitmap apart: a power of two from 512.
    pub block_bytes: u32,
}

impl DynamicHeader {
    /// The header's bytes, without a parent.
    pub fn encode(&self) -> [u8; DYNAMIC_HEADER_BYTES as usize] {
        let mut bytes = [0; DYNAMIC_HEADER_BYTES as usize];
        put(&mut bytes, 0, COOKIE);
        put(&mut bytes, DATA_OFFSET_AT, &u64::MAX.to_be_bytes());
        put(&mut bytes, TABLE_OFFSET_AT, &self.table_offset_bytes.to_be_bytes());
        put(&mut bytes, VERSION_AT, &VERSION_1_0.to_be_bytes());
        put(&mut bytes, TABLE_ENTRIES_AT, &self.table_entries.to_be_bytes());
        put(&mut bytes, BLOCK_SIZE_AT, &self.block_bytes.to_be_bytes());
        let sum = checksum(&bytes, CHECKSUM_AT);
        put(&mut bytes, CHECKSUM_AT, &sum.to_be_bytes());
        bytes
    }

    /// Reads the header of a disk of `disk_bytes` bytes in a file of `file_bytes` bytes.
    pub fn decode(bytes: &[u8], disk_bytes: u64, file_bytes: u64) -> Result<Self, FormatError> {
        let fault = |at: usize, reason: String| Err(FormatError::new(at as u64, reason));
        if bytes.len() as u64 != DYNAMIC_HEADER_BYTES {
            return fault(0, format!("a dynamic header has 1024 bytes, here are {}", bytes.len()));
        }
        if array(bytes, 0) != *COOKIE {
            return fault(0, "there is no dynamic header here".into());
        }
        let (stored, sum) = (u32_be(bytes, CHECKSUM_AT), checksum(bytes, CHECKSUM_AT));
        if stored != sum {
            return fault(
                CHECKSUM_AT,
                format!("the header's checksum is {stored:#010x}, its bytes give {sum:#010x}"),
            );
        }
        let version = u32_be(bytes, VERSION_AT);
        if version >> 16 != VERSION_1_0 >> 16 {
            return fault(
                VERSION_AT,
                format!("dynamic header version {version:#010x}, this program reads 1"),
            );
        }
        let header = Self {
            table_offset_bytes: u64_be(bytes, TABLE_OFFSET_AT),
            table_entries: u32_be(bytes, TABLE_ENTRIES_AT),
            block_bytes: u32_be(bytes, BLOCK_SIZE_AT),
        };
        if !header.block_bytes.is_power_of_two() || u64::from(header.block_bytes) < SECTOR_BYTES {
            let reason = format!("block size {} is not a power of two from 512", header.block_bytes);
            return fault(BLOCK_SIZE_AT, reason);
        }
        let blocks = disk_bytes.div_ceil(u64::from(header.block_bytes));
        if blocks > u64::from(header.table_entries) {
            let reason = format!("the table has {} entries, the disk {blocks} blocks", header.table_entries);
            return fault(TABLE_ENTRIES_AT, reason);
        }
        let table = ByteRange::at(header.table_offset_bytes, blocks * ENTRY_BYTES);
        if table.is_none_or(|table| table.end() > file_bytes) {
            return fault(TABLE_OFFSET_AT, format!("the table ends past the file's {file_bytes} bytes"));
        }
        Ok(header)
    }

    /// Where a block's table entry lies, in bytes.
    pub fn entry_offset(&self, block: u64) -> u64 {
        self.table_offset_bytes + block * ENTRY_BYTES
    }
}

/// A piece of a block allocation table, as read from the file.
#[derive(Debug, Clone, Copy)]
pub struct BlockTable<'a>(&'a [u8]);

impl<'a> BlockTable<'a> {
    /// Entries from the bytes of whole entries; a torn last one is not there.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Offset of each block's bitmap in bytes, the block's data being behind it; `None` for a block that is unused.
    pub fn iter(self) -> impl Iterator<Item = Option<u64>> + 'a {
        self.0.as_chunks().0.iter().map(|entry| {
            let sector = u32::from_be_bytes(*entry);
            (sector != BLOCK_UNUSED).then_some(u64::from(sector) * SECTOR_BYTES)
        })
    }
}

/// Bytes of the sector bitmap in front of a block: one bit a sector, in whole sectors.
pub const fn bitmap_bytes(block_bytes: u32) -> u64 {
    (block_bytes as u64 / SECTOR_BYTES).div_ceil(8).next_multiple_of(SECTOR_BYTES)
}

/// Whether a bitmap says that a sector of its block was written; the first sector is the highest bit. A sector
/// that never was reads as zero. Panics past the bitmap's end.
pub fn is_sector_present(bitmap: &[u8], sector: usize) -> bool {
    bitmap[sector / 8] & (0x80 >> (sector % 8)) != 0
}
