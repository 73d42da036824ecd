//! Beginning a segment of the journal, with all that the ones before it said, or of the undo log.
//!
//! **Invariant**: a segment gets its name only when its checkpoint, and every digest that the checkpoint trusts, is
//! durable; only then is an older one removed. So the segment with the highest number is always whole.

use crate::disk_state::DiskFold;
use crate::journal::JournalState;
use crate::medium::Medium;
use crate::segment::{Segment, draft_name, segment_name};
use failback_blockio::{Device, DiskError};
use failback_format::journal_record::{DiskSlot, Record, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentKind};
use failback_model::limits::{JOURNAL_RECORD_MAX_RANGES, JOURNAL_TRUSTED_RANGES_MAX};
use failback_model::{BlockRange, Code, MachineId};
use std::sync::Arc;

/// Writes the journal's segment `number` with a checkpoint of this state, makes it durable and opens it.
pub(crate) fn write_checkpoint(
    medium: &dyn Medium,
    machine: &MachineId,
    number: u64,
    state: &mut JournalState,
) -> Result<Segment, DiskError> {
    for digests in state.disks.iter().filter_map(|disk| disk.digests.as_ref()) {
        digests.sync()?;
    }
    medium.sync_names()?;
    write_segment(medium, machine, SegmentKind::Journal, number, |segment| append(segment, state))
}

/// Writes a segment that begins with what `fill` appends, makes it durable, gives it its name and opens it.
pub(crate) fn write_segment(
    medium: &dyn Medium,
    machine: &MachineId,
    kind: SegmentKind,
    number: u64,
    fill: impl FnOnce(&mut Segment) -> Result<(), DiskError>,
) -> Result<Segment, DiskError> {
    let name = segment_name(kind, number);
    let (draft, device) = create_draft(medium, &name)?;
    let (salt, _) = uuid::Uuid::new_v4().as_u64_pair();
    let header_bytes = SEGMENT_HEADER_BYTES as u32;
    let mut segment =
        Segment { device, number, salt, end_bytes: header_bytes, sequence: 0, durable_bytes: header_bytes };
    if let Err(error) = fill(&mut segment).and_then(|()| finish(&mut segment, machine, kind)) {
        // The error that led here is the one to report; a draft is removed by the next recovery, too.
        let _removed = medium.remove(&draft);
        return Err(error);
    }
    // From here on the new segment may be the one that counts, so nothing that fails can be tried again.
    let is_final = |error| DiskError { code: Code::JournalFailed, ..error };
    medium.rename(&draft, &name).and_then(|()| medium.sync_names()).map_err(is_final)?;
    segment.device = medium.open(&name).map_err(is_final)?;
    Ok(segment)
}

/// An empty file that is to become `name`; what a crash left of an earlier one goes.
pub(crate) fn create_draft(medium: &dyn Medium, name: &str) -> Result<(String, Arc<dyn Device>), DiskError> {
    let draft = draft_name(name);
    if medium.names()?.contains(&draft) {
        medium.remove(&draft)?;
    }
    let device = medium.create(&draft)?;
    Ok((draft, device))
}

/// Writes the header of what was filled, and makes both durable. A journal's segment begins with its checkpoint, undo is
/// all behind it.
fn finish(segment: &mut Segment, machine: &MachineId, kind: SegmentKind) -> Result<(), DiskError> {
    let header = SegmentHeader {
        kind,
        machine: machine.clone(),
        number: segment.number,
        salt: segment.salt,
        checkpoint_end_bytes: segment.end_bytes,
    };
    segment.device.write_at(0, &header.encode())?;
    segment.device.sync()?;
    segment.durable_bytes = segment.end_bytes;
    Ok(())
}

fn append(segment: &mut Segment, state: &mut JournalState) -> Result<(), DiskError> {
    let most_ranges = JOURNAL_TRUSTED_RANGES_MAX / state.disks.len().max(1);
    for (index, disk) in state.disks.iter_mut().enumerate() {
        let mut records = vec![Record::Checkpoint(Box::new(disk.checkpoint()))];
        records.extend(disk.left.clone().map(Record::Released));
        let ranges = trusted_ranges(disk, most_ranges);
        let chunks = ranges.chunks(JOURNAL_RECORD_MAX_RANGES);
        records.extend(chunks.map(|ranges| Record::Trusted { blocks: ranges.to_vec() }));
        segment.append_records(DiskSlot(index as u16), &records)?;
    }
    match state.history.records() {
        none if none.is_empty() => Ok(()),
        records => segment.append_records(DiskSlot::MACHINE, &records),
    }
}

/// The disk's trusted ranges. Where there are too many, the shortest are given up, in the state too: their blocks are
/// scanned again, which costs less than what is left.
fn trusted_ranges(disk: &mut DiskFold, most: usize) -> Vec<BlockRange> {
    let mut ranges = disk.trusted.runs();
    if ranges.len() > most {
        ranges.sort_by_key(|range| std::cmp::Reverse(range.count()));
        ranges.drain(most..).for_each(|range| disk.trusted.remove(range));
        ranges.sort_by_key(|range| range.start);
    }
    ranges
}
