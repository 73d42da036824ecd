//! The undo log: what pages held before they changed, in segments of their own beside the journal or on another volume.
//!
//! **Invariant**: the log is only appended to, in the order in which pages were touched; a segment is closed durably before
//! the next one begins. Segments go when no point needs them any more. After a failure other than a full file system
//! nothing is appended until the log is opened anew.

use crate::checkpoint::write_segment;
use crate::journal::Position;
use crate::journal::durability::{Inner, Shared};
use crate::medium::Medium;
use crate::segment::{is_draft, segment_name, segment_number};
use crate::segment_reader::{Next, SegmentReader};
use failback_blockio::{DiskError, Operation};
use failback_format::journal_record::{
    DiskSlot, Place, Record, SEGMENT_HEADER_BYTES, SegmentKind, encode_record,
};
use failback_model::limits::{
    JOURNAL_SEGMENT_MAX_BYTES, UNDO_SEGMENT_PLAIN_BYTES, UNDO_SLOW_BYTES_PER_SECOND,
};
use failback_model::{ByteRange, Code, MachineId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The pace is judged each time so much was written.
const PACE_STEP_BYTES: u64 = 16 << 20;
const HEADER_BYTES: u64 = SEGMENT_HEADER_BYTES as u64;

/// The undo log of one machine.
#[derive(Debug)]
pub(crate) struct UndoLog {
    medium: Box<dyn Medium>,
    machine: MachineId,
    shared: Shared<Written>,
    pace: Pace,
}

/// How fast the log becomes durable, as those who wait for it see it.
#[derive(Debug, Default)]
struct Pace {
    appended_bytes: AtomicU64,
    waited_us: AtomicU64,
    is_slow: AtomicBool,
}

impl Pace {
    fn appended(&self, bytes: u64) {
        self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Judges anew whenever enough was written.
    fn waited(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let waited_us = self.waited_us.fetch_add(time, Ordering::Relaxed).saturating_add(time);
        let appended_bytes = self.appended_bytes.load(Ordering::Relaxed);
        if appended_bytes >= PACE_STEP_BYTES {
            self.appended_bytes.store(0, Ordering::Relaxed);
            self.waited_us.store(0, Ordering::Relaxed);
            let per_second = u128::from(appended_bytes) * 1_000_000 / u128::from(waited_us.max(1));
            self.is_slow.store(per_second < u128::from(UNDO_SLOW_BYTES_PER_SECOND), Ordering::Relaxed);
        }
    }
}

/// What was written to the log.
#[derive(Debug, Default)]
struct Written {
    /// Bytes of pages in the open segment.
    plain_bytes: u64,
    /// Whether space was taken for the open segment.
    is_reserved: bool,
    /// Closed segments and their lengths.
    closed: BTreeMap<u64, u64>,
}

/// Space of the undo log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UndoSpace {
    /// Bytes that it takes.
    pub used_bytes: u64,
    /// Bytes that can still be written to its file system; `None` where nobody knows.
    pub free_bytes: Option<u64>,
}

/// Refuses undo whose journal is gone: without the points in it nothing of it would be needed, and all be removed.
pub(crate) fn require_journal(undo: &dyn Medium, journal: &dyn Medium) -> Result<(), DiskError> {
    if journal.names()?.iter().any(|name| segment_number(SegmentKind::Journal, name).is_some()) {
        return Ok(());
    }
    for name in undo.names()?.iter().filter(|name| segment_number(SegmentKind::Undo, name).is_some()) {
        if undo.open(name)?.length_bytes() > HEADER_BYTES {
            let reason = format!("it holds undo, and its journal in {} is gone", journal.path().display());
            return Err(DiskError::new(Code::JournalDamaged, Operation::Open, undo.path(), reason)
                .with_remedy(
                    "put the journal back, or move the undo log away: nothing leads to what it holds without",
                ));
        }
    }
    Ok(())
}

impl UndoLog {
    /// Opens the log of a machine whose oldest point begins with the first of the segments `bounds`, and whose newest with the
    /// second: older ones are removed, and all where there is no point. A log that ends before the newest point is not the one
    /// that its points lead back through: a volume that is not mounted, another folder, an old copy.
    pub(crate) fn open(
        medium: Box<dyn Medium>,
        machine: &MachineId,
        bounds: Option<(u64, u64)>,
    ) -> Result<Self, DiskError> {
        let names = medium.names()?;
        for draft in names.iter().filter(|name| is_draft(name)) {
            medium.remove(draft)?;
        }
        let mut closed = BTreeMap::new();
        let (floor, newest) = bounds.unzip();
        let numbers: Vec<u64> =
            names.iter().filter_map(|name| segment_number(SegmentKind::Undo, name)).collect();
        let last = numbers.iter().copied().max().unwrap_or(0);
        if let Some(newest) = newest.filter(|newest| last < *newest) {
            let reason = format!("it ends at segment {last}, and the journal's newest point is at {newest}");
            return Err(DiskError::new(Code::JournalDamaged, Operation::Open, medium.path(), reason)
                .with_remedy(
                    "mount its volume, or name the folder that it was in; where it is lost for ever, no way back is left: \
                     move the journal away, too, and the disks are scanned anew",
                ));
        }
        let mut empty = Vec::new();
        for number in numbers {
            let name = segment_name(SegmentKind::Undo, number);
            let length_bytes = medium.open(&name)?.length_bytes();
            if floor.is_none_or(|floor| number < floor) {
                medium.remove(&name)?;
            } else if length_bytes == HEADER_BYTES {
                empty.push(name);
            } else {
                closed.insert(number, length_bytes);
            }
        }
        // All below were closed durably, by the segment behind.
        if let Some(length_bytes) = closed.get_mut(&last) {
            *length_bytes = close_cut(&*medium, last, *length_bytes)?;
        }
        let segment = write_segment(&*medium, machine, SegmentKind::Undo, last + 1, |_| Ok(()))?;
        // Only now: the last segment tells whose log this is.
        empty.iter().try_for_each(|name| medium.remove(name))?;
        let shared = Shared::new(medium.path(), segment, Written { closed, ..Written::default() });
        Ok(Self { medium, machine: machine.clone(), shared, pace: Pace::default() })
    }

    /// Refuses after a failure.
    pub(crate) fn check(&self, operation: Operation) -> Result<(), DiskError> {
        self.shared.check(operation)
    }

    /// Appends a record with so many bytes of pages. Returns up to where the log must be synced for it to be durable.
    pub(crate) fn append(
        &self,
        disk: DiskSlot,
        record: &Record,
        plain_bytes: u64,
    ) -> Result<Position, DiskError> {
        let records = std::slice::from_ref(record);
        let mut inner = self.shared.lock();
        self.shared.check_latch(&inner, Operation::Write)?;
        let mut bytes = inner.segment.encode(disk, records);
        let most_bytes = self.medium.segment_max_bytes().min(JOURNAL_SEGMENT_MAX_BYTES);
        let is_full = u64::from(inner.segment.end_bytes) + bytes.len() as u64 > most_bytes
            || inner.state.plain_bytes + plain_bytes > UNDO_SEGMENT_PLAIN_BYTES;
        if is_full && u64::from(inner.segment.end_bytes) > HEADER_BYTES {
            self.rotate(&mut inner)?;
            bytes = inner.segment.encode(disk, records);
        }
        if !std::mem::replace(&mut inner.state.is_reserved, true) && self.has_room_for(most_bytes) {
            // Where it cannot be taken ahead, there may be room for what comes.
            let _reserved = inner.segment.device.reserve(ByteRange::new(0, most_bytes));
        }
        let appended = inner.segment.append(&bytes, 1);
        appended.map_err(|error| self.shared.failed_write(&mut inner, error))?;
        inner.state.plain_bytes += plain_bytes;
        self.pace.appended(bytes.len() as u64);
        Ok(inner.end())
    }

    /// Whether a whole segment is a small part of what is free: a file system that is asked for more than it has takes all
    /// of it, and leaves none for the journal.
    fn has_room_for(&self, segment_bytes: u64) -> bool {
        self.medium.free_bytes().is_ok_and(|free| free.is_some_and(|free| free / 4 >= segment_bytes))
    }

    /// Returns once everything up to a position is durable.
    pub(crate) fn wait_durable(&self, position: Position) -> Result<(), DiskError> {
        let started = Instant::now();
        self.shared.wait_durable(position)?;
        self.pace.waited(started.elapsed());
        Ok(())
    }

    /// Whether its medium is slower than old bytes are compressed.
    pub(crate) fn is_slow(&self) -> bool {
        self.pace.is_slow.load(Ordering::Relaxed)
    }

    /// Number of a segment such that all that was appended lies below it, and all that will be is in it or behind it.
    pub(crate) fn start_interval(&self) -> Result<u64, DiskError> {
        let mut inner = self.shared.lock();
        self.shared.check_latch(&inner, Operation::Write)?;
        if u64::from(inner.segment.end_bytes) > HEADER_BYTES {
            self.rotate(&mut inner)?;
        }
        Ok(inner.segment.number)
    }

    /// Closes the open segment durably and begins the next.
    fn rotate(&self, inner: &mut Inner<Written>) -> Result<(), DiskError> {
        let old_bytes = u64::from(inner.segment.end_bytes);
        let device = &inner.segment.device;
        let closed = device.set_length(old_bytes).and_then(|()| device.sync());
        closed.map_err(|error| self.shared.failed_write(inner, error))?;
        let number = inner.segment.number;
        let next = write_segment(&*self.medium, &self.machine, SegmentKind::Undo, number + 1, |_| Ok(()));
        inner.segment = next.map_err(|error| self.shared.failed_write(inner, error))?;
        inner.base_bytes += old_bytes;
        inner.durable = inner.position(inner.segment.durable_bytes);
        inner.state.closed.insert(number, old_bytes);
        (inner.state.plain_bytes, inner.state.is_reserved) = (0, false);
        self.shared.notify();
        Ok(())
    }

    /// The closed segments from `from` to before `to`, the oldest first.
    pub(crate) fn segments(&self, from: u64, to: u64) -> Vec<u64> {
        self.shared.lock().state.closed.range(from..to).map(|(number, _)| *number).collect()
    }

    /// Bytes of closed segments, and of the open one where it lies in the range.
    pub(crate) fn bytes_of(&self, from: u64, to: u64) -> u64 {
        let inner = self.shared.lock();
        let open = (from..to).contains(&inner.segment.number).then_some(u64::from(inner.segment.end_bytes));
        let closed = inner.state.closed.range(from..to).map(|(_, bytes)| *bytes);
        closed.chain(open).map(|bytes| bytes.saturating_sub(HEADER_BYTES)).sum()
    }

    /// Reads a closed segment.
    pub(crate) fn read(&self, number: u64) -> Result<SegmentReader, DiskError> {
        let name = segment_name(SegmentKind::Undo, number);
        let reader = SegmentReader::open(self.medium.open(&name)?)?;
        let header = reader.header();
        if header.kind != SegmentKind::Undo || header.number != number || header.machine != self.machine {
            return Err(reader.damage(0, format!("it is not segment {number} of {}'s undo", self.machine)));
        }
        Ok(reader)
    }

    /// Removes closed segments, the newest first: what a crash leaves of them leads back to where all of them did, so it does
    /// no harm in the interval before them. What they took.
    pub(crate) fn remove(&self, from: u64, to: u64) -> Result<u64, DiskError> {
        let mut freed_bytes = 0;
        for number in self.segments(from, to).into_iter().rev() {
            self.medium.remove(&segment_name(SegmentKind::Undo, number))?;
            freed_bytes += self.shared.lock().state.closed.remove(&number).unwrap_or(0);
        }
        Ok(freed_bytes)
    }

    /// Whether records fit one segment.
    pub(crate) fn fits(&self, records: &[(DiskSlot, Record)]) -> bool {
        let mut bytes = Vec::new();
        let mut length = HEADER_BYTES;
        for (disk, record) in records {
            let place = Place { salt: 0, offset_bytes: 0, sequence: 0 };
            encode_record(&mut bytes, place, 0, *disk, record);
            length += bytes.len() as u64;
            bytes.clear();
        }
        length <= JOURNAL_SEGMENT_MAX_BYTES
    }

    /// Puts another content in the place of a closed segment: what `fill` appends; nothing at all removes it.
    pub(crate) fn replace(
        &self,
        number: u64,
        disks_and_records: Vec<(DiskSlot, Record)>,
    ) -> Result<(), DiskError> {
        let name = segment_name(SegmentKind::Undo, number);
        if disks_and_records.is_empty() {
            self.medium.remove(&name)?;
            self.shared.lock().state.closed.remove(&number);
            return Ok(());
        }
        let mut length_bytes = 0;
        let mut rest = disks_and_records;
        write_segment(&*self.medium, &self.machine, SegmentKind::Undo, number, |segment| {
            // The header comes to claim all of it durable, so it lies in front as a checkpoint does.
            for (disk, record) in rest.drain(..) {
                segment.append_records(disk, std::slice::from_ref(&record))?;
            }
            length_bytes = u64::from(segment.end_bytes);
            Ok(())
        })?;
        self.shared.lock().state.closed.insert(number, length_bytes);
        Ok(())
    }

    /// What it takes, and what is left.
    pub(crate) fn space(&self) -> Result<UndoSpace, DiskError> {
        Ok(UndoSpace { used_bytes: self.bytes_of(0, u64::MAX), free_bytes: self.medium.free_bytes()? })
    }
}

/// Cuts a torn tail off the segment that was open last, so that every closed one is whole; its length then. What is damaged
/// stays as it is, for whoever needs it to say so.
fn close_cut(medium: &dyn Medium, number: u64, length_bytes: u64) -> Result<u64, DiskError> {
    let device = medium.open(&segment_name(SegmentKind::Undo, number))?;
    match SegmentReader::open(Arc::clone(&device)).and_then(torn_bytes) {
        Ok(torn_bytes @ 1..) => {
            device.set_length(length_bytes - torn_bytes)?;
            device.sync()?;
            Ok(length_bytes - torn_bytes)
        }
        Ok(0) => Ok(length_bytes),
        Err(error) if error.code == Code::JournalDamaged => Ok(length_bytes),
        Err(error) => Err(error),
    }
}

/// Bytes behind the last whole record.
fn torn_bytes(mut reader: SegmentReader) -> Result<u64, DiskError> {
    loop {
        if let Next::End { torn_bytes } = reader.next()? {
            return Ok(torn_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_medium_is_known_by_how_long_it_is_waited_for() {
        let pace = Pace::default();
        let after = |bytes, time| {
            pace.appended(bytes);
            pace.waited(time);
            pace.is_slow.load(Ordering::Relaxed)
        };
        assert!(!after(PACE_STEP_BYTES - 1, Duration::from_secs(60)), "too little was seen");
        assert!(after(1, Duration::ZERO), "16 MiB in a minute");
        assert!(after(1, Duration::ZERO), "until something else is seen");
        assert!(!after(PACE_STEP_BYTES, Duration::from_millis(20)));
    }
}
