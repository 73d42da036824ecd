//! Files mapped into memory: manifests and indexes that are larger than the memory budget.
//!
//! A mapped file that somebody else shortens raises `SIGBUS` when its lost pages are touched, and so does writing to
//! a hole of a full file system. **Invariant**: only files that failback itself owns are mapped, never an image; and a
//! writer reserves the bytes it is about to touch with [`MappedFile::reserve`], which can say no.

use crate::{DiskError, Operation};
use failback_model::ByteRange;
use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file of fixed length, mapped for reading and writing.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    file: File,
    map: MmapMut,
}

/// Where mapped files without a name lie: `TMPDIR` where that is set, else `/var/tmp`, else `/tmp`, which is memory on many
/// hosts: what is mapped so as not to take memory shall not lie there.
pub fn temp_folder() -> PathBuf {
    let disk = Path::new("/var/tmp");
    if std::env::var_os("TMPDIR").is_none_or(|folder| folder.is_empty()) && disk.is_dir() {
        return disk.into();
    }
    std::env::temp_dir()
}

impl MappedFile {
    /// A sparse file of zeros in `folder` ([`temp_folder`] is made for it) that has no name and vanishes with this value.
    pub fn create_temp(folder: &Path, length_bytes: u64) -> Result<Self, DiskError> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => File::from(file),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => create_unlinked(folder)?,
            Err(errno) => return Err(DiskError::io(Operation::Create, folder, None, errno.into())),
        };
        Self::with_length(folder, file, length_bytes)
    }

    /// A sparse file of zeros at `path`, which must not exist yet.
    pub fn create(path: &Path, length_bytes: u64) -> Result<Self, DiskError> {
        Self::with_length(path, create_new(path)?, length_bytes)
    }

    /// An existing file.
    pub fn open_write(path: &Path) -> Result<Self, DiskError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| DiskError::io(Operation::Open, path, None, error))?;
        Self::map(path, file)
    }

    fn with_length(path: &Path, file: File, length_bytes: u64) -> Result<Self, DiskError> {
        file.set_len(length_bytes).map_err(|error| DiskError::io(Operation::Create, path, None, error))?;
        Self::map(path, file)
    }

    fn map(path: &Path, file: File) -> Result<Self, DiskError> {
        // SAFETY: the file is failback's own (module invariant): no other process shortens or rewrites it.
        let map = unsafe { MmapMut::map_mut(&file) };
        let map = map.map_err(|error| DiskError::io(Operation::Map, path, None, error))?;
        Ok(Self { path: path.into(), file, map })
    }

    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.map
    }

    /// Its bytes, for writing; reserve holes before they are touched.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.map
    }

    /// Takes space for these bytes, so that writing them cannot fail later; keeps their contents. File systems that
    /// cannot reserve are trusted.
    pub fn reserve(&self, range: ByteRange) -> Result<(), DiskError> {
        if range.is_empty() {
            return Ok(());
        }
        let result = rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, range.start(), range.length_bytes())
        });
        match result {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(DiskError::io(Operation::Write, &self.path, range.start(), errno.into())),
        }
    }

    /// First run of bytes at or after `from_bytes` that may not be zero; `None` where the rest is a hole. Reading a
    /// mapped hole costs a page of memory, so who looks for data asks here first.
    pub fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        let end = self.map.len() as u64;
        if from_bytes >= end {
            return Ok(None);
        }
        let seek = |to| rustix::io::retry_on_intr(|| rustix::fs::seek(&self.file, to));
        let fail = |errno: Errno| DiskError::io(Operation::Seek, &self.path, from_bytes, errno.into());
        let start = match seek(SeekFrom::Data(from_bytes)) {
            Ok(start) if start < end => start,
            Ok(_) | Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => from_bytes,
            Err(errno) => return Err(fail(errno)),
        };
        match seek(SeekFrom::Hole(start)) {
            Ok(hole) if hole > start => Ok(Some(ByteRange::new(start, hole.min(end)))),
            Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => {
                Ok(Some(ByteRange::new(start, end)))
            }
            Err(errno) => Err(fail(errno)),
        }
    }

    /// Makes all that was written durable.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.map.flush().map_err(|error| DiskError::io(Operation::Flush, &self.path, None, error))
    }

    /// Where it lies; the folder for a temporary file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn create_new(path: &Path) -> Result<File, DiskError> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| DiskError::io(Operation::Create, path, None, error))
}

/// For file systems without `O_TMPFILE`: a name that is taken away at once.
fn create_unlinked(folder: &Path) -> Result<File, DiskError> {
    for attempt in 0..64 {
        let path = folder.join(format!(".failback-{}-{attempt}", std::process::id()));
        match create_new(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)
                    .map_err(|error| DiskError::io(Operation::Create, &path, None, error))?;
                return Ok(file);
            }
            Err(error) if is_exists(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Err(DiskError::io(Operation::Create, folder, None, io::ErrorKind::AlreadyExists.into()))
}

fn is_exists(error: &DiskError) -> bool {
    error.source.as_ref().is_some_and(|source| source.kind() == io::ErrorKind::AlreadyExists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_written_is_read_by_the_next_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("manifest");
        let mut map = MappedFile::create(&path, 1 << 30).expect("created");
        map.reserve(ByteRange::new(1 << 29, (1 << 29) + 5)).expect("reserved");
        map.as_mut_slice()[1 << 29..][..5].copy_from_slice(b"hello");
        let data = map.next_data(0).expect("looked for").expect("there is some");
        assert!(data.start() > 0 && data.start() <= 1 << 29 && data.end() > 1 << 29, "{data:?}");
        assert_eq!(map.next_data(data.end()).expect("looked for"), None);
        map.flush().expect("flushed");
        assert_eq!(&MappedFile::open_write(&path).expect("opened").as_slice()[1 << 29..][..5], b"hello");
        let taken_bytes = std::fs::metadata(&path).expect("its size").blocks() * 512;
        assert!(taken_bytes < 1 << 20, "{taken_bytes} bytes taken by a sparse file");
        assert_eq!(MappedFile::create(&path, 1).unwrap_err().code, failback_model::Code::CreateFailed);
    }

    #[test]
    fn a_temporary_file_has_no_name_and_may_be_empty() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut map = MappedFile::create_temp(folder.path(), 4096).expect("created");
        map.as_mut_slice().fill(1);
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
        drop(create_unlinked(folder.path()).expect("created the other way"));
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
        assert!(MappedFile::create_temp(folder.path(), 0).expect("created").as_slice().is_empty());
    }
}
