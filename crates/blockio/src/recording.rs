//! A device that remembers what was done to it, so that a test can build every state a power cut could have left.
//!
//! **Invariant**: an action is in the log before it reaches the device below, so nothing can be on the medium that the
//! log does not know. Only what was logged before a sync began, and that sync ended, is certain; whoever writes from
//! several threads joins them before a sync it relies on, as the log cannot see a write that is still on its way.

use crate::{Device, DiskError, ReadPath, Zeroing};
use bytes::Bytes;
use failback_model::{ByteRange, SectorSize};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Bytes were written.
    Write {
        /// Where.
        offset_bytes: u64,
        /// What.
        bytes: Bytes,
    },
    /// Bytes were zeroed.
    Zero {
        /// Where.
        range: ByteRange,
        /// How.
        zeroing: Zeroing,
    },
    /// The length changed.
    SetLength(u64),
    /// A sync was asked for.
    SyncBegan,
    /// That sync returned without an error.
    SyncEnded,
}

/// An action on one of the devices of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which device, by the order in which they were added.
    pub device: usize,
    /// What was done to it.
    pub action: Action,
}

/// What a power cut after some events leaves of one device, by position in the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AfterCut {
    /// On the medium for certain, in order.
    pub durable: Vec<usize>,
    /// Any subset of these may be there, each one whole or torn.
    pub uncertain: Vec<usize>,
}

/// A log shared by the devices of one image, in the order in which things were done to them.
#[derive(Debug, Clone, Default)]
pub struct Recording(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    devices: usize,
    events: Vec<Event>,
}

impl Recording {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wraps a device; what is done to it from now on is recorded.
    pub fn add(&self, inner: Arc<dyn Device>) -> RecordingDevice {
        let mut log = self.lock();
        let device = log.devices;
        log.devices += 1;
        drop(log);
        RecordingDevice { inner, recording: self.clone(), device }
    }

    /// What was done so far.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a power cut after these events leaves of one device.
pub fn after_cut(events: &[Event], device: usize) -> AfterCut {
    let mut state = AfterCut::default();
    let mut began: VecDeque<usize> = VecDeque::new();
    for (position, event) in events.iter().enumerate().filter(|(_, event)| event.device == device) {
        match event.action {
            Action::SyncBegan => began.push_back(state.uncertain.len()),
            Action::SyncEnded => {
                // Of several that run, the one that began first covers least: never promise more.
                let count = began.pop_front().unwrap_or(0);
                state.durable.extend(state.uncertain.drain(..count));
                began.iter_mut().for_each(|other| *other -= count);
            }
            _ => state.uncertain.push(position),
        }
    }
    state
}

impl Action {
    /// Does it again, to another device.
    pub fn apply(&self, onto: &dyn Device) -> Result<(), DiskError> {
        match self {
            Self::Write { offset_bytes, bytes } => onto.write_at(*offset_bytes, bytes),
            Self::Zero { range, zeroing } => onto.zero(*range, *zeroing),
            Self::SetLength(length_bytes) => onto.set_length(*length_bytes),
            Self::SyncBegan | Self::SyncEnded => Ok(()),
        }
    }

    /// The part of a write or zeroing that a power cut lets through when it comes after `sectors` whole sectors of 512
    /// bytes; `None` where nothing is let through.
    pub fn torn(&self, sectors: u64) -> Option<Self> {
        const SECTOR_BYTES: u64 = 512;
        let until =
            |start: u64, end: u64| (start / SECTOR_BYTES + sectors).saturating_mul(SECTOR_BYTES).min(end);
        match self {
            Self::Write { offset_bytes, bytes } => {
                let end = until(*offset_bytes, offset_bytes + bytes.len() as u64);
                let count = end.checked_sub(*offset_bytes).filter(|&count| count > 0)?;
                Some(Self::Write { offset_bytes: *offset_bytes, bytes: bytes.slice(..count as usize) })
            }
            Self::Zero { range, zeroing } => {
                let end = until(range.start(), range.end());
                (end > range.start())
                    .then(|| Self::Zero { range: ByteRange::new(range.start(), end), zeroing: *zeroing })
            }
            whole => Some(whole.clone()),
        }
    }
}

/// A device whose changes are recorded.
#[derive(Debug)]
pub struct RecordingDevice {
    inner: Arc<dyn Device>,
    recording: Recording,
    device: usize,
}

impl RecordingDevice {
    fn log(&self, action: Action) {
        self.recording.lock().events.push(Event { device: self.device, action });
    }
}

impl Device for RecordingDevice {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn length_bytes(&self) -> u64 {
        self.inner.length_bytes()
    }

