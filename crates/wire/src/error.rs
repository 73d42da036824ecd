//! Why bytes are not a message.

/// What is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// They end too early.
    Truncated,
    /// No message has this kind.
    UnknownKind,
    /// The peer speaks a version that this build does not.
    UnknownVersion,
    /// A length or count is above its limit.
    TooLarge,
    /// Bytes are left over behind the last field.
    TrailingBytes,
    /// A field holds a value that it must not.
    BadValue,
    /// The payload's length does not fit the body.
    PayloadLength,
}

impl ErrorKind {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "ends too early",
            Self::UnknownKind => "has an unknown kind",
            Self::UnknownVersion => "speaks an unknown version",
            Self::TooLarge => "is above its limit",
            Self::TrailingBytes => "has bytes left over",
            Self::BadValue => "has a value that it must not have",
            Self::PayloadLength => "has a payload of the wrong length",
        }
    }
}

/// A frame that is not a message: what, and in which field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {}", .kind.as_str())]
pub struct WireError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Field or message where it was met.
    pub field: &'static str,
}

impl WireError {
    pub(crate) const fn new(kind: ErrorKind, field: &'static str) -> Self {
        Self { kind, field }
    }
}
