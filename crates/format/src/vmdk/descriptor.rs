//! VMDK descriptors: the text that says which files a disk is made of, after the public "Virtual Disk Format 1.1"
//! and what ESXi and hosted products have added since (versions 2 and 3, `changeTrackPath`, VMFS extents without
//! an offset, `ddb.longContentID`).
//!
//! **Invariant**: a parsed descriptor keeps its bytes. Nothing is ever printed back from the parsed values: an edit
//! replaces the bytes of one value and leaves every other byte as it was found.

mod create_type;
mod edit;
mod extent;
mod new;
mod parse;
#[cfg(test)]
mod tests;

pub use create_type::{CreateType, Support};
pub use extent::{Extent, ExtentAccess, ExtentKind, NameForm};
pub use new::{AdapterType, ChsGeometry, NewDescriptor, NewExtent, esxi_uuid, uuid_text};

use failback_model::Code;
use failback_model::limits::{DESCRIPTOR_MAX_BYTES, EXTENTS_MAX};
use std::ops::Range;

/// Bytes in a sector, the unit of extents.
pub const SECTOR_BYTES: u64 = 512;

/// Content id that says "no parent" in `parentCID`.
pub const NO_PARENT: u32 = 0xffff_ffff;

/// Content id that ESXi gives a disk that was never written to.
pub const NEVER_WRITTEN: u32 = 0xffff_fffe;

/// Whether a content id may be given to a disk's new content.
pub const fn is_content_id(value: u32) -> bool {
    value != NO_PARENT && value != NEVER_WRITTEN && value != 0
}

/// Why a text is not a descriptor, or one that must not be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// The signature line is missing.
    #[error("it does not begin with '# Disk DescriptorFile'")]
    NotADescriptor,
    /// Longer than any descriptor is.
    #[error("a descriptor of {0} bytes is longer than the {DESCRIPTOR_MAX_BYTES} bytes allowed")]
    TooLong(usize),
    /// A version this code does not know.
    #[error("descriptor version {0} is not one of 1, 2 and 3")]
    Version(u32),
    /// A line that is neither key, comment nor extent, or whose value is malformed.
    #[error("line {line}: {reason}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A key that every descriptor has.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// More extents than are allowed.
    #[error("it has more than {EXTENTS_MAX} extents")]
    TooManyExtents,
    /// The extents together pass 2^64 bytes.
    #[error("its extents together are longer than any disk")]
    LengthOverflow,
    /// The same bytes of one file are named twice.
    #[error("extents {first} and {second} name the same bytes of '{name}'")]
    Overlap {
        /// Position of the one, from 0.
        first: usize,
        /// Position of the other, from 0.
        second: usize,
        /// The file's name.
        name: String,
    },
    /// An embedded descriptor has no room for the change.
    #[error("the edited descriptor needs {needed} bytes, there is room for {room}")]
    NoRoom {
        /// Length of the edited text.
        needed: usize,
        /// Length of its room.
        room: usize,
    },
    /// An edit that this descriptor does not allow.
    #[error("{0}")]
    Edit(&'static str),
}

impl DescriptorError {
    /// The stable code of it.
    pub const fn code(&self) -> Code {
        match self {
            Self::NotADescriptor | Self::TooLong(_) => Code::ImageFormatDisagrees,
            Self::Version(_) => Code::ImageUnsupported,
            _ => Code::ImageDamaged,
        }
    }
}

/// A descriptor as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    bytes: Vec<u8>,
    version: u32,
    content_id: u32,
    content_id_at: Range<usize>,
    parent_content_id: Option<u32>,
    parent_hint: Option<Vec<u8>>,
    change_track_path: Option<Vec<u8>>,
    create_type: CreateType,
    extents: Vec<Extent>,
    length_bytes: u64,
    ddb: Vec<Entry>,
}

/// One `ddb.` line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Without `ddb.`, in lower case.
    key: String,
    /// Where the value lies, quotes apart.
    at: Range<usize>,
}

impl Descriptor {
    /// Reads a descriptor: a whole text file, or the room of an embedded one with its padding.
    pub fn parse(bytes: &[u8]) -> Result<Self, DescriptorError> {
        parse::parse(bytes)
    }

    /// Whether a file that begins with `head` may be a text descriptor.
    pub fn is_signature(head: &[u8]) -> bool {
        parse::has_signature(head)
    }

    /// Its bytes, padding included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// 1, 2 or 3.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// `CID`: changes whenever the content does.
    pub const fn content_id(&self) -> u32 {
        self.content_id
    }

    /// `parentCID`, where it names a parent.
    pub const fn parent_content_id(&self) -> Option<u32> {
        self.parent_content_id
    }

    /// `parentFileNameHint`.
    pub fn parent_hint(&self) -> Option<&[u8]> {
        self.parent_hint.as_deref()
    }

    /// Whether the disk is a delta over another.
    pub const fn has_parent(&self) -> bool {
        self.parent_content_id.is_some() || self.parent_hint.is_some()
    }

    /// `changeTrackPath`: where ESXi keeps what changed.
    pub fn change_track_path(&self) -> Option<&[u8]> {
        self.change_track_path.as_deref()
    }

    /// `createType`.
    pub const fn create_type(&self) -> &CreateType {
        &self.create_type
    }

    /// The extents in the disk's order.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Length of the disk: the sum of its extents.
    pub const fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Value of `ddb.KEY`; the key's case does not matter.
    pub fn ddb(&self, key: &str) -> Option<&[u8]> {
        self.ddb_at(key).map(|at| &self.bytes[at])
    }

    /// `ddb.adapterType`.
    pub fn adapter_type(&self) -> Option<String> {
        self.ddb("adapterType").map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// `ddb.uuid`.
    pub fn uuid(&self) -> Option<String> {
        self.ddb("uuid").map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// `ddb.thinProvisioned`.
    pub fn is_thin(&self) -> bool {
        self.ddb("thinProvisioned") == Some(b"1")
    }

    fn ddb_at(&self, key: &str) -> Option<Range<usize>> {
        self.ddb.iter().find(|entry| entry.key.eq_ignore_ascii_case(key)).map(|entry| entry.at.clone())
    }
}
