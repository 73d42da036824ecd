//! How bytes are read: through the page cache without leaving traces in it, or past it.
//!
//! A scan reads a disk once and from end to end. Left alone it would push everything else out of the page cache, so
//! what it brought in is dropped again behind it; what others had cached stays. A disk larger than half of memory
//! is read with `O_DIRECT`.
//!
//! **Invariant**: the mode changes what is cached, never what is read.

mod drop_behind;

use crate::buffer::AlignedBuffer;
use drop_behind::DropBehind;
use failback_model::limits::{PAGE_BYTES, UNIT_MIN_BYTES};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

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

impl ReadMode {
    /// The mode that [`Self::Auto`] is for something that takes this many bytes. A disk of several files asks for all of
    /// them together.
    pub fn for_bytes(taken_bytes: u64) -> Self {
        if taken_bytes > memory_bytes() / 2 { Self::Direct } else { Self::DropBehind }
    }
}

/// The reading half of a file device: through the page cache until it is opened past it.
#[derive(Debug)]
pub(crate) struct Reader {
    buffered: DropBehind,
    direct: OnceLock<OwnedFd>,
}

impl Reader {
    pub(crate) fn new(file: &File, taken_bytes: u64, mode: ReadMode) -> Self {
        let mode = if mode == ReadMode::Auto { ReadMode::for_bytes(taken_bytes) } else { mode };
        let reader = Self { buffered: DropBehind::default(), direct: OnceLock::new() };
        if mode == ReadMode::Direct {
            reader.go_direct(file);
        }
        reader
    }

    /// Reads past the page cache from now on, where the file system can.
    pub(crate) fn go_direct(&self, file: &File) {
        if let (None, Ok(direct)) = (self.direct.get(), open_direct(file)) {
            // Another thread may have been faster: either descriptor will do.
            let _set = self.direct.set(direct);
        }
        // tmpfs and some network file systems know no O_DIRECT: what is read is the same.
    }

    /// Whether reads go past the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        self.direct.get().is_some()
    }

    /// One read of at least one byte, except at the end of the file.
    pub(crate) fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self.direct.get() {
            None => self.buffered.read(file, offset, buffer),
            Some(direct) => read_direct(direct, offset, buffer),
        }
    }

    /// Drops what is still cached because of us.
    pub(crate) fn finish(&self, file: &File) {
        self.buffered.finish(file);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_larger_than_half_of_memory_go_past_the_cache_unasked() {
        let file = tempfile::tempfile_in("/var/tmp").expect("a file");
        let is_direct = |taken, mode| Reader::new(&file, taken, mode).is_direct();
        assert!(!is_direct(memory_bytes() / 2, ReadMode::Auto));
        assert!(is_direct(memory_bytes() / 2 + 1, ReadMode::Auto));
        assert!(!is_direct(u64::MAX, ReadMode::DropBehind) && is_direct(0, ReadMode::Direct));
    }
}
