//! Why a session ends.

use failback_model::Code;
use failback_wire::Message;

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
    /// How it is said to the other end.
    pub fn to_message(&self) -> Message {
        Message::Error { code: self.code.as_str().into(), message: self.reason.clone() }
    }

    /// What the other end refused with; a code that this build does not know becomes [`Code::PeerFailed`].
    pub(crate) fn refusal(code: &str, reason: String) -> Self {
        match Code::from_text(code) {
            Some(code) => Self { code, reason },
            None => Self::peer_failed(code, &reason),
        }
    }

    /// What the other end stopped for. One that stops in good order has not failed: its own code stands.
    pub(crate) fn peer_failed(code: &str, reason: &str) -> Self {
        if let Some(code) = Code::from_text(code).filter(|code| code.is_orderly_stop()) {
            return Self { code, reason: format!("the other end: {reason}") };
        }
        Self { code: Code::PeerFailed, reason: format!("{code}: {reason}") }
    }

    /// The other end did what the protocol forbids.
    pub(crate) fn violation(reason: impl Into<String>) -> Self {
        Self { code: Code::ProtocolViolation, reason: reason.into() }
    }
}
