//! Which sectors of a sparse extent's file are taken, and by what: the proof that no two things share a sector.
//!
//! **Invariant**: what was accepted lies inside the file and overlaps nothing accepted before. Memory is bounded by
//! the file's length in grains and by [`STRAY_GRAINS_MAX`], not by what the tables claim.

use super::sparse::{SECTORS_MAX, SparseError, SparseHeader, TABLE_SECTORS, entries};
use crate::vmdk::descriptor::SECTOR_BYTES;
use failback_model::limits::STRAY_GRAINS_MAX;
use std::collections::BTreeMap;

/// The sectors that hold metadata, as ascending runs that neither touch nor overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataSpace {
    runs: Vec<(u64, u64)>,
    file_sectors: u64,
}

impl MetadataSpace {
    /// The header, the descriptor and the directories that `header` names, in a file of `file_bytes`.
    pub fn of_header(header: &SparseHeader, file_bytes: u64) -> Result<Self, SparseError> {
        let mut space =
            Self { runs: vec![(0, 1)], file_sectors: (file_bytes / SECTOR_BYTES).min(SECTORS_MAX) };
        let directory_sectors = header.geometry.directory_sectors();
        let mut parts = vec![(header.directory_sector, directory_sectors, 56, "grain directory")];
        if header.has_redundant_directory() {
            let sector = header.redundant_directory_sector;
            parts.push((sector, directory_sectors, 48, "redundant grain directory"));
        }
        if header.descriptor_sector != 0 {
            parts.push((header.descriptor_sector, header.descriptor_sectors, 28, "descriptor"));
        }
        parts.sort_unstable();
        for (start, sectors, field, what) in parts {
            if sectors != 0 {
                space.push(start, sectors, field, || what.to_owned())?;
            } else if start > SECTORS_MAX {
                // What takes no space has a place all the same, and it is multiplied by the sector's size.
                return Err(SparseError::damaged(
                    field,
                    format!("{what} at sector {start}, past any file's end"),
                ));
            }
        }
        space.join();
        Ok(space)
    }

    /// Adds the grain tables that directories name; each pair is a directory's byte offset and its sectors.
    pub fn add_tables(&mut self, directories: &[(u64, &[u8])]) -> Result<(), SparseError> {
        let mut tables: Vec<(u64, u64)> = directories
            .iter()
            .flat_map(|(base, bytes)| {
                entries(bytes).enumerate().map(move |(i, sector)| (u64::from(sector), base + 4 * i as u64))
            })
            .filter(|&(sector, _)| sector != 0)
            .collect();
        tables.sort_unstable();
        let mut fixed = Self { runs: Vec::new(), file_sectors: self.file_sectors };
        for (sector, entry) in tables {
            let what = || format!("grain table at sector {sector}");
            if self.overlaps(sector, TABLE_SECTORS) {
                return Err(SparseError::damaged(entry, what() + " overlaps other metadata"));
            }
            fixed.push(sector, TABLE_SECTORS, entry, what)?;
        }
        self.runs.append(&mut fixed.runs);
        self.runs.sort_unstable();
        self.join();
        Ok(())
    }

    /// Whether any of these sectors holds metadata.
    pub fn overlaps(&self, start: u64, sectors: u64) -> bool {
        let after = self.runs.partition_point(|&(_, end)| end <= start);
        self.runs.get(after).is_some_and(|&(run, _)| run < start + sectors)
    }

    /// Whether something of unknown size may begin at `sector`, named by the entry at byte `named_at`.
    pub fn admit(&self, sector: u32, named_at: u64) -> Result<(), SparseError> {
        let start = u64::from(sector);
        if start >= self.file_sectors {
            let reason = format!("grain at sector {sector} begins past the end of the file");
            return Err(SparseError::damaged(named_at, reason));
        }
        if self.overlaps(start, 1) {
            let reason = format!("grain at sector {sector} overlaps the extent's metadata");
            return Err(SparseError::damaged(named_at, reason));
        }
        Ok(())
    }

    /// Whole sectors of the file.
    pub const fn file_sectors(&self) -> u64 {
        self.file_sectors
    }

    /// Appends a run that begins at or behind the last one's end.
    fn push(
        &mut self,
        start: u64,
        sectors: u64,
        named_at: u64,
        what: impl Fn() -> String,
    ) -> Result<(), SparseError> {
        let end = start.checked_add(sectors).filter(|&end| end <= self.file_sectors).ok_or_else(|| {
            let past =
                format!("{} ({sectors} sectors from {start}) reaches past the end of the file", what());
            SparseError::damaged(named_at, past)
        })?;
        if self.runs.last().is_some_and(|&(_, last)| start < last) {
            return Err(SparseError::damaged(named_at, what() + " overlaps other metadata"));
        }
        self.runs.push((start, end));
        Ok(())
    }

    /// Joins runs that touch.
    fn join(&mut self) {
        self.runs.dedup_by(|next, kept| {
            let touches = next.0 <= kept.1;
            if touches {
                kept.1 = kept.1.max(next.1);
            }
            touches
        });
    }
}

/// The grains seen so far, by where they lie in the file.
///
/// Two grains overlap exactly if they begin less than a grain apart. Each lies on a raster of the grain's size: every
/// writer known puts all grains on one raster, so a bit a place is enough; those off the raster are listed.
#[derive(Debug)]
pub struct GrainSpace<'a> {
    metadata: &'a MetadataSpace,
    grain_sectors: u64,
    taken: Vec<u64>,
    stray: BTreeMap<u32, u32>,
    end_sector: u64,
    count: u64,
}

