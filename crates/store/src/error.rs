//! Why the store refused.

use failback_blockio::DiskError;
use failback_model::{Code, DiskId, Epoch, Finding};
use std::path::PathBuf;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the store failed, or what it holds is damaged.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A job with an older epoch than one that the disk has seen.
    #[error("disk {disk} was last written to in epoch {held}, this session is of epoch {given}")]
    OlderEpoch {
        /// Which disk.
        disk: DiskId,
        /// The session's epoch.
        given: Epoch,
        /// The disk's.
        held: Epoch,
    },
    /// The machine has as many disks as it may.
    #[error("the journal {} holds {count} disks already", path.display())]
    TooManyDisks {
        /// The machine's folder.
        path: PathBuf,
        /// How many there are.
        count: usize,
    },
}

impl StoreError {
    /// Stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Disk(error) => error.code,
            Self::OlderEpoch { .. } => Code::SourceOlder,
            Self::TooManyDisks { .. } => Code::JournalFailed,
        }
    }

    /// As a finding with the code's own remedy.
    pub fn to_finding(&self) -> Finding {
        Finding::error(self.code(), self.to_string())
    }
}
