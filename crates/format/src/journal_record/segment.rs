//! The header of a segment.

use super::JOURNAL_VERSION;
use crate::error::FormatError;
use crate::field::{put, u32_le, u64_le};
use failback_model::MachineId;
use failback_model::limits::{IDENTITY_MAX_BYTES, JOURNAL_SEGMENT_MAX_BYTES};

/// Bytes of the header.
pub const SEGMENT_HEADER_BYTES: usize = 128;

/// What a segment is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// The journal: each segment begins with a checkpoint and makes all lower ones obsolete.
    Journal,
    /// The undo log: all segments count until they are given up.
    Undo,
}

impl SegmentKind {
    const fn magic(self) -> [u8; 8] {
        match self {
            Self::Journal => *b"FBJOURN\x01",
            Self::Undo => *b"FBUNDOS\x01",
        }
    }
}

const VERSION_AT: usize = 8;
const CHECKPOINT_END_AT: usize = 12;
const NUMBER_AT: usize = 16;
const SALT_AT: usize = 24;
const MACHINE_LENGTH_AT: usize = 32;
const MACHINE_AT: usize = 40;
const MACHINE_END: usize = MACHINE_AT + IDENTITY_MAX_BYTES;
const CHECKSUM_AT: usize = 124;

/// What the header of a segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Of what.
    pub kind: SegmentKind,
    /// Whose journal it is.
    pub machine: MachineId,
    /// Number of the segment.
    pub number: u64,
    /// Drawn by chance for each segment: bytes that another one left on the medium never pass for records of this one.
    pub salt: u64,
    /// Where the checkpoint's records end; all of them were durable before the segment got its name.
    pub checkpoint_end_bytes: u32,
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let machine = self.machine.as_str().as_bytes();
        put(&mut bytes, 0, &self.kind.magic());
        put(&mut bytes, VERSION_AT, &JOURNAL_VERSION.to_le_bytes());
        put(&mut bytes, CHECKPOINT_END_AT, &self.checkpoint_end_bytes.to_le_bytes());
        put(&mut bytes, NUMBER_AT, &self.number.to_le_bytes());
        put(&mut bytes, SALT_AT, &self.salt.to_le_bytes());
        put(&mut bytes, MACHINE_LENGTH_AT, &(machine.len() as u64).to_le_bytes());
        put(&mut bytes, MACHINE_AT, machine);
        let checksum = crc32fast::hash(&bytes[..CHECKSUM_AT]);
        put(&mut bytes, CHECKSUM_AT, &checksum.to_le_bytes());
        bytes
    }

    /// Reads a header. Every byte of it is checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let fault = |at: usize, reason: String| Err(FormatError::new(at as u64, reason));
        if bytes.len() < SEGMENT_HEADER_BYTES {
            return fault(
                bytes.len(),
                format!("the segment's header is cut off after {} bytes", bytes.len()),
            );
        }
        let mut kinds = [SegmentKind::Journal, SegmentKind::Undo].into_iter();
        let Some(kind) = kinds.find(|kind| bytes[..VERSION_AT] == kind.magic()) else {
            return fault(0, "this is not a segment of a journal".into());
        };
        let version = u32_le(bytes, VERSION_AT);
        if version != JOURNAL_VERSION {
            return fault(
                VERSION_AT,
                format!("journal version {version}, this program reads {JOURNAL_VERSION}"),
            );
        }
        if crc32fast::hash(&bytes[..CHECKSUM_AT]) != u32_le(bytes, CHECKSUM_AT) {
            return fault(CHECKSUM_AT, "the header's checksum does not match it".into());
        }
        let checkpoint_end_bytes = u32_le(bytes, CHECKPOINT_END_AT);
        let allowed = SEGMENT_HEADER_BYTES as u64..=JOURNAL_SEGMENT_MAX_BYTES;
        if !allowed.contains(&u64::from(checkpoint_end_bytes)) {
            return fault(CHECKPOINT_END_AT, format!("a checkpoint cannot end at {checkpoint_end_bytes}"));
        }
        let machine = Self::machine(bytes)
            .ok_or_else(|| FormatError::new(MACHINE_AT as u64, "the machine's id is none"))?;
        let (number, salt) = (u64_le(bytes, NUMBER_AT), u64_le(bytes, SALT_AT));
        Ok(Self { kind, machine, number, salt, checkpoint_end_bytes })
    }

    fn machine(bytes: &[u8]) -> Option<MachineId> {
        let length = usize::try_from(u64_le(bytes, MACHINE_LENGTH_AT)).ok()?;
        let (id, rest) = bytes[MACHINE_AT..MACHINE_END].split_at_checked(length)?;
        let is_padded = rest.iter().chain(&bytes[MACHINE_END..CHECKSUM_AT]).all(|&byte| byte == 0);
        let id = std::str::from_utf8(id).ok().filter(|_| is_padded)?;
        MachineId::new(id).ok()
    }
}
