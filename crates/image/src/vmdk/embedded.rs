//! Disks of one hosted file with the descriptor inside: monolithicSparse and streamOptimized.
//!
//! **Invariant**: a descriptor that passed describes the file that holds it: one sparse extent as long as the header's
//! capacity, no parent, and the kind that the header's flags say.

use super::create::{checked_length, plan, stem_of};
use super::folder::Folder;
use super::guard;
use super::sparse::{SparseExtent, read_header};
use super::sparse_disk::SparseDisk;
use super::stream::StreamExtent;
use super::stream_disk::StreamDisk;
use super::stream_writer::StreamWriter;
use crate::{CreateOptions, Image, ImageFormat, ImageIdentity, VmdkType};
use failback_blockio::{Access, Device, DiskError, FileDevice, NewFiles, Operation, ReadMode};
use failback_format::vmdk::descriptor::{CreateType, Descriptor, ExtentKind};
use failback_model::Code;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

/// Opens the hosted file `name` of `folder`; `path` is what the user called it.
pub(super) fn open(
    path: &Path,
    folder: &Folder,
    name: &OsStr,
    access: Access,
) -> Result<Arc<dyn Image>, DiskError> {
    let file = folder.open(name, access == Access::Write)?;
    let device = FileDevice::from_file(&folder.path_of(name), file, access, ReadMode::Auto)?;
    device.lock()?;
    let (disk, descriptor) = open_device(path, Arc::new(device), access)?;
    if access == Access::Write {
        guard::refuse_parent(folder, name, &descriptor)?;
    }
    Ok(disk)
}

/// Opens a hosted file on any device, without a look at what lies beside it.
pub fn open_on(device: Arc<dyn Device>, access: Access) -> Result<Arc<dyn Image>, DiskError> {
    let path = device.path().to_owned();
    Ok(open_device(&path, device, access)?.0)
}

fn open_device(
    path: &Path,
    device: Arc<dyn Device>,
    access: Access,
) -> Result<(Arc<dyn Image>, Descriptor), DiskError> {
    let (_, header) = read_header(&*device, 0)?;
    if !header.is_compressed() {
        let disk = SparseDisk::open(path, SparseExtent::open(device)?, access)?;
        let descriptor = disk.descriptor();
        return Ok((Arc::new(disk), descriptor));
    }
    if access == Access::Write {
        let reason = "a streamOptimized image is written once, from its start to its end";
        return Err(DiskError::new(Code::ImageReadOnlyKind, Operation::Open, path, reason));
    }
    let disk = StreamDisk::open(path, StreamExtent::open(device)?)?;
    let descriptor = disk.descriptor().clone();
    Ok((Arc::new(disk), descriptor))
}

/// Makes a new disk of one hosted file; on a failure nothing is left.
pub(super) fn create(path: &Path, options: &CreateOptions) -> Result<Arc<dyn Image>, DiskError> {
    let (folder, name) = Folder::of_new(path)?;
    let text = new_text(path, &name, options)?;
    let mut files = NewFiles::new();
    let device = Arc::new(files.create(&folder.path_of(&name), 0)?);
    create_device(path, device, options, &text, files)
}

/// Makes a new disk of one hosted file on any device, which is empty.
pub fn create_on(device: Arc<dyn Device>, options: &CreateOptions) -> Result<Arc<dyn Image>, DiskError> {
    let path = device.path().to_owned();
    let text = new_text(&path, path.as_os_str(), options)?;
    create_device(&path, device, options, &text, NewFiles::new())
}

fn new_text(path: &Path, name: &OsStr, options: &CreateOptions) -> Result<String, DiskError> {
    checked_length(path, Operation::Create, options.length_bytes)?;
    Ok(plan(path, stem_of(path, name)?, options)?.to_text())
}

fn create_device(
    path: &Path,
    device: Arc<dyn Device>,
    options: &CreateOptions,
    text: &str,
    files: NewFiles,
) -> Result<Arc<dyn Image>, DiskError> {
    Ok(match options.vmdk_type {
        // It is no image before it is finished, so it has no name before.
        VmdkType::StreamOptimized => {
            Arc::new(StreamWriter::create(path, device, options.length_bytes, text)?.named_by(files))
        }
        VmdkType::MonolithicSparse => {
            let extent = SparseExtent::create(device, options.length_bytes, Some(text.as_bytes()))?;
            let disk = SparseDisk::created(path, extent)?;
            files.keep()?;
            Arc::new(disk)
        }
        other => {
            let reason = format!("{} is not one hosted file", other.as_str());
            return Err(DiskError::new(Code::Internal, Operation::Create, path, reason));
        }
    })
}

/// Reads the descriptor in its `room` and compares it with the header.
pub(super) fn judge(
    path: &Path,
    room: &[u8],
    expected: &CreateType,
    length_bytes: u64,
    access: Access,
) -> Result<Descriptor, DiskError> {
    let refuse = |code, reason: String| Err(DiskError::new(code, Operation::Open, path, reason));
    if room.is_empty() {
        let reason = "it holds no descriptor: it is one extent of a disk, name the disk's descriptor instead";
        return refuse(Code::ImageUnsupported, reason.into());
    }
    let descriptor = Descriptor::parse(room)
        .map_err(|error| DiskError::new(error.code(), Operation::Open, path, error.to_string()))?;
    super::open::refuse_delta(path, &descriptor)?;
    if descriptor.create_type() != expected {
        let kind = descriptor.create_type().as_str();
        let reason = format!("its descriptor says {kind}, its header says {}", expected.as_str());
        return refuse(Code::ImageDamaged, reason);
    }
    // Their names lead nowhere: the bytes are in this file. What else the lines say holds.
    for (index, extent) in descriptor.extents().iter().enumerate() {
        super::open::judge_access(path, index, extent, access)?;
    }
    let is_one_sparse = matches!(descriptor.extents(), [only] if only.kind == ExtentKind::Sparse);
    if !is_one_sparse || descriptor.length_bytes() != length_bytes {
        let reason = format!(
            "its descriptor has {} extents and {} bytes, its header one of {length_bytes}",
            descriptor.extents().len(),
            descriptor.length_bytes()
        );
        return refuse(Code::ImageDamaged, reason);
    }
    Ok(descriptor)
}

/// Who the disk in one file is.
pub(super) fn identity(format: ImageFormat, path: &Path, descriptor: &Descriptor) -> ImageIdentity {
    ImageIdentity {
        format,
        uuid: descriptor.uuid(),
        content_id: Some(descriptor.content_id()),
        adapter_type: descriptor.adapter_type(),
        files: vec![path.into()],
        version: None,
    }
}
