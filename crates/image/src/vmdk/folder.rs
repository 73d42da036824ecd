//! The folder that a VMDK's files lie in.
//!
//! **Invariant**: every file of a disk is opened relative to one open folder and by its bare name, never through a
//! symbolic link, and is a regular file: a descriptor cannot lead out of its folder. A descriptor is replaced as a
//! whole: after a crash it is the old or the new one.

use super::attributes;
use failback_blockio::{DRAFT_SUFFIX, DiskError, Operation};
use failback_model::Code;
use failback_model::limits::DESCRIPTOR_MAX_BYTES;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// The folder and the bare name of an existing file; where the file is a link, those of what it leads to.
    pub(crate) fn of_existing(path: &Path) -> Result<(Self, OsString), DiskError> {
        let fail = |error| DiskError::io(Operation::Open, path, None, error);
        if !std::fs::symlink_metadata(path).map_err(fail)?.is_symlink() {
            return Self::split(path, Operation::Open);
        }
        Self::split(&std::fs::canonicalize(path).map_err(fail)?, Operation::Open)
    }

    /// The folder and the bare name of a file that is about to be made.
    pub(crate) fn of_new(path: &Path) -> Result<(Self, OsString), DiskError> {
        Self::split(path, Operation::Create)
    }

    fn split(path: &Path, operation: Operation) -> Result<(Self, OsString), DiskError> {
        let Some(name) = path.file_name() else {
            return Err(DiskError::new(Code::OpenFailed, operation, path, "it names no file"));
        };
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(parent, flags, Mode::empty())
            .map_err(|errno| DiskError::io(operation, parent, None, errno.into()))?;
        Ok((Self { fd, path: parent.into() }, name.into()))
    }

    /// Where a file of this folder lies, for messages.
    pub(crate) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a regular file of this folder, never through a link.
    pub(crate) fn open(&self, name: &OsStr, write: bool) -> Result<File, DiskError> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.path_of(name);
        let escapes = |reason| DiskError::new(Code::ImageExtentEscapes, Operation::Open, &path, reason);
        // Looked at first: opening a FIFO or a device may already do something.
        let stat = self.stat(name)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(escapes("it is a symbolic link, its target may lie anywhere")),
            _ => return Err(escapes("it is not a regular file")),
        }
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP => escapes("it became a symbolic link"),
            errno => DiskError::io(Operation::Open, &path, None, errno.into()),
        })?;
        let file = File::from(fd);
        let opened = rustix::fs::fstat(&file)
            .map_err(|errno| DiskError::io(Operation::Open, &path, None, errno.into()))?;
        if FileType::from_raw_mode(opened.st_mode) != FileType::RegularFile {
            return Err(escapes("it is not a regular file"));
        }
        Ok(file)
    }

    /// Opens a sibling to look at it, also where a link leads to it; `None` where nothing lies there any more. Else why it
    /// cannot be looked at.
    pub(crate) fn open_to_look(&self, name: &OsStr) -> Result<Option<File>, String> {
        let no_file = || "it is not a regular file".to_owned();
        // Looked at first: opening a FIFO or a device may already do something.
        let is_file = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
        match rustix::fs::statat(&self.fd, name, AtFlags::empty()) {
            Ok(stat) if is_file(stat.st_mode) => {}
            Ok(_) => return Err(no_file()),
            // A link that leads nowhere now is still there: what it leads to may only be away.
            Err(Errno::NOENT) if self.holds(name).is_ok_and(|is_there| !is_there) => return Ok(None),
            Err(errno) => return Err(std::io::Error::from(errno).to_string()),
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) if self.holds(name).is_ok_and(|is_there| !is_there) => return Ok(None),
            Err(errno) => return Err(std::io::Error::from(errno).to_string()),
        };
        let opened = rustix::fs::fstat(&file).map_err(|errno| std::io::Error::from(errno).to_string())?;
        if is_file(opened.st_mode) { Ok(Some(file)) } else { Err(no_file()) }
    }

    /// What lies under a name, links not followed.
    pub(crate) fn stat(&self, name: &OsStr) -> Result<Stat, DiskError> {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| DiskError::io(Operation::Open, &self.path_of(name), None, errno.into()))
    }

    /// Whether anything lies under a name.
    pub(crate) fn holds(&self, name: &OsStr) -> Result<bool, DiskError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(DiskError::io(Operation::Open, &self.path_of(name), None, errno.into())),
        }
    }

    /// Every name in the folder.
    pub(crate) fn names(&self) -> Result<Vec<OsString>, DiskError> {
        let fail = |errno: Errno| DiskError::io(Operation::Read, &self.path, None, errno.into());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            names.push(OsStr::from_bytes(entry.map_err(fail)?.file_name().to_bytes()).to_owned());
        }
        Ok(names)
    }

    /// Makes a file that must not exist.
    pub(crate) fn create(&self, name: &OsStr) -> Result<File, DiskError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR).map(File::from).map_err(|errno| {
            let error = DiskError::io(Operation::Create, &self.path_of(name), None, errno.into());
            if errno == Errno::EXIST { DiskError { code: Code::ImageExists, ..error } } else { error }
        })
    }

    /// Takes a name away; that it is gone already is no error.
    pub(crate) fn remove(&self, name: &OsStr) -> Result<(), DiskError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(DiskError::io(Operation::Write, &self.path_of(name), None, errno.into())),
        }
    }

    /// Makes names durable.
    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        rustix::fs::fsync(&self.fd)
            .map_err(|errno| DiskError::io(Operation::Flush, &self.path, None, errno.into()))
    }

    /// Reads a small file whole; `None` where it is longer than any descriptor.
    pub(crate) fn read_small(&self, name: &OsStr, file: &File) -> Result<Option<Vec<u8>>, DiskError> {
        let mut bytes = Vec::new();
        file.take(DESCRIPTOR_MAX_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| DiskError::io(Operation::Read, &self.path_of(name), None, error))?;
        Ok((bytes.len() <= DESCRIPTOR_MAX_BYTES).then_some(bytes))
    }

    /// Puts `bytes` in the place of an existing file, keeping its owner and mode, and makes that durable.
    pub(crate) fn replace(&self, name: &OsStr, bytes: &[u8]) -> Result<(), DiskError> {
        let mut draft_name = name.to_owned();
        draft_name.push(DRAFT_SUFFIX);
        // One left by a crash is ours and was never the descriptor.
        self.remove(&draft_name)?;
        let result = self.write_draft(name, &draft_name, bytes);
        if result.is_err() {
            // The first error is the one to report.
            let _removed = self.remove(&draft_name);
        }
        result
    }

    fn write_draft(&self, name: &OsStr, draft_name: &OsStr, bytes: &[u8]) -> Result<(), DiskError> {
        let path = self.path_of(name);
        let write = |error: std::io::Error| DiskError::io(Operation::Write, &path, None, error);
        let old = self.stat(name)?;
        let mut draft = self.create(draft_name).map_err(|error| DiskError {
            operation: Operation::Write,
            code: if error.code == Code::CreateFailed { Code::WriteFailed } else { error.code },
            ..error
        })?;
        let new = rustix::fs::fstat(&draft).map_err(|errno| write(errno.into()))?;
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid) {
            let (owner, group) =
                (rustix::fs::Uid::from_raw(old.st_uid), rustix::fs::Gid::from_raw(old.st_gid));
            rustix::fs::fchown(&draft, Some(owner), Some(group)).map_err(|errno| DiskError {
                reason: "its owner and group cannot be kept; run as its owner or as root".into(),
                ..write(errno.into())
            })?;
        }
        rustix::fs::fchmod(&draft, Mode::from_raw_mode(old.st_mode)).map_err(|errno| write(errno.into()))?;
        attributes::copy(&self.open(name, false)?, &draft);
        draft.write_all(bytes).map_err(write)?;
        draft.sync_all().map_err(|error| DiskError::io(Operation::Flush, &path, None, error))?;
        rustix::fs::renameat(&self.fd, draft_name, &self.fd, name).map_err(|errno| write(errno.into()))?;
        self.sync()
    }
}
