//! VHD: footer, dynamic header and block allocation table, after Microsoft's "Virtual Hard Disk Image Format
//! Specification" 1.0. All numbers are big endian. FORMATS.md says what we write into each field.
//!
//! **Invariant**: a decoded footer keeps its bytes; a changed one changes size, geometry and checksum alone, so what
//! another program wrote into the rest stays.

mod dynamic;
mod geometry;

pub use dynamic::{
    BLOCK_UNUSED, BlockTable, DYNAMIC_HEADER_BYTES, DynamicHeader, bitmap_bytes, is_sector_present,
};
pub use geometry::ChsGeometry;

use crate::error::FormatError;
use crate::field::{array, put, u32_be, u64_be};
use failback_model::limits::DISK_MAX_BYTES;

/// Bytes of a footer.
pub const FOOTER_BYTES: u64 = 512;
/// A VHD's disk is whole sectors of this size.
pub const SECTOR_BYTES: u64 = 512;

const COOKIE: &[u8; 8] = b"conectix";
const FEATURES_AT: usize = 8;
const VERSION_AT: usize = 12;
const DATA_OFFSET_AT: usize = 16;
const TIMESTAMP_AT: usize = 24;
const CREATOR_AT: usize = 28;
const CREATOR_VERSION_AT: usize = 32;
const CREATOR_HOST_AT: usize = 36;
const ORIGINAL_SIZE_AT: usize = 40;
const CURRENT_SIZE_AT: usize = 48;
const GEOMETRY_AT: usize = 56;
const KIND_AT: usize = 60;
const CHECKSUM_AT: usize = 64;
const UNIQUE_ID_AT: usize = 68;

/// Set in every footer.
const FEATURE_RESERVED: u32 = 2;
const VERSION_1_0: u32 = 0x0001_0000;
/// Readers that know only Virtual PC take the disk's size from the geometry, which rounds; they take it from the
/// size field where Hyper-V made the disk. Ours is exact, so it says what Hyper-V says.
const CREATOR_HYPER_V: &[u8; 4] = b"win ";
const CREATOR_VERSION_10_0: u32 = 0x000a_0000;
const HOST_WINDOWS: &[u8; 4] = b"Wi2k";

/// How a VHD keeps its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VhdKind {
    /// The disk's bytes, then the footer.
    Fixed,
    /// Blocks found through a table.
    Dynamic,
    /// Blocks on top of a parent's.
    Differencing,
}

impl VhdKind {
    const fn to_raw(self) -> u32 {
        match self {
            Self::Fixed => 2,
            Self::Dynamic => 3,
            Self::Differencing => 4,
        }
    }
}

/// A footer whose cookie, checksum, version, kind and size are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhdFooter {
    bytes: [u8; FOOTER_BYTES as usize],
    kind: VhdKind,
}

impl VhdFooter {
    /// A fixed disk's footer. `length_bytes` is whole sectors; `created` counts seconds since 2000-01-01 00:00 UTC.
    pub fn new_fixed(length_bytes: u64, unique_id: [u8; 16], created: u32) -> Result<Self, FormatError> {
        check_size(length_bytes, CURRENT_SIZE_AT)?;
        let mut bytes = [0; FOOTER_BYTES as usize];
        put(&mut bytes, 0, COOKIE);
        put(&mut bytes, FEATURES_AT, &FEATURE_RESERVED.to_be_bytes());
        put(&mut bytes, VERSION_AT, &VERSION_1_0.to_be_bytes());
        put(&mut bytes, DATA_OFFSET_AT, &u64::MAX.to_be_bytes());
        put(&mut bytes, TIMESTAMP_AT, &created.to_be_bytes());
        put(&mut bytes, CREATOR_AT, CREATOR_HYPER_V);
        put(&mut bytes, CREATOR_VERSION_AT, &CREATOR_VERSION_10_0.to_be_bytes());
        put(&mut bytes, CREATOR_HOST_AT, HOST_WINDOWS);
        put(&mut bytes, ORIGINAL_SIZE_AT, &length_bytes.to_be_bytes());
        put(&mut bytes, KIND_AT, &VhdKind::Fixed.to_raw().to_be_bytes());
        put(&mut bytes, UNIQUE_ID_AT, &unique_id);
        Self { bytes, kind: VhdKind::Fixed }.with_length(length_bytes)
    }

