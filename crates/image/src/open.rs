//! Opening and creating an image by what the user wrote.
//!
//! **Invariant**: the format is what the prefix or the extension says; the content of a container must agree with it,
//! and a raw disk's content is never asked.

use crate::check_create::{not_made, refuse_device_folder};
use crate::device::DeviceImage;
use crate::raw::RawImage;
use crate::{CreateOptions, FormatName, Image, ImageSpec, vhd, vhdx, vmdk};
use failback_blockio::{Access, Device, DiskError, FileDevice, Operation};
use failback_format::vmdk::descriptor::Descriptor;
use failback_model::Code;
use rustix::fs::FileType;
use std::path::Path;
use std::sync::Arc;

/// Bytes looked at at either end of a container to see whether it is one.
const PROBE_BYTES: u64 = 512;

/// Opens an existing image, locked against other users.
pub fn open(spec: &ImageSpec, access: Access) -> Result<Arc<dyn Image>, DiskError> {
    let path = spec.path.as_path();
    let format = format_of(spec)?;
    require_content(path, format)?;
    match format {
        FormatName::Raw => Ok(Arc::new(RawImage::open(path, access)?)),
        FormatName::Device => Ok(Arc::new(DeviceImage::open(path, access)?)),
        FormatName::Vmdk => vmdk::open(path, access),
        FormatName::Vhd => vhd::open(path, access),
        FormatName::Vhdx => vhdx::open(path, access),
    }
}

/// Creates an image that does not exist yet; nothing stays behind where that fails.
pub fn create(spec: &ImageSpec, options: &CreateOptions) -> Result<Arc<dyn Image>, DiskError> {
    create_unless(spec, options, &|| false)
}

/// The same, stopped where `is_cancelled` says so, which is asked now and then while space is taken. However it ends,
/// be it by a power cut, nothing has the image's name that is not whole, and the same call again is not in its own way.
pub fn create_unless(
    spec: &ImageSpec,
    options: &CreateOptions,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Arc<dyn Image>, DiskError> {
    let path = spec.path.as_path();
    refuse_device_folder(path)?;
    if exists(spec)? {
        let reason = "something of that name is there";
        return Err(DiskError::new(Code::ImageExists, Operation::Create, path, reason));
    }
    match spec.format_by_name() {
        Some(FormatName::Raw) => Ok(Arc::new(RawImage::create_unless(path, options, is_cancelled)?)),
        Some(FormatName::Vmdk) => vmdk::create_unless(path, options, is_cancelled),
        Some(FormatName::Vhd) => vhd::create_unless(path, options, is_cancelled),
        other => Err(not_made(path, other)),
    }
}

/// Whether something lies at the image's path, be it an image or not.
pub fn exists(spec: &ImageSpec) -> Result<bool, DiskError> {
    match std::fs::symlink_metadata(&spec.path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DiskError::io(Operation::Open, &spec.path, None, error)),
    }
}

/// The format that the name says, or that being a block device says.
fn format_of(spec: &ImageSpec) -> Result<FormatName, DiskError> {
    let path = spec.path.as_path();
    let disagree =
        |reason: String| Err(DiskError::new(Code::ImageFormatDisagrees, Operation::Open, path, reason));
    let stat = rustix::fs::stat(path).map_err(|errno| {
        let error = DiskError::io(Operation::Open, path, None, errno.into());
        if path.starts_with("/dev") {
            error.with_remedy("see lsblk for the devices there are")
        } else {
            error
        }
    })?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let reason = "it is a folder";
        return Err(DiskError::new(Code::OpenFailed, Operation::Open, path, reason)
            .with_remedy("name the image in it"));
    }
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    match spec.format {
        None if is_device => Ok(FormatName::Device),
        Some(FormatName::Raw | FormatName::Device) if is_device => Ok(FormatName::Device),
        Some(named) if is_device => disagree(format!("it is a block device and holds no {}", named.prefix())),
        Some(FormatName::Device) => disagree("it is no block device".into()),
        _ => spec.format_by_name().ok_or_else(|| {
            let reason = "its name has no known extension";
            DiskError::new(Code::ImageFormatUnknown, Operation::Open, path, reason)
        }),
    }
}

/// Refuses a container whose file does not begin or end as its format wants.
fn require_content(path: &Path, format: FormatName) -> Result<(), DiskError> {
    if matches!(format, FormatName::Raw | FormatName::Device) {
        return Ok(());
    }
    let device = FileDevice::open_file(path, Access::Read)?;
    let length_bytes = device.length_bytes();
    let probe_bytes = length_bytes.min(PROBE_BYTES);
    let mut head = vec![0; probe_bytes as usize];
    let mut tail = head.clone();
    device.read_at(0, &mut head)?;
    device.read_at(length_bytes - probe_bytes, &mut tail)?;
    if agrees(format, &head, &tail) {
        return Ok(());
    }
    let reason = match format {
        FormatName::Vmdk => {
            "it begins neither with a VMDK descriptor nor with a sparse extent's header; a flat extent is named by its descriptor"
        }
        FormatName::Vhd => "it has no VHD footer",
        _ => "it does not begin as a VHDX",
    };
    Err(DiskError::new(Code::ImageFormatDisagrees, Operation::Open, path, reason))
}

fn agrees(format: FormatName, head: &[u8], tail: &[u8]) -> bool {
    const VHD_COOKIE: &[u8] = b"conectix";
    match format {
        FormatName::Raw | FormatName::Device => true,
        FormatName::Vmdk => {
            head.starts_with(b"KDMV") || head.starts_with(b"COWD") || Descriptor::is_signature(head)
        }
        // Versions before Virtual PC 2004 wrote a footer of 511 bytes.
        FormatName::Vhd => {
            head.starts_with(VHD_COOKIE)
                || tail.starts_with(VHD_COOKIE)
                || tail.get(1..).is_some_and(|footer| footer.starts_with(VHD_COOKIE))
        }
        FormatName::Vhdx => head.starts_with(b"vhdxfile"),
    }
}
