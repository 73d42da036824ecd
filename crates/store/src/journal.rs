//! The machine's journal while it is open: its state, and appending to it.
//!
//! **Invariant**: the state in memory is what the records appended so far add up to. After the first write or sync that
//! failed for another reason than a full file system, nothing is appended or synced any more.

pub(crate) mod durability;

use crate::checkpoint::write_checkpoint;
use crate::digest_file::DigestFile;
use crate::disk_state::DiskFold;
use crate::history::History;
use crate::medium::Medium;
use crate::segment::{Segment, segment_name};
use durability::Shared;
use failback_blockio::{DiskError, Operation};
use failback_format::journal_record::{DiskSlot, PhaseKind, Record, SegmentKind};
use failback_model::limits::JOURNAL_SEGMENT_MAX_BYTES;
use failback_model::{DiskId, MachineId};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

pub(crate) use durability::Position;

/// What the journal's records add up to.
#[derive(Debug, Default)]
pub(crate) struct JournalState {
    /// In the order of their slots.
    pub(crate) disks: Vec<DiskFold>,
    /// What is known of the machine as a whole.
    pub(crate) history: History,
}

impl JournalState {
    fn disk(&mut self, disk: DiskSlot) -> &mut DiskFold {
        &mut self.disks[usize::from(disk.0)]
    }

    /// Takes a record about the whole machine that was checked.
    pub(crate) fn apply_machine(&mut self, record: &Record) {
        let was_cancelled = self.history.phase.kind == PhaseKind::Cancelled;
        self.history.apply(record);
        if let Record::Phase(phase) = record
            && matches!(phase.kind, PhaseKind::Committed | PhaseKind::HistoryEnded)
        {
            // What is there now is what the next job will find, whoever made it.
            let removed = self.disks.iter_mut().filter(|disk| was_cancelled && disk.is_created);
            removed.for_each(DiskFold::lose_image);
            self.disks.iter_mut().for_each(|disk| disk.is_created = false);
        }
    }
}

type Inner = durability::Inner<JournalState>;

/// The journal of one machine.
#[derive(Debug)]
pub(crate) struct Journal {
    medium: Box<dyn Medium>,
    machine: MachineId,
    shared: Arc<Shared<JournalState>>,
    /// Syncs for those who do not wait; there until the journal is dropped.
    syncer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Goes on in a segment whose checkpoint holds this state.
    pub(crate) fn new(
        medium: Box<dyn Medium>,
        machine: MachineId,
        segment: Segment,
        state: JournalState,
    ) -> Result<Self, DiskError> {
        let shared = Arc::new(Shared::new(medium.path(), segment, state));
        let for_syncer = Arc::clone(&shared);
        let syncer = std::thread::Builder::new()
            .name("journal-sync".into())
            .spawn(move || for_syncer.sync_what_is_asked())
            .map_err(|error: io::Error| DiskError::io(Operation::Open, medium.path(), None, error))?;
        Ok(Self { medium, machine, shared, syncer: Some(syncer) })
    }

    pub(crate) fn medium(&self) -> &dyn Medium {
        &*self.medium
    }

    /// Looks at a disk's state.
    pub(crate) fn read<R>(&self, disk: DiskSlot, look: impl FnOnce(&DiskFold) -> R) -> R {
        look(self.shared.lock().state.disk(disk))
    }

    /// The disks in the order of their slots.
    pub(crate) fn ids(&self) -> Vec<DiskId> {
        self.shared.lock().state.disks.iter().map(|disk| disk.id.clone()).collect()
    }

    /// The slot of a disk for which this is so.
    pub(crate) fn find(&self, is_it: impl Fn(&DiskFold) -> bool) -> Option<DiskSlot> {
        self.shared.lock().state.disks.iter().position(is_it).map(|index| DiskSlot(index as u16))
    }

    /// Adds a disk; `None` where there are `most` already.
    pub(crate) fn add_disk(&self, disk: DiskFold, most: usize) -> Result<Option<DiskSlot>, DiskError> {
        let mut inner = self.shared.lock();
        let count = inner.state.disks.len();
        if count >= most {
            return Ok(None);
        }
        let slot = DiskSlot(count as u16);
        let record = Record::Disk { id: disk.id.clone() };
        self.append_locked(&mut inner, slot, std::slice::from_ref(&record))?;
        inner.state.disks.push(disk);
        Ok(Some(slot))
    }

