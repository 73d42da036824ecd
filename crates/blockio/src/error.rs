//! The one error shape of everything that touches a disk: a small kind (the code), then operation, path, offset,
//! reason, then the operating system's own error as source.

use failback_model::{Code, Finding, Place};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Opening, probing, locking.
    Open,
    /// Creating.
    Create,
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Zeroing or punching.
    Zero,
    /// Making bytes durable.
    Flush,
    /// Changing the length.
    Resize,
    /// Mapping into memory.
    Map,
    /// Looking for holes.
    Seek,
}

impl Operation {
    /// The verb used in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Zero => "zero",
            Self::Flush => "flush",
            Self::Resize => "resize",
            Self::Map => "map",
            Self::Seek => "find holes in",
        }
    }

    /// The code of an I/O error met while doing it.
    const fn code(self) -> Code {
        match self {
            Self::Open | Self::Map => Code::OpenFailed,
            Self::Create => Code::CreateFailed,
            Self::Read | Self::Seek => Code::ReadFailed,
            Self::Write | Self::Zero | Self::Resize => Code::WriteFailed,
            Self::Flush => Code::FlushFailed,
        }
    }
}

/// Why a disk, image or file could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.message())]
pub struct DiskError {
    /// Stable code.
    pub code: Code,
    /// What was being done.
    pub operation: Operation,
    /// On what.
    pub path: PathBuf,
    /// Where, in bytes from the start of what `path` names.
    pub offset_bytes: Option<u64>,
    /// Why, in words; empty where the source says it all.
    pub reason: String,
    /// What the operating system said.
    pub source: Option<io::Error>,
    /// What to do about it, where something better than the code's own remedy is known.
    pub remedy: Option<&'static str>,
}

impl DiskError {
    /// A failure of the operating system; no space, which a used up quota is too, has a code of its own.
    pub fn io(
        operation: Operation,
        path: &Path,
        offset_bytes: impl Into<Option<u64>>,
        source: io::Error,
    ) -> Self {
        let code = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::NoSpace,
            _ => operation.code(),
        };
        let offset_bytes = offset_bytes.into();
        let source = Some(source);
        Self { code, operation, path: path.into(), offset_bytes, reason: String::new(), source, remedy: None }
    }

    /// A failure that is not the operating system's.
    pub fn new(code: Code, operation: Operation, path: &Path, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { code, operation, path: path.into(), offset_bytes: None, reason, source: None, remedy: None }
    }

    /// The same with the offset where it was met.
    pub fn at(self, offset_bytes: u64) -> Self {
        Self { offset_bytes: Some(offset_bytes), ..self }
    }

    /// The same with what to do about it.
    pub fn with_remedy(self, remedy: &'static str) -> Self {
        Self { remedy: Some(remedy), ..self }
    }

    /// As a finding, with the remedy that fits best.
    pub fn to_finding(&self) -> Finding {
        let finding = Finding::error(self.code, self.message()).with_place(Place {
            operation: Some(self.operation.as_str()),
            path: Some(self.path.clone()),
            offset_bytes: self.offset_bytes,
            reason: Some(self.why()).filter(|why| !why.is_empty()),
        });
        match self.remedy.or_else(|| self.remedy_by_cause()) {
            Some(remedy) => finding.with_remedy(remedy),
            None => finding,
        }
    }

    /// What to do where the operating system named a cause that has a remedy of its own.
    fn remedy_by_cause(&self) -> Option<&'static str> {
        let source = self.source.as_ref()?;
        match Errno::from_io_error(source) {
            Some(Errno::MFILE) => return Some("raise the hard limit of open files (ulimit -Hn)"),
            Some(Errno::NFILE) => return Some("raise this host's limit of open files (fs.file-max)"),
            _ => {}
        }
        match (self.code, source.kind()) {
            (Code::CreateFailed, io::ErrorKind::NotFound) => Some("make the folder first, or choose another"),
            (Code::CreateFailed, io::ErrorKind::PermissionDenied) => {
                Some("choose a folder that this user may write to, or run as one who may")
            }
            _ => None,
        }
    }

    /// The reason and what the operating system said.
    fn why(&self) -> String {
        let source = self.source.as_ref().map(ToString::to_string).unwrap_or_default();
        let joint = if self.reason.is_empty() || source.is_empty() { "" } else { ": " };
        format!("{}{joint}{source}", self.reason)
    }

    fn message(&self) -> String {
        let mut text = format!("cannot {} {}", self.operation.as_str(), self.path.display());
        if let Some(offset) = self.offset_bytes {
            text += &format!(" at byte {offset}");
        }
        let why = self.why();
        if !why.is_empty() {
            text += &format!(": {why}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_in_fields_what_its_evidence_says_in_words() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = DiskError::io(Operation::Create, Path::new("/x/y.raw"), 512, source);
        let finding = DiskError { reason: "the folder".into(), ..error }.to_finding();
        assert_eq!(finding.evidence, "cannot create /x/y.raw at byte 512: the folder: permission denied");
        let place = *finding.place;
        assert_eq!((place.operation, place.offset_bytes), (Some("create"), Some(512)));
        assert_eq!(place.path.as_deref(), Some(Path::new("/x/y.raw")));
        assert_eq!(place.reason.as_deref(), Some("the folder: permission denied"));
        assert!(finding.remedy.starts_with("choose a folder"), "{}", finding.remedy);
        let plain = DiskError::new(Code::ReadFailed, Operation::Read, Path::new("x"), "").to_finding();
        assert_eq!((plain.place.reason, plain.remedy.as_str()), (None, Code::ReadFailed.remedy()));
        let told = DiskError::new(Code::ReadFailed, Operation::Read, Path::new("x"), "").with_remedy("do");
        assert_eq!(told.to_finding().remedy, "do");
    }

    #[test]
    fn what_the_operating_system_says_has_the_code_that_helps() {
        let of = |errno: Errno| DiskError::io(Operation::Write, Path::new("disk"), 7, errno.into());
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(of(errno).code, Code::NoSpace, "{errno}");
        }
        assert_eq!(of(Errno::IO).code, Code::WriteFailed);
        assert!(of(Errno::MFILE).to_finding().remedy.contains("ulimit -Hn"));
    }
}
