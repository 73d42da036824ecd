//! Whether an image can be made, asked before anything is: all that speaks against it.
//!
//! **Invariant**: nothing is made or opened here, and nothing is ever made among this host's devices. What comes between
//! the question and the making (a file of that name, a full medium) is still refused when it is made.

use crate::{CreateOptions, FormatName, ImageSpec, raw, vhd, vmdk};
use failback_blockio::{DiskError, Operation, folder_of, is_left_over};
use failback_model::{Code, Finding};
use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where devices are.
const DEVICES: &str = "/dev";
/// Memory that is mounted there for everybody's files.
const SHARED_MEMORY: &str = "/dev/shm";

/// Everything that forbids making this image; none where [`crate::create`] would begin.
pub fn check_create(spec: &ImageSpec, options: &CreateOptions) -> Vec<Finding> {
    let path = spec.path.as_path();
    if let Err(error) = refuse_device_folder(path) {
        return vec![error.to_finding()];
    }
    let (files, mut errors) = match files_of(spec, options) {
        Ok(files) => (files, Vec::new()),
        Err(errors) => (vec![path.into()], errors),
    };
    match check_folder(path) {
        Err(error) => errors.push(error),
        Ok(()) => errors.extend(files.iter().filter_map(|file| check_name(file).err())),
    }
    errors.iter().map(DiskError::to_finding).collect()
}

/// Everything that forbids making one file at this path.
pub fn check_new_file(path: &Path) -> Vec<Finding> {
    let free = refuse_device_folder(path).and_then(|()| check_folder(path)).and_then(|()| check_name(path));
    free.err().iter().map(DiskError::to_finding).collect()
}

/// The files that the image is made of, or why its kind cannot be made.
fn files_of(spec: &ImageSpec, options: &CreateOptions) -> Result<Vec<PathBuf>, Vec<DiskError>> {
    let path = spec.path.as_path();
    let one =
        |checked: Result<(), DiskError>| checked.map(|()| vec![path.into()]).map_err(|error| vec![error]);
    match spec.format_by_name() {
        Some(FormatName::Raw) => one(raw::require_length(path, Operation::Create, options.length_bytes)),
        Some(FormatName::Vhd) => one(vhd::new_footer(path, options).map(|_| ())),
        Some(FormatName::Vmdk) => vmdk::new_files(path, options),
        other => one(Err(not_made(path, other))),
    }
}

/// Why no image of this family is made.
pub(crate) fn not_made(path: &Path, format: Option<FormatName>) -> DiskError {
    let refuse = |code, reason: &str| DiskError::new(code, Operation::Create, path, reason);
    match format {
        None => refuse(Code::ImageFormatUnknown, "its name has no known extension"),
        Some(FormatName::Device) => refuse(Code::CreateFailed, "block devices are attached, not created")
            .with_remedy("attach the device first; lsblk shows the names there are"),
        Some(other) => {
            refuse(Code::ImageUnsupported, &format!("{} images are not made here", other.prefix()))
                .with_remedy("choose a .vmdk, .vhd or .raw file")
        }
    }
}

/// A mistyped device name would become a file, in memory, that is gone with the next boot.
pub(crate) fn refuse_device_folder(path: &Path) -> Result<(), DiskError> {
    let folder = folder_of(path);
    let folder = std::fs::canonicalize(folder).or_else(|_| std::path::absolute(folder)).unwrap_or_default();
    if !folder.starts_with(DEVICES) || folder.starts_with(SHARED_MEMORY) {
        return Ok(());
    }
    let reason = "there is no such device, and images are not made among devices";
    Err(DiskError::new(Code::CreateFailed, Operation::Create, path, reason)
        .with_remedy("check the device's name with lsblk, or choose a path outside of /dev"))
}

/// Refuses a folder that is not there or not ours to write to.
fn check_folder(path: &Path) -> Result<(), DiskError> {
    let folder = folder_of(path);
    let refuse = |error: std::io::Error| DiskError {
        reason: format!("folder {}", folder.display()),
        ..DiskError::io(Operation::Create, path, None, error)
    };
    if path.file_name().is_none() {
        let reason = "it names no file";
        return Err(DiskError::new(Code::CreateFailed, Operation::Create, path, reason)
            .with_remedy("name the file to make"));
    }
    if !std::fs::metadata(folder).map_err(refuse)?.is_dir() {
        return Err(refuse(ErrorKind::NotADirectory.into()));
    }
    match rustix::fs::accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        // Where a kernel cannot be asked, making the file will tell.
        Ok(()) | Err(Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(errno) => Err(refuse(errno.into())),
    }
}

/// Refuses a name that is taken, or that the file system cannot have.
fn check_name(file: &Path) -> Result<(), DiskError> {
    match std::fs::symlink_metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DiskError::io(Operation::Create, file, None, error)),
        // It is removed when the image is made anew.
        Ok(_) if is_left_over(file) => Ok(()),
        Ok(_) => {
            let reason = "something of that name is there";
            Err(DiskError::new(Code::ImageExists, Operation::Create, file, reason))
        }
    }
}
