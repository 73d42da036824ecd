//! Making a new VMDK whose descriptor is a file of its own.
//!
//! **Invariant**: every file is a draft until all are whole and durable; then the extents get their names and at last the
//! descriptor, each exclusively. On a failure nothing that was made is left, and what a crash leaves is known by its draft
//! and removed by the next creation.

use super::composite::{ExtentTable, Slot};
use super::content::{DescriptorFile, fresh_content_id};
use super::disk::VmdkDisk;
use super::extent::ExtentStore;
use super::flat::FlatExtent;
use super::folder::Folder;
use super::sparse::SparseExtent;
use crate::provision::{IsCancelled, provision};
use crate::{CreateOptions, ImageFormat, Provisioning, VmdkType};
use failback_blockio::{Access, Device, DiskError, NewFiles, Operation};
use failback_format::vmdk::descriptor::{
    CreateType, Descriptor, ExtentKind, NEVER_WRITTEN, NewDescriptor, NewExtent, SECTOR_BYTES, esxi_uuid,
    uuid_text,
};
use failback_model::limits::{DISK_MAX_BYTES, EXTENTS_MAX};
use failback_model::{ByteRange, Code};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock};

/// Length of each file of a split disk but the last: what hosted products use, 2047 MiB.
pub(crate) const TWO_GB_EXTENT_BYTES: u64 = 2047 << 20;

/// What to do about a sparse disk that shall take all of its space.
const ONLY_THIN: &str =
    "--provisioning thin, or a flat kind: --vmdk-type vmfs, monolithicFlat or twoGbMaxExtentFlat";

/// Makes a disk of the kind that `options` names, flat or of sparse files.
pub(crate) fn create_text(
    path: &Path,
    options: &CreateOptions,
    is_cancelled: IsCancelled<'_>,
) -> Result<VmdkDisk, DiskError> {
    checked_length(path, Operation::Create, options.length_bytes)?;
    let (folder, name) = Folder::of_new(path)?;
    let stem = stem_of(path, &name)?;
    let plan = plan(path, stem, options)?;
    let descriptor_path = folder.path_of(&name);
    if folder.holds(&name)? {
        return Err(DiskError::new(Code::ImageExists, Operation::Create, path, "it exists already"));
    }
    let mut files = NewFiles::new();
    let mut slots = Vec::with_capacity(plan.extents.len());
    let mut start = 0;
    for extent in &plan.extents {
        let path = folder.path_of(OsStr::new(&extent.name));
        let store = make_extent(&mut files, &path, extent, options.provisioning(), is_cancelled)?;
        let disk = ByteRange::new(start, start + extent.length_bytes);
        slots.push(Slot { disk, store });
        start = disk.end();
    }
    clear_longer(&folder, stem, options.vmdk_type, plan.extents.len())?;
    let descriptor = write_descriptor(&mut files, &descriptor_path, &plan)?;
    files.keep()?;
    Ok(VmdkDisk {
        path: path.into(),
        access: Access::Write,
        format: format_of(options.vmdk_type),
        provisioning: options.provisioning(),
        descriptor: DescriptorFile::created(folder, name, descriptor),
        table: RwLock::new(Arc::new(ExtentTable::new(slots))),
        failed: OnceLock::new(),
    })
}

/// Removes the files that the interrupted creation of a longer split disk left behind this one's.
fn clear_longer(folder: &Folder, stem: &str, kind: VmdkType, count: usize) -> Result<(), DiskError> {
    let letter = match kind {
        VmdkType::TwoGbMaxExtentFlat => 'f',
        VmdkType::TwoGbMaxExtentSparse => 's',
        _ => return Ok(()),
    };
    for index in count..EXTENTS_MAX {
        if !NewFiles::clear(&folder.path_of(OsStr::new(&split_name(stem, letter, index))))? {
            break;
        }
    }
    Ok(())
}

