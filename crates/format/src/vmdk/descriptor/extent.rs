//! One extent line: which bytes of which file are the next bytes of the disk.
//!
//! **Invariant**: an [`Extent`] lies within 2^64 bytes, on the disk and in its file; its name is hostile input and is
//! judged here by form, and by whoever opens it by what lies there.

use super::{DescriptorError, SECTOR_BYTES};
use failback_model::ByteRange;
use std::ops::Range;

/// What the guest may do with an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentAccess {
    /// `RW`.
    ReadWrite,
    /// `RDONLY`.
    ReadOnly,
    /// `NOACCESS`.
    NoAccess,
}

/// What an extent is stored as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtentKind {
    /// `FLAT` or `VMFS`: the bytes themselves, from an offset of the file.
    Flat {
        /// Where the extent's first byte lies in its file.
        offset_bytes: u64,
        /// Whether the line says `VMFS`.
        vmfs: bool,
    },
    /// `SPARSE`: grains of a hosted sparse file.
    Sparse,
    /// `ZERO`: no file, reads as zero.
    Zero,
    /// `VMFSSPARSE` or `SESPARSE`: a snapshot's delta.
    Delta(String),
    /// `VMFSRDM` or `VMFSRAW`: a mapped device.
    Mapping(String),
}

/// One extent of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// What the guest may do.
    pub access: ExtentAccess,
    /// Where it lies on the disk.
    pub disk: ByteRange,
    /// What it is stored as.
    pub kind: ExtentKind,
    /// Name of its file, as written; empty for `ZERO`.
    pub name: Vec<u8>,
    /// Where the number of sectors stands in the descriptor.
    pub(super) sectors_at: Range<usize>,
    /// The whole line in the descriptor, its end of line included.
    pub(super) line_at: Range<usize>,
}

/// What the form of an extent's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameForm {
    /// A plain file name.
    Beside,
    /// An object, device or file elsewhere by design: `vsan://`, `vvol://`, `/vmfs/devices/…`, `\\.\PhysicalDrive0`.
    Elsewhere,
    /// Climbs out of the folder, or is no file name at all.
    Escapes,
}

impl Extent {
    /// What the form of its name says.
    pub fn name_form(&self) -> NameForm {
        let name = self.name.as_slice();
        let drive = name.len() > 2 && name[0].is_ascii_alphabetic() && name[1] == b':';
        if name.starts_with(b"/") || name.starts_with(b"\\\\") || drive || contains(name, b"://") {
            NameForm::Elsewhere
        } else if name.is_empty() || name == b"." || name == b".." || name.len() > 255 || name.contains(&b'/')
        {
            NameForm::Escapes
        } else {
            NameForm::Beside
        }
    }

