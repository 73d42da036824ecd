//! How bytes are read: through the page cache without leaving traces in it, or past it.
//!
//! A scan reads a disk once and from end to end. Left alone it would push everything else out of the page cache, so
//! what it brought in is dropped again behind it; what others had cached stays. A disk larger than half of memory
//! is read with `O_DIRECT`.
//!
//! **Invariant**: the mode changes what is cached, never what is read.

use crate::buffer::AlignedBuffer;
use failback_model::limits::{DROP_BEHIND_BYTES, PAGE_BYTES, UNIT_MIN_BYTES};
use rustix::fs::{Advice, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// How a device is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// [`Self::Direct`] where the device takes more than half of this host's memory, else [`Self::DropBehind`].
    #[default]
    Auto,
    /// Through the page cache; pages that a read brought in are dropped some way behind it.
    DropBehind,
    /// Past the page cache (`O_DIRECT`); where the file system cannot, as [`Self::DropBehind`].
    Direct,
}

/// The reading half of a file device.
#[derive(Debug)]
pub(crate) enum Reader {
    Buffered(DropBehind),
    Direct(OwnedFd),
}

impl Reader {
    pub(crate) fn new(file: &File, taken_bytes: u64, mode: ReadMode) -> Self {
        let direct = match mode {
            ReadMode::Auto => taken_bytes > memory_bytes() / 2,
            ReadMode::DropBehind => false,
            ReadMode::Direct => true,
        };
        match direct.then(|| open_direct(file)) {
            Some(Ok(direct)) => Self::Direct(direct),
            // tmpfs and some network file systems know no O_DIRECT: what is read is the same.
            Some(Err(_)) | None => Self::Buffered(DropBehind::new(file)),
        }
    }

    /// One read of at least one byte, except at the end of the file.
    pub(crate) fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Buffered(buffered) => buffered.read(file, offset, buffer),
            Self::Direct(direct) => read_direct(direct, offset, buffer),
        }
    }

    /// Drops what is still cached because of us.
    pub(crate) fn finish(&self, file: &File) {
        if let Self::Buffered(buffered) = self {
            buffered.drop_down_to(file, 0);
        }
    }
}

/// Opens the same file once more, past the page cache, even if its name is another file's by now.
fn open_direct(file: &File) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty())
}

fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    #[expect(clippy::useless_conversion, reason = "the field is narrower on 32-bit machines")]
    u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit))
}

/// Offset, length and memory on page boundaries satisfy every device; what is not goes through a bounce buffer.
fn read_direct(direct: &OwnedFd, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let page = PAGE_BYTES as usize;
    let whole = buffer.len() - buffer.len() % page;
    if offset.is_multiple_of(PAGE_BYTES) && whole > 0 && buffer.as_ptr().addr().is_multiple_of(page) {
        return rustix::io::pread(direct, &mut buffer[..whole], offset);
    }
    let start = offset - offset % PAGE_BYTES;
    let skip = (offset - start) as usize;
    let wanted = (skip + buffer.len()).min(UNIT_MIN_BYTES as usize);
    let mut bounce = AlignedBuffer::new(wanted.next_multiple_of(page));
    let got = rustix::io::pread(direct, &mut *bounce, start)?;
    let copied = got.saturating_sub(skip).min(buffer.len());
    buffer[..copied].copy_from_slice(&bounce[skip..skip + copied]);
    Ok(copied)
}

/// Buffered reading that remembers what it brought into the page cache.
///
/// A first attempt with `RWF_NOWAIT` succeeds exactly where the bytes are cached, at the price of the plain read it
/// replaces. Only where it fails are the bytes ours to drop. Kernel read-ahead is switched off, since what it brings
/// in could not be told from what others had cached; the callers' units are larger than its window anyway.
#[derive(Debug)]
pub(crate) struct DropBehind {
    can_ask: AtomicBool,
    ours: Mutex<Ours>,
}

#[derive(Debug, Default)]
struct Ours {
    runs: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl DropBehind {
    fn new(file: &File) -> Self {
        let can_ask = rustix::fs::fadvise(file, 0, None, Advice::Random).is_ok();
        Self { can_ask: AtomicBool::new(can_ask), ours: Mutex::default() }
    }

    fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        if !self.can_ask.load(Ordering::Relaxed) {
            return rustix::io::pread(file, buffer, offset);
        }
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(file, &mut parts, offset, ReadWriteFlags::NOWAIT) {
            Err(Errno::AGAIN) => {
                let count = rustix::io::pread(file, buffer, offset)?;
                self.brought_in(file, offset, count as u64);
                Ok(count)
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.can_ask.store(false, Ordering::Relaxed);
                rustix::io::pread(file, buffer, offset)
            }
            other => other,
        }
    }

    fn brought_in(&self, file: &File, offset: u64, length: u64) {
        let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        ours.bytes += length;
        match ours.runs.back_mut() {
            Some((start, end)) if *end == offset && *end - *start < UNIT_MIN_BYTES => *end += length,
            _ => ours.runs.push_back((offset, offset + length)),
        }
        let full = ours.bytes > DROP_BEHIND_BYTES;
        drop(ours);
        if full {
            self.drop_down_to(file, DROP_BEHIND_BYTES);
        }
    }

    fn drop_down_to(&self, file: &File, limit_bytes: u64) {
        loop {
            let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
            if ours.bytes <= limit_bytes {
                return;
            }
            let Some((start, end)) = ours.runs.pop_front() else { return };
            ours.bytes -= end - start;
            drop(ours);
            let start = start - start % PAGE_BYTES;
            // Advice that is not taken costs cache, nothing else.
            let _advice = rustix::fs::fadvise(file, start, NonZeroU64::new(end - start), Advice::DontNeed);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sys::residency;
    use crate::{Access, Device, FileDevice, ReadMode};
    use rustix::fs::Advice;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const MIB: usize = 1 << 20;
    const PAGES_PER_MIB: usize = MIB / 4096;

    #[test]
    fn what_others_had_cached_stays_and_the_rest_goes() {
        // Unlike /tmp never in memory.
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![7; 8 * MIB]).expect("written");
        let file = File::open(&path).expect("opened");
        file.sync_all().expect("synced");
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).expect("dropped");
        rustix::fs::fadvise(&file, 0, None, Advice::Random).expect("no read-ahead");
        file.read_exact_at(&mut vec![0; 2 * MIB], 3 * MIB as u64).expect("cached");
        let before = residency::of(&file);
        let cached_pages = before.iter().filter(|cached| **cached).count();
        assert_eq!(cached_pages, 2 * PAGES_PER_MIB, "this file system does not cache as it is told");

        for mode in [ReadMode::DropBehind, ReadMode::Direct] {
            let device = FileDevice::open_with(&path, Access::Read, mode).expect("opened");
            let mut buffer = vec![0; MIB / 4];
            for unit in 0..32 {
                device.read_at((unit * buffer.len()) as u64, &mut buffer).expect("read");
                assert!(buffer.iter().all(|&byte| byte == 7));
            }
            drop(device);
            assert!(residency::of(&file) == before, "{mode:?} changed what is cached");
        }
    }
}