fn make_extent(
    files: &mut NewFiles,
    path: &Path,
    extent: &NewExtent,
    provisioning: Provisioning,
    is_cancelled: IsCancelled<'_>,
) -> Result<Arc<dyn ExtentStore>, DiskError> {
    if extent.kind == ExtentKind::Sparse {
        let device = Arc::new(files.create(path, 0)?);
        return Ok(Arc::new(SparseExtent::create(device, extent.length_bytes, None)?));
    }
    let range = ByteRange::new(0, extent.length_bytes);
    let device = files.create(path, extent.length_bytes)?;
    provision(&device, range, provisioning, is_cancelled)?;
    device.sync()?;
    Ok(Arc::new(FlatExtent::new(Arc::new(device), range, provisioning)?))
}

/// Refuses a length that no VMDK can have, naming the next one that it can.
pub(crate) fn checked_length(path: &Path, operation: Operation, length_bytes: u64) -> Result<(), DiskError> {
    let reason = if length_bytes > DISK_MAX_BYTES {
        format!("{length_bytes} bytes are more than the {DISK_MAX_BYTES} a disk may have")
    } else if !length_bytes.is_multiple_of(SECTOR_BYTES) {
        let next = length_bytes.next_multiple_of(SECTOR_BYTES);
        format!(
            "a VMDK has whole sectors of 512 bytes, {length_bytes} bytes are none; the next size is {next}"
        )
    } else {
        return Ok(());
    };
    Err(DiskError::new(Code::ImageSizeUnsupported, operation, path, reason))
}

/// The name without `.vmdk`, from which the names of the extents are made; it must be one that a descriptor can quote.
pub(crate) fn stem_of<'a>(path: &Path, name: &'a OsStr) -> Result<&'a str, DiskError> {
    let refuse = |reason| DiskError::new(Code::CreateFailed, Operation::Create, path, reason);
    let text = name.to_str().ok_or_else(|| refuse("a VMDK's name must be UTF-8"))?;
    if text.chars().any(|char| char.is_control() || char == '"') {
        return Err(refuse("a VMDK's name must hold no quotes and no control characters"));
    }
    Ok(match text.len().checked_sub(5).and_then(|at| text.split_at_checked(at)) {
        Some((stem, end)) if end.eq_ignore_ascii_case(".vmdk") && !stem.is_empty() => stem,
        _ => text,
    })
}

/// Name of file `index` (from 0) of a split disk; `letter` is `f` for flat and `s` for sparse.
pub(crate) fn split_name(stem: &str, letter: char, index: usize) -> String {
    format!("{stem}-{letter}{:03}.vmdk", index + 1)
}

/// The lengths of a split disk's files. An empty disk has one empty file.
pub(crate) fn split_lengths(path: &Path, length_bytes: u64) -> Result<Vec<u64>, DiskError> {
    let count = length_bytes.div_ceil(TWO_GB_EXTENT_BYTES).max(1);
    if count > EXTENTS_MAX as u64 {
        let reason = format!("{length_bytes} bytes take {count} files of 2 GiB, {EXTENTS_MAX} are allowed");
        return Err(DiskError::new(Code::ImageSizeUnsupported, Operation::Create, path, reason));
    }
    Ok((0..count).map(|i| TWO_GB_EXTENT_BYTES.min(length_bytes - i * TWO_GB_EXTENT_BYTES)).collect())
}

/// A descriptor for a new disk with these extents.
pub(crate) fn new_descriptor(
    create_type: CreateType,
    extents: Vec<NewExtent>,
    options: &CreateOptions,
    thin: bool,
) -> NewDescriptor {
    let mut long_content_id = [0; 12];
    long_content_id.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[..12]);
    let uuid = match options.uuid {
        Some(given) => uuid_text(given.bytes()),
        None => esxi_uuid(*uuid::Uuid::new_v4().as_bytes()),
    };
    NewDescriptor {
        content_id: fresh_content_id(NEVER_WRITTEN),
        long_content_id,
        create_type,
        extents,
        adapter: options.adapter_type,
        uuid,
        thin,
    }
}

