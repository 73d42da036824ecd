//! The segment that is being written.
//!
//! **Invariant**: a record that was appended lies right behind the one before it; what a failed append left behind the
//! last whole record is overwritten by the next.

use failback_blockio::{Device, DiskError};
use failback_format::journal_record::{DiskSlot, Place, Record, SegmentKind, encode_record};
use std::sync::Arc;

/// Name of a segment's file.
pub(crate) fn segment_name(kind: SegmentKind, number: u64) -> String {
    match kind {
        SegmentKind::Journal => format!("journal-{number:012}.fbj"),
        SegmentKind::Undo => format!("undo-{number:012}.fbu"),
    }
}

/// The number in a segment's name.
pub(crate) fn segment_number(kind: SegmentKind, name: &str) -> Option<u64> {
    let (_, digits) = name.split_once('-')?;
    let (digits, _) = digits.split_once('.')?;
    digits.parse().ok().filter(|&number| segment_name(kind, number) == name)
}

/// Name of a file that is not finished.
pub(crate) fn draft_name(name: &str) -> String {
    format!("{name}.failback-draft")
}

/// Whether a file was left unfinished.
pub(crate) fn is_draft(name: &str) -> bool {
    name.ends_with(".failback-draft")
}

/// Name of a disk's digest file.
pub(crate) fn digests_name(disk: &failback_model::DiskId) -> String {
    format!("disk-{disk}.manifest")
}

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) device: Arc<dyn Device>,
    pub(crate) number: u64,
    pub(crate) salt: u64,
    /// Where the next record goes.
    pub(crate) end_bytes: u32,
    /// Number of the next record.
    pub(crate) sequence: u32,
    /// Up to where a finished sync covers it.
    pub(crate) durable_bytes: u32,
}

impl Segment {
    /// Records as they would be appended here, and how many they are.
    pub(crate) fn encode(&self, disk: DiskSlot, records: &[Record]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let place = Place {
                salt: self.salt,
                offset_bytes: self.end_bytes + bytes.len() as u32,
                sequence: self.sequence + index as u32,
            };
            encode_record(&mut bytes, place, self.durable_bytes, disk, record);
        }
        bytes
    }

    /// Encodes records and writes them; not durable yet.
    pub(crate) fn append_records(&mut self, disk: DiskSlot, records: &[Record]) -> Result<(), DiskError> {
        let bytes = self.encode(disk, records);
        self.append(&bytes, records.len())
    }

    /// Writes encoded records; not durable yet.
    pub(crate) fn append(&mut self, bytes: &[u8], records: usize) -> Result<(), DiskError> {
        self.device.write_at(u64::from(self.end_bytes), bytes)?;
        self.end_bytes += bytes.len() as u32;
        self.sequence += records as u32;
        Ok(())
    }
}
