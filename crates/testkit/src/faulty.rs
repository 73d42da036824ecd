//! A disk that fails where a test wants it to.
//!
//! **Invariant**: apart from the faults planned, it is the disk that it wraps; which fault struck can be asked.

use failback_blockio::{Device, DiskError, Operation, ReadPath, UnitSource, Zeroing};
use failback_model::{ByteRange, Code, DiskGeometry, SectorSize};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which calls a fault may strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Zeroing or punching.
    Zero,
    /// Making durable.
    Sync,
}

/// Which of these calls it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The n-th call of its kind, counted from 1, once.
    Nth(u64),
    /// Every call from the n-th on.
    From(u64),
    /// Every call that touches this byte.
    Touching(u64),
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The medium reports an error (`EIO`).
    Io,
    /// No space is left (`ENOSPC`).
    NoSpace,
    /// Half of a write arrives before the medium reports an error; a read finds the file ended.
    Short,
    /// A read returns a wrong byte and no error.
    FlippedBit,
    /// The file system was made read-only (`EROFS`).
    ReadOnly,
}

/// A fault to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Kind of call.
    pub call: Call,
    /// Which of them.
    pub when: When,
    /// What happens.
    pub damage: Damage,
}

/// Calls of each kind, counted over all disks that share it.
pub type Calls = Arc<[AtomicU64; 4]>;

/// Wraps a [`Device`] or a [`UnitSource`].
#[derive(Debug)]
pub struct Faulty<T> {
    inner: T,
    faults: Vec<Fault>,
    counts: Calls,
    struck: Mutex<Vec<Fault>>,
}

/// A device that fails where a test wants it to.
pub type FaultyDevice<T> = Faulty<T>;

impl<T> Faulty<T> {
    /// A disk with these faults to come.
    pub fn new(inner: T, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::counted(inner, faults, Calls::default())
    }

    /// One of several disks whose calls are counted together.
    pub fn counted(inner: T, faults: impl IntoIterator<Item = Fault>, counts: Calls) -> Self {
        Self { inner, faults: faults.into_iter().collect(), counts, struck: Mutex::default() }
    }

