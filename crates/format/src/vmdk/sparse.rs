//! The sparse extent of VMware's Virtual Disk Format 5.0: its header, grain directories and grain tables. The same
//! header begins (and as footer ends) a streamOptimized file.
//!
//! **Invariant**: a [`SparseHeader`] that came from bytes has a grain that is a power of two within named bounds, a
//! capacity of at most 2 TiB and a descriptor of bounded size, so every number derived from it fits and every
//! allocation by it is bounded.

use super::descriptor::SECTOR_BYTES;
use crate::field::{put, u32_le, u64_le};
use failback_model::limits::{DESCRIPTOR_MAX_BYTES, GRAIN_MAX_BYTES, GRAIN_MIN_BYTES};
use failback_model::{ByteRange, Code};

/// Bytes of a header or footer: one sector.
pub const HEADER_BYTES: usize = 512;
/// Entries of a grain table; the specification allows no other number.
pub const TABLE_ENTRIES: u32 = 512;
/// Sectors of a grain table.
pub const TABLE_SECTORS: u64 = TABLE_ENTRIES as u64 * 4 / SECTOR_BYTES;
/// Grain of the images made here: 64 KiB.
pub const GRAIN_DEFAULT_SECTORS: u64 = 128;
/// Sectors kept for an embedded descriptor.
pub const DESCRIPTOR_SECTORS: u64 = 20;
/// Positions are 32-bit sector numbers: neither the disk nor the file may have more sectors.
pub const SECTORS_MAX: u64 = 1 << 32;
/// `gdOffset` of a header whose directory is named by the footer instead.
pub const DIRECTORY_IN_FOOTER: u64 = u64::MAX;
/// Where `uncleanShutdown` lies in the header.
pub const UNCLEAN_OFFSET: usize = 72;

const MAGIC: &[u8; 4] = b"KDMV";
const NEWLINE_BYTES: &[u8; 4] = b"\n \r\n";

/// Flag: the four newline bytes are there to show whether a transfer mangled the file.
pub const FLAG_NEWLINES: u32 = 1;
/// Flag: there is a redundant grain directory.
pub const FLAG_REDUNDANT: u32 = 1 << 1;
/// Flag: a table entry of 1 is a grain of zeros.
pub const FLAG_ZERO_GRAIN: u32 = 1 << 2;
/// Flag: grains are compressed.
pub const FLAG_COMPRESSED: u32 = 1 << 16;
/// Flag: markers precede grains and metadata.
pub const FLAG_MARKERS: u32 = 1 << 17;

/// Why a sparse extent's metadata cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset_bytes}: {reason}")]
pub struct SparseError {
    /// Damaged, unsupported, or of a size the format does not have.
    pub code: Code,
    /// Where in the file.
    pub offset_bytes: u64,
    /// What is wrong there.
    pub reason: String,
}

impl SparseError {
    /// Damage at `offset_bytes`.
    pub fn damaged(offset_bytes: u64, reason: impl Into<String>) -> Self {
        Self { code: Code::ImageDamaged, offset_bytes, reason: reason.into() }
    }

    fn with_code(code: Code, offset_bytes: u64, reason: impl Into<String>) -> Self {
        Self { code, offset_bytes, reason: reason.into() }
    }
}

/// The disk cut into grains, and grains into tables. The last grain may reach past the disk's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrainGeometry {
    /// Sectors of the disk.
    pub capacity_sectors: u64,
    /// Sectors of a grain: a power of two.
    pub grain_sectors: u64,
}

impl GrainGeometry {
    /// Bytes of the disk.
    pub const fn length_bytes(self) -> u64 {
        self.capacity_sectors * SECTOR_BYTES
    }

    /// Bytes of a grain.
    pub const fn grain_bytes(self) -> u64 {
        self.grain_sectors * SECTOR_BYTES
    }

    /// Grains of the disk, a last one in part included.
    pub const fn grain_count(self) -> u64 {
        self.capacity_sectors.div_ceil(self.grain_sectors)
    }

    /// Grain tables, which is entries of the directory.
    pub const fn table_count(self) -> u64 {
        self.grain_count().div_ceil(TABLE_ENTRIES as u64)
    }

    /// Sectors of the directory.
    pub const fn directory_sectors(self) -> u64 {
        (self.table_count() * 4).div_ceil(SECTOR_BYTES)
    }

    /// Bytes of the disk in one grain; what would lie past the disk's end is left out.
    pub const fn grain_range(self, grain: u64) -> ByteRange {
        let start = grain * self.grain_bytes();
        let end = start + self.grain_bytes();
        ByteRange::new(start, if end < self.length_bytes() { end } else { self.length_bytes() })
    }

