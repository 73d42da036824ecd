//! Versions of the protocol, with the reason for each.

/// A version that this build knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Version {
    /// Draft: both ends are one build in one process. Any field may still move.
    Draft0 = 0,
}

impl Version {
    /// What this build speaks.
    pub const CURRENT: Self = Self::Draft0;

    /// The version with this number.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            0 => Some(Self::Draft0),
            _ => None,
        }
    }
}
