//! Block devices of this host: disks hot-added to it, or attached to it.
//!
//! **Invariant**: a device that this host uses in any way it can name (mounted, swap, part of LVM, md or dm, or the
//! disk it runs from) is never opened for writing; what it uses in other ways is refused by the kernel (`O_EXCL`).

mod guard;
pub(crate) mod host;

use crate::raw::{require_inside, require_length};
use crate::{Image, ImageFormat, ImageIdentity, Provisioning};
use failback_blockio::{
    Access, Device, DiskError, FileDevice, FileId, Operation, ReadPath, UnitSource, Zeroing,
};
use failback_model::{ByteRange, Code, DiskGeometry, Finding};
use host::{DeviceNumber, Host};
use std::path::Path;

/// A block device.
#[derive(Debug)]
pub struct DeviceImage {
    device: FileDevice,
    number: DeviceNumber,
    serial: Option<String>,
}

impl DeviceImage {
    /// Opens a block device; for writing, only one that nothing else on this host uses.
    pub fn open(path: &Path, access: Access) -> Result<Self, DiskError> {
        let host = Host::this();
        let number = DeviceNumber::of_path(path)
            .map_err(|error| DiskError::io(Operation::Open, path, None, error))?
            .ok_or_else(|| {
                let reason = "it is no block device";
                DiskError::new(Code::ImageFormatDisagrees, Operation::Open, path, reason)
            })?;
        if access == Access::Write {
            guard::require_unused(&host, path, number)?;
        }
        let device = FileDevice::open(path, access)?;
        if device.id() != FileId::Device(number.0) {
            let reason = "it became another device while it was opened";
            return Err(DiskError::new(Code::ChangedMeanwhile, Operation::Open, path, reason));
        }
        device.lock()?;
        require_length(path, Operation::Open, device.length_bytes())?;
        Ok(Self { device, number, serial: host.serial(number) })
    }
}

impl UnitSource for DeviceImage {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.device.length_bytes(), sector_size: self.device.sector_size() }
    }

    fn name(&self) -> &Path {
        self.device.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.device.read_at(offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.device.next_data(from_bytes)
    }
}

impl Image for DeviceImage {
    fn warnings(&self) -> Vec<Finding> {
        if self.device.access() == Access::Write {
            return Vec::new();
        }
        let mounted = guard::mounted_for_writing(&Host::this(), self.number);
        let remedy = "unmount it, remount it read-only, or copy a snapshot of it: what changes while it is read is torn";
        let warning = |evidence| Finding::warning(Code::DeviceMounted, evidence).with_remedy(remedy);
        mounted.map(warning).into_iter().collect()
    }

    fn identity(&self) -> ImageIdentity {
        ImageIdentity {
            format: ImageFormat::Device,
            uuid: self.serial.clone(),
            content_id: None,
            adapter_type: None,
            files: vec![self.device.path().into()],
            version: None,
        }
    }

    /// What provides the device may be thin; from here it is a range of bytes that is all there.
    fn provisioning(&self) -> Provisioning {
        Provisioning::Thick
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.device.allocated_bytes()
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_vectored_at(offset_bytes, &[bytes])
    }

    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        let length_bytes = parts.iter().map(|part| part.len() as u64).sum();
        require_inside(&self.device, Operation::Write, offset_bytes, length_bytes)?;
        self.device.write_vectored_at(offset_bytes, parts)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        require_inside(&self.device, Operation::Zero, range.start(), range.length_bytes())?;
        self.device.zero(range, zeroing)
    }

    fn flush(&self) -> Result<(), DiskError> {
        if self.device.access() == Access::Write { self.device.sync() } else { Ok(()) }
    }

    fn drop_cached(&self) -> ReadPath {
        self.device.drop_cached()
    }

    fn grow(&self, length_bytes: u64) -> Result<(), DiskError> {
        let have_bytes = self.device.length_bytes();
        let reason = format!(
            "it has {have_bytes} bytes: extend the disk to {length_bytes} bytes where it is provided"
        );
        Err(DiskError::new(Code::TargetTooSmall, Operation::Resize, self.name(), reason))
    }

    fn close(&self) -> Result<(), DiskError> {
        self.flush()
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        Ok(Vec::new())
    }
}
