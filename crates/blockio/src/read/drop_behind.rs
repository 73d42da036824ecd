//! Buffered reading that takes away again what it brought into the page cache.
//!
//! The disk is taken in windows. Before the first read of a window the kernel is asked how many pages are cached of it and
//! of the next one, where read-ahead will go (`cachestat`); only where it is some of them, or the kernel is too old to
//! count, which ones (`mincore`). Those that were not are dropped once the reader is some windows further. A read with
//! `RWF_NOWAIT` would be no judge: it starts read-ahead itself and finds what that brought in. Read-ahead stays on;
//! without it cold reads measured six times slower.
//!
//! **Invariant**: a page that was cached before its window was judged is never dropped.

use crate::sys;
use failback_model::ByteRange;
use failback_model::limits::{DISK_MAX_BYTES, DROP_BEHIND_BYTES, PAGE_BYTES};
use rustix::fs::Advice;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is judged at once.
const WINDOW_BYTES: u64 = 16 << 20;
/// Windows that are remembered: those that stay cached behind the reader, since blocks that differ are read again soon,
/// and the one ahead.
const WINDOWS_KEPT: usize = (DROP_BEHIND_BYTES / WINDOW_BYTES) as usize + 1;

/// State of a buffered reader.
#[derive(Debug, Default)]
pub(crate) struct DropBehind {
    judged: Mutex<VecDeque<Window>>,
}

/// A window whose pages were looked at before it was read.
#[derive(Debug)]
struct Window {
    index: u64,
    ours: Vec<ByteRange>,
}

impl Window {
    fn forget(&self, file: &File) {
        for run in &self.ours {
            // Advice that is not taken costs cache, nothing else.
            let length = NonZeroU64::new(run.length_bytes());
            let _advice = rustix::fs::fadvise(file, run.start(), length, Advice::DontNeed);
        }
    }
}

impl DropBehind {
    pub(super) fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        // No file is longer; what lies beyond is the read's to refuse.
        if offset <= DISK_MAX_BYTES * 2 {
            let last = offset + buffer.len() as u64;
            (offset / WINDOW_BYTES..=last / WINDOW_BYTES + 1).for_each(|index| self.judge(file, index));
        }
        rustix::io::pread(file, buffer, offset)
    }

    /// Drops everything that is still cached because of us.
    pub(super) fn finish(&self, file: &File) {
        self.lock().drain(..).for_each(|window| window.forget(file));
    }

    fn judge(&self, file: &File, index: u64) {
        let mut judged = self.lock();
        if judged.iter().any(|window| window.index == index) {
            return;
        }
        let range = ByteRange::new(index * WINDOW_BYTES, (index + 1) * WINDOW_BYTES);
        let ours = not_cached(file, range);
        judged.push_back(Window { index, ours });
        let surplus = judged.len().saturating_sub(WINDOWS_KEPT);
        let dropped: Vec<Window> = judged.drain(..surplus).collect();
        drop(judged);
        dropped.iter().for_each(|window| window.forget(file));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Window>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of a window is not cached.
fn not_cached(file: &File, window: ByteRange) -> Vec<ByteRange> {
    match sys::cached_pages(file, window) {
        Ok(0) => vec![window],
        Ok(count) if count == WINDOW_BYTES / PAGE_BYTES => Vec::new(),
        // Where the kernel cannot tell, nothing is dropped.
        Ok(_) | Err(_) => sys::resident_pages(file, window)
            .map_or_else(|_| Vec::new(), |resident| absent_runs(window.start(), &resident)),
    }
}

/// Runs of pages that are not resident.
fn absent_runs(start: u64, resident: &[bool]) -> Vec<ByteRange> {
    let mut at = start;
    let mut runs = Vec::new();
    for same in resident.chunk_by(|a, b| a == b) {
        let end = at + same.len() as u64 * PAGE_BYTES;
        if !same[0] {
            runs.push(ByteRange::new(at, end));
        }
        at = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::{PAGE_BYTES, WINDOW_BYTES, absent_runs};
    use crate::{Access, Device, FileDevice, ReadMode, sys};
    use failback_model::{ByteRange, is_zero};
    use rustix::fs::Advice;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const MIB: usize = 1 << 20;
    const LENGTH: usize = 320 * MIB;

    #[test]
    fn runs_of_absent_pages() {
        let page = |count: u64| 8192 + count * PAGE_BYTES;
        let runs = absent_runs(8192, &[false, false, true, false]);
        assert_eq!(runs, [ByteRange::new(page(0), page(2)), ByteRange::new(page(3), page(4))]);
        assert_eq!(absent_runs(0, &[true, true]), []);
    }

    /// A cold file of which `cached` is made warm.
    fn file_with(folder: &std::path::Path, cached: std::ops::Range<usize>) -> File {
        let path = folder.join("disk");
        // Holes are cached as data is, and need no medium.
        File::create(&path).and_then(|file| file.set_len(LENGTH as u64)).expect("a sparse file");
        let file = File::open(&path).expect("opened");
        rustix::fs::fadvise(&file, 0, None, Advice::Random).expect("no read-ahead");
        file.read_exact_at(&mut vec![0; cached.len()], cached.start as u64).expect("cached");
        assert_eq!(cached_pages(&file), cached.len() / 4096, "this file system does not cache as it is told");
        file
    }

    fn cached_pages(file: &File) -> usize {
        residency(file).iter().filter(|cached| **cached).count()
    }

    fn residency(file: &File) -> Vec<bool> {
        sys::resident_pages(file, ByteRange::new(0, LENGTH as u64)).expect("known")
    }

    #[test]
    fn what_others_had_cached_stays_and_the_rest_goes() {
        // Unlike /tmp never in memory.
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        // Across a border of windows.
        let window = WINDOW_BYTES as usize;
        let file = file_with(folder.path(), window - 6 * MIB..window + 5 * MIB);
        let before = residency(&file);
        for mode in [ReadMode::DropBehind, ReadMode::Direct] {
            let device =
                FileDevice::open_with(&folder.path().join("disk"), Access::Read, mode).expect("opened");
            let mut buffer = vec![1; MIB / 4];
            for offset in (0..LENGTH).step_by(buffer.len()) {
                device.read_at(offset as u64, &mut buffer).expect("read");
                assert!(is_zero(&buffer));
            }
            let kept_pages = cached_pages(&file).saturating_sub(11 * MIB / 4096);
            assert!(kept_pages <= 288 * MIB / 4096, "{mode:?} keeps {kept_pages} pages behind it");
            drop(device);
            let after = residency(&file);
            let lost = before.iter().zip(&after).filter(|(before, after)| **before && !**after).count();
            let left = before.iter().zip(&after).filter(|(before, after)| !**before && **after).count();
            // The kernel takes pages now and then, too, a folio of them at a time; ours would be thousands.
            assert!(lost <= 128, "{mode:?} dropped {lost} pages that were not its own");
            assert!(left <= 16, "{mode:?} left {left} pages behind");
        }
    }
}
