//! Why a session ends.

use failback_model::Code;

/// The session can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SessionError {
    /// Stable code.
    pub code: Code,
    /// In words.
    pub reason: String,
}

impl SessionError {
    /// The other end did what the protocol forbids.
    pub(crate) fn violation(reason: impl Into<String>) -> Self {
        Self { code: Code::ProtocolViolation, reason: reason.into() }
    }
}
