//! Grain directories and tables as they lie in the file, both copies read as one.
//!
//! **Invariant**: an entry that one copy has and the other does not is taken from the copy that has it. Tables are
//! written only after the grains that they name are durable, so after a crash the fuller copy is the newer one and
//! safe to read. Two copies that name different grains are damage.

use failback_blockio::{Device, DiskError, Operation};
use failback_format::vmdk::descriptor::SECTOR_BYTES;
use failback_format::vmdk::space::{GrainSpace, MetadataSpace};
use failback_format::vmdk::sparse::{
    GrainEntry, HEADER_BYTES, SparseError, SparseHeader, TABLE_ENTRIES, entries,
};
use failback_model::limits::IMAGE_FAULTS_MAX;
use std::path::Path;

/// Bytes of a grain table.
pub(in crate::vmdk) const TABLE_BYTES: usize = TABLE_ENTRIES as usize * 4;

/// Entries of one grain table.
pub(in crate::vmdk) type Table = Box<[u32; TABLE_ENTRIES as usize]>;

/// A fault of the format as a fault of this file.
pub(in crate::vmdk) fn refused(path: &Path, operation: Operation, error: SparseError) -> DiskError {
    DiskError::new(error.code, operation, path, error.reason).at(error.offset_bytes)
}

/// Reads the header at byte `at` of the file, as it is and decoded.
pub(in crate::vmdk) fn read_header(
    device: &dyn Device,
    at: u64,
) -> Result<([u8; HEADER_BYTES], SparseHeader), DiskError> {
    let mut bytes = [0; HEADER_BYTES];
    if at.saturating_add(HEADER_BYTES as u64) > device.length_bytes() {
        let reason = format!("it has {} bytes, too few for a VMDK header", device.length_bytes());
        return Err(refused(device.path(), Operation::Open, SparseError::damaged(at, reason)));
    }
    device.read_at(at, &mut bytes)?;
    let header =
        SparseHeader::parse(&bytes, at).map_err(|error| refused(device.path(), Operation::Open, error))?;
    Ok((bytes, header))
}

/// Reads the room of the embedded descriptor; empty where there is none.
pub(in crate::vmdk) fn read_descriptor(
    device: &dyn Device,
    header: &SparseHeader,
) -> Result<Vec<u8>, DiskError> {
    let Some(room) = header.descriptor_range() else { return Ok(Vec::new()) };
    if room.end() > device.length_bytes() {
        let error = SparseError::damaged(28, "its descriptor reaches past the end of the file");
        return Err(refused(device.path(), Operation::Open, error));
    }
    // Bounded: a header's descriptor is at most DESCRIPTOR_MAX_BYTES long.
    let mut bytes = vec![0; room.length_bytes() as usize];
    device.read_at(room.start(), &mut bytes).map(|()| bytes)
}

/// Both copies' directories.
#[derive(Debug)]
pub(in crate::vmdk) struct Tables {
    header: SparseHeader,
    directory: Vec<u32>,
    /// Empty where there is no redundant directory.
    redundant: Vec<u32>,
}

/// What was found in every table.
#[derive(Debug, Default)]
pub(in crate::vmdk) struct Survey {
    /// Allocated grains that each table names.
    pub(in crate::vmdk) used: Vec<u16>,
    /// Tables whose copies differ.
    pub(in crate::vmdk) differing: Vec<u32>,
    /// One past the last sector of the last grain in the file.
    pub(in crate::vmdk) end_sector: u64,
    /// Damage, the first so many of it.
    pub(in crate::vmdk) faults: Vec<SparseError>,
}

impl Tables {
    /// Reads the directories and checks that no two parts of the metadata share a sector.
    pub(in crate::vmdk) fn read(
        device: &dyn Device,
        header: SparseHeader,
    ) -> Result<(Self, MetadataSpace), DiskError> {
        let fail = |error| refused(device.path(), Operation::Open, error);
        let mut space = MetadataSpace::of_header(&header, device.length_bytes()).map_err(fail)?;
        // Bounded: the header's geometry has at most 2^20 tables, and the space lies within the file.
        let length = (header.geometry.table_count() * 4) as usize;
        let read = |sector: u64| {
            let mut bytes = vec![0; length];
            device.read_at(sector * SECTOR_BYTES, &mut bytes).map(|()| bytes)
        };
        let directory = read(header.directory_sector)?;
        let redundant = match header.has_redundant_directory() {
            true => read(header.redundant_directory_sector)?,
            false => Vec::new(),
        };
        let at = header.directory_sector * SECTOR_BYTES;
        let redundant_at = header.redundant_directory_sector.saturating_mul(SECTOR_BYTES);
        space.add_tables(&[(at, &directory), (redundant_at, &redundant)]).map_err(fail)?;
        let tables = Self {
            header,
            directory: entries(&directory).collect(),
            redundant: entries(&redundant).collect(),
        };
        Ok((tables, space))
    }

