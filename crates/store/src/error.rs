//! Why the store refused.

use failback_blockio::DiskError;
use failback_format::journal_record::PhaseKind;
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
    /// A job that ended: the machine was cut over, cancelled or committed.
    #[error("the job of disk {disk} is over: its machine was {}", was(*phase))]
    JobIsOver {
        /// Which disk.
        disk: DiskId,
        /// What became of the machine.
        phase: PhaseKind,
    },
    /// A point that is not there, or not for this.
    #[error("{0}")]
    Point(String),
    /// Nothing can be taken back or made final any more.
    #[error("{0}")]
    AlreadyFinal(String),
    /// A way back needs more room for undo than there is.
    #[error("{needed_bytes} bytes may have to be logged, and the undo log's volume has {free_bytes}")]
    UndoSpace {
        /// At most so much will be logged.
        needed_bytes: u64,
        /// So much is free.
        free_bytes: u64,
    },
    /// What was restored is not what the point was.
    #[error("{0}")]
    UndoDamaged(String),
    /// It was asked to stop; the same call finishes it.
    #[error("stopped on request")]
    Stopped,
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
            Self::JobIsOver { .. } => Code::MachineReleased,
            Self::Point(_) => Code::PointUnknown,
            Self::AlreadyFinal(_) => Code::AlreadyCommitted,
            Self::UndoSpace { .. } => Code::UndoSpace,
            Self::UndoDamaged(_) => Code::UndoDamaged,
            Self::Stopped => Code::Cancelled,
        }
    }

    /// As a finding with the code's own remedy.
    pub fn to_finding(&self) -> Finding {
        Finding::error(self.code(), self.to_string())
    }
}

const fn was(phase: PhaseKind) -> &'static str {
    match phase {
        PhaseKind::Replicating => "replicating",
        PhaseKind::Released => "cut over",
        PhaseKind::Cancelled => "cancelled",
        PhaseKind::Committed => "committed",
        PhaseKind::HistoryEnded => "changed by something else",
    }
}
