//! What can go wrong with an NBD server, and what follows from it.
//!
//! **Invariant**: only a connection that is lost is made anew by itself; a server that answered is believed.

use failback_blockio::{DiskError, Operation};
use failback_model::Code;
use std::io;
use std::path::Path;

/// Why a disk behind NBD cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NbdError {
    /// Nothing answers there.
    #[error("cannot connect: {0}")]
    Unreachable(io::Error),
    /// The connection is gone, or the server has been silent for too long.
    #[error("the connection was lost: {0}")]
    Lost(io::Error),
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server answered with an error to a request.
    #[error("the server answered: {0}")]
    Answered(io::Error),
    /// The export is not there.
    #[error("{0}")]
    NoExport(String),
    /// The server lets us not in.
    #[error("the server refuses: {0}")]
    Denied(String),
    /// The server cannot do what is needed.
    #[error("{0}")]
    Unsupported(String),
    /// The server does not keep to the protocol.
    #[error("{0}")]
    Broken(String),
    /// The export is another one than before.
    #[error("the export is another one than before: {0}")]
    Changed(String),
}

impl NbdError {
    /// A fault of the server.
    pub(super) fn broken(why: impl Into<String>) -> Self {
        Self::Broken(why.into())
    }

    /// Its stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::Unreachable(_) | Self::Lost(_) | Self::NoExport(_) => Code::SourceUnreachable,
            Self::Tls(_) => Code::TlsFailed,
            Self::Answered(_) => Code::ReadFailed,
            Self::Denied(_) => Code::SourceDenied,
            Self::Unsupported(_) => Code::SourceUnsupported,
            Self::Broken(_) => Code::NbdBroken,
            Self::Changed(_) => Code::ChangedMeanwhile,
        }
    }

    const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NoExport(_) => Some("name one of the server's exports ('nbdinfo --list URI' shows them)"),
            Self::Denied(_) => {
                Some("see the server's rules: who may read this export, and whether it wants TLS (nbds://)")
            }
            Self::Tls(_) => {
                Some("see 'tls-certificates' and 'tls-hostname' of the URI, and the server's certificate")
            }
            _ => None,
        }
    }

    /// As an error of the disk.
    pub(super) fn at(
        self,
        operation: Operation,
        name: &Path,
        offset_bytes: impl Into<Option<u64>>,
    ) -> DiskError {
        let (code, remedy) = (self.code(), self.remedy());
        let error = DiskError {
            offset_bytes: offset_bytes.into(),
            ..DiskError::new(code, operation, name, self.to_string())
        };
        match remedy {
            Some(remedy) => error.with_remedy(remedy),
            None => error,
        }
    }
}

/// Errors of the stream: all of them mean that the connection is of no more use.
impl From<io::Error> for NbdError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Self::Lost(io::Error::new(io::ErrorKind::TimedOut, "the server is silent"))
            }
            _ => Self::Lost(error),
        }
    }
}
