//! The one error shape of everything that touches a disk: a small kind (the code), then operation, path, offset,
//! reason, then the operating system's own error as source.

use failback_model::{Code, Finding};
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
        let reason = match Errno::from_io_error(&source) {
            Some(Errno::MFILE) => {
                "more files than this process may have open: raise the hard limit (ulimit -Hn)"
            }
            Some(Errno::NFILE) => "more files than this host may have open: raise fs.file-max",
            _ => "",
        };
        let offset_bytes = offset_bytes.into();
        Self { code, operation, path: path.into(), offset_bytes, reason: reason.into(), source: Some(source) }
    }

    /// A failure that is not the operating system's.
    pub fn new(code: Code, operation: Operation, path: &Path, reason: impl Into<String>) -> Self {
        Self { code, operation, path: path.into(), offset_bytes: None, reason: reason.into(), source: None }
    }

    /// The same with the offset where it was met.
    pub fn at(self, offset_bytes: u64) -> Self {
        Self { offset_bytes: Some(offset_bytes), ..self }
    }

    /// As a finding with the code's own remedy.
    pub fn to_finding(&self) -> Finding {
        Finding::error(self.code, self.message())
    }

    fn message(&self) -> String {
        let mut text = format!("cannot {} {}", self.operation.as_str(), self.path.display());
        if let Some(offset) = self.offset_bytes {
            text += &format!(" at byte {offset}");
        }
        if !self.reason.is_empty() {
            text += &format!(": {}", self.reason);
        }
        if let Some(source) = &self.source {
            text += &format!(": {source}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operating_system_says_has_the_code_that_helps() {
        let of = |errno: Errno| DiskError::io(Operation::Write, Path::new("disk"), 7, errno.into());
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(of(errno).code, Code::NoSpace, "{errno}");
        }
        assert_eq!(of(Errno::IO).code, Code::WriteFailed);
        assert!(of(Errno::MFILE).to_string().contains("ulimit -Hn"));
    }
}
