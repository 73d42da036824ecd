//! Closing a segment: all that the journal says, at the start of the next one.
//!
//! **Invariant**: a segment gets its name only when its checkpoint, and every digest that the checkpoint trusts, is
//! durable; only then is an older one removed. So the segment with the highest number is always whole.

use crate::disk_state::DiskFold;
use crate::medium::Medium;
use crate::segment::{Segment, draft_name, segment_name};
use failback_blockio::{Device, DiskError};
use failback_format::journal_record::{DiskSlot, Record, SEGMENT_HEADER_BYTES, SegmentHeader};
use failback_model::limits::{JOURNAL_RECORD_MAX_RANGES, JOURNAL_TRUSTED_RANGES_MAX};
use failback_model::{BlockRange, Code, MachineId};
use std::sync::Arc;

/// Writes the segment `number` with a checkpoint of these disks, makes it durable and opens it.
pub(crate) fn write_segment(
    medium: &dyn Medium,
    machine: &MachineId,
    number: u64,
    disks: &mut [DiskFold],
) -> Result<Segment, DiskError> {
    for digests in disks.iter().filter_map(|disk| disk.digests.as_ref()) {
        digests.sync()?;
    }
    medium.sync_names()?;
    let name = segment_name(number);
    let (draft, device) = create_draft(medium, &name)?;
    let (salt, _) = uuid::Uuid::new_v4().as_u64_pair();
    let header_bytes = SEGMENT_HEADER_BYTES as u32;
    let mut segment =
        Segment { device, number, salt, end_bytes: header_bytes, sequence: 0, durable_bytes: header_bytes };
    if let Err(error) = write(&mut segment, machine, disks) {
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

fn write(segment: &mut Segment, machine: &MachineId, disks: &mut [DiskFold]) -> Result<(), DiskError> {
    let most_ranges = JOURNAL_TRUSTED_RANGES_MAX / disks.len().max(1);
    for (index, disk) in disks.iter_mut().enumerate() {
        let mut records = vec![Record::Checkpoint(disk.checkpoint())];
        records.extend(disk.left.clone().map(Record::Released));
        let ranges = trusted_ranges(disk, most_ranges);
        let chunks = ranges.chunks(JOURNAL_RECORD_MAX_RANGES);
        records.extend(chunks.map(|ranges| Record::Trusted { blocks: ranges.to_vec() }));
        let bytes = segment.encode(DiskSlot(index as u16), &records);
        segment.append(&bytes, records.len())?;
    }
    let header = SegmentHeader {
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
