//! The identity that a new disk is given, in either of the forms that people copy it from.
//!
//! **Invariant**: 16 bytes, whoever wrote them how; each format writes them its own way.

use std::fmt;
use std::str::FromStr;

/// The identity of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiskUuid([u8; 16]);

/// A text that is no identity of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoDiskUuid;

impl fmt::Display for NoDiskUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "16 bytes in hexadecimal, as 6000c29b-1f0a-7734-5c02-9e8d1044abf3 or \
             as '60 00 C2 9b 1f 0a 77 34-5c 02 9e 8d 10 44 ab f3'",
        )
    }
}

impl std::error::Error for NoDiskUuid {}

impl DiskUuid {
    /// The 16 bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl From<[u8; 16]> for DiskUuid {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl FromStr for DiskUuid {
    type Err = NoDiskUuid;

    /// Reads the form of RFC 9562 (8-4-4-4-12 digits) or that of ESXi (pairs of digits, a dash in the middle).
    fn from_str(text: &str) -> Result<Self, NoDiskUuid> {
        let is_rfc = text.len() == 36;
        if !is_rfc && !is_esxi(text.as_bytes()) {
            return Err(NoDiskUuid);
        }
        let digits = text.replace([' ', '-'], "");
        match uuid::Uuid::try_parse(if is_rfc { text } else { &digits }) {
            Ok(uuid) => Ok(Self(*uuid.as_bytes())),
            Err(_) => Err(NoDiskUuid),
        }
    }
}

/// Whether blanks and the dash stand where ESXi puts them; the digits are for the parser.
fn is_esxi(text: &[u8]) -> bool {
    let separates = |(index, byte): (usize, &u8)| match index {
        23 => *byte == b'-',
        _ if index % 3 == 2 => *byte == b' ',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 47 && text.iter().enumerate().all(separates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_same_bytes_and_nothing_else_does() {
        let bytes = *b"\x60\x00\xc2\x9b\x1f\x0a\x77\x34\x5c\x02\x9e\x8d\x10\x44\xab\xf3";
        for text in [
            "6000c29b-1f0a-7734-5c02-9e8d1044abf3",
            "6000C29B-1F0A-7734-5C02-9E8D1044ABF3",
            "60 00 C2 9b 1f 0a 77 34-5c 02 9e 8d 10 44 ab f3",
        ] {
            assert_eq!(text.parse(), Ok(DiskUuid(bytes)), "{text}");
        }
        for text in [
            "",
            "60 00 C2",
            "6000c29b-1f0a-7734-5c02-9e8d1044abf",
            "6000c29b-1f0a-7734-5c02-9e8d1044abf3f",
            "{6000c29b-1f0a-7734-5c02-9e8d1044abf3}",
            "6000c29b-1f0a-7734-5c02-9e8d1044abfg",
            "60 00 C2 9b 1f 0a 77 34 5c 02 9e 8d 10 44 ab f3",
            "60 00 C2 9b 1f 0a 77 34-5c 02 9e 8d 10 44 ab f\u{e9}",
            "60 00 C2 9b 1f 0a 77 34-5c 02 9e 8d 10 44 ab  3",
            "x\"\nRW 1 FLAT \"/etc/passwd\" 0 and then some tail",
        ] {
            assert_eq!(text.parse::<DiskUuid>(), Err(NoDiskUuid), "{text}");
        }
    }
}
