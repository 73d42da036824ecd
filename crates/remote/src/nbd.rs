//! Disks behind an NBD server: a client of its own, over the sockets of this host.
//!
//! An export has no version of its own: whoever names it vouches that it is one point in time, as a snapshot is, or a disk that
//! nobody writes to.
//!
//! **Invariant**: an export is only read, and one that is another after a connection was lost (its length, its flags) is an
//! error, never read on.

mod bitmap;
mod covered;
mod error;
mod map;
mod negotiate;
mod pool;
mod socket;
mod tls;
mod transmit;
mod uri;
mod wire;

#[cfg(test)]
mod tests;

pub(crate) use bitmap::Bitmap;
pub use error::NbdError;
pub use negotiate::{Export, enter, greet, start_tls};
pub use transmit::{Extent, Transmission};
pub use uri::{NbdUri, TlsChoice, Transport};

use crate::RemoteDisk;
use failback_blockio::{DiskError, Operation, UnitSource};
use failback_image::ImageFormat;
use failback_model::limits::{NBD_CONNECTIONS_MAX, SEGMENT_MAX_BYTES};
use failback_model::{ByteRange, Code, DiskGeometry, SectorSize};
use map::ExtentMap;
use pool::{Connector, Patience, Pool};
use std::path::{Path, PathBuf};

/// The context of what is allocated, and its flag for what reads as zero.
const ALLOCATION: &str = "base:allocation";
const ZERO: u32 = 2;

/// A disk behind an NBD server.
#[derive(Debug)]
pub struct NbdDisk {
    name: PathBuf,
    pool: Pool,
    map: ExtentMap,
}

impl NbdDisk {
    /// Connects, with at most so many connections in the end.
    pub fn open(uri: &NbdUri, connections: usize) -> Result<Self, DiskError> {
        Self::open_with(uri, connections, Patience::default())
    }

    fn open_with(uri: &NbdUri, connections: usize, patience: Patience) -> Result<Self, DiskError> {
        let name = PathBuf::from(&uri.text);
        let pool = Connector::new(uri, Some(ALLOCATION), patience)
            .and_then(|connector| Pool::open(connector, connections.min(NBD_CONNECTIONS_MAX)))
            .map_err(|error| error.at(Operation::Open, &name, None))?;
        Ok(Self { name, pool, map: ExtentMap::new(|flags| flags & ZERO == 0) })
    }
}

impl UnitSource for NbdDisk {
    fn geometry(&self) -> DiskGeometry {
        let export = self.pool.export();
        let is_coarse = u64::from(export.min_block_bytes) >= SectorSize::B4096.bytes();
        let sector_size = if is_coarse { SectorSize::B4096 } else { SectorSize::B512 };
        DiskGeometry { length_bytes: export.length_bytes, sector_size }
    }

    fn name(&self) -> &Path {
        &self.name
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let length_bytes = self.pool.export().length_bytes;
        let range = ByteRange::at(offset_bytes, buffer.len() as u64);
        if range.is_none_or(|range| range.end() > length_bytes) {
            let reason = format!("the disk ends at {length_bytes}");
            return Err(
                DiskError::new(Code::ReadFailed, Operation::Read, &self.name, reason).at(offset_bytes)
            );
        }
        self.pool
            .with(|connection| read_any(connection, offset_bytes, buffer))
            .map_err(|error| error.at(Operation::Read, &self.name, offset_bytes))
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        let export = self.pool.export();
        if export.context.is_none() {
            // Nothing is known of holes: all of it is data.
            let is_within = from_bytes < export.length_bytes;
            return Ok(is_within.then(|| ByteRange::new(from_bytes, export.length_bytes)));
        }
        self.map
            .next(&self.pool, from_bytes)
            .map_err(|error| error.at(Operation::Seek, &self.name, from_bytes))
    }

    /// A connection has many requests under way for one read.
    fn read_bytes(&self) -> u64 {
        SEGMENT_MAX_BYTES
    }
}

impl RemoteDisk for NbdDisk {
    fn format(&self) -> ImageFormat {
        ImageFormat::Nbd
    }

    fn version(&self) -> String {
        format!("{} {}", self.name.display(), self.pool.export().length_bytes)
    }
}

/// Reads what need not lie on whole blocks of the server: their ends go through a block's memory.
fn read_any<S: std::io::Read + std::io::Write>(
    connection: &mut Transmission<S>,
    offset_bytes: u64,
    buffer: &mut [u8],
) -> Result<(), NbdError> {
    let block = connection.export().min_block_bytes as usize;
    let (mut at, mut rest) = (offset_bytes, buffer);
    while !rest.is_empty() {
        let (skip, whole) = ((at % block as u64) as usize, rest.len() - rest.len() % block);
        let count = if skip == 0 && whole > 0 { whole } else { rest.len().min(block - skip) };
        let (part, behind) = rest.split_at_mut(count);
        if skip == 0 && whole > 0 {
            connection.read(at, part)?;
        } else {
            let mut bounce = vec![0; block];
            connection.read(at - skip as u64, &mut bounce)?;
            part.copy_from_slice(&bounce[skip..skip + count]);
        }
        (at, rest) = (at + count as u64, behind);
    }
    Ok(())
}
