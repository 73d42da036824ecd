//! Zeroing, punching and reserving.
//!
//! **Invariant**: whatever the file system can or cannot do, the bytes read as zero afterwards and no byte outside the
//! range changes; punching never turns a hole into data, and devices are never discarded.

use super::FileDevice;
use crate::{Device, DiskError, Operation, Zeroing};
use failback_model::limits::PAGE_BYTES;
use failback_model::{ByteRange, Code};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};

/// Zeros written at once where the medium cannot zero by itself.
const ZERO_CHUNK_BYTES: usize = 256 << 10;
static ZEROS: [u8; ZERO_CHUNK_BYTES] = [0; ZERO_CHUNK_BYTES];

impl FileDevice {
    pub(super) fn zero_range(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        if range.is_empty() {
            return Ok(());
        }
        if self.is_block_device() {
            return self.zero_device(range);
        }
        if range.end() > self.length_bytes() {
            let reason = format!("{range:?} passes its end at {}", self.length_bytes());
            return Err(DiskError::new(Code::WriteFailed, Operation::Zero, &self.path, reason));
        }
        match zeroing {
            Zeroing::KeepAllocation => {
                if self.try_zero(range, FallocateFlags::ZERO_RANGE, &self.can_zero)? {
                    return Ok(());
                }
                self.write_zeros(range)
            }
            Zeroing::Punch => {
                if self.try_zero(range, FallocateFlags::PUNCH_HOLE, &self.can_punch)? {
                    return Ok(());
                }
                self.zero_data(range)
            }
        }
    }

    /// Takes space for these bytes of a file, which keep reading as they do; lengthens the file if need be. Where the
    /// file system cannot reserve, `false`.
    pub(super) fn reserve_range(&self, range: ByteRange) -> Result<bool, DiskError> {
        if range.is_empty() {
            return Ok(true);
        }
        match self.fallocate(FallocateFlags::empty(), range) {
            Ok(()) => {
                self.known_length_bytes.fetch_max(range.end(), Ordering::Relaxed);
                Ok(true)
            }
            Err(Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(self.fail(Operation::Write, range.start(), errno)),
        }
    }

    /// Writes zeros, even where a hole reads as zeros already.
    fn write_zeros(&self, range: ByteRange) -> Result<(), DiskError> {
        let mut at = range.start();
        while at < range.end() {
            let count = (range.end() - at).min(ZEROS.len() as u64);
            self.write_at(at, &ZEROS[..count as usize])?;
            at += count;
        }
        Ok(())
    }

    /// Asks the medium to zero by itself; false where it cannot and never will.
    fn try_zero(&self, range: ByteRange, flags: FallocateFlags, can: &AtomicBool) -> Result<bool, DiskError> {
        if !can.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match self.fallocate(flags | FallocateFlags::KEEP_SIZE, range) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => {
                can.store(false, Ordering::Relaxed);
                Ok(false)
            }
            Err(errno) => Err(self.fail(Operation::Zero, range.start(), errno)),
        }
    }

    /// Zeroes a block device: whole pages by `BLKZEROOUT` (which this flag stands for on devices), the rest by writing.
    fn zero_device(&self, range: ByteRange) -> Result<(), DiskError> {
        let inner_start = range.start().next_multiple_of(PAGE_BYTES);
        let inner_end = range.end() - range.end() % PAGE_BYTES;
        if inner_start >= inner_end {
            return self.write_zeros(range);
        }
        self.write_zeros(ByteRange::new(range.start(), inner_start))?;
        let inner = ByteRange::new(inner_start, inner_end);
        if !self.try_zero(inner, FallocateFlags::ZERO_RANGE, &self.can_zero)? {
            self.write_zeros(inner)?;
        }
        self.write_zeros(ByteRange::new(inner_end, range.end()))
    }

    /// Writes zeros over data only, so that holes stay holes.
    fn zero_data(&self, range: ByteRange) -> Result<(), DiskError> {
        let mut at = range.start();
        while let Some(data) = self.next_data(at)?.and_then(|data| data.intersection(range)) {
            self.write_zeros(data)?;
            at = data.end();
        }
        Ok(())
    }

    fn fallocate(&self, flags: FallocateFlags, range: ByteRange) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(&self.file, flags, range.start(), range.length_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::limits::PAGE_BYTES;

    /// As on a file system that can neither punch nor zero, which none is here to test on.
    #[test]
    fn a_medium_that_cannot_punch_has_zeros_written_over_its_data_only() {
        const LENGTH: u64 = 1 << 20;
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let device = FileDevice::create_new(&folder.path().join("disk"), LENGTH).expect("created");
        device.can_punch.store(false, Ordering::Relaxed);
        device.can_zero.store(false, Ordering::Relaxed);
        let island = ByteRange::new(8 * PAGE_BYTES, 40 * PAGE_BYTES);
        device.write_at(island.start(), &vec![7; island.length_bytes() as usize]).expect("written");
        device.sync().expect("synced");
        let taken_bytes = device.allocated_bytes().expect("known");
        let inside = ByteRange::new(island.start() + 100, island.end() - 100);
        device.zero(inside, Zeroing::Punch).expect("zeroed");
        device.zero(ByteRange::new(island.end(), LENGTH), Zeroing::Punch).expect("nothing to zero");
        device.sync().expect("synced");
        assert_eq!(
            device.allocated_bytes().expect("known"),
            taken_bytes,
            "holes stay holes, data stays data"
        );
        let mut bytes = vec![1; LENGTH as usize];
        device.read_at(0, &mut bytes).expect("read");
        let is_in = |range: ByteRange, at: u64| range.start() <= at && at < range.end();
        let expected = |at: u64| if is_in(inside, at) || !is_in(island, at) { 0 } else { 7 };
        assert!((0..).zip(&bytes).all(|(at, &byte)| byte == expected(at)));
        device.zero(ByteRange::new(0, LENGTH), Zeroing::KeepAllocation).expect("zeroed");
        assert_eq!(device.allocated_bytes().expect("known"), LENGTH, "zeros were written");
    }
}
