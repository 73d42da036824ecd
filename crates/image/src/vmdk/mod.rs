//! VMDK disks: which of the kinds a file is, and who opens or makes it.
//!
//! **Invariant**: the kind is told by the file's first bytes, and a file that is neither a descriptor nor a hosted
//! sparse file is refused, never guessed at.

mod attributes;
mod composite;
mod content;
mod create;
mod disk;
mod embedded;
mod extent;
mod flat;
mod folder;
mod grow;
mod guard;
mod new_files;
mod open;
mod parts;
mod sparse;
mod sparse_disk;
mod stream;
mod stream_disk;
mod stream_writer;
mod survey;

use crate::provision::IsCancelled;
use crate::{CreateOptions, Image, VmdkType};
use failback_blockio::{Access, DiskError};
use failback_model::Code;
use folder::Folder;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

pub use embedded::{create_on, open_on};
pub use sparse::SparseExtent;
pub use stream::StreamExtent;
pub use stream_writer::StreamWriter;

pub(crate) use new_files::new_files;
pub(crate) use open::file_name;
pub(crate) use survey::survey;

/// First bytes of a hosted sparse file.
const SPARSE_MAGIC: [u8; 4] = *b"KDMV";
/// First bytes of a delta of ESX: `vmfsSparse`.
const COW_MAGIC: [u8; 4] = *b"COWD";

/// Opens a VMDK by its descriptor, or by its one file where the descriptor lies inside.
pub fn open(path: &Path, access: Access) -> Result<Arc<dyn Image>, DiskError> {
    let (folder, name) = Folder::of_existing(path)?;
    let mut magic = [0; 4];
    let file = folder.open(&name, false).map_err(|error| match error.code {
        // What was named by the user is no extent.
        Code::ImageExtentEscapes => DiskError { code: Code::OpenFailed, ..error },
        _ => error,
    })?;
    let count = file
        .read_at(&mut magic, 0)
        .map_err(|error| DiskError::io(failback_blockio::Operation::Read, path, 0, error))?;
    match magic {
        SPARSE_MAGIC if count == magic.len() => embedded::open(path, &folder, &name, access),
        COW_MAGIC if count == magic.len() => {
            let remedy = "consolidate the machine's snapshots, then name the disk that is left";
            Err(open::unsupported(path, "it is a snapshot's delta (vmfsSparse)", remedy))
        }
        _ => Ok(Arc::new(open::open_text(path, folder, name, access)?)),
    }
}

/// Makes a new VMDK and opens it for writing.
pub fn create(path: &Path, options: &CreateOptions) -> Result<Arc<dyn Image>, DiskError> {
    create_unless(path, options, &|| false)
}

/// The same, stopped between two steps where `is_cancelled` says so.
pub(crate) fn create_unless(
    path: &Path,
    options: &CreateOptions,
    is_cancelled: IsCancelled<'_>,
) -> Result<Arc<dyn Image>, DiskError> {
    match options.vmdk_type {
        VmdkType::MonolithicSparse | VmdkType::StreamOptimized => embedded::create(path, options),
        VmdkType::Vmfs
        | VmdkType::MonolithicFlat
        | VmdkType::TwoGbMaxExtentFlat
        | VmdkType::TwoGbMaxExtentSparse => Ok(Arc::new(create::create_text(path, options, is_cancelled)?)),
    }
}
