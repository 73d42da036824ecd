//! The text descriptor of an open disk, and the one change that writing makes to it.
//!
//! **Invariant**: the content id changes once, before the first byte of new data can reach an extent, and that change
//! is durable first: after a crash no disk holds new data under its old id. A disk that is only read is never touched.

use super::folder::Folder;
use failback_blockio::{DiskError, Operation};
use failback_format::vmdk::descriptor::{Descriptor, DescriptorError, is_content_id};
use failback_model::Code;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A descriptor file and what stands in it now.
#[derive(Debug)]
pub(crate) struct DescriptorFile {
    folder: Folder,
    name: OsString,
    path: PathBuf,
    now: Mutex<Descriptor>,
    is_renewed: AtomicBool,
}

impl DescriptorFile {
    /// Reads the descriptor under `name`.
    pub(crate) fn open(folder: Folder, name: OsString) -> Result<Self, DiskError> {
        let descriptor = read(&folder, &name)?;
        Ok(Self::new(folder, name, descriptor, false))
    }

    /// A descriptor that was just written for a new disk: its content id is nobody else's yet.
    pub(crate) fn created(folder: Folder, name: OsString, descriptor: Descriptor) -> Self {
        Self::new(folder, name, descriptor, true)
    }

    fn new(folder: Folder, name: OsString, descriptor: Descriptor, is_renewed: bool) -> Self {
        let path = folder.path_of(&name);
        Self { folder, name, path, now: Mutex::new(descriptor), is_renewed: AtomicBool::new(is_renewed) }
    }

    /// The folder of the disk's files.
    pub(crate) const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Its bare name.
    pub(crate) const fn name(&self) -> &OsString {
        &self.name
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in it now.
    pub(crate) fn now(&self) -> Descriptor {
        self.lock().clone()
    }

    /// Fails if somebody changed the file since it was read here.
    pub(crate) fn expect_unchanged(&self) -> Result<(), DiskError> {
        let now = self.lock();
        if read(&self.folder, &self.name)?.bytes() == now.bytes() {
            return Ok(());
        }
        let reason = "its descriptor changed while it was being opened: something else writes to it";
        Err(DiskError::new(Code::InUse, Operation::Open, &self.path, reason))
    }

    /// Gives the content a new id, once; durable when it returns.
    pub(crate) fn renew_content_id(&self) -> Result<(), DiskError> {
        if self.is_renewed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut now = self.lock();
        if self.is_renewed.load(Ordering::Acquire) {
            return Ok(());
        }
        let renewed = now
            .with_content_id(fresh_content_id(now.content_id()))
            .map_err(|error| malformed(&self.path, Operation::Write, &error))?;
        self.folder.replace(&self.name, renewed.bytes())?;
        *now = renewed;
        self.is_renewed.store(true, Ordering::Release);
        Ok(())
    }

    /// Puts an edited descriptor in place; durable when it returns.
    pub(crate) fn edit(
        &self,
        edit: impl FnOnce(&Descriptor) -> Result<Descriptor, DescriptorError>,
    ) -> Result<(), DiskError> {
        let mut now = self.lock();
        let edited = edit(&now).map_err(|error| malformed(&self.path, Operation::Resize, &error))?;
        self.folder.replace(&self.name, edited.bytes())?;
        *now = edited;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Descriptor> {
        // The value is replaced whole after its file was: a panic in between leaves it true.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(folder: &Folder, name: &OsString) -> Result<Descriptor, DiskError> {
    let path = folder.path_of(name);
    let file = folder.open(name, false)?;
    let Some(bytes) = folder.read_small(name, &file)? else {
        let reason = "it is too long for a VMDK descriptor and has no VMDK signature";
        return Err(DiskError::new(Code::ImageFormatDisagrees, Operation::Open, &path, reason));
    };
    Descriptor::parse(&bytes).map_err(|error| malformed(&path, Operation::Open, &error))
}

fn malformed(path: &Path, operation: Operation, error: &DescriptorError) -> DiskError {
    DiskError::new(error.code(), operation, path, error.to_string())
}

/// A content id for new content: random, none of those with a meaning of their own, and not the old one.
pub(crate) fn fresh_content_id(old: u32) -> u32 {
    loop {
        let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
        let id = u32::from_be_bytes([a, b, c, d]);
        if is_content_id(id) && id != old {
            return id;
        }
    }
}
