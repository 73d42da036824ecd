//! Reading a segment record by record, in memory of its longest record.
//!
//! **Invariant**: what is handed over was written for its place, whole. The end is a torn tail only if nothing in the
//! segment claims that it was durable; else it is damage, and nothing is guessed.

use failback_blockio::{Device, DiskError, Operation};
use failback_format::FormatError;
use failback_format::journal_record::{
    DiskSlot, Found, Place, RECORD_HEADER_BYTES, Record, SEGMENT_HEADER_BYTES, SegmentHeader, durable_claim,
    find_record,
};
use failback_model::Code;
use failback_model::limits::{JOURNAL_READ_BYTES, JOURNAL_RECORD_MAX_BYTES, JOURNAL_SEGMENT_MAX_BYTES};
use std::sync::Arc;

/// A segment that is being read.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    device: Arc<dyn Device>,
    header: SegmentHeader,
    /// Bytes of the file that count: no segment is longer than it may be.
    length_bytes: u64,
    at_bytes: u32,
    sequence: u32,
    /// The highest claim of a whole record so far.
    claimed_bytes: u32,
    /// Bytes of the file from `buffer_at` on; the record that comes next starts among them.
    buffer: Vec<u8>,
    buffer_at: u64,
}

/// What comes next in a segment.
#[derive(Debug)]
pub(crate) enum Next {
    /// A record, and where it starts.
    Record { at_bytes: u32, disk: DiskSlot, record: Record },
    /// The end: bytes behind the last whole record, 0 where it ends as it was written.
    End { torn_bytes: u64 },
}

impl SegmentReader {
    /// Reads and checks the header.
    pub(crate) fn open(device: Arc<dyn Device>) -> Result<Self, DiskError> {
        let length_bytes = device.length_bytes();
        let mut bytes = vec![0; length_bytes.min(SEGMENT_HEADER_BYTES as u64) as usize];
        device.read_at(0, &mut bytes)?;
        let header = SegmentHeader::decode(&bytes).map_err(|error| damaged(&*device, error))?;
        let most_bytes = JOURNAL_SEGMENT_MAX_BYTES + JOURNAL_RECORD_MAX_BYTES as u64;
        if length_bytes < u64::from(header.checkpoint_end_bytes) || length_bytes > most_bytes {
            let reason = format!("no segment with this header has {length_bytes} bytes");
            return Err(damaged(&*device, FormatError::new(0, reason)));
        }
        Ok(Self {
            device,
            claimed_bytes: header.checkpoint_end_bytes,
            header,
            length_bytes,
            at_bytes: SEGMENT_HEADER_BYTES as u32,
            sequence: 0,
            buffer: Vec::new(),
            buffer_at: SEGMENT_HEADER_BYTES as u64,
        })
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// An error at a record.
    pub(crate) fn damage(&self, at_bytes: u32, reason: impl Into<String>) -> DiskError {
        damaged(&*self.device, FormatError::new(u64::from(at_bytes), reason))
    }

    /// The next record, or the end.
    pub(crate) fn next(&mut self) -> Result<Next, DiskError> {
        let mut wanted_bytes = RECORD_HEADER_BYTES;
        loop {
            self.fill(wanted_bytes)?;
            let place =
                Place { salt: self.header.salt, offset_bytes: self.at_bytes, sequence: self.sequence };
            let found = find_record(self.rest(), place)
                .map_err(|error| damaged(&*self.device, error.shifted(u64::from(self.at_bytes))))?;
            match found {
                Found::Record { disk, record, durable_bytes, framed_bytes } => {
                    let at_bytes = self.at_bytes;
                    if durable_bytes > at_bytes {
                        return Err(self
                            .damage(at_bytes, "a record claims that it was durable before it was written"));
                    }
                    self.at_bytes += framed_bytes as u32;
                    self.sequence += 1;
                    self.claimed_bytes = self.claimed_bytes.max(durable_bytes);
                    return Ok(Next::Record { at_bytes, disk, record });
                }
                Found::Incomplete { needed_bytes } if needed_bytes > self.rest().len() => {
                    if u64::from(self.at_bytes) + needed_bytes as u64 > self.length_bytes {
                        return self.end("the segment ends within it");
                    }
                    wanted_bytes = needed_bytes;
                }
                Found::Incomplete { .. } => return self.end("it is cut off"),
                Found::Bad { reason } => return self.end(reason),
            }
        }
    }

    /// Decides what the end is.
    fn end(&mut self, reason: &str) -> Result<Next, DiskError> {
        let claimed_bytes = self.claimed_bytes.max(self.claims_behind()?);
        if claimed_bytes > self.at_bytes {
            let text = format!("a record that was durable is damaged: {reason}");
            return Err(self.damage(self.at_bytes, text));
        }
        Ok(Next::End { torn_bytes: self.length_bytes.saturating_sub(u64::from(self.at_bytes)) })
    }

    /// The highest claim of headers behind the bad record.
    fn claims_behind(&mut self) -> Result<u32, DiskError> {
        let mut claimed_bytes = 0;
        let mut at = u64::from(self.at_bytes);
        let mut bytes = vec![0; JOURNAL_READ_BYTES];
        while at + RECORD_HEADER_BYTES as u64 <= self.length_bytes {
            let step = &mut bytes[..(self.length_bytes - at).min(JOURNAL_READ_BYTES as u64) as usize];
            self.device.read_at(at, step)?;
            let claim = durable_claim(step, self.header.salt, at as u32);
            claimed_bytes = claimed_bytes.max(claim.unwrap_or(0));
            // Steps overlap, so that a header across their border is seen; both start at multiples of 8.
            at += (step.len() - (RECORD_HEADER_BYTES - 8)).next_multiple_of(8) as u64;
        }
        Ok(claimed_bytes)
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[(u64::from(self.at_bytes) - self.buffer_at) as usize..]
    }

    /// Makes the buffer hold `wanted_bytes` from the next record on, or all that the file has.
    fn fill(&mut self, wanted_bytes: usize) -> Result<(), DiskError> {
        if self.rest().len() >= wanted_bytes {
            return Ok(());
        }
        self.buffer.drain(..(u64::from(self.at_bytes) - self.buffer_at) as usize);
        self.buffer_at = u64::from(self.at_bytes);
        let held_bytes = self.buffer.len();
        let want_bytes = wanted_bytes.max(JOURNAL_READ_BYTES) as u64;
        let length = want_bytes.min(self.length_bytes.saturating_sub(self.buffer_at)) as usize;
        if length > held_bytes {
            self.buffer.resize(length, 0);
            self.device.read_at(self.buffer_at + held_bytes as u64, &mut self.buffer[held_bytes..])?;
        }
        Ok(())
    }
}

fn damaged(device: &dyn Device, error: FormatError) -> DiskError {
    DiskError::new(Code::JournalDamaged, Operation::Read, device.path(), error.reason).at(error.offset_bytes)
}