    fn sector_size(&self) -> SectorSize {
        self.inner.sector_size()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.inner.read_at(offset_bytes, buffer)
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.log(Action::Write { offset_bytes, bytes: Bytes::copy_from_slice(bytes) });
        self.inner.write_at(offset_bytes, bytes)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        self.log(Action::Zero { range, zeroing });
        self.inner.zero(range, zeroing)
    }

    fn reserve(&self, range: ByteRange) -> Result<bool, DiskError> {
        self.inner.reserve(range)
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.inner.allocated_bytes()
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.inner.next_data(from_bytes)
    }

    fn set_length(&self, length_bytes: u64) -> Result<(), DiskError> {
        self.log(Action::SetLength(length_bytes));
        self.inner.set_length(length_bytes)
    }

    fn start_writeback(&self, range: ByteRange) {
        self.inner.start_writeback(range);
    }

    fn drop_cached(&self) -> ReadPath {
        self.inner.drop_cached()
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.log(Action::SyncBegan);
        self.inner.sync()?;
        self.log(Action::SyncEnded);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileDevice;

    fn write(offset_bytes: u64, bytes: &'static [u8]) -> Action {
        Action::Write { offset_bytes, bytes: Bytes::from_static(bytes) }
    }

    #[test]
    fn a_cut_keeps_what_was_synced_and_nothing_else_for_certain() {
        let folder = tempfile::tempdir().expect("a folder");
        let create = |name| FileDevice::create_new(&folder.path().join(name), 2048).expect("created");
        let recording = Recording::new();
        let (first, second) = (create("first"), create("second"));
        let (first, second) = (recording.add(Arc::new(first)), recording.add(Arc::new(second)));
        first.write_at(0, b"one").expect("written");
        second.write_at(1, b"other").expect("written");
        first.sync().expect("synced");
        first.zero(ByteRange::new(1, 2), Zeroing::Punch).expect("zeroed");
        let events = recording.events();
        assert_eq!(after_cut(&events, 0), AfterCut { durable: vec![0], uncertain: vec![4] });
        assert_eq!(after_cut(&events, 1), AfterCut { durable: vec![], uncertain: vec![1] });
        assert_eq!(after_cut(&events[..3], 0).durable, [], "a sync that never returned promises nothing");

        let again = create("again");
        for event in events.iter().filter(|event| event.device == 0) {
            event.action.apply(&again).expect("applied");
        }
        let mut bytes = [9; 4];
        again.read_at(0, &mut bytes).expect("read");
        assert_eq!(&bytes, b"o\0e\0");
    }

    #[test]
    fn a_torn_write_ends_at_a_sector() {
        static LONG: [u8; 2000] = [7; 2000];
        let torn_bytes = |sectors| match write(500, &LONG).torn(sectors) {
            Some(Action::Write { offset_bytes: 500, bytes }) => bytes.len(),
            None => 0,
            Some(other) => panic!("{other:?}"),
        };
        assert_eq!([0, 1, 2, 9].map(torn_bytes), [0, 12, 524, 2000]);
        let zeroing = Zeroing::Punch;
        let zero = |end| Action::Zero { range: ByteRange::new(1024, end), zeroing };
        assert_eq!(zero(4096).torn(3), Some(zero(2560)));
        assert_eq!(Action::SetLength(5).torn(0), Some(Action::SetLength(5)));
    }
}
