//! Positioned I/O on files and devices: the traits the whole product reads and writes through, and their
//! implementations over the operating system. The only crate that may hold `unsafe`.
//!
//! **Invariant**: every call is positioned and whole: it moves all bytes asked for or says at which offset it
//! failed and why.
#![expect(unsafe_code, reason = "system calls, mappings and aligned memory; each block says why it is sound")]

mod buffer;
mod device;
mod draft;
mod error;
mod file;
mod latch;
mod limit;
mod lock;
mod map;
mod new_files;
mod read;
mod recording;
mod sys;

pub use buffer::{AlignedBuffer, BufferPool};
pub use device::{ChangeFeed, Device, ReadPath, UnitSource, Zeroing};
pub use draft::{DRAFT_SUFFIX, draft_of, is_left_over, publish};
pub use error::{DiskError, Operation};
pub use file::{Access, FileDevice, FileId};
pub use limit::{forbid_core_dumps, raise_open_files_limit};
pub use map::{MappedFile, temp_folder};
pub use new_files::{NewFiles, create_folder, folder_of, free_bytes, sync_folder};
pub use read::ReadMode;
pub use recording::{Action, AfterCut, Event, Recording, RecordingDevice, after_cut};
