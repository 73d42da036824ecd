//! What one end tells the other of its disk before a pass, so that each can judge what it cannot read.

use crate::sample::sample_of;
use crate::wrong_disk::disk_id;
use failback_blockio::Operation;
use failback_blockio::{DiskError, UnitSource};
use failback_model::limits::UNIT_MIN_BYTES;
use failback_model::{BlockSize, ByteRange, Code, Layout};
use failback_wire::SampledBlock;
use std::collections::VecDeque;

/// What the request for a session says of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    /// Where its contents end.
    pub content_end_bytes: u64,
    /// What its partition table calls it; empty where there is none.
    pub disk_mark: String,
    /// Blocks that an equal disk would hold.
    pub sample: Vec<SampledBlock>,
}

impl SourceFacts {
    /// Walks the source's hole map, and reads what [`content_end_bytes`] does and 4 MiB at most.
    pub fn of(source: &dyn UnitSource) -> Result<Self, DiskError> {
        Ok(Self {
            content_end_bytes: content_end_bytes(source)?,
            disk_mark: disk_mark(source)?,
            sample: sample_of(source)?,
        })
    }
}

/// What a disk's partition table calls it: `GPT` or `MBR` and an id; empty where there is none.
pub fn disk_mark(disk: &dyn UnitSource) -> Result<String, DiskError> {
    let layout = Layout::new(disk.geometry().length_bytes, BlockSize::DEFAULT).map_err(|error| {
        DiskError::new(Code::ImageSizeUnsupported, Operation::Open, disk.name(), error.to_string())
    })?;
    Ok(disk_id(disk, layout)?.unwrap_or_default())
}

/// Where the contents of a disk end: all bytes from there on are zero. Holes are not read; a disk that is zero for long at
/// its end costs the reading of that.
pub fn content_end_bytes(disk: &dyn UnitSource) -> Result<u64, DiskError> {
    let mut extents: VecDeque<ByteRange> = VecDeque::new();
    let whole = ByteRange::new(0, disk.geometry().length_bytes);
    let mut at = 0;
    while let Some(data) = disk.next_data(at)?.and_then(|data| data.intersection(whole)) {
        // Only the last ones are looked at from behind; long before the first of many, something is not zero.
        if extents.len() == EXTENTS_KEPT {
            extents.pop_front();
        }
        at = data.end();
        extents.push_back(data);
    }
    for data in extents.iter().rev() {
        if let Some(end) = last_content(disk, *data)? {
            return Ok(end);
        }
    }
    // Zeros where data was said to be: believe the oldest extent that was kept, which costs nothing but caution.
    Ok(extents.front().map_or(0, |data| if extents.len() == EXTENTS_KEPT { data.start() } else { 0 }))
}

/// Extents of data at the end of a disk that are remembered.
const EXTENTS_KEPT: usize = 1024;

/// One past the last byte of a range that is not zero.
fn last_content(disk: &dyn UnitSource, range: ByteRange) -> Result<Option<u64>, DiskError> {
    let mut buffer = vec![0; UNIT_MIN_BYTES as usize];
    let mut end = range.end();
    while end > range.start() {
        let start = end.saturating_sub(UNIT_MIN_BYTES).max(range.start());
        let part = &mut buffer[..(end - start) as usize];
        disk.read_at(start, part)?;
        if let Some(last) = part.iter().rposition(|&byte| byte != 0) {
            return Ok(Some(start + last as u64 + 1));
        }
        end = start;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_blockio::Device;
    use failback_testkit::MemoryDevice;

    #[test]
    fn contents_end_behind_the_last_byte_that_is_not_zero() {
        let disk = MemoryDevice::new(8 << 20);
        assert_eq!(content_end_bytes(&disk).expect("memory"), 0);
        for at in [5, 65_535, (1 << 20) + 1, (8 << 20) - 1] {
            disk.write_at(at, &[1]).expect("memory");
            disk.write_at((8 << 20) - 4096, &[0; 4095]).expect("memory");
            assert_eq!(content_end_bytes(&disk).expect("memory"), at + 1);
        }
    }

    #[test]
    fn a_mark_names_the_table_and_the_id() {
        let disk = MemoryDevice::new(1 << 20);
        assert_eq!(disk_mark(&disk).expect("memory"), "");
        disk.write_at(440, &[1, 2, 3, 4]).expect("memory");
        disk.write_at(510, &[0x55, 0xaa]).expect("memory");
        assert_eq!(disk_mark(&disk).expect("memory"), "MBR 01020304");
    }
}