    /// Its name for messages.
    pub fn display_name(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    /// The bytes of its file that are its own; `None` where it has no file or no fixed place in it.
    pub fn file_range(&self) -> Option<ByteRange> {
        match self.kind {
            ExtentKind::Flat { offset_bytes, .. } => ByteRange::at(offset_bytes, self.disk.length_bytes()),
            _ => None,
        }
    }

    /// Whether both name the same bytes of the same file.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        if self.name.is_empty() || self.name != other.name {
            return false;
        }
        match (self.file_range(), other.file_range()) {
            (Some(one), Some(two)) => one.intersection(two).is_some(),
            _ => true,
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Reads the access word that begins an extent line.
pub(super) fn access_of(word: &[u8]) -> Option<ExtentAccess> {
    match word.to_ascii_uppercase().as_slice() {
        b"RW" => Some(ExtentAccess::ReadWrite),
        b"RDONLY" => Some(ExtentAccess::ReadOnly),
        b"NOACCESS" => Some(ExtentAccess::NoAccess),
        _ => None,
    }
}

/// Reads one extent line `text`, whose first byte stands at `at` of the descriptor; `disk_bytes` is where the extents
/// before it end.
pub(super) fn parse(
    text: &[u8],
    at: usize,
    access: ExtentAccess,
    disk_bytes: u64,
) -> Result<Extent, ExtentLineError> {
    let mut words = Words { text, next: 0 };
    words.plain();
    let sectors_at = words.plain().ok_or(ExtentLineError::Malformed("the number of sectors is missing"))?;
    let sectors = decimal(&text[sectors_at.clone()])?;
    let kind_at = words.plain().ok_or(ExtentLineError::Malformed("the kind of extent is missing"))?;
    let word = String::from_utf8_lossy(&text[kind_at]).to_ascii_uppercase();
    let name = words.quoted()?;
    let offset = words.plain().map(|offset_at| decimal(&text[offset_at]));
    let kind = match word.as_str() {
        "FLAT" => ExtentKind::Flat {
            offset_bytes: to_bytes(
                offset.ok_or(ExtentLineError::Malformed("a FLAT extent needs an offset"))??,
            )?,
            vmfs: false,
        },
        "VMFS" => ExtentKind::Flat { offset_bytes: to_bytes(offset.transpose()?.unwrap_or(0))?, vmfs: true },
        "SPARSE" => ExtentKind::Sparse,
        "ZERO" => ExtentKind::Zero,
        "VMFSSPARSE" | "SESPARSE" | "VSANSPARSE" => ExtentKind::Delta(word),
        "VMFSRDM" | "VMFSRAW" => ExtentKind::Mapping(word),
        _ => return Err(ExtentLineError::Malformed("the kind of extent is unknown")),
    };
    if kind != ExtentKind::Zero && name.is_none() {
        return Err(ExtentLineError::Malformed("the file name is missing"));
    }
    let disk = ByteRange::at(disk_bytes, to_bytes(sectors)?).ok_or(ExtentLineError::Overflow)?;
    let extent = Extent {
        access,
        disk,
        kind,
        name: name.unwrap_or_default(),
        sectors_at: at + sectors_at.start..at + sectors_at.end,
        line_at: at..at + text.len(),
    };
    if matches!(extent.kind, ExtentKind::Flat { .. }) && extent.file_range().is_none() {
        return Err(ExtentLineError::Overflow);
    }
    Ok(extent)
}

/// What is wrong with an extent line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtentLineError {
    /// Its form.
    Malformed(&'static str),
    /// A number of sectors beyond 2^64 bytes.
    Overflow,
}

impl ExtentLineError {
    pub(super) fn at_line(self, line: usize) -> DescriptorError {
        match self {
            Self::Malformed(reason) => DescriptorError::Line { line, reason: reason.into() },
            Self::Overflow => DescriptorError::LengthOverflow,
        }
    }
}

fn decimal(word: &[u8]) -> Result<u64, ExtentLineError> {
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return Err(ExtentLineError::Malformed("a number of sectors is not a decimal number"));
    }
    let text = std::str::from_utf8(word).map_err(|_| ExtentLineError::Malformed("a number is not text"))?;
    text.parse().map_err(|_| ExtentLineError::Overflow)
}

fn to_bytes(sectors: u64) -> Result<u64, ExtentLineError> {
    sectors.checked_mul(SECTOR_BYTES).ok_or(ExtentLineError::Overflow)
}

/// Walks the words of a line.
struct Words<'a> {
    text: &'a [u8],
    next: usize,
}

impl Words<'_> {
    fn skip_blanks(&mut self) {
        while self.text.get(self.next).is_some_and(u8::is_ascii_whitespace) {
            self.next += 1;
        }
    }

    /// The next word up to a blank.
    fn plain(&mut self) -> Option<Range<usize>> {
        self.skip_blanks();
        let start = self.next;
        while self.text.get(self.next).is_some_and(|byte| !byte.is_ascii_whitespace()) {
            self.next += 1;
        }
        (start < self.next).then_some(start..self.next)
    }

    /// The next word in quotes; `None` where the line ends.
    fn quoted(&mut self) -> Result<Option<Vec<u8>>, ExtentLineError> {
        self.skip_blanks();
        match self.text.get(self.next) {
            None => Ok(None),
            Some(b'"') => {
                let rest = &self.text[self.next + 1..];
                let length = rest
                    .iter()
                    .position(|&byte| byte == b'"')
                    .ok_or(ExtentLineError::Malformed("the file name's quote is not closed"))?;
                self.next += length + 2;
                Ok(Some(rest[..length].to_vec()))
            }
            Some(_) => Err(ExtentLineError::Malformed("the file name is not quoted")),
        }
    }
}
