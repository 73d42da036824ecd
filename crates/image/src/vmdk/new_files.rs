//! The files that making a VMDK would make, and why it cannot be made, before any of them is.

use super::create::{checked_length, plan, stem_of};
use crate::{CreateOptions, VmdkType};
use failback_blockio::{DiskError, Operation, folder_of};
use failback_format::vmdk::descriptor::SECTOR_BYTES;
use failback_format::vmdk::sparse::new_header;
use failback_model::Code;
use std::path::{Path, PathBuf};

/// Every file, the one that the disk is opened by first; or every reason.
pub(crate) fn new_files(path: &Path, options: &CreateOptions) -> Result<Vec<PathBuf>, Vec<DiskError>> {
    let mut errors = Vec::new();
    errors.extend(check_length(path, options).err());
    let planned = path
        .file_name()
        .ok_or_else(|| DiskError::new(Code::CreateFailed, Operation::Create, path, "it names no file"))
        .and_then(|name| plan(path, stem_of(path, name)?, options));
    match planned {
        Ok(planned) if errors.is_empty() => {
            let folder = folder_of(path);
            let mut files = vec![path.to_owned()];
            let is_one_file =
                matches!(options.vmdk_type, VmdkType::MonolithicSparse | VmdkType::StreamOptimized);
            if !is_one_file {
                files.extend(planned.extents.iter().map(|extent| folder.join(&extent.name)));
            }
            Ok(files)
        }
        Ok(_) => Err(errors),
        Err(error) => {
            // A size that no VMDK has is no size for its files either.
            if errors.is_empty() || error.code != Code::ImageSizeUnsupported {
                errors.push(error);
            }
            Err(errors)
        }
    }
}

fn check_length(path: &Path, options: &CreateOptions) -> Result<(), DiskError> {
    checked_length(path, Operation::Create, options.length_bytes)?;
    if !matches!(options.vmdk_type, VmdkType::MonolithicSparse | VmdkType::StreamOptimized) {
        return Ok(());
    }
    // The descriptor is as long as it may be in every new file.
    match new_header(options.length_bytes / SECTOR_BYTES, true) {
        Ok(_) => Ok(()),
        Err(error) => Err(DiskError::new(error.code, Operation::Create, path, error.reason)
            .with_remedy("choose --vmdk-type twoGbMaxExtentSparse or a flat kind, which may be larger")),
    }
}
