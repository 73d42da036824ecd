//! The machine's journal while it is open: appending, and one sync for all who wait for one.
//!
//! **Invariant**: the state in memory is what the records appended so far add up to. After the first write or sync that
//! failed for another reason than a full file system, nothing is appended or synced any more.

use crate::checkpoint::write_segment;
use crate::digest_file::DigestFile;
use crate::disk_state::DiskFold;
use crate::medium::Medium;
use crate::segment::{Segment, segment_name};
use failback_blockio::{DiskError, Operation};
use failback_format::journal_record::{DiskSlot, Record};
use failback_model::limits::JOURNAL_SEGMENT_MAX_BYTES;
use failback_model::{Code, DiskId, MachineId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A position in the journal, over all its segments since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64);

/// The journal of one machine.
#[derive(Debug)]
pub(crate) struct Journal {
    medium: Box<dyn Medium>,
    machine: MachineId,
    inner: Mutex<Inner>,
    synced: Condvar,
    /// Whether `latch` is set, for who only wants to know that.
    is_latched: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    segment: Segment,
    /// Position of the open segment's first byte.
    base: u64,
    /// Everything below it is durable.
    durable: Position,
    /// Whether somebody syncs at this moment.
    is_syncing: bool,
    /// Why nothing is done any more.
    latch: Option<String>,
    disks: Vec<DiskFold>,
}

impl Inner {
    fn end(&self) -> Position {
        Position(self.base + u64::from(self.segment.end_bytes))
    }
}

impl Journal {
    /// Goes on in a segment whose checkpoint holds these disks.
    pub(crate) fn new(
        medium: Box<dyn Medium>,
        machine: MachineId,
        segment: Segment,
        disks: Vec<DiskFold>,
    ) -> Self {
        let durable = Position(u64::from(segment.durable_bytes));
        let inner = Inner { segment, base: 0, durable, is_syncing: false, latch: None, disks };
        Self {
            medium,
            machine,
            inner: Mutex::new(inner),
            synced: Condvar::new(),
            is_latched: AtomicBool::new(false),
        }
    }

    pub(crate) fn medium(&self) -> &dyn Medium {
        &*self.medium
    }

    /// Refuses after a failure.
    pub(crate) fn check(&self, operation: Operation) -> Result<(), DiskError> {
        match self.is_latched.load(Ordering::Relaxed) {
            true => self.check_latch(&self.lock(), operation),
            false => Ok(()),
        }
    }

    /// Looks at a disk's state.
    pub(crate) fn read<R>(&self, disk: DiskSlot, look: impl FnOnce(&DiskFold) -> R) -> R {
        look(&self.lock().disks[usize::from(disk.0)])
    }

    /// The disks in the order of their slots.
    pub(crate) fn ids(&self) -> Vec<DiskId> {
        self.lock().disks.iter().map(|disk| disk.id.clone()).collect()
    }

    /// The slot of a disk for which this is so.
    pub(crate) fn find(&self, is_it: impl Fn(&DiskFold) -> bool) -> Option<DiskSlot> {
        self.lock().disks.iter().position(is_it).map(|index| DiskSlot(index as u16))
    }

    /// Adds a disk; `None` where there are `most` already.
    pub(crate) fn add_disk(&self, disk: DiskFold, most: usize) -> Result<Option<DiskSlot>, DiskError> {
        let mut inner = self.lock();
        if inner.disks.len() >= most {
            return Ok(None);
        }
        let slot = DiskSlot(inner.disks.len() as u16);
        let record = Record::Disk { id: disk.id.clone() };
        self.append_locked(&mut inner, slot, std::slice::from_ref(&record))?;
        inner.disks.push(disk);
        Ok(Some(slot))
    }

    /// Gives a disk its digest file.
    pub(crate) fn set_digests(&self, disk: DiskSlot, digests: Arc<DigestFile>) {
        self.lock().disks[usize::from(disk.0)].digests = Some(digests);
    }

    /// Appends the records that `decide` makes of the disk's state. Returns up to where they must be synced to be
    /// durable; without records, where the journal ends now.
    pub(crate) fn update<R>(
        &self,
        disk: DiskSlot,
        decide: impl FnOnce(&DiskFold) -> (Vec<Record>, R),
    ) -> Result<(Position, R), DiskError> {
        let mut inner = self.lock();
        let (records, answer) = decide(&inner.disks[usize::from(disk.0)]);
        if !records.is_empty() {
            self.check_latch(&inner, Operation::Write)?;
            for record in &records {
                let kept = inner.disks[usize::from(disk.0)].keep_digests(record);
                kept.map_err(|error| self.failed_write(&mut inner, error))?;
            }
            self.append_locked(&mut inner, disk, &records)?;
            records.iter().for_each(|record| inner.disks[usize::from(disk.0)].apply(record));
        }
        Ok((inner.end(), answer))
    }