    /// The disk below, which does not fail.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// The faults that struck, in order.
    pub fn struck(&self) -> Vec<Fault> {
        self.struck.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls of a kind so far.
    pub fn calls(&self, call: Call) -> u64 {
        self.counts[call as usize].load(Ordering::Relaxed)
    }

    /// Counts a call and returns what strikes it.
    fn strike(&self, call: Call, touched: ByteRange) -> Option<Damage> {
        let number = self.counts[call as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let strikes = |fault: &&Fault| {
            fault.call == call
                && match fault.when {
                    When::Nth(n) => n == number,
                    When::From(n) => n <= number,
                    When::Touching(byte) => touched.start() <= byte && byte < touched.end(),
                }
        };
        let fault = *self.faults.iter().find(strikes)?;
        self.struck.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
        Some(fault.damage)
    }

    fn read(
        &self,
        path: &Path,
        offset_bytes: u64,
        buffer: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        match self.strike(Call::Read, touched(offset_bytes, buffer.len())) {
            None => read(buffer),
            Some(Damage::Io) => Err(error(Operation::Read, path, offset_bytes, io_error())),
            Some(damage @ (Damage::NoSpace | Damage::ReadOnly)) => {
                Err(error(Operation::Read, path, offset_bytes, damage.error()))
            }
            Some(Damage::Short) => {
                let end = offset_bytes + buffer.len() as u64 / 2;
                let reason = "the file ends here, it was longer when it was opened";
                Err(DiskError::new(Code::ChangedMeanwhile, Operation::Read, path, reason).at(end))
            }
            Some(Damage::FlippedBit) => {
                read(buffer)?;
                if let Some(byte) = buffer.first_mut() {
                    *byte ^= 1;
                }
                Ok(())
            }
        }
    }
}

fn touched(offset_bytes: u64, length: usize) -> ByteRange {
    ByteRange::new(offset_bytes, offset_bytes.saturating_add(length as u64))
}

fn error(operation: Operation, path: &Path, offset_bytes: u64, error: io::Error) -> DiskError {
    DiskError::io(operation, path, offset_bytes, error)
}

fn io_error() -> io::Error {
    const EIO: i32 = 5;
    io::Error::from_raw_os_error(EIO)
}

impl Damage {
    /// What the operating system says.
    fn error(self) -> io::Error {
        match self {
            Self::NoSpace => io::ErrorKind::StorageFull.into(),
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
            Self::Io | Self::Short | Self::FlippedBit => io_error(),
        }
    }
}

impl<T: Device> Device for Faulty<T> {
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
        self.read(self.path(), offset_bytes, buffer, |buffer| self.inner.read_at(offset_bytes, buffer))
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let fail = |kind| Err(error(Operation::Write, self.path(), offset_bytes, kind));
        match self.strike(Call::Write, touched(offset_bytes, bytes.len())) {
            None => self.inner.write_at(offset_bytes, bytes),
            Some(damage @ (Damage::NoSpace | Damage::ReadOnly)) => fail(damage.error()),
            Some(Damage::Short) => {
                self.inner.write_at(offset_bytes, &bytes[..bytes.len() / 2])?;
                fail(io_error())
            }
            Some(Damage::Io | Damage::FlippedBit) => fail(io_error()),
        }
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        match self.strike(Call::Zero, range) {
            None => self.inner.zero(range, zeroing),
            Some(damage) => Err(error(Operation::Zero, self.path(), range.start(), damage.error())),
        }
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
        self.inner.set_length(length_bytes)
    }

    fn start_writeback(&self, range: ByteRange) {
        self.inner.start_writeback(range);
    }

    fn drop_cached(&self) -> ReadPath {
        self.inner.drop_cached()
    }

    fn sync(&self) -> Result<(), DiskError> {
        match self.strike(Call::Sync, ByteRange::new(0, self.length_bytes())) {
            None => self.inner.sync(),
            Some(damage) => Err(DiskError::io(Operation::Flush, self.path(), None, damage.error())),
        }
    }
}

impl<T: UnitSource> UnitSource for Faulty<T> {
    fn geometry(&self) -> DiskGeometry {
        self.inner.geometry()
    }

    fn name(&self) -> &Path {
        self.inner.name()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.read(self.name(), offset_bytes, buffer, |buffer| self.inner.read_at(offset_bytes, buffer))
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.inner.next_data(from_bytes)
    }

    fn read_bytes(&self) -> u64 {
        self.inner.read_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDevice;

    #[test]
    fn faults_strike_where_they_are_planned_and_nowhere_else() {
        let faults = [
            Fault { call: Call::Read, when: When::Nth(2), damage: Damage::Io },
            Fault { call: Call::Write, when: When::Touching(5000), damage: Damage::Short },
            Fault { call: Call::Sync, when: When::From(2), damage: Damage::NoSpace },
        ];
        let disk = Faulty::new(MemoryDevice::new(8192), faults);
        let mut byte = [0];
        assert!(Device::read_at(&disk, 0, &mut byte).is_ok());
        let error = Device::read_at(&disk, 7, &mut byte).unwrap_err();
        assert_eq!((error.code, error.offset_bytes), (Code::ReadFailed, Some(7)));
        assert!(Device::read_at(&disk, 0, &mut byte).is_ok());
        assert!(disk.write_at(0, &[1; 5000]).is_ok());
        assert_eq!(disk.write_at(4000, &[2; 2000]).unwrap_err().code, Code::WriteFailed);
        assert_eq!(disk.inner().to_bytes()[3999..5001], [vec![1], vec![2; 1000], vec![0]].concat());
        assert!(disk.sync().is_ok());
        assert_eq!(disk.sync().unwrap_err().code, Code::NoSpace);
        assert_eq!((disk.struck().len(), disk.calls(Call::Read)), (3, 3));
    }
}
