//! What the frame gives a daemon to work with.

use crate::budget::MemoryBudget;
use crate::clock::unix_ms;
use crate::control::About;
use crate::event::{Event, Events};
use crate::report::FindingLine;
use crate::saved::StateFolder;
use crate::status::{Board, CertificateStatus, DaemonStatus, MachineStatus};
use failback_model::Finding;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Clones share everything.
#[derive(Clone)]
pub struct Kit {
    /// What the daemon says of itself.
    pub about: About,
    /// Where its configuration was read, to be read again.
    pub config_path: PathBuf,
    /// Its state folder.
    pub state: Arc<StateFolder>,
    /// Its events.
    pub events: Arc<Events>,
    /// Its disks' status.
    pub board: Arc<Board>,
    /// Its memory.
    pub budget: MemoryBudget,
    /// Cancelled when it shall drain.
    pub stop: CancellationToken,
    certificate_error: Arc<Mutex<Option<FindingLine>>>,
}

impl Kit {
    /// A kit for a daemon of this name whose state lies there.
    pub fn new(
        about: About,
        config_path: &Path,
        state_dir: &Path,
        memory_bytes: u64,
    ) -> Result<Self, Finding> {
        let events = Arc::new(Events::new());
        let state = Arc::new(StateFolder::open(state_dir)?);
        Ok(Self {
            about,
            config_path: config_path.to_owned(),
            board: Arc::new(Board::new(Arc::clone(&events), Some(state.join("disks.json")))),
            state,
            events,
            budget: MemoryBudget::new(memory_bytes),
            stop: CancellationToken::new(),
            certificate_error: Arc::default(),
        })
    }

    /// Tells that certificates were read again, and keeps for the status why they could not be used.
    pub fn certificates_read(&self, expires_unix_ms: u64, error: Option<&Finding>) {
        let error = error.map(FindingLine::from);
        let findings = error.iter().cloned().collect();
        *self.certificate_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        self.events.publish(Event::CertificatesReloaded { expires_unix_ms: Some(expires_unix_ms), findings });
    }

    /// What is said of a daemon's own certificate.
    pub fn certificate(&self, identity: String, expires_unix_ms: u64) -> CertificateStatus {
        let error = self.certificate_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        CertificateStatus { identity, expires_unix_ms, error: error.map(Box::new) }
    }

    /// A daemon's whole status around its machines.
    pub fn status(
        &self,
        certificate: Option<CertificateStatus>,
        sessions: u64,
        machines: Vec<MachineStatus>,
    ) -> DaemonStatus {
        DaemonStatus {
            daemon: self.about.daemon.into(),
            version: self.about.version.into(),
            started_unix_ms: self.about.started_unix_ms,
            now_unix_ms: unix_ms(),
            draining: self.stop.is_cancelled(),
            memory: self.budget.status(),
            certificate,
            receipt_key: None,
            sessions,
            errors: self.events.errors(),
            machines,
        }
    }
}