impl<'a> GrainSpace<'a> {
    /// No grain yet.
    pub fn new(metadata: &'a MetadataSpace, grain_sectors: u64) -> Self {
        let places = metadata.file_sectors() / grain_sectors + 1;
        let taken = vec![0; places.div_ceil(64) as usize];
        Self { metadata, grain_sectors, taken, stray: BTreeMap::new(), end_sector: 0, count: 0 }
    }

    /// Accepts the grain at `sector`, named by the table entry at byte `named_at` of the file.
    pub fn add(&mut self, sector: u32, named_at: u64) -> Result<(), SparseError> {
        let refused =
            |why: &str| Err(SparseError::damaged(named_at, format!("grain at sector {sector} {why}")));
        let start = u64::from(sector);
        if start + self.grain_sectors > self.metadata.file_sectors() {
            return refused("reaches past the end of the file");
        }
        if self.metadata.overlaps(start, self.grain_sectors) {
            return refused("overlaps the extent's metadata");
        }
        let (place, residue) = (start / self.grain_sectors, (start % self.grain_sectors) as u32);
        let before = place.checked_sub(1).and_then(|place| self.residue(place));
        let after = self.residue(place + 1);
        if self.residue(place).is_some()
            || before.is_some_and(|other| other > residue)
            || after.is_some_and(|other| other < residue)
        {
            return refused("overlaps another grain");
        }
        if residue != 0 {
            if self.stray.len() == STRAY_GRAINS_MAX {
                return refused("is one of too many that are not aligned");
            }
            self.stray.insert(place as u32, residue);
        }
        self.taken[(place / 64) as usize] |= 1 << (place % 64);
        self.end_sector = self.end_sector.max(start + self.grain_sectors);
        self.count += 1;
        Ok(())
    }

    /// One past the last sector of the last grain in the file.
    pub const fn end_sector(&self) -> u64 {
        self.end_sector
    }

    /// Number of grains.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Where in its place the grain begins that begins in this place.
    fn residue(&self, place: u64) -> Option<u32> {
        let word = self.taken.get((place / 64) as usize)?;
        (word >> (place % 64) & 1 == 1).then(|| self.stray.get(&(place as u32)).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmdk::sparse::{new_directory, new_header};

    fn space() -> (SparseHeader, MetadataSpace) {
        let header = new_header(4096, true).unwrap();
        let space = MetadataSpace::of_header(&header, (header.overhead_sectors + 1024) * 512).unwrap();
        (header, space)
    }

    #[test]
    fn overlapping_grains_are_refused_wherever_they_begin() {
        let (header, metadata) = space();
        let mut grains = GrainSpace::new(&metadata, 128);
        let base = header.overhead_sectors as u32;
        grains.add(base + 128, 1).unwrap();
        for off in [1, 64, 127, 128, 129, 200, 255] {
            let error = grains.add(base + off, 77).unwrap_err();
            assert_eq!((error.offset_bytes, error.code), (77, failback_model::Code::ImageDamaged), "{off}");
        }
        grains.add(base, 2).unwrap();
        grains.add(base + 300, 3).unwrap();
        assert!(grains.add(base + 256, 4).is_err() && grains.add(base + 384, 5).is_err());
        grains.add(base + 428, 6).unwrap();
        assert_eq!((grains.count(), grains.end_sector()), (4, u64::from(base) + 556));
        assert!(grains.add(base + 1024 - 127, 7).is_err(), "past the end");
        assert!(grains.add(u32::MAX, 8).is_err(), "far past the end");
    }

    #[test]
    fn grains_and_tables_on_metadata_are_refused() {
        let (header, mut metadata) = space();
        let directory = new_directory(header.geometry, header.directory_sector);
        let redundant = new_directory(header.geometry, header.redundant_directory_sector);
        let base = header.directory_sector * 512;
        let twice = metadata.clone().add_tables(&[(base, &directory), (9, &directory)]).unwrap_err();
        assert!(twice.reason.contains("overlaps"), "{twice}");
        let mut hostile = directory.clone();
        for (sector, word) in
            [(1_u32, "overlaps"), (header.directory_sector as u32, "overlaps"), (u32::MAX, "past")]
        {
            hostile[..4].copy_from_slice(&sector.to_le_bytes());
            let error = metadata.clone().add_tables(&[(base, &hostile)]).unwrap_err();
            assert!(error.reason.contains(word) && error.offset_bytes == base, "{error}");
        }
        metadata
            .add_tables(&[(base, &directory), (header.redundant_directory_sector * 512, &redundant)])
            .unwrap();
        let mut grains = GrainSpace::new(&metadata, 128);
        for sector in [0, 1, header.directory_sector as u32, header.directory_sector as u32 + 4] {
            assert!(grains.add(sector, 0).unwrap_err().reason.contains("metadata"), "sector {sector}");
        }
    }

    #[test]
    fn directories_outside_the_file_or_on_the_header_are_refused() {
        let (header, _) = space();
        let file_bytes = (header.overhead_sectors + 1024) * 512;
        for sector in [0, 2, u64::MAX - 1, file_bytes / 512, header.redundant_directory_sector] {
            let hostile = SparseHeader { directory_sector: sector, ..header };
            assert!(MetadataSpace::of_header(&hostile, file_bytes).is_err(), "sector {sector}");
        }
    }
}
