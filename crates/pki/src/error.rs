//! Why the authority could not do what it was asked.

use failback_blockio::DiskError;
use failback_model::{Code, Finding};
use std::io;
use std::path::{Path, PathBuf};

/// What failed, on which file, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct PkiError {
    /// Stable code.
    pub code: Code,
    /// On which file or folder.
    pub path: PathBuf,
    /// In words.
    pub reason: String,
    /// What the operating system said.
    pub source: Option<io::Error>,
}

impl PkiError {
    pub(crate) fn new(code: Code, path: &Path, reason: impl Into<String>) -> Self {
        Self { code, path: path.into(), reason: reason.into(), source: None }
    }

    pub(crate) fn io(code: Code, path: &Path, what: &str, source: io::Error) -> Self {
        let reason = format!("cannot {what}: {source}");
        let code = if source.kind() == io::ErrorKind::StorageFull { Code::NoSpace } else { code };
        Self { source: Some(source), ..Self::new(code, path, reason) }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::new(Code::PkiDamaged, path, reason)
    }

    /// As a finding with the code's own remedy.
    pub fn to_finding(&self) -> Finding {
        Finding::error(self.code, self.to_string())
    }
}

impl From<DiskError> for PkiError {
    fn from(error: DiskError) -> Self {
        Self::new(error.code, &error.path.clone(), error.to_string())
    }
}
