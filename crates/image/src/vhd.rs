//! VHD: the container of Azure's disks. Fixed ones are read, created and written in place, dynamic ones read.
//!
//! **Invariant**: what the footer says fits the file, or the image is refused when it is opened. A footer is moved
//! only by writing the new one durably before the old one goes.

mod dynamic;
mod fixed;

use crate::provision::{IsCancelled, provision};
use crate::raw::require_length;
use crate::{CreateOptions, DiskUuid, Image};
use dynamic::DynamicVhd;
use failback_blockio::{Access, Device, DiskError, FileDevice, NewFiles, Operation};
use failback_format::FormatError;
use failback_format::vhd::{FOOTER_BYTES, SECTOR_BYTES, VhdFooter, VhdKind};
use failback_model::{ByteRange, Code};
use fixed::FixedVhd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// 2000-01-01 00:00 UTC, where VHD counts seconds from.
const VHD_EPOCH: Duration = Duration::from_secs(946_684_800);

/// Opens an existing VHD and locks it.
pub fn open(path: &Path, access: Access) -> Result<Arc<dyn Image>, DiskError> {
    let device = FileDevice::open_file(path, access)?;
    device.lock()?;
    over(Arc::new(device), access)
}

/// Creates a fixed VHD; nothing stays behind where that fails.
pub fn create(path: &Path, options: &CreateOptions) -> Result<Arc<dyn Image>, DiskError> {
    create_unless(path, options, &|| false)
}

/// The same, stopped between two steps where `is_cancelled` says so.
pub(crate) fn create_unless(
    path: &Path,
    options: &CreateOptions,
    is_cancelled: IsCancelled<'_>,
) -> Result<Arc<dyn Image>, DiskError> {
    let length_bytes = options.length_bytes;
    let footer = new_footer(path, options)?;
    let mut files = NewFiles::new();
    let device: Arc<dyn Device> = Arc::new(files.create(path, length_bytes + FOOTER_BYTES)?);
    provision(device.as_ref(), ByteRange::new(0, length_bytes), options.provisioning(), is_cancelled)?;
    device.write_at(length_bytes, footer.as_bytes())?;
    device.sync()?;
    files.keep()?;
    Ok(Arc::new(FixedVhd::new(device, footer, length_bytes, options.provisioning())))
}

/// The footer of a new fixed VHD, or why there can be none like this.
pub(crate) fn new_footer(path: &Path, options: &CreateOptions) -> Result<VhdFooter, DiskError> {
    require_vhd_length(path, Operation::Create, options.length_bytes)?;
    VhdFooter::new_fixed(options.length_bytes, unique_id(options), seconds_since_2000())
        .map_err(|error| damaged(path, Operation::Create, options.length_bytes, error))
}

/// The disk that these bytes hold, whatever carries them.
pub fn over(device: Arc<dyn Device>, access: Access) -> Result<Arc<dyn Image>, DiskError> {
    let (footer, footer_at) = read_footer(device.as_ref())?;
    match footer.kind() {
        VhdKind::Fixed => Ok(Arc::new(FixedVhd::over(device, footer, footer_at)?)),
        VhdKind::Dynamic if access == Access::Write => Err(read_only(device.path(), Operation::Open)),
        VhdKind::Dynamic => Ok(Arc::new(DynamicVhd::over(device, footer)?)),
        VhdKind::Differencing => {
            let reason = "it is a differencing VHD, whose parent holds the rest of the disk";
            Err(DiskError::new(Code::ImageUnsupported, Operation::Open, device.path(), reason))
        }
    }
}

/// The footer and where it lies: behind everything, or, where that one is damaged, a dynamic disk's copy in front.
fn read_footer(device: &dyn Device) -> Result<(VhdFooter, u64), DiskError> {
    let fail = |at, error| damaged(device.path(), Operation::Open, at, error);
    let file_bytes = device.length_bytes();
    let Some(mut at) = file_bytes.checked_sub(FOOTER_BYTES) else {
        let reason = format!("{file_bytes} bytes hold no footer");
        return Err(fail(0, FormatError::new(0, reason)));
    };
    let mut tail = [0; FOOTER_BYTES as usize];
    device.read_at(at, &mut tail)?;
    if !VhdFooter::has_cookie(&tail) && VhdFooter::has_cookie(&tail[1..]) {
        // Versions before Virtual PC 2004 wrote 511 bytes; the one that is missing is zero in later ones.
        tail.copy_within(1.., 0);
        tail[FOOTER_BYTES as usize - 1] = 0;
        at += 1;
    }
    let tail_error = match VhdFooter::decode(&tail) {
        Ok(footer) => return Ok((footer, at)),
        Err(error) => error,
    };
    let mut head = [0; FOOTER_BYTES as usize];
    device.read_at(0, &mut head)?;
    match VhdFooter::decode(&head) {
        Ok(footer) if footer.kind() != VhdKind::Fixed => Ok((footer, at)),
        // A guest of a fixed disk may write what it likes at the file's start.
        _ => Err(fail(at, tail_error)),
    }
}

fn require_vhd_length(path: &Path, operation: Operation, length_bytes: u64) -> Result<(), DiskError> {
    require_length(path, operation, length_bytes)?;
    if length_bytes.is_multiple_of(SECTOR_BYTES) {
        return Ok(());
    }
    let reason = format!("a VHD holds whole sectors of 512 bytes, {length_bytes} bytes are not");
    Err(DiskError::new(Code::ImageSizeUnsupported, operation, path, reason))
}

fn unique_id(options: &CreateOptions) -> [u8; 16] {
    options.uuid.map_or_else(|| *uuid::Uuid::new_v4().as_bytes(), DiskUuid::bytes)
}

/// A clock before 2000 or after 2136 gives the nearest that VHD can say.
fn seconds_since_2000() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + VHD_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

fn read_only(path: &Path, operation: Operation) -> DiskError {
    let reason = "it is a dynamic VHD; only fixed ones are written in place";
    DiskError::new(Code::ImageReadOnlyKind, operation, path, reason)
}

/// A fault in the bytes that begin at `base_bytes` of the file.
fn damaged(path: &Path, operation: Operation, base_bytes: u64, error: FormatError) -> DiskError {
    let error = error.shifted(base_bytes);
    DiskError::new(Code::ImageDamaged, operation, path, error.reason).at(error.offset_bytes)
}

fn identity(format: crate::ImageFormat, footer: &VhdFooter, device: &dyn Device) -> crate::ImageIdentity {
    crate::ImageIdentity {
        format,
        uuid: Some(uuid::Uuid::from_bytes(footer.unique_id()).to_string()),
        content_id: None,
        adapter_type: None,
        files: vec![device.path().into()],
        version: None,
    }
}

#[cfg(test)]
mod tests;
