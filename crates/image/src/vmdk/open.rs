//! Opening a VMDK whose descriptor is a text file.
//!
//! **Invariant**: nothing of the disk is opened before its descriptor was judged as a whole, and a disk is handed out
//! only when every extent is there, whole, locked and its own.

use super::composite::{ExtentTable, Slot};
use super::content::DescriptorFile;
use super::disk::VmdkDisk;
use super::extent::ExtentStore;
use super::flat::{FlatExtent, ZeroExtent};
use super::folder::Folder;
use super::guard;
use super::sparse::SparseExtent;
use crate::{ImageFormat, Provisioning};
use failback_blockio::{Access, Device, DiskError, FileDevice, FileId, Operation, ReadMode, UnitSource};
use failback_format::vmdk::descriptor::{
    CreateType, Descriptor, Extent, ExtentAccess, ExtentKind, NameForm, Support,
};
use failback_model::limits::DISK_MAX_BYTES;
use failback_model::{ByteRange, Code, Finding};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock};

const CONSOLIDATE: &str = "consolidate the machine's snapshots, then name the disk that is left";
const HOT_ADD: &str = "hot-add the disk to this host and name the block device";

/// Opens the disk whose text descriptor is `name` of `folder`; `path` is what the user called it.
pub(crate) fn open_text(
    path: &Path,
    folder: Folder,
    name: OsString,
    access: Access,
) -> Result<VmdkDisk, DiskError> {
    let file = DescriptorFile::open(folder, name)?;
    let descriptor = file.now();
    let format = judge(file.path(), &descriptor, access)?;
    lock_descriptor(&file)?;
    let (slots, provisioning) = open_extents(&file, &descriptor, access)?;
    // Only now that the extents are locked does the descriptor stand still.
    file.expect_unchanged()?;
    if access == Access::Write {
        guard::refuse_parent(file.folder(), file.name(), &descriptor)?;
    }
    Ok(VmdkDisk {
        path: path.into(),
        access,
        format,
        provisioning,
        descriptor: file,
        table: RwLock::new(Arc::new(ExtentTable::new(slots))),
        failed: OnceLock::new(),
    })
}

/// The name of an extent's file.
pub(crate) fn file_name(extent: &Extent) -> OsString {
    OsStr::from_bytes(&extent.name).to_owned()
}

/// A refusal of what this product does not handle, with what to do about it.
pub(crate) fn unsupported(path: &Path, what: &str, remedy: &str) -> DiskError {
    DiskError::new(Code::ImageUnsupported, Operation::Open, path, format!("{what}: {remedy}"))
}

/// Judges a descriptor before any file it names is looked at.
fn judge(path: &Path, descriptor: &Descriptor, access: Access) -> Result<ImageFormat, DiskError> {
    refuse_delta(path, descriptor)?;
    for (index, extent) in descriptor.extents().iter().enumerate() {
        judge_extent(path, index, extent, access)?;
    }
    let kind = descriptor.create_type();
    let format = match kind {
        CreateType::Vmfs => ImageFormat::VmdkVmfs,
        CreateType::MonolithicFlat => ImageFormat::VmdkMonolithicFlat,
        CreateType::TwoGbMaxExtentFlat => ImageFormat::VmdkTwoGbMaxExtentFlat,
        CreateType::TwoGbMaxExtentSparse => ImageFormat::VmdkTwoGbMaxExtentSparse,
        _ => {
            let reason =
                format!("a descriptor of kind {} lies within its one file, not apart from it", kind.as_str());
            return Err(DiskError::new(Code::ImageDamaged, Operation::Open, path, reason));
        }
    };
    require_kinds(path, descriptor, format)?;
    Ok(format)
}

/// A disk of one kind has extents of that kind; `ZERO` goes with any.
fn require_kinds(path: &Path, descriptor: &Descriptor, format: ImageFormat) -> Result<(), DiskError> {
    let is_sparse = format == ImageFormat::VmdkTwoGbMaxExtentSparse;
    let fits = |kind: &ExtentKind| match kind {
        ExtentKind::Sparse => is_sparse,
        ExtentKind::Flat { .. } => !is_sparse,
        _ => true,
    };
    let Some(index) = descriptor.extents().iter().position(|extent| !fits(&extent.kind)) else {
        return Ok(());
    };
    let (kind, other) = (format.as_str(), if is_sparse { "flat" } else { "sparse" });
    let reason = format!("its kind is {kind}, but extent {index} is {other}");
    Err(DiskError::new(Code::ImageDamaged, Operation::Open, path, reason))
}

