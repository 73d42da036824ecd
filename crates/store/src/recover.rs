//! Opening a journal: the checkpoint of the newest segment, then its records in order, then a new segment.
//!
//! **Invariant**: nothing of the old segment goes before all of it is in the new one, so recovery that is cut off is done
//! again. What is in doubt, such as digests whose file is gone, is not trusted, and said.

use crate::checkpoint::write_checkpoint;
use crate::digest_file::DigestFile;
use crate::disk_state::DiskFold;
use crate::journal::{Journal, JournalState};
use crate::medium::Medium;
use crate::segment::{digests_name, is_draft, segment_name, segment_number};
use crate::segment_reader::{Next, SegmentReader};
use failback_blockio::DiskError;
use failback_format::journal_record::{DiskSlot, Record, SegmentKind};
use failback_model::limits::JOURNAL_DISKS_MAX;
use failback_model::{Code, Finding, MachineId};
use std::sync::Arc;

/// What recovery did.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Records that were applied behind the checkpoint.
    pub records: u64,
    /// Bytes of a torn tail, which never counted.
    pub torn_bytes: u64,
    /// What was lost or in doubt; all of it is scanned again.
    pub findings: Vec<Finding>,
}

/// Opens the journal that a medium holds, or begins one.
pub(crate) fn open_journal(
    medium: Box<dyn Medium>,
    machine: &MachineId,
) -> Result<(Journal, Recovered), DiskError> {
    let names = medium.names()?;
    for draft in names.iter().filter(|name| is_draft(name)) {
        medium.remove(draft)?;
    }
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|name| segment_number(SegmentKind::Journal, name)).collect();
    numbers.sort_unstable();
    let mut recovery =
        Recovery { medium: &*medium, state: JournalState::default(), done: Recovered::default() };
    if let Some(&newest) = numbers.last() {
        recovery.replay(newest, machine)?;
        recovery.finish();
    }
    let Recovery { mut state, done, .. } = recovery;
    let number = numbers.last().map_or(1, |newest| newest + 1);
    let segment =
        write_checkpoint(&*medium, machine, number, &mut state).map_err(|error| match error.code {
            Code::NoSpace => DiskError { code: Code::JournalFailed, ..error },
            _ => error,
        })?;
    for number in numbers {
        medium.remove(&segment_name(SegmentKind::Journal, number))?;
    }
    Ok((Journal::new(medium, machine.clone(), segment, state)?, done))
}

struct Recovery<'a> {
    medium: &'a dyn Medium,
    state: JournalState,
    done: Recovered,
}

impl Recovery<'_> {
    fn replay(&mut self, number: u64, machine: &MachineId) -> Result<(), DiskError> {
        let name = segment_name(SegmentKind::Journal, number);
        let mut reader = SegmentReader::open(self.medium.open(&name)?)?;
        let header = reader.header().clone();
        if header.kind != SegmentKind::Journal {
            return Err(reader.damage(0, "it is a segment of undo"));
        }
        if header.machine != *machine {
            return Err(reader.damage(0, format!("it is the journal of machine {}", header.machine)));
        }
        if header.number != number {
            return Err(reader.damage(0, format!("it is segment {}, not {number}", header.number)));
        }
        loop {
            match reader.next()? {
                Next::Record { at_bytes, disk, record } => {
                    let is_checkpoint = at_bytes < header.checkpoint_end_bytes;
                    self.take(disk, record, is_checkpoint).map_err(|refusal| match refusal {
                        Refusal::Disk(error) => error,
                        Refusal::Misfit(reason) => reader.damage(at_bytes, reason),
                    })?;
                    self.done.records += u64::from(!is_checkpoint);
                }
                Next::End { torn_bytes } => {
                    self.done.torn_bytes = torn_bytes;
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, slot: DiskSlot, record: Record, is_checkpoint: bool) -> Result<(), Refusal> {
        if slot == DiskSlot::MACHINE {
            let count = self.state.disks.len();
            if let Record::Point(point) = &record
                && point.disks.last().is_some_and(|last| usize::from(last.slot.0) >= count)
            {
                return Err(Refusal::Misfit("a point holds a disk that is not known"));
            }
            self.state.history.check(&record).map_err(|misfit| Refusal::Misfit(misfit.0))?;
            self.state.apply_machine(&record);
            return Ok(());
        }
        let index = usize::from(slot.0);
        match record {
            Record::Checkpoint(disk) if is_checkpoint => {
                self.require_next(index)?;
                let mut disk = DiskFold::of_checkpoint(*disk);
                open_digests(self.medium, &mut disk)?;
                self.state.disks.push(disk);
                Ok(())
            }
            Record::Disk { id } if !is_checkpoint => {
                self.require_next(index)?;
                self.state.disks.push(DiskFold::new(id));
                Ok(())
            }
            record => {
                let disk = self
                    .state
                    .disks
                    .get_mut(index)
                    .ok_or(Refusal::Misfit("it names a disk that is not known"))?;
                disk.check(&record).map_err(|misfit| Refusal::Misfit(misfit.0))?;
                if is_checkpoint && !matches!(record, Record::Trusted { .. } | Record::Released(_)) {
                    return Err(Refusal::Misfit("a checkpoint does not hold such a record"));
                }
                disk.keep_digests(&record)?;
                disk.apply(&record);
                if matches!(record, Record::Session { .. }) && disk.digests.is_none() {
                    open_digests(self.medium, disk)?;
                    // Nothing was trusted, so nothing is lost.
                    disk.digests_lost = None;
                }
                Ok(())
            }
        }
    }

    /// Disks come in the order of their slots.
    fn require_next(&self, index: usize) -> Result<(), Refusal> {
        if index == self.state.disks.len() && index < JOURNAL_DISKS_MAX {
            Ok(())
        } else {
            Err(Refusal::Misfit("disks are introduced in the order of their numbers"))
        }
    }

    /// Says which digests were lost, and gives up those that are of another sealed state than the journal's.
    fn finish(&mut self) {
        for disk in &mut self.state.disks {
            let held = disk.digests.as_ref().and_then(|digests| digests.root());
            if disk.is_sealed() && disk.digests_lost.is_none() && held.is_some() && held != disk.root {
                disk.digests_lost = Some("they are those of another sealed state".into());
                disk.trusted.clear();
            }
            if let Some(reason) = disk.digests_lost.take() {
                let evidence = format!("digests of disk {}: {reason}; it is scanned again", disk.id);
                self.done.findings.push(Finding::warning(Code::ManifestDamaged, evidence));
            }
        }
    }
}

/// Opens the digests of a disk that has a layout; where they are gone or not its own, it begins with none.
fn open_digests(medium: &dyn Medium, disk: &mut DiskFold) -> Result<(), DiskError> {
    let Some(layout) = disk.layout else { return Ok(()) };
    let name = digests_name(&disk.id);
    let lost = if medium.names()?.contains(&name) {
        match DigestFile::open(medium.open(&name)?) {
            Ok(digests) if digests.layout() == layout => {
                disk.digests = Some(Arc::new(digests));
                return Ok(());
            }
            Ok(_) => "their file is of a disk with another layout".into(),
            Err(error) if error.code == Code::ManifestDamaged => error.to_string(),
            Err(error) => return Err(error),
        }
    } else {
        format!("{name} is gone")
    };
    disk.digests_lost = Some(lost);
    disk.digests = Some(Arc::new(DigestFile::create(medium, &disk.id, layout)?));
    Ok(())
}

/// Why a record was not taken.
enum Refusal {
    Disk(DiskError),
    Misfit(&'static str),
}

impl From<DiskError> for Refusal {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}