    /// Appends one record and makes it durable.
    pub(crate) fn record(&self, disk: DiskSlot, record: Record) -> Result<(), DiskError> {
        let (position, ()) = self.update(disk, |_| (vec![record], ()))?;
        self.wait_durable(position)
    }

    /// Returns once everything up to a position is durable. Whoever comes while nobody syncs does it for all who wait.
    pub(crate) fn wait_durable(&self, position: Position) -> Result<(), DiskError> {
        let mut inner = self.lock();
        loop {
            if inner.durable >= position {
                return Ok(());
            }
            self.check_latch(&inner, Operation::Flush)?;
            if inner.is_syncing {
                inner = self.synced.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            inner.is_syncing = true;
            let (device, number) = (Arc::clone(&inner.segment.device), inner.segment.number);
            let (covered, covered_bytes) = (inner.end(), inner.segment.end_bytes);
            drop(inner);
            let outcome = device.sync();
            inner = self.lock();
            inner.is_syncing = false;
            let result = match outcome {
                Ok(()) => {
                    inner.durable = inner.durable.max(covered);
                    if inner.segment.number == number {
                        inner.segment.durable_bytes = inner.segment.durable_bytes.max(covered_bytes);
                    }
                    Ok(())
                }
                Err(error) => Err(self.latched(&mut inner, error)),
            };
            self.synced.notify_all();
            result?;
        }
    }

    fn append_locked(&self, inner: &mut Inner, disk: DiskSlot, records: &[Record]) -> Result<(), DiskError> {
        self.check_latch(inner, Operation::Write)?;
        let mut bytes = inner.segment.encode(disk, records);
        let most_bytes = self.medium.segment_max_bytes().min(JOURNAL_SEGMENT_MAX_BYTES);
        if u64::from(inner.segment.end_bytes) + bytes.len() as u64 > most_bytes {
            self.rotate(inner)?;
            bytes = inner.segment.encode(disk, records);
        }
        inner.segment.append(&bytes, records.len()).map_err(|error| self.failed_write(inner, error))
    }

    /// Closes the segment and goes on in the next.
    fn rotate(&self, inner: &mut Inner) -> Result<(), DiskError> {
        let number = inner.segment.number + 1;
        let segment = write_segment(&*self.medium, &self.machine, number, &mut inner.disks)
            .map_err(|error| self.failed_write(inner, error))?;
        let old = std::mem::replace(&mut inner.segment, segment);
        inner.base += u64::from(old.end_bytes);
        inner.durable = Position(inner.base + u64::from(inner.segment.durable_bytes));
        self.synced.notify_all();
        // Obsolete already; where it cannot be removed, the next recovery tries again.
        let _removed = self.medium.remove(&segment_name(old.number));
        Ok(())
    }

    fn check_latch(&self, inner: &Inner, operation: Operation) -> Result<(), DiskError> {
        match &inner.latch {
            None => Ok(()),
            Some(first) => {
                let reason = format!("an earlier failure stopped it ({first})");
                Err(DiskError::new(Code::JournalLatched, operation, self.medium.path(), reason))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| {
            let mut inner = poisoned.into_inner();
            // Whatever the thread that panicked was about to do, it may be half done.
            inner.latch.get_or_insert_with(|| "a thread panicked within it".into());
            self.is_latched.store(true, Ordering::Relaxed);
            inner
        })
    }

    /// A write that failed: with space freed it can be tried again, anything else is final. So is a sync, whatever it
    /// says.
    fn failed_write(&self, inner: &mut Inner, error: DiskError) -> DiskError {
        if error.code == Code::NoSpace && error.operation != Operation::Flush {
            return DiskError { code: Code::JournalFailed, ..error };
        }
        self.latched(inner, error)
    }

    fn latched(&self, inner: &mut Inner, error: DiskError) -> DiskError {
        inner.latch.get_or_insert_with(|| error.to_string());
        self.is_latched.store(true, Ordering::Relaxed);
        DiskError { code: Code::JournalFailed, ..error }
    }
}