/// What the descriptor of a disk that is about to be overwritten says to whoever does it.
pub(super) fn change_tracking(path: &Path, descriptor: &Descriptor) -> Option<Finding> {
    let map = String::from_utf8_lossy(descriptor.change_track_path()?);
    let evidence = format!("{} is tracked in {map}", path.display());
    Some(Finding::warning(Code::ChangeTracking, evidence).about(path))
}

/// Refuses what is no whole disk of its own, and what no disk may be.
pub(super) fn refuse_delta(path: &Path, descriptor: &Descriptor) -> Result<(), DiskError> {
    let kind = descriptor.create_type();
    match kind.support() {
        Support::Yes => {}
        Support::Delta => {
            return Err(unsupported(path, &format!("{} is a snapshot's delta", kind.as_str()), CONSOLIDATE));
        }
        Support::Mapping => {
            return Err(unsupported(path, &format!("{} maps a device", kind.as_str()), HOT_ADD));
        }
        Support::Unknown => {
            let what = format!("the kind '{}' is unknown", kind.as_str());
            return Err(unsupported(path, &what, HOT_ADD));
        }
    }
    if descriptor.has_parent() {
        return Err(unsupported(path, "it is a delta over a parent disk", CONSOLIDATE));
    }
    if descriptor.length_bytes() > DISK_MAX_BYTES {
        let reason = format!(
            "its {} bytes are more than the {DISK_MAX_BYTES} a disk may have",
            descriptor.length_bytes()
        );
        return Err(DiskError::new(Code::ImageSizeUnsupported, Operation::Open, path, reason));
    }
    Ok(())
}

fn judge_extent(path: &Path, index: usize, extent: &Extent, access: Access) -> Result<(), DiskError> {
    let what = |text: &str| format!("extent {index} ('{}') {text}", extent.display_name());
    match &extent.kind {
        ExtentKind::Delta(_) => return Err(unsupported(path, &what("is a snapshot's delta"), CONSOLIDATE)),
        ExtentKind::Mapping(_) => return Err(unsupported(path, &what("maps a device"), HOT_ADD)),
        ExtentKind::Flat { .. } | ExtentKind::Sparse => match extent.name_form() {
            NameForm::Beside => {}
            NameForm::Elsewhere => {
                return Err(unsupported(path, &what("is an object, a device or an absolute path"), HOT_ADD));
            }
            NameForm::Escapes => {
                let reason = what("is not the bare name of a file in this folder");
                return Err(DiskError::new(Code::ImageExtentEscapes, Operation::Open, path, reason));
            }
        },
        ExtentKind::Zero => {}
    }
    judge_access(path, index, extent, access)
}

/// Refuses what the descriptor itself forbids.
pub(super) fn judge_access(
    path: &Path,
    index: usize,
    extent: &Extent,
    access: Access,
) -> Result<(), DiskError> {
    let what = |text: &str| format!("extent {index} ('{}') {text}", extent.display_name());
    match extent.access {
        ExtentAccess::NoAccess => Err(unsupported(path, &what("forbids all access"), HOT_ADD)),
        ExtentAccess::ReadOnly if access == Access::Write && extent.kind != ExtentKind::Zero => {
            let reason = what("is marked RDONLY");
            Err(DiskError::new(Code::ImageReadOnlyKind, Operation::Open, path, reason))
        }
        _ => Ok(()),
    }
}

/// Sees whether anybody holds the descriptor. The lock need not last: a descriptor is replaced, its extents are not.
fn lock_descriptor(file: &DescriptorFile) -> Result<(), DiskError> {
    let opened = file.folder().open(file.name(), false)?;
    FileDevice::from_file(file.path(), opened, Access::Read, ReadMode::Auto)?.lock()
}