    /// Sectors of the file where the copies of a table lie.
    pub(super) fn copies(&self, table: u32) -> impl Iterator<Item = u64> + '_ {
        let copy = move |directory: &[u32]| directory.get(table as usize).map(|&sector| u64::from(sector));
        [copy(&self.directory), copy(&self.redundant)].into_iter().flatten().filter(|&sector| sector != 0)
    }

    /// Byte of the file of an entry, in the first copy that there is.
    pub(in crate::vmdk) fn entry_offset(&self, table: u32, entry: usize) -> u64 {
        self.copies(table).next().unwrap_or(0) * SECTOR_BYTES + 4 * entry as u64
    }

    /// Whether every table has a place in the file, in both copies: what writing needs.
    pub(in crate::vmdk) fn first_missing(&self) -> Option<usize> {
        let missing = |directory: &[u32]| directory.iter().position(|&sector| sector == 0);
        missing(&self.directory).or_else(|| missing(&self.redundant))
    }

    /// Entries of a table that the disk has: the last table may have more.
    fn entries_of(&self, table: u32) -> usize {
        let left = self.header.geometry.grain_count() - u64::from(table) * u64::from(TABLE_ENTRIES);
        left.min(u64::from(TABLE_ENTRIES)) as usize
    }

    /// Reads a table, its copies merged, and says whether they are the same.
    pub(in crate::vmdk) fn load(&self, device: &dyn Device, table: u32) -> Result<(Table, bool), DiskError> {
        let mut merged: Table = Box::new([0; TABLE_ENTRIES as usize]);
        let mut same = true;
        let mut bytes = [0; TABLE_BYTES];
        for (copy, sector) in self.copies(table).enumerate() {
            device.read_at(sector * SECTOR_BYTES, &mut bytes)?;
            let known = merged.iter_mut().zip(entries(&bytes)).take(self.entries_of(table));
            for (index, (kept, raw)) in known.enumerate() {
                if copy == 0 || *kept == raw {
                    *kept = raw;
                    continue;
                }
                same = false;
                match (self.header.entry(*kept), self.header.entry(raw)) {
                    (GrainEntry::At(_), GrainEntry::At(_)) => {
                        let reason = format!("grain tables disagree: sector {kept} or sector {raw}");
                        let at = sector * SECTOR_BYTES + 4 * index as u64;
                        return Err(refused(
                            device.path(),
                            Operation::Read,
                            SparseError::damaged(at, reason),
                        ));
                    }
                    (GrainEntry::At(_), _) => {}
                    _ => *kept = raw,
                }
            }
        }
        Ok((merged, same))
    }

    /// Writes a table to every copy.
    pub(in crate::vmdk) fn store(
        &self,
        device: &dyn Device,
        table: u32,
        entries: &Table,
    ) -> Result<(), DiskError> {
        let mut bytes = [0; TABLE_BYTES];
        for (place, entry) in bytes.chunks_exact_mut(4).zip(entries.iter()) {
            place.copy_from_slice(&entry.to_le_bytes());
        }
        self.copies(table).try_for_each(|sector| device.write_at(sector * SECTOR_BYTES, &bytes))
    }

    /// Reads every table and checks every grain: inside the file, clear of metadata and, where grains have one size, of
    /// each other. Compressed grains differ in size; their own markers tell whether a table names the right one.
    pub(in crate::vmdk) fn survey(
        &self,
        device: &dyn Device,
        metadata: &MetadataSpace,
    ) -> Result<Survey, DiskError> {
        let is_compressed = self.header.is_compressed();
        let mut space = GrainSpace::new(metadata, self.header.geometry.grain_sectors);
        let mut survey = Survey { used: vec![0; self.directory.len()], ..Survey::default() };
        for table in 0..self.directory.len() as u32 {
            let (entries, same) = match self.load(device, table) {
                Ok(loaded) => loaded,
                Err(error) => {
                    let at = error.offset_bytes.unwrap_or(0);
                    if error.source.is_some() || !note(&mut survey, SparseError::damaged(at, &*error.reason))
                    {
                        return Err(error);
                    }
                    continue;
                }
            };
            if !same {
                survey.differing.push(table);
            }
            for (index, &raw) in entries[..self.entries_of(table)].iter().enumerate() {
                let GrainEntry::At(sector) = self.header.entry(raw) else { continue };
                survey.used[table as usize] += 1;
                let at = self.entry_offset(table, index);
                let fits = if is_compressed { metadata.admit(sector, at) } else { space.add(sector, at) };
                if let Err(fault) = fits
                    && !note(&mut survey, fault)
                {
                    return Ok(survey);
                }
            }
        }
        survey.end_sector = space.end_sector();
        Ok(survey)
    }
}

/// Adds a fault to the list; whether there is room for another.
fn note(survey: &mut Survey, fault: SparseError) -> bool {
    survey.faults.push(fault);
    survey.faults.len() < IMAGE_FAULTS_MAX
}
