//! The traits that bytes move through.
//!
//! A [`Device`] is one file or block device of this host. A [`UnitSource`] is a disk as its guest sees it, wherever it
//! lies. Images are made of devices and are unit sources.

use crate::DiskError;
use failback_model::limits::UNIT_MIN_BYTES;
use failback_model::{ByteRange, DiskGeometry, SectorSize};
use std::fmt::Debug;
use std::path::Path;

/// How zeros are put onto a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroing {
    /// Keep or make the allocation: `FALLOC_FL_ZERO_RANGE`, `BLKZEROOUT`, or writing zeros.
    KeepAllocation,
    /// Give the space back where the medium can: `FALLOC_FL_PUNCH_HOLE`; devices are never discarded.
    Punch,
}

/// Where reads come from, the surest first. Of a disk in several files, the least sure one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadPath {
    /// The medium: they go past the page cache (`O_DIRECT`).
    Direct,
    /// The medium: nothing of it is in the page cache any more.
    CacheDropped,
    /// Perhaps the page cache: it keeps pages, and reads cannot go past it.
    Cached,
}

/// One file or block device, addressed by byte. Calls may come from several threads at once.
pub trait Device: Send + Sync + Debug {
    /// The path it was opened by, for messages.
    fn path(&self) -> &Path;

    /// Its length in bytes now.
    fn length_bytes(&self) -> u64;

    /// Logical sector size; 512 for files.
    fn sector_size(&self) -> SectorSize;

    /// Fills `buffer` from `offset_bytes`. A file that ends before is an error with the offset of its end.
    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes all of `bytes` at `offset_bytes`.
    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Writes `parts` one behind the other from `offset_bytes`.
    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        let mut at = offset_bytes;
        for part in parts {
            self.write_at(at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Makes these bytes read as zero.
    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError>;

    /// Takes space for these bytes of a file, which keep reading as they do, and lengthens the file if need be; `false`
    /// where that cannot be done ahead of writing.
    fn reserve(&self, _range: ByteRange) -> Result<bool, DiskError> {
        Ok(false)
    }

    /// Bytes it takes on its medium; where only holes are known, the bytes that are none.
    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        let (mut at, mut sum) = (0, 0);
        while let Some(data) = self.next_data(at)? {
            sum += data.length_bytes();
            at = data.end();
        }
        Ok(sum)
    }

    /// First run of bytes at or after `from_bytes` that may hold data; `None` where the rest is a hole. What lies
    /// between reads as zero. Without hole support: all the rest.
    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError>;

    /// Changes the length of a file.
    fn set_length(&self, length_bytes: u64) -> Result<(), DiskError>;

    /// Asks the medium to start taking these bytes; says nothing about durability.
    fn start_writeback(&self, range: ByteRange);

    /// Lets go of what the kernel caches of it, so that the next reads come from the medium; says whether they do.
    fn drop_cached(&self) -> ReadPath {
        ReadPath::Cached
    }

    /// Returns once all that was written is durable (`fdatasync`). After one failure every further call on this
    /// device fails: the kernel may have dropped the pages.
    fn sync(&self) -> Result<(), DiskError>;
}

/// A disk that can be read, as its guest sees it; local or remote. Units are read in any order from any thread.
pub trait UnitSource: Send + Sync {
    /// Length and sector size as the guest sees them.
    fn geometry(&self) -> DiskGeometry;

    /// What to call it in messages.
    fn name(&self) -> &Path;

    /// Fills `buffer` with the disk's bytes from `offset_bytes`. The engine asks for no more than [`Self::read_bytes`], or a block.
    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// First run of the disk's bytes at or after `from_bytes` that may hold data; `None` where the rest reads as zero.
    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError>;

    /// Largest read that pays: the engine joins neighbouring blocks up to that, never more than
    /// [`SEGMENT_MAX_BYTES`](failback_model::limits::SEGMENT_MAX_BYTES), and never across what need not be read. What is near
    /// is read in pieces that stay in the processor's cache; what is behind a network in few requests.
    fn read_bytes(&self) -> u64 {
        UNIT_MIN_BYTES
    }
}

/// Names the bytes of a disk that may have changed since the state that the target sealed: a hint about where to look, never
/// a proof. Digests decide.
pub trait ChangeFeed: Send + Sync {
    /// First run at or after `from_bytes` that may differ from the base; `None` where the rest is unchanged.
    fn next_changed(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError>;
}
