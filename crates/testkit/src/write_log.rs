//! Reads the write log that QEMU's `blklogwrites` keeps of a disk, so that what the kernel really sent to a disk can be
//! replayed to every state that a power cut could have left.
//!
//! The format is that of Linux's device-mapper target: `Documentation/admin-guide/device-mapper/log-writes.rst` and
//! `struct log_write_super`, `struct log_write_entry` in `drivers/md/dm-log-writes.c`; QEMU's `block/blklogwrites.c` writes
//! the same. All fields are little-endian; the super block and each entry's head fill a sector; an entry's data follows its
//! head, save for a discard's. QEMU counts the entries in the super block at each flush, so what came behind the last flush
//! is counted by its heads here: the log ends where a head is no head.
//!
//! **Invariant**: a write is in the log once the disk below has taken it, and a flush once that has ended. A write that
//! ends while a flush runs may stand before it and then passes for flushed: states are missed for that, none is made up.

use bytes::Bytes;
use failback_blockio::{Action, Event, Zeroing};
use failback_model::ByteRange;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;
const ALL_FLAGS: u64 = FLUSH | FUA | DISCARD | MARK;

/// What was done to a disk, in order.
#[derive(Debug)]
pub struct WriteLog {
    /// As a recording of one device tells it.
    events: Vec<Event>,
    /// Events up to the end of each entry.
    ends: Vec<usize>,
}

impl WriteLog {
    /// Reads a whole log. Panics where it is none.
    pub fn read(path: &Path) -> Self {
        let log = std::fs::read(path).expect("a write log is read").into();
        parse(&log).unwrap_or_else(|reason| panic!("{}: {reason}", path.display()))
    }

    /// How many entries it has.
    pub fn entries(&self) -> u64 {
        self.ends.len() as u64
    }

    /// What was done up to the end of so many entries.
    pub fn events(&self, entries: u64) -> &[Event] {
        let end = entries.checked_sub(1).map_or(0, |last| self.ends[last as usize]);
        &self.events[..end]
    }
}

/// Entries that the super block counts, 0 before the first flush: what a finished flush covers. For a log that is being
/// written.
pub fn flushed_entries(path: &Path) -> u64 {
    let mut head = [0; 24];
    let read = File::open(path).and_then(|file| file.read_at(&mut head, 0)).expect("a write log is read");
    let log = &head[..read];
    field(log, 0).filter(|&magic| magic == MAGIC).and_then(|_| field(log, 16)).unwrap_or(0)
}

fn parse(log: &Bytes) -> Result<WriteLog, String> {
    let sector_bytes = sector_bytes(log)?;
    let (mut events, mut ends, mut at) = (Vec::new(), Vec::new(), sector_bytes);
    while let (Some(sector), Some(sectors), Some(flags)) =
        (field(log, at), field(log, at + 8), field(log, at + 16))
    {
        if flags & !ALL_FLAGS != 0 || (flags, sectors) == (0, 0) {
            return Err(format!("entry {} has flags {flags:#x} and {sectors} sectors", ends.len()));
        }
        let data_at = at + sector_bytes;
        let (offset_bytes, length_bytes) = (sector * sector_bytes as u64, sectors * sector_bytes as u64);
        let data_bytes = if flags & DISCARD == 0 { length_bytes as usize } else { 0 };
        if data_at + data_bytes > log.len() {
            // Its data was still on its way into the log.
            break;
        }
        let mut push = |action| events.push(Event { device: 0, action });
        if flags & FLUSH != 0 {
            push(Action::SyncBegan);
            push(Action::SyncEnded);
        }
        if flags & DISCARD != 0 {
            let range = ByteRange::new(offset_bytes, offset_bytes + length_bytes);
            push(Action::Zero { range, zeroing: Zeroing::Punch });
        } else if sectors > 0 && flags & MARK == 0 {
            // With FUA it alone is durable: to take it for no more than any other is the harsher reading.
            push(Action::Write { offset_bytes, bytes: log.slice(data_at..data_at + data_bytes) });
        }
        at = data_at + data_bytes;
        ends.push(events.len());
    }
    let counted = field(log, 16).unwrap_or(0);
    if (ends.len() as u64) < counted {
        return Err(format!("it holds {} entries and counts {counted}", ends.len()));
    }
    Ok(WriteLog { events, ends })
}

fn sector_bytes(log: &[u8]) -> Result<usize, String> {
    let (magic, version) = (field(log, 0), field(log, 8));
    if (magic, version) != (Some(MAGIC), Some(VERSION)) {
        return Err(format!("no write log begins with {magic:x?}, version {version:?}"));
    }
    let bytes = log.get(24..28).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let bytes = bytes.filter(|bytes| bytes.is_power_of_two() && *bytes >= 512);
    bytes.map(|bytes| bytes as usize).ok_or_else(|| "its sectors have no size".into())
}

fn field(log: &[u8], at: usize) -> Option<u64> {
    log.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(fields: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes
    }

    #[test]
    fn a_log_is_read_entry_by_entry() {
        let write = [sector(&[3, 2, 0, 0]), vec![7; 1024]].concat();
        let mark = [sector(&[0, 1, MARK, 4]), vec![b'm'; 512]].concat();
        let log = [
            sector(&[MAGIC, VERSION, 3, 512]),
            write,
            mark,
            sector(&[0, 0, FLUSH, 0]),
            sector(&[8, 4, DISCARD, 0]),
        ];
        let whole = Bytes::from(log.concat());
        let actions = |log: &Bytes, entries| -> Vec<Action> {
            let log = parse(log).expect("a log");
            log.events(entries).iter().map(|event| event.action.clone()).collect()
        };
        let written = Action::Write { offset_bytes: 1536, bytes: Bytes::from(vec![7; 1024]) };
        let discarded = Action::Zero { range: ByteRange::new(4096, 6144), zeroing: Zeroing::Punch };
        let expected = [written.clone(), Action::SyncBegan, Action::SyncEnded, discarded];
        assert_eq!(parse(&whole).expect("a log").entries(), 4);
        let upto = |entries| actions(&whole, entries);
        assert_eq!([upto(0), upto(1), upto(2)], [&expected[..0], &expected[..1], &expected[..1]]);
        assert_eq!([upto(3), upto(4)], [&expected[..3], &expected[..]]);
        parse(&whole.slice(..1600)).expect_err("it counts three entries");
        let unflushed = [sector(&[MAGIC, VERSION, 0, 512]), log[1].clone(), sector(&[9, 2, 0, 0])].concat();
        let unflushed = parse(&unflushed.into()).expect("a log");
        assert_eq!(unflushed.entries(), 1, "the last one's data is not there yet");
        for (damage, reason) in [([9, 2, 64, 0], "flags 0x40 and 2"), ([0, 0, 0, 0], "flags 0x0 and 0")] {
            let damaged = [sector(&[MAGIC, VERSION, 0, 512]), sector(&damage)].concat();
            let said = parse(&damaged.into()).expect_err("no entry");
            assert!(said.contains(reason), "{said}");
        }
        parse(&Bytes::from_static(b"something else")).expect_err("no log");
    }
}
