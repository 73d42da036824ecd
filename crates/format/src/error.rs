//! Why bytes of a disk format could not be understood: where, and what is wrong there.

/// A fault in a format's bytes. Whoever has the file's path adds it, and the offset at which these bytes lie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset_bytes}: {reason}")]
pub struct FormatError {
    /// Where, in bytes from the start of what was decoded.
    pub offset_bytes: u64,
    /// What is wrong there.
    pub reason: String,
}

impl FormatError {
    /// A fault at `offset_bytes`.
    pub fn new(offset_bytes: u64, reason: impl Into<String>) -> Self {
        Self { offset_bytes, reason: reason.into() }
    }

    /// The same fault for a reader whose bytes began `base_bytes` further into the file.
    pub fn shifted(self, base_bytes: u64) -> Self {
        Self { offset_bytes: self.offset_bytes.saturating_add(base_bytes), ..self }
    }
}
