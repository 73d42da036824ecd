//! What can still be said about a VMDK that does not open: every extent is looked at by itself.
//!
//! **Invariant**: as when a disk is opened, no file outside of its folder is touched and nothing is changed.

use super::content::DescriptorFile;
use super::file_name;
use super::folder::Folder;
use super::sparse::tables::Tables;
use super::sparse::{read_header, refused};
use failback_blockio::{Access, Device, DiskError, FileDevice, Operation, ReadMode};
use failback_format::vmdk::descriptor::{Extent, ExtentKind, NameForm};
use failback_model::Code;
use std::ffi::OsStr;
use std::path::Path;

/// Every fault that is found; none of its own where `path` is no VMDK.
pub(crate) fn survey(path: &Path) -> Vec<DiskError> {
    let Ok((folder, name)) = Folder::of_existing(path) else { return Vec::new() };
    if is_sparse_file(&folder, &name) {
        return sparse_faults(&folder, &name);
    }
    let Ok(file) = DescriptorFile::open(folder, name) else { return Vec::new() };
    let descriptor = file.now();
    descriptor.extents().iter().flat_map(|extent| extent_faults(file.folder(), extent)).collect()
}

fn is_sparse_file(folder: &Folder, name: &OsStr) -> bool {
    let head = open(folder, name).and_then(|device| {
        let mut magic = [0; 4];
        device.read_at(0, &mut magic).map(|()| magic)
    });
    head.is_ok_and(|magic| magic == super::SPARSE_MAGIC)
}

fn open(folder: &Folder, name: &OsStr) -> Result<FileDevice, DiskError> {
    FileDevice::from_file(&folder.path_of(name), folder.open(name, false)?, Access::Read, ReadMode::Auto)
}

fn extent_faults(folder: &Folder, extent: &Extent) -> Vec<DiskError> {
    if extent.name_form() != NameForm::Beside {
        return Vec::new();
    }
    let name = file_name(extent);
    match &extent.kind {
        ExtentKind::Sparse => sparse_faults(folder, &name),
        ExtentKind::Flat { offset_bytes, .. } => {
            let end_bytes = offset_bytes.saturating_add(extent.disk.length_bytes());
            match open(folder, &name) {
                Ok(device) if device.length_bytes() < end_bytes => {
                    let reason = format!(
                        "the descriptor places bytes up to {end_bytes} in it, it has {}",
                        device.length_bytes()
                    );
                    vec![DiskError::new(Code::ImageDamaged, Operation::Open, device.path(), reason)]
                }
                Ok(_) => Vec::new(),
                Err(error) => vec![error],
            }
        }
        _ => Vec::new(),
    }
}

/// Faults of one sparse file's header, directories and tables.
fn sparse_faults(folder: &Folder, name: &OsStr) -> Vec<DiskError> {
    let found = open(folder, name).and_then(|device| {
        let (_, header) = read_header(&device, 0)?;
        if header.needs_footer() {
            // Its tables are named by the footer; opening has said what is wrong with that.
            return Ok(Vec::new());
        }
        let (tables, metadata) = Tables::read(&device, header)?;
        let faults = tables.survey(&device, &metadata)?.faults;
        Ok(faults.into_iter().map(|fault| refused(device.path(), Operation::Open, fault)).collect())
    });
    found.unwrap_or_else(|error| vec![error])
}
