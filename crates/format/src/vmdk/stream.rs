//! What only a streamOptimized file has: markers before everything, and deflated grains.
//!
//! **Invariant**: inflating never makes more than one grain, whatever the compressed bytes say.

use super::sparse::{FLAG_COMPRESSED, FLAG_MARKERS, FLAG_NEWLINES, SparseHeader};
use super::sparse::{GrainGeometry, HEADER_BYTES, SparseError};
use crate::field::{put, u32_le, u64_le};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Bytes before a grain's compressed bytes.
pub const GRAIN_MARKER_BYTES: usize = 12;
/// Sectors before the first marker of the files made here.
pub const STREAM_OVERHEAD_SECTORS: u64 = 128;

/// Deflating is to keep up with a disk; the levels above take twice the time for a few percent.
const LEVEL: Compression = Compression::new(3);

/// A sector that announces what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// A compressed grain: where it lies on the disk, and its compressed length. Its bytes follow in the same sector.
    Grain {
        /// First sector of the grain on the disk.
        disk_sector: u64,
        /// Compressed bytes.
        size_bytes: u32,
    },
    /// Nothing follows.
    EndOfStream,
    /// A grain table of so many sectors follows.
    Table {
        /// Sectors that follow.
        sectors: u64,
    },
    /// The grain directory follows.
    Directory {
        /// Sectors that follow.
        sectors: u64,
    },
    /// The footer follows.
    Footer,
}

impl Marker {
    /// Decodes the marker whose first 16 bytes these are; `at` is where they lie in the file.
    pub fn parse(bytes: &[u8; 16], at: u64) -> Result<Self, SparseError> {
        let (value, size_bytes, kind) = (u64_le(bytes, 0), u32_le(bytes, 8), u32_le(bytes, 12));
        match (size_bytes, kind) {
            (1.., _) => Ok(Self::Grain { disk_sector: value, size_bytes }),
            (0, 0) => Ok(Self::EndOfStream),
            (0, 1) => Ok(Self::Table { sectors: value }),
            (0, 2) => Ok(Self::Directory { sectors: value }),
            (0, 3) => Ok(Self::Footer),
            _ => Err(SparseError::damaged(at + 12, format!("marker of unknown type {kind}"))),
        }
    }

    /// Encodes it; a grain's bytes follow after [`GRAIN_MARKER_BYTES`], anything else in the next sector.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let (value, size_bytes, kind) = match self {
            Self::Grain { disk_sector, size_bytes } => (disk_sector, size_bytes, 0_u32),
            Self::EndOfStream => (0, 0, 0),
            Self::Table { sectors } => (sectors, 0, 1),
            Self::Directory { sectors } => (sectors, 0, 2),
            Self::Footer => (1, 0, 3),
        };
        put(&mut bytes, 0, &value.to_le_bytes());
        put(&mut bytes, 8, &size_bytes.to_le_bytes());
        put(&mut bytes, 12, &kind.to_le_bytes());
        bytes
    }
}

/// The header that begins a new stream, its directory left to the footer.
pub fn new_stream_header(capacity_sectors: u64) -> Result<SparseHeader, SparseError> {
    let sparse = super::sparse::new_header(capacity_sectors, true)?;
    Ok(SparseHeader {
        version: 3,
        flags: FLAG_NEWLINES | FLAG_COMPRESSED | FLAG_MARKERS,
        redundant_directory_sector: 0,
        directory_sector: super::sparse::DIRECTORY_IN_FOOTER,
        overhead_sectors: STREAM_OVERHEAD_SECTORS,
        compression: 1,
        ..sparse
    })
}

/// Most compressed bytes that a grain may take: what a foreign writer can need, and no more.
pub const fn compressed_max_bytes(geometry: GrainGeometry) -> u64 {
    geometry.grain_bytes() + geometry.grain_bytes() / 2 + 512
}

/// Deflates a whole grain as a zlib stream behind its marker, padded to whole sectors.
pub fn pack_grain(disk_sector: u64, grain: &[u8]) -> Vec<u8> {
    // Room for stored blocks, which cost a few bytes for each 16 KiB: what does not deflate into it is stored.
    let mut packed = vec![0; GRAIN_MARKER_BYTES + grain.len() + grain.len() / 1024 + 64];
    let mut deflate = |level| {
        let mut compress = Compress::new(level, true);
        let done = compress.compress(grain, &mut packed[GRAIN_MARKER_BYTES..], FlushCompress::Finish);
        matches!(done, Ok(Status::StreamEnd)).then(|| compress.total_out() as u32)
    };
    let size_bytes = deflate(LEVEL).or_else(|| deflate(Compression::none())).expect("stored blocks fit");
    let marker = Marker::Grain { disk_sector, size_bytes }.to_bytes();
    packed[..GRAIN_MARKER_BYTES].copy_from_slice(&marker[..GRAIN_MARKER_BYTES]);
    packed.truncate(GRAIN_MARKER_BYTES + size_bytes as usize);
    packed.resize(packed.len().next_multiple_of(HEADER_BYTES), 0);
    packed
}

/// Inflates a grain into `grain`; what the stream leaves of it is zero. `at` is where `compressed` lies in the file.
///
/// Fewer than `needed` bytes, more than `grain` holds, or a checksum that does not match are damage.
pub fn inflate_grain(compressed: &[u8], grain: &mut [u8], needed: usize, at: u64) -> Result<(), SparseError> {
    let mut inflate = Decompress::new(true);
    let status = inflate
        .decompress(compressed, grain, FlushDecompress::Finish)
        .map_err(|error| SparseError::damaged(at, format!("grain does not inflate: {error}")))?;
    let length = inflate.total_out() as usize;
    if status != Status::StreamEnd {
        let reason = if length == grain.len() { "inflates to more than a grain" } else { "is cut short" };
        return Err(SparseError::damaged(at, format!("compressed grain {reason}")));
    }
    if length < needed {
        let reason = format!("grain inflates to {length} bytes where {needed} are needed");
        return Err(SparseError::damaged(at, reason));
    }
    grain[length..].fill(0);
    Ok(())
}