    /// The grains that `range` of the disk touches, and the part of each that falls into it.
    pub fn cut(self, range: ByteRange) -> impl Iterator<Item = (u64, ByteRange)> {
        let size = self.grain_bytes();
        let first = range.start() / size;
        let end = if range.is_empty() { first } else { range.end().div_ceil(size) };
        (first..end).filter_map(move |grain| Some((grain, self.grain_range(grain).intersection(range)?)))
    }
}

/// What an entry of a grain table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrainEntry {
    /// Not allocated: reads as zero.
    Hole,
    /// Not allocated and said to be zero.
    Zero,
    /// Allocated at this sector of the file.
    At(u32),
}

/// The header of a sparse extent, or the footer of a streamOptimized one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseHeader {
    /// 1, 2 or 3.
    pub version: u32,
    /// `FLAG_…`; unknown ones are kept.
    pub flags: u32,
    /// Capacity and grain.
    pub geometry: GrainGeometry,
    /// First sector of the embedded descriptor; 0 where there is none.
    pub descriptor_sector: u64,
    /// Sectors kept for it.
    pub descriptor_sectors: u64,
    /// First sector of the redundant directory, where `FLAG_REDUNDANT` is set.
    pub redundant_directory_sector: u64,
    /// First sector of the directory, or [`DIRECTORY_IN_FOOTER`].
    pub directory_sector: u64,
    /// Sectors of metadata before the first grain.
    pub overhead_sectors: u64,
    /// Whether the extent was open for writing when it was last written.
    pub unclean: bool,
    /// 0: none, 1: deflate.
    pub compression: u16,
}

impl SparseHeader {
    /// Decodes the sector that begins at byte `base_bytes` of the file.
    pub fn parse(bytes: &[u8; HEADER_BYTES], base_bytes: u64) -> Result<Self, SparseError> {
        let damaged = |field: u64, reason: String| Err(SparseError::damaged(base_bytes + field, reason));
        if &bytes[..4] != MAGIC {
            let reason = "no sparse VMDK header (KDMV)";
            return Err(SparseError::with_code(Code::ImageFormatDisagrees, base_bytes, reason));
        }
        let header = Self::fields(bytes);
        if !(1..=3).contains(&header.version) {
            let reason = format!("sparse VMDK version {}", header.version);
            return Err(SparseError::with_code(Code::ImageUnsupported, base_bytes + 4, reason));
        }
        if header.flags & FLAG_NEWLINES != 0 && &bytes[73..77] != NEWLINE_BYTES {
            return damaged(73, "newline bytes were changed by a text-mode transfer".into());
        }
        let GrainGeometry { capacity_sectors, grain_sectors } = header.geometry;
        let grains = GRAIN_MIN_BYTES / SECTOR_BYTES..=GRAIN_MAX_BYTES / SECTOR_BYTES;
        if !grain_sectors.is_power_of_two() || !grains.contains(&grain_sectors) {
            return damaged(20, format!("grain of {grain_sectors} sectors"));
        }
        if capacity_sectors > SECTORS_MAX {
            let reason = format!("capacity of {capacity_sectors} sectors is above 2 TiB");
            return Err(SparseError::with_code(Code::ImageSizeUnsupported, base_bytes + 12, reason));
        }
        if u32_le(bytes, 44) != TABLE_ENTRIES {
            return damaged(44, format!("grain tables of {} entries instead of 512", u32_le(bytes, 44)));
        }
        if header.descriptor_sectors > DESCRIPTOR_MAX_BYTES as u64 / SECTOR_BYTES {
            return damaged(36, format!("descriptor of {} sectors", header.descriptor_sectors));
        }
        if header.overhead_sectors > SECTORS_MAX {
            return damaged(64, format!("metadata of {} sectors", header.overhead_sectors));
        }
        if header.is_compressed() != (header.flags & FLAG_COMPRESSED != 0) || header.compression > 1 {
            let reason = format!("compression {} with flags {:#x}", header.compression, header.flags);
            return Err(SparseError::with_code(Code::ImageUnsupported, base_bytes + 77, reason));
        }
        Ok(header)
    }

    fn fields(bytes: &[u8; HEADER_BYTES]) -> Self {
        Self {
            version: u32_le(bytes, 4),
            flags: u32_le(bytes, 8),
            geometry: GrainGeometry { capacity_sectors: u64_le(bytes, 12), grain_sectors: u64_le(bytes, 20) },
            descriptor_sector: u64_le(bytes, 28),
            descriptor_sectors: u64_le(bytes, 36),
            redundant_directory_sector: u64_le(bytes, 48),
            directory_sector: u64_le(bytes, 56),
            overhead_sectors: u64_le(bytes, 64),
            unclean: bytes[UNCLEAN_OFFSET] != 0,
            compression: u16::from_le_bytes([bytes[77], bytes[78]]),
        }
    }

