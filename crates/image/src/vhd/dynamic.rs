//! Dynamic VHD: blocks of (usually) 2 MiB, found through a table and each preceded by a bitmap of its sectors.
//!
//! **Invariant**: nothing of the table is held in memory; an entry is trusted for one read at a time and only where
//! its block lies within the file and on none of its metadata. A sector whose bit is clear was never written and reads
//! as zero, as the specification has it, whatever its bytes are.

use super::{damaged, identity, read_only};
use crate::{Image, ImageFormat, ImageIdentity, Provisioning};
use failback_blockio::{Device, DiskError, Operation, UnitSource, Zeroing};
use failback_format::FormatError;
use failback_format::vhd::{
    BlockTable, DYNAMIC_HEADER_BYTES, DynamicHeader, FOOTER_BYTES, SECTOR_BYTES, VhdFooter, bitmap_bytes,
    is_sector_present,
};
use failback_model::{ByteRange, Code, DiskGeometry, Finding, SectorSize};
use std::path::Path;
use std::sync::Arc;

/// Table entries read together when looking for data.
const TABLE_STEP_BLOCKS: u64 = 1024;
/// Findings after which `check` stops listing.
const FINDINGS_MAX: usize = 64;
/// Blocks whose places `check` compares: 128 MiB of them would still fit the memory budget.
const CHECKED_BLOCKS_MAX: usize = 16 << 20;

/// A dynamic VHD, for reading.
#[derive(Debug)]
pub(super) struct DynamicVhd {
    device: Arc<dyn Device>,
    footer: VhdFooter,
    header: DynamicHeader,
}

impl DynamicVhd {
    pub(super) fn over(device: Arc<dyn Device>, footer: VhdFooter) -> Result<Self, DiskError> {
        let at = footer.data_offset_bytes();
        let file_bytes = device.length_bytes();
        let fail = |error| damaged(device.path(), Operation::Open, at, error);
        if ByteRange::at(at, DYNAMIC_HEADER_BYTES).is_none_or(|header| header.end() > file_bytes) {
            return Err(fail(FormatError::new(
                0,
                format!("the dynamic header passes the file's {file_bytes} bytes"),
            )));
        }
        let mut bytes = [0; DYNAMIC_HEADER_BYTES as usize];
        device.read_at(at, &mut bytes)?;
        let header = DynamicHeader::decode(&bytes, footer.length_bytes(), file_bytes).map_err(fail)?;
        Ok(Self { device, footer, header })
    }

    fn block_bytes(&self) -> u64 {
        u64::from(self.header.block_bytes)
    }

    fn block_count(&self) -> u64 {
        self.footer.length_bytes().div_ceil(self.block_bytes())
    }

    /// Where the bitmaps of `count` blocks from `first` lie; `None` for those that are not there.
    fn places(&self, first: u64, count: u64) -> Result<Vec<Option<u64>>, DiskError> {
        let mut bytes = vec![0; count as usize * 4];
        self.device.read_at(self.header.entry_offset(first), &mut bytes)?;
        Ok(BlockTable::new(&bytes).iter().collect())
    }

    /// Why a block at `place` cannot be one.
    fn fault_of(&self, block: u64, place: u64) -> Option<FormatError> {
        let whole = ByteRange::new(place, place + bitmap_bytes(self.header.block_bytes) + self.block_bytes());
        let table_end = self.header.entry_offset(self.block_count());
        let header_at = self.footer.data_offset_bytes();
        let metadata = [
            ByteRange::new(0, FOOTER_BYTES),
            ByteRange::new(header_at, header_at + DYNAMIC_HEADER_BYTES),
            ByteRange::new(self.header.table_offset_bytes, table_end),
        ];
        let at = self.header.entry_offset(block);
        if whole.end() > self.device.length_bytes() {
            return Some(FormatError::new(
                at,
                format!("block {block} at byte {place} ends past the file's end"),
            ));
        }
        metadata.iter().any(|part| part.intersection(whole).is_some()).then(|| {
            FormatError::new(at, format!("block {block} at byte {place} lies on the image's own metadata"))
        })
    }

    /// Reads bytes of one block from `within` its start.
    fn read_block(&self, block: u64, within: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let Some(place) = self.places(block, 1)?[0] else {
            buffer.fill(0);
            return Ok(());
        };
        if let Some(fault) = self.fault_of(block, place) {
            return Err(damaged(self.name(), Operation::Read, 0, fault));
        }
        let data_at = place + bitmap_bytes(self.header.block_bytes);
        let first_sector = within / SECTOR_BYTES;
        let end_sector = (within + buffer.len() as u64).div_ceil(SECTOR_BYTES);
        let bitmap_start = first_sector / 8;
        let mut bitmap = vec![0; (end_sector.div_ceil(8) - bitmap_start) as usize];
        self.device.read_at(place + bitmap_start, &mut bitmap)?;
        let is_present = |sector: u64| is_sector_present(&bitmap, (sector - bitmap_start * 8) as usize);
        let mut done = 0;
        while done < buffer.len() {
            let at = within + done as u64;
            let present = is_present(at / SECTOR_BYTES);
            let run_end = (at / SECTOR_BYTES + 1..end_sector).find(|&sector| is_present(sector) != present);
            let run_bytes = run_end.map_or(u64::MAX, |sector| sector * SECTOR_BYTES - at);
            let run = (buffer.len() - done).min(usize::try_from(run_bytes).unwrap_or(usize::MAX));
            let part = &mut buffer[done..done + run];
            if present {
                self.device.read_at(data_at + at, part)?
            } else {
                part.fill(0)
            }
            done += run;
        }
        Ok(())
    }

