//! Which grain lies where, and where the next one goes.
//!
//! **Invariant**: a grain that was handed out lies behind every other and inside the file's length, which was set
//! before the table in memory named it.

use super::SparseExtent;
use super::cache::TableCache;
use super::tables::Survey;
use failback_blockio::{DiskError, Operation};
use failback_format::vmdk::descriptor::SECTOR_BYTES;
use failback_format::vmdk::sparse::{GrainEntry, GrainGeometry, SECTORS_MAX, SparseHeader, TABLE_ENTRIES};
use failback_model::{ByteRange, Code};

/// The map of an extent in memory.
#[derive(Debug)]
pub(in crate::vmdk) struct Grains {
    pub(in crate::vmdk) cache: TableCache,
    /// Allocated grains that each table names.
    pub(in crate::vmdk) used: Vec<u16>,
    /// Tables whose copies differed when it was opened; written anew by the first change.
    pub(in crate::vmdk) differing: Vec<u32>,
    /// Where the next grain goes.
    next_sector: u64,
}

/// A run of the extent, and where it lies in the file if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vmdk) struct Run {
    pub(in crate::vmdk) disk: ByteRange,
    pub(in crate::vmdk) file_offset: Option<u64>,
}

impl Run {
    /// Its bytes of the file.
    pub(in crate::vmdk) fn in_file(self) -> Option<ByteRange> {
        self.file_offset.and_then(|offset| ByteRange::at(offset, self.disk.length_bytes()))
    }
}

impl Grains {
    pub(in crate::vmdk) fn new(header: &SparseHeader, file_bytes: u64, survey: Survey) -> Self {
        let end = file_bytes.div_ceil(SECTOR_BYTES).max(survey.end_sector).max(header.overhead_sectors);
        Self {
            cache: TableCache::default(),
            used: survey.used,
            differing: survey.differing,
            next_sector: end.next_multiple_of(header.geometry.grain_sectors),
        }
    }

    /// What the tables say of a grain. A table that names none is not read.
    pub(in crate::vmdk) fn entry(
        &mut self,
        extent: &SparseExtent,
        grain: u64,
    ) -> Result<GrainEntry, DiskError> {
        let (table, index) = split(grain);
        if self.used[table as usize] == 0 {
            return Ok(GrainEntry::Hole);
        }
        let raw = self.cache.get(&extent.tables, &*extent.device, table)?[index];
        Ok(extent.header.entry(raw))
    }

    /// Takes space behind the end of the file for `grains`, which have none.
    pub(in crate::vmdk) fn allocate(
        &mut self,
        extent: &SparseExtent,
        grains: &[u64],
    ) -> Result<(), DiskError> {
        let size = extent.geometry_in_grains().grain_sectors;
        let end = self.next_sector + grains.len() as u64 * size;
        if end > SECTORS_MAX {
            let reason = "its file would pass 2 TiB";
            return Err(extent.error(Code::WriteFailed, Operation::Write, reason));
        }
        for &grain in grains {
            self.cache.get(&extent.tables, &*extent.device, split(grain).0)?;
        }
        // The length first: a table may be on its way to the medium as soon as the lock is gone.
        extent.device.set_length(end * SECTOR_BYTES)?;
        for &grain in grains {
            let (table, index) = split(grain);
            self.cache.get(&extent.tables, &*extent.device, table)?[index] = self.next_sector as u32;
            self.cache.mark_dirty(table);
            self.used[table as usize] += 1;
            self.next_sector += size;
        }
        Ok(())
    }
}

/// Table of a grain, and its entry there.
pub(in crate::vmdk) const fn split(grain: u64) -> (u32, usize) {
    ((grain / TABLE_ENTRIES as u64) as u32, (grain % TABLE_ENTRIES as u64) as usize)
}

/// Whether a grain is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vmdk) enum Presence {
    /// It has a place in the file.
    There,
    /// It is zero.
    Hole,
    /// So is every grain of its table.
    NoneInTable,
}

impl Presence {
    /// What an entry says.
    pub(in crate::vmdk) const fn of(entry: GrainEntry) -> Self {
        match entry {
            GrainEntry::At(_) => Self::There,
            GrainEntry::Hole | GrainEntry::Zero => Self::Hole,
        }
    }
}

/// First run of grains that are there, at or after `from_bytes`. A run ends with its table at the latest: whoever asks
/// unit by unit must not walk the whole disk each time.
pub(in crate::vmdk) fn data_run(
    geometry: GrainGeometry,
    from_bytes: u64,
    mut presence: impl FnMut(u64) -> Result<Presence, DiskError>,
) -> Result<Option<ByteRange>, DiskError> {
    let table_end = |grain: u64| (grain + 1).next_multiple_of(u64::from(TABLE_ENTRIES));
    let mut grain = from_bytes / geometry.grain_bytes();
    while grain < geometry.grain_count() {
        match presence(grain)? {
            Presence::There => break,
            Presence::Hole => grain += 1,
            Presence::NoneInTable => grain = table_end(grain),
        }
    }
    let last = table_end(grain).min(geometry.grain_count());
    let mut end = grain;
    while end < last && presence(end)? == Presence::There {
        end += 1;
    }
    let start = (grain * geometry.grain_bytes()).max(from_bytes);
    let end_bytes = (end * geometry.grain_bytes()).min(geometry.length_bytes());
    Ok((start < end_bytes).then(|| ByteRange::new(start, end_bytes)))
}

/// Runs in the order of the disk.
#[derive(Default)]
pub(in crate::vmdk) struct Runs(pub(in crate::vmdk) Vec<Run>);

impl Runs {
    pub(in crate::vmdk) fn push(&mut self, disk: ByteRange, file_offset: Option<u64>) {
        if let Some(last) = self.0.last_mut() {
            let follows = match (last.in_file(), file_offset) {
                (Some(file), Some(offset)) => file.end() == offset,
                (None, None) => true,
                _ => false,
            };
            if follows {
                last.disk = ByteRange::new(last.disk.start(), disk.end());
                return;
            }
        }
        self.0.push(Run { disk, file_offset });
    }
}