    /// Encodes it.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 4, &self.version.to_le_bytes());
        put(&mut bytes, 8, &self.flags.to_le_bytes());
        put(&mut bytes, 12, &self.geometry.capacity_sectors.to_le_bytes());
        put(&mut bytes, 20, &self.geometry.grain_sectors.to_le_bytes());
        put(&mut bytes, 28, &self.descriptor_sector.to_le_bytes());
        put(&mut bytes, 36, &self.descriptor_sectors.to_le_bytes());
        put(&mut bytes, 44, &TABLE_ENTRIES.to_le_bytes());
        put(&mut bytes, 48, &self.redundant_directory_sector.to_le_bytes());
        put(&mut bytes, 56, &self.directory_sector.to_le_bytes());
        put(&mut bytes, 64, &self.overhead_sectors.to_le_bytes());
        bytes[UNCLEAN_OFFSET] = u8::from(self.unclean);
        put(&mut bytes, 73, NEWLINE_BYTES);
        put(&mut bytes, 77, &self.compression.to_le_bytes());
        bytes
    }

    /// Whether grains are compressed.
    pub const fn is_compressed(&self) -> bool {
        self.compression != 0
    }

    /// Whether a redundant directory is kept.
    pub const fn has_redundant_directory(&self) -> bool {
        self.flags & FLAG_REDUNDANT != 0
    }

    /// Whether the footer names the directory.
    pub const fn needs_footer(&self) -> bool {
        self.directory_sector == DIRECTORY_IN_FOOTER
    }

    /// Bytes of the file kept for the embedded descriptor; `None` where there is none.
    pub fn descriptor_range(&self) -> Option<ByteRange> {
        let start = self.descriptor_sector.checked_mul(SECTOR_BYTES)?;
        let length = self.descriptor_sectors * SECTOR_BYTES;
        (start > 0 && length > 0).then(|| ByteRange::at(start, length)).flatten()
    }

    /// What one table entry says.
    pub const fn entry(&self, raw: u32) -> GrainEntry {
        match raw {
            0 => GrainEntry::Hole,
            1 if self.flags & FLAG_ZERO_GRAIN != 0 => GrainEntry::Zero,
            sector => GrainEntry::At(sector),
        }
    }
}

/// The header of a new sparse extent: descriptor, redundant directory and its tables, directory and its tables, grains.
pub fn new_header(capacity_sectors: u64, with_descriptor: bool) -> Result<SparseHeader, SparseError> {
    let geometry = GrainGeometry { capacity_sectors, grain_sectors: GRAIN_DEFAULT_SECTORS };
    if capacity_sectors > SECTORS_MAX {
        let reason = format!("capacity of {capacity_sectors} sectors is above 2 TiB");
        return Err(SparseError::with_code(Code::ImageSizeUnsupported, 12, reason));
    }
    let (descriptor_sector, descriptor_sectors) =
        if with_descriptor { (1, DESCRIPTOR_SECTORS) } else { (0, 0) };
    let side_sectors = geometry.directory_sectors() + geometry.table_count() * TABLE_SECTORS;
    let redundant_directory_sector = 1 + descriptor_sectors;
    let directory_sector = redundant_directory_sector + side_sectors;
    let overhead_sectors = (directory_sector + side_sectors).next_multiple_of(GRAIN_DEFAULT_SECTORS);
    if overhead_sectors + geometry.grain_count() * GRAIN_DEFAULT_SECTORS > SECTORS_MAX {
        let reason = format!("capacity of {capacity_sectors} sectors and its metadata are above 2 TiB");
        return Err(SparseError::with_code(Code::ImageSizeUnsupported, 12, reason));
    }
    Ok(SparseHeader {
        version: 1,
        flags: FLAG_NEWLINES | FLAG_REDUNDANT,
        geometry,
        descriptor_sector,
        descriptor_sectors,
        redundant_directory_sector,
        directory_sector,
        overhead_sectors,
        unclean: false,
        compression: 0,
    })
}

/// A new extent's directory at `directory_sector`, whose tables follow it, as its whole sectors.
pub fn new_directory(geometry: GrainGeometry, directory_sector: u64) -> Vec<u8> {
    let first = directory_sector + geometry.directory_sectors();
    let mut bytes: Vec<u8> = (0..geometry.table_count())
        .flat_map(|table| ((first + table * TABLE_SECTORS) as u32).to_le_bytes())
        .collect();
    bytes.resize((geometry.directory_sectors() * SECTOR_BYTES) as usize, 0);
    bytes
}

/// Entries of a directory or table.
pub fn entries(bytes: &[u8]) -> impl ExactSizeIterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|entry| u32_le(entry, 0))
}
