//! Who and what a session is about: machines, disks, and the numbers that put states and sessions in order.
//!
//! **Invariant**: an id is 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and `-`, and starts with a letter or a digit: it
//! is a plain file name on every system, never a path, never hidden, and nothing has to be escaped to print it.

use crate::limits::IDENTITY_MAX_BYTES;
use std::fmt;
use std::str::FromStr;

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Empty, or above 64 characters.
    #[error("an id has 1 to {IDENTITY_MAX_BYTES} characters, this one has {0}")]
    Length(usize),
    /// A character that no id has, or a start that no id has.
    #[error("an id has only a-z, 0-9, '.', '_' and '-', and starts with a letter or a digit: not {0:?}")]
    Character(char),
}

/// Checks a text against the rule of the module.
fn check(text: &str) -> Result<(), IdentityError> {
    if text.is_empty() || text.len() > IDENTITY_MAX_BYTES {
        return Err(IdentityError::Length(text.chars().count()));
    }
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let allows = |(at, c): (usize, char)| is_plain(c) || at > 0 && matches!(c, '.' | '_' | '-');
    match text.char_indices().find(|&pair| !allows(pair)) {
        Some((_, c)) => Err(IdentityError::Character(c)),
        None => Ok(()),
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Checks a text.
            pub fn new(text: impl Into<String>) -> Result<Self, IdentityError> {
                let text = text.into();
                check(&text)?;
                Ok(Self(text))
            }

            /// The id as it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, IdentityError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdentityError;

            fn try_from(text: String) -> Result<Self, IdentityError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )* };
}

ids! {
    /// A machine, as both sites call it.
    MachineId;
    /// A disk of a machine. A path never crosses the wire: the target's own registry maps the id to an image.
    DiskId;
    /// Machines that are failed back together: a replication group.
    GroupId;
    /// A job, such as one cycle of one machine: the same id twice is the same request.
    JobId;
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after it. Panics after 2^64 - 1, which is never reached by counting.
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("no counter gets there"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )* };
}

numbers! {
    /// Number of a sealed state of a disk: 0 before the first seal, then strictly increasing.
    Generation;
    /// Number of a job that replicates a disk. A job with an older one is refused for ever.
    Epoch;
    /// Number of a session of a disk, given by its target and durable there before the session may write.
    SessionNumber;
}

/// Version of the product, `major.minor.patch`. What follows a `-` or `+` is for humans and orders nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProductVersion {
    /// Changes when something stops working as it did.
    pub major: u32,
    /// Changes when something is new.
    pub minor: u32,
    /// Changes with each repair.
    pub patch: u32,
}

impl ProductVersion {
    /// This build's.
    pub const CURRENT: Self = Self {
        major: part(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: part(env!("CARGO_PKG_VERSION_MINOR")),
        patch: part(env!("CARGO_PKG_VERSION_PATCH")),
    };
}

/// A part of a version that cargo has checked.
const fn part(text: &str) -> u32 {
    match u32::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => panic!("cargo lets only numbers pass"),
    }
}

impl fmt::Display for ProductVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What binds data connections to their session: whoever knows it, and has the same certificate, may join.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionToken(pub [u8; 16]);

impl fmt::Debug for SessionToken {
    /// Never shows it: what is printed ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_file_names() {
        for text in ["a", "0", "web-01.example_x", &"a".repeat(64)] {
            assert_eq!(DiskId::new(text).map(String::from), Ok(text.to_owned()));
        }
        assert_eq!(MachineId::new(""), Err(IdentityError::Length(0)));
        assert_eq!("a".repeat(65).parse::<MachineId>(), Err(IdentityError::Length(65)));
        for text in [".a", "-a", "_a", "..", "a/b", "a b", "A", "a\0", "ä", "a\n"] {
            assert!(matches!(DiskId::new(text), Err(IdentityError::Character(_))), "{text:?}");
        }
    }

    #[test]
    fn a_token_does_not_print() {
        assert_eq!(format!("{:?}", SessionToken([7; 16])), "SessionToken(..)");
    }

    #[test]
    fn versions_are_in_order() {
        let version = |major, minor, patch| ProductVersion { major, minor, patch };
        assert!(version(0, 9, 9) < version(0, 10, 0) && version(0, 10, 0) < version(1, 0, 0));
        assert!(env!("CARGO_PKG_VERSION").starts_with(&ProductVersion::CURRENT.to_string()));
    }

    #[test]
    fn numbers_count_up() {
        assert!(Generation(3).next() == Generation(4) && Epoch(1) < Epoch(2));
        assert_eq!(SessionNumber(12).to_string(), "12");
    }
}
