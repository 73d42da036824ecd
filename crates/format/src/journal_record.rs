//! The journal's segments and records: what a machine's disks were brought to, in the order in which it became so.
//! FORMATS.md has the byte tables and every crash case.
//!
//! A segment is a header, then records one behind the other. The first of them are a *checkpoint*: all that older
//! segments said. **Invariant**: a record is believed only at the place that it was written for: its checksums cover
//! the segment's salt and its own offset; what a power cut leaves of a record never passes for one.

mod codec;
mod frame;
mod payload;
mod point;
mod record;
mod segment;
mod undo;

pub use frame::{Found, Place, RECORD_HEADER_BYTES, durable_claim, encode_record, find_record};
pub use record::{
    DiskCheckpoint, DiskSlot, Left, Phase, PhaseKind, Point, PointDisk, Record, SealedAs, Trust,
};
pub use segment::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentKind};
pub use undo::{OldPages, PageRun, Undo, UndoPiece};

/// Version of the segment's header and of all records.
pub const JOURNAL_VERSION: u32 = 3;

#[cfg(test)]
mod tests;
