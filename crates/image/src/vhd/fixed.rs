//! Fixed VHD: the disk's bytes, then the footer.
//!
//! **Invariant**: the file ends with a footer that describes it, also after a power cut while it grows. The new
//! footer is written by the very call that lengthens the file, and made durable; file systems that publish a length
//! after the bytes under it (ext4 in ordered mode, xfs, btrfs) so never show the one without the other. Only then is
//! the old footer zeroed. In between, the old footer's bytes can be read as the first sector behind the old end:
//! whoever grows a disk compares what it holds anyway.

use super::{damaged, identity, require_vhd_length};
use crate::provision::{provision, provisioning_of, zero_flat};
use crate::{Image, ImageFormat, ImageIdentity, Provisioning};
use failback_blockio::{Device, DiskError, Operation, ReadPath, UnitSource, Zeroing};
use failback_format::FormatError;
use failback_format::vhd::{FOOTER_BYTES, VhdFooter};
use failback_model::{ByteRange, Code, DiskGeometry, Finding, SectorSize};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A fixed VHD.
#[derive(Debug)]
pub(super) struct FixedVhd {
    device: Arc<dyn Device>,
    length_bytes: AtomicU64,
    tail: Mutex<Tail>,
    provisioning: Provisioning,
    was_written: AtomicBool,
}

/// The footer and where it lies.
#[derive(Debug, Clone)]
struct Tail {
    footer: VhdFooter,
    at_bytes: u64,
}

impl FixedVhd {
    pub(super) fn new(
        device: Arc<dyn Device>,
        footer: VhdFooter,
        footer_at: u64,
        provisioning: Provisioning,
    ) -> Self {
        Self {
            device,
            length_bytes: AtomicU64::new(footer.length_bytes()),
            tail: Mutex::new(Tail { footer, at_bytes: footer_at }),
            provisioning,
            was_written: AtomicBool::new(false),
        }
    }

    /// Checks that the disk fits in front of its footer.
    pub(super) fn over(
        device: Arc<dyn Device>,
        footer: VhdFooter,
        footer_at: u64,
    ) -> Result<Self, DiskError> {
        let length_bytes = footer.length_bytes();
        if length_bytes > footer_at {
            let reason =
                format!("its footer asks for {length_bytes} bytes in front of it, there are {footer_at}");
            let error = FormatError::new(0, reason);
            return Err(damaged(device.path(), Operation::Open, footer_at, error));
        }
        let provisioning = provisioning_of(device.as_ref(), length_bytes)?;
        Ok(Self::new(device, footer, footer_at, provisioning))
    }

    fn tail(&self) -> Tail {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The footer and what lies around it are not the disk's.
    fn require_inside(
        &self,
        operation: Operation,
        offset_bytes: u64,
        length_bytes: u64,
    ) -> Result<(), DiskError> {
        let end = self.length_bytes.load(Ordering::Relaxed);
        if ByteRange::at(offset_bytes, length_bytes).is_some_and(|range| range.end() <= end) {
            return Ok(());
        }
        let code = if operation == Operation::Read { Code::ReadFailed } else { Code::WriteFailed };
        let reason = format!("{length_bytes} bytes pass the disk's end at {end}");
        Err(DiskError::new(code, operation, self.name(), reason).at(offset_bytes))
    }

    /// The footer of a longer disk, or why there can be none.
    fn longer_footer(&self, tail: &Tail, length_bytes: u64) -> Result<VhdFooter, DiskError> {
        require_vhd_length(self.name(), Operation::Resize, length_bytes)?;
        let refuse = |code, reason: String| Err(DiskError::new(code, Operation::Resize, self.name(), reason));
        let old_bytes = tail.footer.length_bytes();
        if length_bytes < old_bytes {
            let reason = format!("it has {old_bytes} bytes and is never shortened to {length_bytes}");
            return refuse(Code::WriteFailed, reason);
        }
        if tail.at_bytes != old_bytes || self.device.length_bytes() != old_bytes + FOOTER_BYTES {
            return refuse(Code::ImageUnsupported, "its footer does not lie right behind the disk".into());
        }
        let footer = tail.footer.with_length(length_bytes);
        footer.map_err(|error| damaged(self.name(), Operation::Resize, old_bytes, error))
    }

    /// Puts the footer for a longer disk behind it. Fails without having changed the disk.
    fn append_footer(&self, footer: &VhdFooter, old_bytes: u64) -> Result<(), DiskError> {
        let new_bytes = footer.length_bytes();
        self.device.write_at(new_bytes, footer.as_bytes())?;
        self.device.sync()?;
        let added = ByteRange::new(old_bytes + FOOTER_BYTES, new_bytes);
        provision(self.device.as_ref(), added, self.provisioning, &|| false)
    }
}

impl UnitSource for FixedVhd {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry {
            length_bytes: self.length_bytes.load(Ordering::Relaxed),
            sector_size: SectorSize::B512,
        }
    }

