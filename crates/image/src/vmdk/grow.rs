//! Making a flat disk longer.
//!
//! **Invariant**: the files are longer, durably, before the descriptor says so: after a crash the disk is as long as
//! before or as long as asked, and a grow that failed or was cut off can be asked again: new files are known by their
//! drafts until the descriptor names them.

use super::composite::{ExtentTable, Slot};
use super::create::{TWO_GB_EXTENT_BYTES, checked_length, split_name, stem_of};
use super::disk::VmdkDisk;
use super::flat::FlatExtent;
use crate::ImageFormat;
use crate::check_grow::NEW_IMAGE;
use crate::provision::provision;
use failback_blockio::{DiskError, NewFiles, Operation};
use failback_format::vmdk::descriptor::{Descriptor, ExtentKind, NewExtent};
use failback_model::limits::EXTENTS_MAX;
use failback_model::{ByteRange, Code};
use std::ffi::OsStr;
use std::sync::{Arc, PoisonError};

const NOT_FLAT: &str = "only a disk whose last extent is flat can grow; convert it into a larger image";

/// Whether it could, by what is known without writing.
pub(super) fn check(disk: &VmdkDisk, length_bytes: u64) -> Result<(), DiskError> {
    checked_length(&disk.path, Operation::Resize, length_bytes)?;
    refuse(disk, &disk.descriptor.now(), length_bytes)
}

/// Makes the disk `length_bytes` long; its new bytes read as zero.
pub(super) fn grow(disk: &VmdkDisk, length_bytes: u64) -> Result<(), DiskError> {
    checked_length(&disk.path, Operation::Resize, length_bytes)?;
    let descriptor = disk.descriptor.now();
    let old_bytes = descriptor.length_bytes();
    if length_bytes == old_bytes {
        return Ok(());
    }
    refuse(disk, &descriptor, length_bytes)?;
    disk.begin_writing(Operation::Resize)?;
    let descriptor = disk.descriptor.now();
    let mut slots = disk.table().slots().to_vec();
    let Some(last) = slots.last_mut() else {
        return Err(cannot(disk, NOT_FLAT));
    };
    let room_bytes = match disk.format {
        ImageFormat::VmdkTwoGbMaxExtentFlat => TWO_GB_EXTENT_BYTES.max(last.disk.length_bytes()),
        _ => u64::MAX,
    };
    let last_bytes = (length_bytes - last.disk.start()).min(room_bytes);
    last.store = last.store.lengthened(last_bytes)?.ok_or_else(|| cannot(disk, NOT_FLAT))?;
    last.disk = ByteRange::new(last.disk.start(), last.disk.start() + last_bytes);
    let mut files = NewFiles::new();
    let added = add_extents(disk, &descriptor, &mut slots, &mut files, length_bytes)?;
    let table = ExtentTable::new(slots);
    disk.latch(table.flush())?;
    files.publish()?;
    disk.latch(disk.descriptor.folder().sync())?;
    let edited = disk.descriptor.edit(|now| now.grown(last_bytes, &added));
    // Where the descriptor still stands as it did, the new files are nobody's and go again.
    if edited.is_ok() || disk.descriptor.expect_unchanged().is_err() {
        files.keep()?;
    }
    disk.latch(edited)?;
    *disk.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    Ok(())
}

fn cannot(disk: &VmdkDisk, reason: &str) -> DiskError {
    DiskError::new(Code::ImageUnsupported, Operation::Resize, &disk.path, reason).with_remedy(NEW_IMAGE)
}

/// Refuses before anything is written.
fn refuse(disk: &VmdkDisk, descriptor: &Descriptor, length_bytes: u64) -> Result<(), DiskError> {
    if length_bytes < descriptor.length_bytes() {
        let reason = format!("it has {} bytes, a disk never shrinks", descriptor.length_bytes());
        return Err(DiskError::new(Code::ImageSizeUnsupported, Operation::Resize, &disk.path, reason));
    }
    let Some((last, others)) = descriptor.extents().split_last() else {
        return Err(cannot(disk, NOT_FLAT));
    };
    if !matches!(last.kind, ExtentKind::Flat { .. }) {
        return Err(cannot(disk, NOT_FLAT));
    }
    if others.iter().any(|other| other.name == last.name) {
        return Err(cannot(disk, "its last extent shares its file with another"));
    }
    Ok(())
}

/// Makes the files of a split disk that its longer last extent cannot hold.
fn add_extents(
    disk: &VmdkDisk,
    descriptor: &Descriptor,
    slots: &mut Vec<Slot>,
    files: &mut NewFiles,
    length_bytes: u64,
) -> Result<Vec<NewExtent>, DiskError> {
    let folder = disk.descriptor.folder();
    let stem = stem_of(disk.descriptor.path(), disk.descriptor.name())?;
    let mut added = Vec::new();
    let mut start = slots.last().map_or(0, |last| last.disk.end());
    while start < length_bytes {
        let index = descriptor.extents().len() + added.len();
        if index == EXTENTS_MAX {
            return Err(cannot(disk, "it would have more extents than are allowed"));
        }
        let extent_bytes = TWO_GB_EXTENT_BYTES.min(length_bytes - start);
        let name = split_name(stem, 'f', index);
        let range = ByteRange::new(0, extent_bytes);
        let device = files.create(&folder.path_of(OsStr::new(&name)), extent_bytes)?;
        provision(&device, range, disk.provisioning, &|| false)?;
        let store = Arc::new(FlatExtent::new(Arc::new(device), range, disk.provisioning)?);
        slots.push(Slot { disk: ByteRange::new(start, start + extent_bytes), store });
        added.push(NewExtent {
            length_bytes: extent_bytes,
            kind: ExtentKind::Flat { offset_bytes: 0, vmfs: false },
            name,
        });
        start += extent_bytes;
    }
    Ok(added)
}
