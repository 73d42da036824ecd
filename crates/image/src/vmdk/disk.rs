//! A VMDK whose descriptor is a file of its own: `vmfs`, monolithicFlat, twoGbMaxExtentFlat and
//! twoGbMaxExtentSparse, all as one extent table behind one descriptor.
//!
//! **Invariant**: nothing is written to an extent before the descriptor's new content id is durable, and after one
//! failed flush nothing is done any more until the disk is opened anew.

use super::composite::ExtentTable;
use super::content::DescriptorFile;
use super::open::change_tracking;
use crate::{Image, ImageFormat, ImageIdentity, Provisioning};
use failback_blockio::{Access, DiskError, Operation, ReadPath, UnitSource, Zeroing};
use failback_model::{ByteRange, Code, DiskGeometry, Finding, SectorSize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// An open disk.
#[derive(Debug)]
pub(crate) struct VmdkDisk {
    /// As the user named it.
    pub(super) path: PathBuf,
    pub(super) access: Access,
    pub(super) format: ImageFormat,
    pub(super) provisioning: Provisioning,
    pub(super) descriptor: DescriptorFile,
    /// Replaced whole when the disk grows.
    pub(super) table: RwLock<Arc<ExtentTable>>,
    /// Why the disk is no longer used.
    pub(super) failed: OnceLock<String>,
}

impl VmdkDisk {
    pub(super) fn table(&self) -> Arc<ExtentTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refuse_failed(&self, operation: Operation) -> Result<(), DiskError> {
        match self.failed.get() {
            None => Ok(()),
            Some(first) => {
                let reason = format!("an earlier write of its metadata failed ({first}); open it again");
                Err(DiskError::new(Code::FlushFailed, operation, &self.path, reason))
            }
        }
    }

    /// Remembers the first failure that leaves unknown what is on the medium.
    pub(super) fn latch<T>(&self, result: Result<T, DiskError>) -> Result<T, DiskError> {
        if let Err(error) = &result {
            let _first_wins = self.failed.set(error.to_string());
        }
        result
    }

    /// What must be true before any byte of an extent changes.
    pub(super) fn begin_writing(&self, operation: Operation) -> Result<(), DiskError> {
        self.refuse_failed(operation)?;
        if self.access == Access::Read {
            let reason = "it was opened for reading only";
            return Err(DiskError::new(Code::WriteFailed, operation, &self.path, reason));
        }
        self.latch(self.descriptor.renew_content_id())
    }
}

impl UnitSource for VmdkDisk {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.table().length_bytes(), sector_size: SectorSize::B512 }
    }

    fn name(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.refuse_failed(Operation::Read)?;
        self.table().read_at(&self.path, offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.refuse_failed(Operation::Seek)?;
        self.table().next_data(from_bytes)
    }
}

impl Image for VmdkDisk {
    fn warnings(&self) -> Vec<Finding> {
        let tracked = change_tracking(&self.path, &self.descriptor.now());
        tracked.into_iter().chain(self.table().warnings()).collect()
    }

    fn identity(&self) -> ImageIdentity {
        let descriptor = self.descriptor.now();
        let mut files = vec![self.path.clone()];
        for extent in descriptor.extents() {
            let path = self.descriptor.folder().path_of(&super::file_name(extent));
            if !extent.name.is_empty() && !files.contains(&path) {
                files.push(path);
            }
        }
        ImageIdentity {
            format: self.format,
            uuid: descriptor.uuid(),
            content_id: Some(descriptor.content_id()),
            adapter_type: descriptor.adapter_type(),
            files,
            version: None,
        }
    }

    fn unwritable_ranges(&self) -> Vec<ByteRange> {
        let table = self.table();
        let without = table.slots().iter().filter(|slot| !slot.store.holds_data() && !slot.disk.is_empty());
        without.map(|slot| slot.disk).collect()
    }

    fn provisioning(&self) -> Provisioning {
        self.provisioning
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.table().allocated_bytes()
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_vectored_at(offset_bytes, &[bytes])
    }

    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        self.begin_writing(Operation::Write)?;
        self.table().write_at(&self.path, offset_bytes, parts)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        self.begin_writing(Operation::Zero)?;
        self.table().zero(&self.path, range, zeroing)
    }

    fn drop_cached(&self) -> ReadPath {
        self.table().drop_cached()
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.refuse_failed(Operation::Flush)?;
        // The descriptor became durable before the first write; only the extents can hold anything new.
        self.latch(self.table().flush())
    }

    fn check_grow(&self, length_bytes: u64) -> Result<(), DiskError> {
        super::grow::check(self, length_bytes)
    }

    fn grow(&self, length_bytes: u64) -> Result<(), DiskError> {
        super::grow::grow(self, length_bytes)
    }

    fn close(&self) -> Result<(), DiskError> {
        self.refuse_failed(Operation::Flush)?;
        self.latch(self.table().close())
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        self.refuse_failed(Operation::Read)?;
        self.table().check()
    }
}

#[cfg(test)]
mod tests;
