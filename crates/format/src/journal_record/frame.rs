//! How a record lies in its segment: a header, the payload, zeros up to a multiple of 8 bytes.
//!
//! A power cut leaves any part of what was not yet synced, in any order. Therefore a header has a checksum of its own,
//! and says how much of the segment was durable when it was written: a record that is bad *below* that claim was
//! whole once and is damage; one that is bad above all claims is the torn tail.

use super::payload;
use super::record::{DiskSlot, Record};
use crate::error::FormatError;
use crate::field::{array, u32_le};
use failback_model::limits::JOURNAL_RECORD_MAX_BYTES;

/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 24;
/// Records start at multiples of this.
const ALIGNMENT_BYTES: usize = 8;

const KIND_AT: usize = 4;
const RESERVED_AT: usize = 5;
const DISK_AT: usize = 6;
const SEQUENCE_AT: usize = 8;
const DURABLE_AT: usize = 12;
const PAYLOAD_CHECKSUM_AT: usize = 16;
const HEADER_CHECKSUM_AT: usize = 20;

/// The place that a record is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The segment's salt.
    pub salt: u64,
    /// Where in the segment the record starts.
    pub offset_bytes: u32,
    /// How many records of the segment lie in front of it.
    pub sequence: u32,
}

/// What is found at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A whole record.
    Record {
        /// Which disk it is about.
        disk: DiskSlot,
        /// What it says.
        record: Record,
        /// How much of the segment was durable when it was written.
        durable_bytes: u32,
        /// Bytes up to the next record.
        framed_bytes: usize,
    },
    /// So far it may be one: this many bytes from its start are needed to tell.
    Incomplete {
        /// Bytes of the whole record, or of its header.
        needed_bytes: usize,
    },
    /// No record that was written for this place: a torn tail, or damage.
    Bad {
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The header's fields.
struct Header {
    payload_bytes: usize,
    kind: u8,
    disk: DiskSlot,
    sequence: u32,
    durable_bytes: u32,
    payload_checksum: u32,
}

impl Header {
    fn encode(&self, place: Place) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[..KIND_AT].copy_from_slice(&(self.payload_bytes as u32).to_le_bytes());
        bytes[KIND_AT] = self.kind;
        bytes[DISK_AT..SEQUENCE_AT].copy_from_slice(&self.disk.0.to_le_bytes());
        bytes[SEQUENCE_AT..DURABLE_AT].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[DURABLE_AT..PAYLOAD_CHECKSUM_AT].copy_from_slice(&self.durable_bytes.to_le_bytes());
        bytes[PAYLOAD_CHECKSUM_AT..HEADER_CHECKSUM_AT].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = header_checksum(&bytes, place.salt, place.offset_bytes);
        bytes[HEADER_CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` where the bytes were not written as a header for this place.
    fn decode(bytes: &[u8; RECORD_HEADER_BYTES], salt: u64, offset_bytes: u32) -> Option<Self> {
        if header_checksum(bytes, salt, offset_bytes) != u32_le(bytes, HEADER_CHECKSUM_AT) {
            return None;
        }
        Some(Self {
            payload_bytes: u32_le(bytes, 0) as usize,
            kind: bytes[KIND_AT],
            disk: DiskSlot(u16::from_le_bytes(array(bytes, DISK_AT))),
            sequence: u32_le(bytes, SEQUENCE_AT),
            durable_bytes: u32_le(bytes, DURABLE_AT),
            payload_checksum: u32_le(bytes, PAYLOAD_CHECKSUM_AT),
        })
    }
}

fn header_checksum(bytes: &[u8; RECORD_HEADER_BYTES], salt: u64, offset_bytes: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&offset_bytes.to_le_bytes());
    hasher.update(&bytes[..HEADER_CHECKSUM_AT]);
    hasher.finalize()
}

/// Appends a record that is written for `place`. Panics where it is longer than a record may be: whoever writes
/// records cuts them before.
pub fn encode_record(into: &mut Vec<u8>, place: Place, durable_bytes: u32, disk: DiskSlot, record: &Record) {
    let start = into.len();
    into.resize(start + RECORD_HEADER_BYTES, 0);
    payload::encode(into, record);
    let payload_bytes = into.len() - start - RECORD_HEADER_BYTES;
    into.resize(start + framed_bytes(payload_bytes), 0);
    assert!(into.len() - start <= JOURNAL_RECORD_MAX_BYTES, "records are cut before they are written");
    let payload_checksum = crc32fast::hash(&into[start + RECORD_HEADER_BYTES..]);
    let (kind, sequence) = (payload::kind(record), place.sequence);
    let header = Header { payload_bytes, kind, disk, sequence, durable_bytes, payload_checksum };
    into[start..start + RECORD_HEADER_BYTES].copy_from_slice(&header.encode(place));
}

/// Looks for the record of `place` in the bytes from there on. An error means that it is a record which this program
/// cannot have written: its checksums hold and its contents make no sense.
pub fn find_record(bytes: &[u8], place: Place) -> Result<Found, FormatError> {
    let Some(header) = bytes.first_chunk() else {
        return Ok(Found::Incomplete { needed_bytes: RECORD_HEADER_BYTES });
    };
    let Some(header) = Header::decode(header, place.salt, place.offset_bytes) else {
        return Ok(Found::Bad { reason: "the header's checksum does not match it" });
    };
    if bytes[RESERVED_AT] != 0 || header.payload_bytes > JOURNAL_RECORD_MAX_BYTES - RECORD_HEADER_BYTES {
        return Err(FormatError::new(0, "a record's header names a length or flags that no record has"));
    }
    if header.sequence != place.sequence {
        return Ok(Found::Bad { reason: "it is another record than the one that comes next" });
    }
    let needed_bytes = framed_bytes(header.payload_bytes);
    let Some(whole) = bytes.get(..needed_bytes) else {
        return Ok(Found::Incomplete { needed_bytes });
    };
    let padded = &whole[RECORD_HEADER_BYTES..];
    if crc32fast::hash(padded) != header.payload_checksum {
        return Ok(Found::Bad { reason: "its checksum does not match it" });
    }
    let (payload, padding) = padded.split_at(header.payload_bytes);
    if padding.iter().any(|&byte| byte != 0) {
        return Err(FormatError::new(0, "a record's padding is not zero"));
    }
    let record =
        payload::decode(header.kind, payload).map_err(|error| error.shifted(RECORD_HEADER_BYTES as u64))?;
    let (disk, durable_bytes) = (header.disk, header.durable_bytes);
    Ok(Found::Record { disk, record, durable_bytes, framed_bytes: needed_bytes })
}

/// The highest claim of what was durable in headers among these bytes, which start at `offset_bytes` of the segment: a
/// header counts wherever it lies, whether its record is whole or not.
pub fn durable_claim(bytes: &[u8], salt: u64, offset_bytes: u32) -> Option<u32> {
    let first = (offset_bytes as usize).next_multiple_of(ALIGNMENT_BYTES) - offset_bytes as usize;
    let claim_at = |at: usize| {
        let header = bytes[at..].first_chunk()?;
        // Most of what is looked at is zeros, which no header is.
        if header[KIND_AT] == 0 {
            return None;
        }
        Some(Header::decode(header, salt, offset_bytes.checked_add(at as u32)?)?.durable_bytes)
    };
    (first..bytes.len()).step_by(ALIGNMENT_BYTES).filter_map(claim_at).max()
}

/// Bytes of a record with header and padding.
fn framed_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT_BYTES)
}