    /// Gives a disk its digest file.
    pub(crate) fn set_digests(&self, disk: DiskSlot, digests: Arc<DigestFile>) {
        self.shared.lock().state.disk(disk).digests = Some(digests);
    }

    /// Appends the records that `decide` makes of the disk's state. Returns up to where they must be synced to be
    /// durable; without records, where the journal ends now.
    pub(crate) fn update<R>(
        &self,
        disk: DiskSlot,
        decide: impl FnOnce(&DiskFold) -> (Vec<Record>, R),
    ) -> Result<(Position, R), DiskError> {
        let mut inner = self.shared.lock();
        let (records, answer) = decide(inner.state.disk(disk));
        if !records.is_empty() {
            self.shared.check_latch(&inner, Operation::Write)?;
            for record in &records {
                let kept = inner.state.disk(disk).keep_digests(record);
                kept.map_err(|error| self.shared.failed_write(&mut inner, error))?;
            }
            self.append_locked(&mut inner, disk, &records)?;
            records.iter().for_each(|record| inner.state.disk(disk).apply(record));
        }
        Ok((inner.end(), answer))
    }

    /// Looks at the state of all disks and of the machine.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&JournalState) -> R) -> R {
        look(&self.shared.lock().state)
    }

    /// Appends the records about the whole machine that `decide` makes of the state, and makes them durable.
    pub(crate) fn update_machine<R>(
        &self,
        decide: impl FnOnce(&JournalState) -> (Vec<Record>, R),
    ) -> Result<R, DiskError> {
        let mut inner = self.shared.lock();
        let (records, answer) = decide(&inner.state);
        if records.is_empty() {
            return Ok(answer);
        }
        self.append_locked(&mut inner, DiskSlot::MACHINE, &records)?;
        records.iter().for_each(|record| inner.state.apply_machine(record));
        let end = inner.end();
        drop(inner);
        self.wait_durable(end)?;
        Ok(answer)
    }

    /// Appends one record and makes it durable.
    pub(crate) fn record(&self, disk: DiskSlot, record: Record) -> Result<(), DiskError> {
        let (position, ()) = self.update(disk, |_| (vec![record], ()))?;
        self.wait_durable(position)
    }

    /// Returns once everything up to a position is durable.
    pub(crate) fn wait_durable(&self, position: Position) -> Result<(), DiskError> {
        self.shared.wait_durable(position)
    }

    /// Whether everything up to a position is durable.
    pub(crate) fn is_durable(&self, position: Position) -> bool {
        self.shared.lock().durable >= position
    }

    /// Has everything up to a position made durable, and returns at once.
    pub(crate) fn sync_soon(&self, position: Position) {
        self.shared.sync_soon(position);
    }

    /// Refuses after a failure.
    pub(crate) fn check(&self, operation: Operation) -> Result<(), DiskError> {
        self.shared.check(operation)
    }

    fn append_locked(&self, inner: &mut Inner, disk: DiskSlot, records: &[Record]) -> Result<(), DiskError> {
        self.shared.check_latch(inner, Operation::Write)?;
        let mut bytes = inner.segment.encode(disk, records);
        let most_bytes = self.medium.segment_max_bytes().min(JOURNAL_SEGMENT_MAX_BYTES);
        if u64::from(inner.segment.end_bytes) + bytes.len() as u64 > most_bytes {
            self.rotate(inner)?;
            bytes = inner.segment.encode(disk, records);
        }
        inner.segment.append(&bytes, records.len()).map_err(|error| self.shared.failed_write(inner, error))
    }

    /// Closes the segment and goes on in the next.
    fn rotate(&self, inner: &mut Inner) -> Result<(), DiskError> {
        let number = inner.segment.number + 1;
        let segment = write_checkpoint(&*self.medium, &self.machine, number, &mut inner.state)
            .map_err(|error| self.shared.failed_write(inner, error))?;
        let old = std::mem::replace(&mut inner.segment, segment);
        inner.base_bytes += u64::from(old.end_bytes);
        // All that the old one said is in the checkpoint.
        inner.durable = inner.position(inner.segment.durable_bytes);
        self.shared.notify();
        // Obsolete already; where it cannot be removed, the next recovery tries again.
        let _removed = self.medium.remove(&segment_name(SegmentKind::Journal, old.number));
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(syncer) = self.syncer.take() {
            // It only syncs; where it panicked, the journal is latched already.
            let _ended = syncer.join();
        }
    }
}
