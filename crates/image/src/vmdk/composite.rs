//! The extent table: a disk as its extents one behind the other.
//!
//! **Invariant**: the extents cover the disk without gap or overlap; a call that passes an extent's end is cut there
//! and goes on in the next.

use super::extent::ExtentStore;
use super::parts::Parts;
use failback_blockio::{DiskError, Operation, ReadPath, Zeroing};
use failback_model::{ByteRange, Code, Finding};
use std::path::Path;
use std::sync::Arc;

/// One extent and where it lies on the disk.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Its bytes of the disk.
    pub(crate) disk: ByteRange,
    /// Where they are stored.
    pub(crate) store: Arc<dyn ExtentStore>,
}

/// All extents of a disk, in its order.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExtentTable {
    slots: Vec<Slot>,
}

/// A piece of a call: which extent, and the bytes of the disk that fall into it.
struct Piece<'a> {
    slot: &'a Slot,
    disk: ByteRange,
}

impl Piece<'_> {
    /// Its bytes counted from the extent's start.
    fn local(&self) -> ByteRange {
        let base = self.slot.disk.start();
        ByteRange::new(self.disk.start() - base, self.disk.end() - base)
    }
}

impl ExtentTable {
    /// The extents must follow one another from 0.
    pub(crate) fn new(slots: Vec<Slot>) -> Self {
        debug_assert!(slots.windows(2).all(|pair| pair[0].disk.end() == pair[1].disk.start()));
        // An extent of no bytes can never be asked for anything.
        Self { slots }
    }

    /// The extents.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Length of the disk.
    pub(crate) fn length_bytes(&self) -> u64 {
        self.slots.last().map_or(0, |last| last.disk.end())
    }

    /// The pieces of `range` in order, after a check that it lies on the disk.
    fn pieces(
        &self,
        name: &Path,
        operation: Operation,
        offset_bytes: u64,
        length_bytes: u64,
    ) -> Result<impl Iterator<Item = Piece<'_>>, DiskError> {
        let length = self.length_bytes();
        let Some(range) = ByteRange::at(offset_bytes, length_bytes).filter(|range| range.end() <= length)
        else {
            let reason = format!("{length_bytes} bytes from here pass the disk's end at {length}");
            let code = if operation == Operation::Read { Code::ReadFailed } else { Code::WriteFailed };
            return Err(DiskError::new(code, operation, name, reason).at(offset_bytes));
        };
        let first = self.slots.partition_point(|slot| slot.disk.end() <= range.start());
        Ok(self.slots[first..]
            .iter()
            .take_while(move |slot| slot.disk.start() < range.end())
            .filter_map(move |slot| Some(Piece { slot, disk: slot.disk.intersection(range)? })))
    }

    /// Fills `buffer` from `offset_bytes` of the disk.
    pub(crate) fn read_at(&self, name: &Path, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let mut rest = buffer;
        for piece in self.pieces(name, Operation::Read, offset_bytes, rest.len() as u64)? {
            let local = piece.local();
            let (part, behind) = rest.split_at_mut(local.length_bytes() as usize);
            piece.slot.store.read_at(local.start(), part)?;
            rest = behind;
        }
        Ok(())
    }

    /// Writes `parts` one behind the other from `offset_bytes` of the disk.
    pub(crate) fn write_at(&self, name: &Path, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        let length_bytes = parts.iter().map(|part| part.len() as u64).sum();
        let mut cursor = Parts::new(parts);
        for piece in self.pieces(name, Operation::Write, offset_bytes, length_bytes)? {
            let local = piece.local();
            if local.length_bytes() == length_bytes {
                return piece.slot.store.write_vectored_at(local.start(), parts);
            }
            let taken = cursor.take(local.length_bytes() as usize);
            piece.slot.store.write_vectored_at(local.start(), &taken)?;
        }
        Ok(())
    }

    /// Makes these bytes of the disk read as zero.
    pub(crate) fn zero(&self, name: &Path, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        for piece in self.pieces(name, Operation::Zero, range.start(), range.length_bytes())? {
            piece.slot.store.zero(piece.local(), zeroing)?;
        }
        Ok(())
    }

    /// First run of the disk at or after `from_bytes` that may hold data.
    pub(crate) fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        let first = self.slots.partition_point(|slot| slot.disk.end() <= from_bytes);
        for slot in &self.slots[first..] {
            let base = slot.disk.start();
            let run = slot.store.next_data(from_bytes.saturating_sub(base))?;
            let on_disk = run.map(|run| ByteRange::new(base + run.start(), base + run.end()));
            if let Some(run) = on_disk.and_then(|run| run.intersection(slot.disk)) {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    /// Lets go of what the kernel caches of any extent.
    pub(crate) fn drop_cached(&self) -> ReadPath {
        let paths = self.slots.iter().map(|slot| slot.store.drop_cached());
        paths.max().unwrap_or(ReadPath::Direct)
    }

    /// Flushes every extent.
    pub(crate) fn flush(&self) -> Result<(), DiskError> {
        self.slots.iter().try_for_each(|slot| slot.store.flush())
    }

    /// Closes every extent.
    pub(crate) fn close(&self) -> Result<(), DiskError> {
        self.slots.iter().try_for_each(|slot| slot.store.close())
    }

    /// Bytes all extents take.
    pub(crate) fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.slots.iter().try_fold(0, |sum: u64, slot| Ok(sum.saturating_add(slot.store.allocated_bytes()?)))
    }

    /// What whoever uses any extent should know first.
    pub(crate) fn warnings(&self) -> Vec<Finding> {
        self.slots.iter().flat_map(|slot| slot.store.warnings()).collect()
    }

    /// Faults of every extent.
    pub(crate) fn check(&self) -> Result<Vec<Finding>, DiskError> {
        let mut findings = Vec::new();
        for slot in &self.slots {
            findings.extend(slot.store.check()?);
        }
        Ok(findings)
    }
}

#[cfg(test)]
mod tests;