    fn name(&self) -> &Path {
        self.device.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.require_inside(Operation::Read, offset_bytes, buffer.len() as u64)?;
        self.device.read_at(offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        let disk = ByteRange::new(0, self.length_bytes.load(Ordering::Relaxed));
        if from_bytes >= disk.end() {
            return Ok(None);
        }
        Ok(self.device.next_data(from_bytes)?.and_then(|data| data.intersection(disk)))
    }
}

impl Image for FixedVhd {
    fn identity(&self) -> ImageIdentity {
        identity(ImageFormat::VhdFixed, &self.tail().footer, self.device.as_ref())
    }

    fn provisioning(&self) -> Provisioning {
        self.provisioning
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.device.allocated_bytes()
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_vectored_at(offset_bytes, &[bytes])
    }

    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        let length_bytes = parts.iter().map(|part| part.len() as u64).sum();
        self.require_inside(Operation::Write, offset_bytes, length_bytes)?;
        self.was_written.store(true, Ordering::Relaxed);
        self.device.write_vectored_at(offset_bytes, parts)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        self.require_inside(Operation::Zero, range.start(), range.length_bytes())?;
        self.was_written.store(true, Ordering::Relaxed);
        zero_flat(self.device.as_ref(), range, zeroing, self.provisioning)
    }

    fn drop_cached(&self) -> ReadPath {
        self.device.drop_cached()
    }

    fn flush(&self) -> Result<(), DiskError> {
        if self.was_written.load(Ordering::Relaxed) { self.device.sync() } else { Ok(()) }
    }

    fn check_grow(&self, length_bytes: u64) -> Result<(), DiskError> {
        self.longer_footer(&self.tail(), length_bytes).map(|_| ())
    }

    fn grow(&self, length_bytes: u64) -> Result<(), DiskError> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let old_bytes = tail.footer.length_bytes();
        if length_bytes == old_bytes {
            return Ok(());
        }
        let footer = self.longer_footer(&tail, length_bytes)?;
        let file_bytes = self.device.length_bytes();
        self.was_written.store(true, Ordering::Relaxed);
        self.append_footer(&footer, old_bytes).inspect_err(|_| {
            // The old footer is where it was: shortened, the file is the old image again. The error returned says why.
            let _shortened = self.device.set_length(file_bytes);
        })?;
        let old_footer = ByteRange::new(old_bytes, old_bytes + FOOTER_BYTES);
        self.device.zero(old_footer, Zeroing::KeepAllocation)?;
        self.device.sync()?;
        *tail = Tail { footer, at_bytes: length_bytes };
        self.length_bytes.store(length_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn close(&self) -> Result<(), DiskError> {
        self.flush()
    }

    /// Opening has checked what must hold; this is what other readers may stumble over. The geometry is not: qemu
    /// writes the largest there is where it is to keep an exact size.
    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        let Tail { footer, at_bytes } = self.tail();
        let mut findings = Vec::new();
        if at_bytes != footer.length_bytes() {
            let spare_bytes = at_bytes - footer.length_bytes();
            let evidence = format!(
                "{}: {spare_bytes} bytes lie between the disk's end and the footer",
                self.name().display()
            );
            findings.push(Finding::warning(Code::ImageCheck, evidence));
        }
        Ok(findings)
    }
}
