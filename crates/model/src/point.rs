//! What a recovery point is worth, and when its source was like that.

use crate::limits::POINT_REASON_MAX_BYTES;
use std::fmt;
use std::str::FromStr;

/// How the states of a machine's disks in a recovery point belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PointLabel {
    /// Disks of different instants: not even crash-consistent as a machine.
    PerDisk,
    /// All disks at one instant, as after a power cut.
    CrashConsistent,
    /// The applications were quiesced while the instant was taken.
    AppConsistent,
    /// The source was off: nothing came after it.
    Final,
}

impl PointLabel {
    /// Every label, the weakest first.
    pub const ALL: [Self; 4] = [Self::PerDisk, Self::CrashConsistent, Self::AppConsistent, Self::Final];

    /// The word in text and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PerDisk => "per-disk",
            Self::CrashConsistent => "crash-consistent",
            Self::AppConsistent => "app-consistent",
            Self::Final => "final",
        }
    }

    /// The label that this word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.as_str() == word)
    }

    /// Number in files and on the wire: from 0, in the order of [`Self::ALL`].
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The label of a number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether a machine started from it finds its applications as they were quiesced, or shut down.
    pub const fn is_app_consistent(self) -> bool {
        matches!(self, Self::AppConsistent | Self::Final)
    }
}

impl FromStr for PointLabel {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::parse(word).ok_or("a label is per-disk, crash-consistent, app-consistent or final")
    }
}

impl fmt::Display for PointLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the sending end says of the state that a pass brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointClaim {
    /// When the source was in that state, milliseconds since 1970 by the sending end's clock.
    pub source_unix_ms: u64,
    /// What it is worth.
    pub label: PointLabel,
    /// Why it is worth no more, in words; at most 256 bytes, empty where there is nothing to say.
    pub reason: String,
    /// Which cycle of its job brings it, from 1: the states of a machine's disks belong together where job and cycle are the
    /// same. 0: its job has no cycles.
    pub cycle: u64,
}

impl PointClaim {
    /// A claim whose reason is one line that fits: control characters become spaces, and what is too long is cut.
    pub fn new(source_unix_ms: u64, label: PointLabel, reason: &str) -> Self {
        let mut reason = reason.replace(char::is_control, " ");
        reason.truncate(reason.floor_char_boundary(POINT_REASON_MAX_BYTES));
        Self { source_unix_ms, label, reason, cycle: 0 }
    }

    /// The same, brought by a cycle of its job.
    pub fn of_cycle(self, cycle: u64) -> Self {
        Self { cycle, ..self }
    }

    /// Whether a reason may be shown and kept as it is.
    pub fn is_reason(text: &str) -> bool {
        text.len() <= POINT_REASON_MAX_BYTES && !text.contains(char::is_control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_fits() {
        let claim = PointClaim::new(1, PointLabel::PerDisk, &("a\n\u{1b}[2J".to_owned() + &"ä".repeat(200)));
        assert!(PointClaim::is_reason(&claim.reason) && claim.reason.starts_with("a  [2Jä"), "{claim:?}");
        assert_eq!(claim.reason.len(), POINT_REASON_MAX_BYTES, "six bytes, then whole characters");
        assert!(!PointClaim::is_reason("two\nlines") && !PointClaim::is_reason(&"a".repeat(257)));
    }

    #[test]
    fn words_and_numbers_name_the_same_labels() {
        for label in PointLabel::ALL {
            assert_eq!(PointLabel::parse(label.as_str()), Some(label));
            assert_eq!(PointLabel::of_number(label.number()), Some(label));
        }
        assert_eq!((PointLabel::parse("perdisk"), PointLabel::of_number(4)), (None, None));
        assert!(PointLabel::PerDisk < PointLabel::CrashConsistent, "never counted as crash-consistent");
    }
}