fn format_of(kind: VmdkType) -> ImageFormat {
    match kind {
        VmdkType::Vmfs => ImageFormat::VmdkVmfs,
        VmdkType::MonolithicFlat => ImageFormat::VmdkMonolithicFlat,
        VmdkType::TwoGbMaxExtentFlat => ImageFormat::VmdkTwoGbMaxExtentFlat,
        VmdkType::MonolithicSparse => ImageFormat::VmdkMonolithicSparse,
        VmdkType::TwoGbMaxExtentSparse => ImageFormat::VmdkTwoGbMaxExtentSparse,
        VmdkType::StreamOptimized => ImageFormat::VmdkStreamOptimized,
    }
}

/// What is to be made; `stem` is the disk's name without its extension.
pub(super) fn plan(path: &Path, stem: &str, options: &CreateOptions) -> Result<NewDescriptor, DiskError> {
    let length_bytes = options.length_bytes;
    let one = |vmfs| {
        let kind = ExtentKind::Flat { offset_bytes: 0, vmfs };
        vec![NewExtent { length_bytes, kind, name: format!("{stem}-flat.vmdk") }]
    };
    let inside = || {
        let name = format!("{stem}.vmdk");
        vec![NewExtent { length_bytes, kind: ExtentKind::Sparse, name }]
    };
    let is_flat =
        matches!(options.vmdk_type, VmdkType::Vmfs | VmdkType::MonolithicFlat | VmdkType::TwoGbMaxExtentFlat);
    if !is_flat && options.provisioning() != Provisioning::Thin {
        let reason = format!("{} takes its space as it is written: only thin", options.vmdk_type.as_str());
        return Err(
            DiskError::new(Code::CreateFailed, Operation::Create, path, reason).with_remedy(ONLY_THIN)
        );
    }
    let (create_type, extents) = match options.vmdk_type {
        VmdkType::Vmfs => (CreateType::Vmfs, one(true)),
        VmdkType::MonolithicFlat => (CreateType::MonolithicFlat, one(false)),
        VmdkType::TwoGbMaxExtentFlat => {
            let kind = ExtentKind::Flat { offset_bytes: 0, vmfs: false };
            (CreateType::TwoGbMaxExtentFlat, split(path, stem, 'f', &kind, length_bytes)?)
        }
        VmdkType::TwoGbMaxExtentSparse => {
            let extents = split(path, stem, 's', &ExtentKind::Sparse, length_bytes)?;
            (CreateType::TwoGbMaxExtentSparse, extents)
        }
        VmdkType::MonolithicSparse => (CreateType::MonolithicSparse, inside()),
        VmdkType::StreamOptimized => (CreateType::StreamOptimized, inside()),
    };
    let thin = options.vmdk_type == VmdkType::Vmfs && options.provisioning() == Provisioning::Thin;
    Ok(new_descriptor(create_type, extents, options, thin))
}

/// The extents of a split disk.
fn split(
    path: &Path,
    stem: &str,
    letter: char,
    kind: &ExtentKind,
    length_bytes: u64,
) -> Result<Vec<NewExtent>, DiskError> {
    let extent = |(index, length_bytes)| NewExtent {
        length_bytes,
        kind: kind.clone(),
        name: split_name(stem, letter, index),
    };
    Ok(split_lengths(path, length_bytes)?.into_iter().enumerate().map(extent).collect())
}

fn write_descriptor(files: &mut NewFiles, path: &Path, new: &NewDescriptor) -> Result<Descriptor, DiskError> {
    let text = new.to_text();
    let descriptor = Descriptor::parse(text.as_bytes())
        .map_err(|error| DiskError::new(Code::CreateFailed, Operation::Create, path, error.to_string()))?;
    let device = files.create(path, 0)?;
    device.write_at(0, text.as_bytes())?;
    device.sync()?;
    Ok(descriptor)
}