    /// Reads a footer, or a dynamic disk's copy of it.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let fault = |at: usize, reason: String| Err(FormatError::new(at as u64, reason));
        let Ok(bytes) = <[u8; FOOTER_BYTES as usize]>::try_from(bytes) else {
            return fault(0, format!("a footer has 512 bytes, here are {}", bytes.len()));
        };
        if !Self::has_cookie(&bytes) {
            return fault(0, "there is no VHD footer here".into());
        }
        let (stored, sum) = (u32_be(&bytes, CHECKSUM_AT), checksum(&bytes, CHECKSUM_AT));
        if stored != sum {
            return fault(
                CHECKSUM_AT,
                format!("the footer's checksum is {stored:#010x}, its bytes give {sum:#010x}"),
            );
        }
        let version = u32_be(&bytes, VERSION_AT);
        if version >> 16 != VERSION_1_0 >> 16 {
            return fault(VERSION_AT, format!("VHD version {version:#010x}, this program reads 1"));
        }
        let kind = match u32_be(&bytes, KIND_AT) {
            2 => VhdKind::Fixed,
            3 => VhdKind::Dynamic,
            4 => VhdKind::Differencing,
            other => {
                return fault(KIND_AT, format!("disk type {other} is none of fixed, dynamic, differencing"));
            }
        };
        check_size(u64_be(&bytes, CURRENT_SIZE_AT), CURRENT_SIZE_AT)?;
        Ok(Self { bytes, kind })
    }

    /// Whether bytes begin like a footer: enough to tell a VHD, not to trust it.
    pub fn has_cookie(bytes: &[u8]) -> bool {
        bytes.starts_with(COOKIE)
    }

    /// The footer's bytes.
    pub fn as_bytes(&self) -> &[u8; FOOTER_BYTES as usize] {
        &self.bytes
    }

    /// How the disk is kept.
    pub fn kind(&self) -> VhdKind {
        self.kind
    }

    /// Length of the disk in bytes: whole sectors, at most 64 TiB.
    pub fn length_bytes(&self) -> u64 {
        u64_be(&self.bytes, CURRENT_SIZE_AT)
    }

    /// Cylinders, heads and sectors per track as the footer has them.
    pub fn geometry(&self) -> ChsGeometry {
        ChsGeometry::decode(array(&self.bytes, GEOMETRY_AT))
    }

    /// The disk's unique id.
    pub fn unique_id(&self) -> [u8; 16] {
        array(&self.bytes, UNIQUE_ID_AT)
    }

    /// Where the dynamic header lies, in bytes; without meaning in a fixed disk.
    pub fn data_offset_bytes(&self) -> u64 {
        u64_be(&self.bytes, DATA_OFFSET_AT)
    }

    /// The same footer for a disk of another length, which is whole sectors.
    pub fn with_length(&self, length_bytes: u64) -> Result<Self, FormatError> {
        check_size(length_bytes, CURRENT_SIZE_AT)?;
        let mut bytes = self.bytes;
        put(&mut bytes, CURRENT_SIZE_AT, &length_bytes.to_be_bytes());
        put(&mut bytes, GEOMETRY_AT, &ChsGeometry::of_sectors(length_bytes / SECTOR_BYTES).encode());
        let sum = checksum(&bytes, CHECKSUM_AT);
        put(&mut bytes, CHECKSUM_AT, &sum.to_be_bytes());
        Ok(Self { bytes, kind: self.kind })
    }
}

fn check_size(length_bytes: u64, at: usize) -> Result<(), FormatError> {
    if length_bytes > DISK_MAX_BYTES {
        return Err(FormatError::new(
            at as u64,
            format!("a disk of {length_bytes} bytes is larger than 64 TiB"),
        ));
    }
    if !length_bytes.is_multiple_of(SECTOR_BYTES) {
        let reason = format!("a VHD holds whole sectors of 512 bytes, {length_bytes} bytes are not");
        return Err(FormatError::new(at as u64, reason));
    }
    Ok(())
}

/// One's complement of the sum of all bytes but the checksum's own four.
fn checksum(bytes: &[u8], own_at: usize) -> u32 {
    let sum = |part: &[u8]| part.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    !(sum(&bytes[..own_at]) + sum(&bytes[own_at + 4..]))
}

#[cfg(test)]
mod tests;
