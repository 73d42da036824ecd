//! Versions of the protocol, with the reason for each. PROTOCOL.md says what each changed.

/// A version that this build speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Version {
    /// First version between two machines: set-up, liveness and an orderly end around the messages of a pass. Number 0
    /// was the draft of those messages, spoken inside one process only.
    V1 = 1,
}

impl Version {
    /// What this build speaks at best.
    pub const CURRENT: Self = Self::V1;
    /// Oldest version that this build still speaks.
    pub const OLDEST: Self = Self::V1;

    /// The version with this number.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            _ => None,
        }
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self as u16
    }
}
