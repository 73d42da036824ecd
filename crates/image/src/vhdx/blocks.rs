//! Which blocks of a VHDX hold data: the crate reads blocks, but does not tell which there are.
//!
//! **Invariant**: the table has an entry for each block of the disk, and a piece of it is held at a time.

use ::vhdx::metadata::VhdxMetadata;
use failback_blockio::{Device, DiskError};
use failback_model::{ByteRange, Code, Finding};

const ENTRY_BYTES: u64 = 8;
/// Blocks whose entries are read together.
const STEP_BLOCKS: u64 = 1024;
/// Findings after which `check` stops listing.
const FINDINGS_MAX: usize = 64;
const STATE_BITS: u64 = 0b111;
const STATE_PRESENT: u64 = 6;
/// States 0 to 3 (not present, undefined, zero, unmapped) read as zero.
const STATE_LAST_ZERO: u64 = 3;
/// Entries name places in units of 1 MiB in their upper 44 bits.
const PLACE_SHIFT: u32 = 20;

/// Where the block allocation table of a VHDX lies and how it is laid out.
#[derive(Debug)]
pub(super) struct BlockMap {
    table_at: u64,
    block_bytes: u64,
    block_count: u64,
    /// Blocks before each entry that names a sector bitmap.
    chunk_blocks: u64,
    disk: ByteRange,
}

impl BlockMap {
    /// `None` where the table is too short for the disk.
    pub(super) fn new(metadata: &VhdxMetadata, table: ByteRange) -> Option<Self> {
        let block_bytes = u64::from(metadata.block_size);
        let map = Self {
            table_at: table.start(),
            block_bytes,
            block_count: metadata.virtual_disk_size.div_ceil(block_bytes),
            chunk_blocks: metadata.chunk_ratio(),
            disk: ByteRange::new(0, metadata.virtual_disk_size),
        };
        let last = map.block_count.checked_sub(1)?;
        ((map.index(last) + 1) * ENTRY_BYTES <= table.length_bytes()).then_some(map)
    }

    /// Position of a block's entry: every chunk of blocks is followed by the entry of its sector bitmap.
    fn index(&self, block: u64) -> u64 {
        block + block / self.chunk_blocks
    }

    /// Entries of `count` blocks from `first`.
    fn entries(&self, device: &dyn Device, first: u64, count: u64) -> Result<Vec<u64>, DiskError> {
        let start = self.index(first);
        let mut bytes = vec![0; ((self.index(first + count - 1) + 1 - start) * ENTRY_BYTES) as usize];
        device.read_at(self.table_at + start * ENTRY_BYTES, &mut bytes)?;
        let all = bytes.as_chunks().0;
        let entry = |block| u64::from_le_bytes(all[(self.index(block) - start) as usize]);
        Ok((first..first + count).map(entry).collect())
    }

    /// First run of bytes at or after `from_bytes` in blocks that do not read as zero.
    pub(super) fn next_data(
        &self,
        device: &dyn Device,
        from_bytes: u64,
    ) -> Result<Option<ByteRange>, DiskError> {
        let mut first = from_bytes / self.block_bytes;
        while first < self.block_count {
            let entries = self.entries(device, first, STEP_BLOCKS.min(self.block_count - first))?;
            let is_data = |entry: &u64| entry & STATE_BITS > STATE_LAST_ZERO;
            if let Some(skip) = entries.iter().position(is_data) {
                let run = entries[skip..].iter().take_while(|entry| is_data(entry)).count();
                let start = (first + skip as u64) * self.block_bytes;
                let end = start + run as u64 * self.block_bytes;
                return Ok(ByteRange::new(from_bytes.max(start), end).intersection(self.disk));
            }
            first += entries.len() as u64;
        }
        Ok(None)
    }

    /// Blocks of an impossible state or past the file's end.
    pub(super) fn check(&self, device: &dyn Device) -> Result<Vec<Finding>, DiskError> {
        let mut findings = Vec::new();
        let file_bytes = device.length_bytes();
        for first in (0..self.block_count).step_by(STEP_BLOCKS as usize) {
            let count = STEP_BLOCKS.min(self.block_count - first);
            for (block, entry) in (first..).zip(self.entries(device, first, count)?) {
                let fault = match entry & STATE_BITS {
                    ..=STATE_LAST_ZERO => continue,
                    STATE_PRESENT => {
                        let place = (entry >> PLACE_SHIFT) << PLACE_SHIFT;
                        let whole = ByteRange::at(place, self.block_bytes);
                        if whole.is_some_and(|whole| whole.end() <= file_bytes) {
                            continue;
                        }
                        format!("block {block} at byte {place} ends past the file's end")
                    }
                    state => {
                        format!("block {block} has the state {state}, which a disk without parent has not")
                    }
                };
                let evidence = format!("{}: {fault}", device.path().display());
                findings.push(Finding::error(Code::ImageCheck, evidence));
                if findings.len() == FINDINGS_MAX {
                    return Ok(findings);
                }
            }
        }
        Ok(findings)
    }
}
