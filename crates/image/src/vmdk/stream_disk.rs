//! A streamOptimized disk that was written before.
//!
//! **Invariant**: it is never changed.

use super::embedded;
use super::stream::StreamExtent;
use crate::{Image, ImageFormat, ImageIdentity, Provisioning};
use failback_blockio::{Access, DiskError, Operation, ReadPath, UnitSource, Zeroing};
use failback_format::vmdk::descriptor::{CreateType, Descriptor};
use failback_model::{ByteRange, Code, DiskGeometry, Finding};
use std::path::{Path, PathBuf};

/// An open disk.
#[derive(Debug)]
pub(crate) struct StreamDisk {
    path: PathBuf,
    extent: StreamExtent,
    descriptor: Descriptor,
}

impl StreamDisk {
    /// The disk in `extent`, whose descriptor must say the same as its header.
    pub(super) fn open(path: &Path, extent: StreamExtent) -> Result<Self, DiskError> {
        let room = extent.read_descriptor()?;
        let length_bytes = extent.geometry().length_bytes;
        let descriptor =
            embedded::judge(path, &room, &CreateType::StreamOptimized, length_bytes, Access::Read)?;
        Ok(Self { path: path.into(), extent, descriptor })
    }

    /// The descriptor as it stands.
    pub(super) const fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn refuse<T>(&self, operation: Operation) -> Result<T, DiskError> {
        let reason = "a streamOptimized image is written once, from its start to its end";
        Err(DiskError::new(Code::ImageReadOnlyKind, operation, &self.path, reason))
    }
}

impl UnitSource for StreamDisk {
    fn geometry(&self) -> DiskGeometry {
        self.extent.geometry()
    }

    fn name(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.extent.read_at(offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.extent.next_data(from_bytes)
    }
}

impl Image for StreamDisk {
    fn identity(&self) -> ImageIdentity {
        embedded::identity(ImageFormat::VmdkStreamOptimized, &self.path, &self.descriptor)
    }

    fn provisioning(&self) -> Provisioning {
        Provisioning::Thin
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.extent.device().allocated_bytes()
    }

    fn write_at(&self, _offset_bytes: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        self.refuse(Operation::Write)
    }

    fn zero(&self, _range: ByteRange, _zeroing: Zeroing) -> Result<(), DiskError> {
        self.refuse(Operation::Zero)
    }

    fn drop_cached(&self) -> ReadPath {
        self.extent.drop_cached()
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn grow(&self, _length_bytes: u64) -> Result<(), DiskError> {
        self.refuse(Operation::Resize)
    }

    fn close(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        self.extent.check()
    }
}