    /// Looks for blocks that cannot be where the table says, and for two in one place.
    fn check_blocks(&self, findings: &mut Vec<Finding>) -> Result<(), DiskError> {
        let stride = bitmap_bytes(self.header.block_bytes) + self.block_bytes();
        let fault =
            |text: String| Finding::error(Code::ImageCheck, format!("{}: {text}", self.name().display()));
        let mut used: Vec<(u32, u32)> = Vec::new();
        for first in (0..self.block_count()).step_by(TABLE_STEP_BLOCKS as usize) {
            let count = TABLE_STEP_BLOCKS.min(self.block_count() - first);
            for (block, place) in (first..).zip(self.places(first, count)?) {
                let Some(place) = place else { continue };
                match self.fault_of(block, place) {
                    Some(error) => findings.push(fault(error.to_string())),
                    None => used.push(((place / SECTOR_BYTES) as u32, block as u32)),
                }
            }
            if findings.len() >= FINDINGS_MAX || used.len() > CHECKED_BLOCKS_MAX {
                findings.push(fault(format!("not looked at from block {} on", first + count)));
                break;
            }
        }
        used.sort_unstable();
        let overlapping = used.windows(2).filter(|pair| {
            u64::from(pair[1].0) * SECTOR_BYTES < u64::from(pair[0].0) * SECTOR_BYTES + stride
        });
        findings.extend(overlapping.take(FINDINGS_MAX).map(|pair| {
            fault(format!("blocks {} and {} lie on each other in the file", pair[0].1, pair[1].1))
        }));
        Ok(())
    }
}

impl UnitSource for DynamicVhd {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.footer.length_bytes(), sector_size: SectorSize::B512 }
    }

    fn name(&self) -> &Path {
        self.device.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let end = self.footer.length_bytes();
        if ByteRange::at(offset_bytes, buffer.len() as u64).is_none_or(|range| range.end() > end) {
            let reason = format!("the disk ends at {end}");
            return Err(
                DiskError::new(Code::ReadFailed, Operation::Read, self.name(), reason).at(offset_bytes)
            );
        }
        let (mut at, mut rest) = (offset_bytes, buffer);
        while !rest.is_empty() {
            let within = at % self.block_bytes();
            let step = (self.block_bytes() - within).min(rest.len() as u64) as usize;
            let (part, behind) = rest.split_at_mut(step);
            self.read_block(at / self.block_bytes(), within, part)?;
            (at, rest) = (at + step as u64, behind);
        }
        Ok(())
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        let disk = ByteRange::new(0, self.footer.length_bytes());
        let mut first = from_bytes / self.block_bytes();
        while first < self.block_count() {
            let places = self.places(first, TABLE_STEP_BLOCKS.min(self.block_count() - first))?;
            if let Some(skip) = places.iter().position(Option::is_some) {
                let run = places[skip..].iter().take_while(|place| place.is_some()).count();
                let start = (first + skip as u64) * self.block_bytes();
                let data = ByteRange::new(start, start + run as u64 * self.block_bytes());
                let rest = ByteRange::new(from_bytes.max(start), data.end());
                return Ok(rest.intersection(disk));
            }
            first += places.len() as u64;
        }
        Ok(None)
    }
}

impl Image for DynamicVhd {
    fn identity(&self) -> ImageIdentity {
        identity(ImageFormat::VhdDynamic, &self.footer, self.device.as_ref())
    }

    fn provisioning(&self) -> Provisioning {
        Provisioning::Thin
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.device.allocated_bytes()
    }

    fn write_at(&self, _offset_bytes: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        Err(read_only(self.name(), Operation::Write))
    }

    fn zero(&self, _range: ByteRange, _zeroing: Zeroing) -> Result<(), DiskError> {
        Err(read_only(self.name(), Operation::Zero))
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn grow(&self, _length_bytes: u64) -> Result<(), DiskError> {
        Err(read_only(self.name(), Operation::Resize))
    }

    fn close(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        let mut findings = Vec::new();
        let file_bytes = self.device.length_bytes();
        for (what, at) in [("footer", file_bytes - FOOTER_BYTES), ("copy of the footer", 0)] {
            let mut bytes = [0; FOOTER_BYTES as usize];
            self.device.read_at(at, &mut bytes)?;
            if bytes != *self.footer.as_bytes() {
                let evidence =
                    format!("{}: the {what} at byte {at} differs from the other", self.name().display());
                findings.push(Finding::error(Code::ImageCheck, evidence));
            }
        }
        self.check_blocks(&mut findings)?;
        Ok(findings)
    }
}
