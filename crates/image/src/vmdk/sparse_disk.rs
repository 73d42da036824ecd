//! A monolithicSparse disk: one sparse extent with its descriptor inside.
//!
//! **Invariant**: the content id changes once, durably, before the first byte of new data; a disk that is only read is
//! never touched.

use super::content::fresh_content_id;
use super::embedded;
use super::extent::ExtentStore;
use super::open::change_tracking;
use super::sparse::SparseExtent;
use crate::{Image, ImageFormat, ImageIdentity, Provisioning};
use failback_blockio::{Access, DiskError, Operation, ReadPath, UnitSource, Zeroing};
use failback_format::vmdk::descriptor::{CreateType, Descriptor, is_content_id};
use failback_model::{ByteRange, Code, DiskGeometry, Finding};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An open disk.
#[derive(Debug)]
pub(crate) struct SparseDisk {
    path: PathBuf,
    access: Access,
    extent: SparseExtent,
    descriptor: Mutex<Descriptor>,
    is_renewed: AtomicBool,
}

impl SparseDisk {
    /// The disk in `extent`, whose descriptor must say the same as its header.
    pub(super) fn open(path: &Path, extent: SparseExtent, access: Access) -> Result<Self, DiskError> {
        if access == Access::Write {
            extent.require_writable(Operation::Open)?;
        }
        let length_bytes = extent.geometry().length_bytes;
        let room = extent.read_descriptor()?;
        let descriptor = embedded::judge(path, &room, &CreateType::MonolithicSparse, length_bytes, access)?;
        Ok(Self::new(path, extent, access, descriptor, false))
    }

    /// A disk that was just made: its content id is nobody else's yet.
    pub(super) fn created(path: &Path, extent: SparseExtent) -> Result<Self, DiskError> {
        let disk = Self::open(path, extent, Access::Write)?;
        disk.is_renewed.store(true, Ordering::Release);
        Ok(disk)
    }

    fn new(
        path: &Path,
        extent: SparseExtent,
        access: Access,
        descriptor: Descriptor,
        is_renewed: bool,
    ) -> Self {
        let is_renewed = AtomicBool::new(is_renewed);
        Self { path: path.into(), access, extent, descriptor: Mutex::new(descriptor), is_renewed }
    }

    /// The descriptor as it stands.
    pub(super) fn descriptor(&self) -> Descriptor {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Descriptor> {
        // The value is replaced whole after the medium was: a panic in between leaves it true.
        self.descriptor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_writing(&self, operation: Operation) -> Result<(), DiskError> {
        if self.access == Access::Read {
            let reason = "it was opened for reading only";
            return Err(DiskError::new(Code::WriteFailed, operation, &self.path, reason));
        }
        if self.is_renewed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut now = self.lock();
        if self.is_renewed.load(Ordering::Acquire) {
            return Ok(());
        }
        let renewed = now
            .with_content_id_in_place(fresh_content_id_of(&now))
            .map_err(|error| DiskError::new(error.code(), operation, &self.path, error.to_string()))?;
        self.extent.write_descriptor(renewed.bytes())?;
        *now = renewed;
        self.is_renewed.store(true, Ordering::Release);
        Ok(())
    }
}

impl UnitSource for SparseDisk {
    fn geometry(&self) -> DiskGeometry {
        self.extent.geometry()
    }

    fn name(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        UnitSource::read_at(&self.extent, offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        UnitSource::next_data(&self.extent, from_bytes)
    }
}

impl Image for SparseDisk {
    fn warnings(&self) -> Vec<Finding> {
        change_tracking(&self.path, &self.lock()).into_iter().chain(self.extent.warnings()).collect()
    }

    fn identity(&self) -> ImageIdentity {
        embedded::identity(ImageFormat::VmdkMonolithicSparse, &self.path, &self.lock())
    }

    fn provisioning(&self) -> Provisioning {
        Provisioning::Thin
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.extent.allocated_bytes()
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_vectored_at(offset_bytes, &[bytes])
    }

    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        if parts.iter().all(|part| part.is_empty()) {
            return Ok(());
        }
        self.begin_writing(Operation::Write)?;
        self.extent.write_vectored_at(offset_bytes, parts)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        if range.is_empty() {
            return Ok(());
        }
        self.begin_writing(Operation::Zero)?;
        self.extent.zero(range, zeroing)
    }

    fn drop_cached(&self) -> ReadPath {
        self.extent.drop_cached()
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.extent.flush()
    }

    fn grow(&self, _length_bytes: u64) -> Result<(), DiskError> {
        let reason = "a sparse VMDK has no room for more grain tables; convert it into a larger image";
        Err(DiskError::new(Code::ImageUnsupported, Operation::Resize, &self.path, reason))
    }

    fn close(&self) -> Result<(), DiskError> {
        self.extent.close()
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        self.extent.check()
    }
}

/// A fresh content id of as many digits as the old one has, or of eight where those are too few to be unlike others.
fn fresh_content_id_of(now: &Descriptor) -> u32 {
    const LEAST_DIGITS: usize = 6;
    let digits = if now.content_id_digits() < LEAST_DIGITS { 8 } else { now.content_id_digits().min(8) };
    loop {
        let id = fresh_content_id(now.content_id()) >> (32 - 4 * digits);
        if is_content_id(id) && id != now.content_id() {
            return id;
        }
    }
}