fn open_extents(
    file: &DescriptorFile,
    descriptor: &Descriptor,
    access: Access,
) -> Result<(Vec<Slot>, Provisioning), DiskError> {
    let mode = read_mode(file, descriptor)?;
    let mut files = ExtentFiles { file, access, mode, by_name: HashMap::new(), by_id: HashMap::new() };
    let mut slots = Vec::with_capacity(descriptor.extents().len());
    let mut disk_provisioning = Provisioning::Thick;
    for extent in descriptor.extents() {
        let store: Arc<dyn ExtentStore> = match extent.kind {
            ExtentKind::Flat { offset_bytes, .. } => {
                let device = files.device(extent)?;
                let run = ByteRange::new(offset_bytes, offset_bytes + extent.disk.length_bytes());
                let provisioning = provisioning_of(descriptor, &device)?;
                if provisioning == Provisioning::Thin {
                    disk_provisioning = Provisioning::Thin;
                }
                Arc::new(FlatExtent::new(device, run, provisioning)?)
            }
            ExtentKind::Sparse => {
                disk_provisioning = Provisioning::Thin;
                let sparse = open_sparse(files.device(extent)?, extent)?;
                if access == Access::Write {
                    sparse.require_writable(Operation::Open)?;
                }
                Arc::new(sparse)
            }
            _ => Arc::new(ZeroExtent { descriptor: file.path().into() }),
        };
        slots.push(Slot { disk: extent.disk, store });
    }
    Ok((slots, disk_provisioning))
}

/// How the disk is read: many files that each fit in memory can together be a disk that does not.
fn read_mode(file: &DescriptorFile, descriptor: &Descriptor) -> Result<ReadMode, DiskError> {
    let mut seen = HashSet::new();
    let mut taken_bytes: u64 = 0;
    for extent in descriptor.extents().iter().filter(|extent| extent.kind != ExtentKind::Zero) {
        let name = file_name(extent);
        if !seen.contains(&name) {
            taken_bytes = taken_bytes.saturating_add(file.folder().stat(&name)?.st_blocks as u64 * 512);
            seen.insert(name);
        }
    }
    Ok(ReadMode::for_bytes(taken_bytes))
}

/// A sparse extent, which must be as long as the descriptor says.
fn open_sparse(device: Arc<FileDevice>, extent: &Extent) -> Result<SparseExtent, DiskError> {
    let sparse = SparseExtent::open(device)?;
    let (named, found) = (extent.disk.length_bytes(), sparse.geometry().length_bytes);
    if named != found {
        let reason = format!("the descriptor gives it {named} bytes, its header {found}");
        return Err(DiskError::new(Code::ImageDamaged, Operation::Open, sparse.name(), reason));
    }
    Ok(sparse)
}

/// Every file of a disk, opened and locked once.
struct ExtentFiles<'a> {
    file: &'a DescriptorFile,
    access: Access,
    mode: ReadMode,
    by_name: HashMap<OsString, Arc<FileDevice>>,
    by_id: HashMap<FileId, OsString>,
}

impl ExtentFiles<'_> {
    fn device(&mut self, extent: &Extent) -> Result<Arc<FileDevice>, DiskError> {
        let name = file_name(extent);
        if let Some(device) = self.by_name.get(&name) {
            return Ok(device.clone());
        }
        let folder = self.file.folder();
        let path = folder.path_of(&name);
        let damaged = |reason| DiskError::new(Code::ImageDamaged, Operation::Open, &path, reason);
        if &name == self.file.name() {
            return Err(damaged("the descriptor names itself as an extent".to_owned()));
        }
        let opened = folder.open(&name, self.access == Access::Write)?;
        let device = FileDevice::from_file(&path, opened, self.access, self.mode)?;
        if let Some(other) = self.by_id.insert(device.id(), name.clone()) {
            return Err(damaged(format!("it is the same file as extent '{}'", other.to_string_lossy())));
        }
        device.lock()?;
        if self.access == Access::Write && device.link_count()? > 1 {
            let reason = "it has another name, and what is written here would be written there";
            return Err(DiskError::new(Code::ImageExtentEscapes, Operation::Open, &path, reason));
        }
        let device = Arc::new(device);
        self.by_name.insert(name, device.clone());
        Ok(device)
    }
}

/// A datastore's disk says itself whether it is thin; of others only the holes in their files tell.
fn provisioning_of(descriptor: &Descriptor, device: &FileDevice) -> Result<Provisioning, DiskError> {
    match descriptor.create_type() {
        CreateType::Vmfs if descriptor.is_thin() => Ok(Provisioning::Thin),
        CreateType::Vmfs => Ok(Provisioning::Thick),
        _ => crate::provision::provisioning_of(device, device.length_bytes()),
    }
}
