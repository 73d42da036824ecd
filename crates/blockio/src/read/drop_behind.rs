//! Buffered reading that takes away again what it brought into the page cache.
//!
//! The disk is taken in windows. Before the first read of a window the kernel is asked how many pages are cached of it and
//! of the next one, where read-ahead will go (`cachestat`); only where it is some of them, or the kernel is too old to
//! count, which ones (`mincore`). Those that were not are dropped once the reader is some windows further. A read with
//! `RWF_NOWAIT` would be no judge: it starts read-ahead itself and finds what that brought in. Read-ahead stays on;
//! without it cold reads measured six times slower.
//!
//! A small read that continues no other would pay for 32 MiB of `mincore` on a file that is partly cached. It is a window of its own,
//! and goes through a second open file whose reads start no read-ahead, so that it brings in nothing else.
//!
//! **Invariant**: a page that was cached before its window was judged is never dropped.

use crate::sys;
use failback_model::ByteRange;
use failback_model::limits::{DISK_MAX_BYTES, DROP_BEHIND_BYTES, PAGE_BYTES, UNIT_MIN_BYTES};
use rustix::fs::{Advice, Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What is judged at once.
const WINDOW_BYTES: u64 = 16 << 20;
/// Windows that are remembered: those that stay cached behind the reader, since blocks that differ are read again soon,
/// and the one ahead.
const WINDOWS_KEPT: usize = (DROP_BEHIND_BYTES / WINDOW_BYTES) as usize + 1;
/// Longest read that is a window of its own: a scan's are longer.
const SCATTERED_MAX_BYTES: u64 = UNIT_MIN_BYTES / 2;
/// Such reads that are remembered.
const SCATTERED_KEPT: usize = (DROP_BEHIND_BYTES / 2 / SCATTERED_MAX_BYTES) as usize;
/// How many of them a read is compared with: more than there are threads that read one disk.
const NEIGHBOURS: usize = 64;

/// State of a buffered reader.
#[derive(Debug, Default)]
pub(crate) struct DropBehind {
    judged: Mutex<Judged>,
    /// The same file, read without read-ahead; none where it cannot be opened again.
    random: OnceLock<Option<OwnedFd>>,
}

#[derive(Debug, Default)]
struct Judged {
    windows: VecDeque<Window>,
    scattered: VecDeque<Window>,
}

/// A range whose pages were looked at before it was read.
#[derive(Debug)]
struct Window {
    range: ByteRange,
    ours: Vec<ByteRange>,
}

/// How a read is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// With the windows it lies in and the next one.
    Windows,
    /// By itself.
    Alone,
    /// It was, a moment ago.
    Again,
}

impl Window {
    fn judge(file: &File, range: ByteRange) -> Self {
        Self { range, ours: not_cached(file, range) }
    }

    fn holds(&self, byte: u64) -> bool {
        self.range.start() <= byte && byte < self.range.end()
    }

    fn forget(&self, file: &File) {
        for run in &self.ours {
            // Advice that is not taken costs cache, nothing else.
            let length = NonZeroU64::new(run.length_bytes());
            let _advice = rustix::fs::fadvise(file, run.start(), length, Advice::DontNeed);
        }
    }
}

impl Judged {
    /// The course of a read of whole pages.
    fn course(&self, read: ByteRange) -> Course {
        if read.length_bytes() > SCATTERED_MAX_BYTES
            || self.windows.iter().any(|window| window.holds(read.start()))
        {
            return Course::Windows;
        }
        let mut course = Course::Alone;
        for Window { range, .. } in self.scattered.iter().rev().take(NEIGHBOURS) {
            if range.start() <= read.start() && read.end() <= range.end() {
                return Course::Again;
            }
            if range.start() <= read.end() && read.start() <= range.end() {
                course = Course::Windows;
            }
        }
        course
    }
}

impl DropBehind {
    pub(super) fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        // No file is longer; what lies beyond is the read's to refuse.
        if offset > DISK_MAX_BYTES * 2 {
            return rustix::io::pread(file, buffer, offset);
        }
        let last = offset + buffer.len() as u64;
        let pages = ByteRange::new(offset - offset % PAGE_BYTES, last.next_multiple_of(PAGE_BYTES));
        let course = self.lock().course(pages);
        if course != Course::Windows
            && let Some(random) = self.random.get_or_init(|| open_random(file))
        {
            if course == Course::Alone {
                self.judge_alone(file, pages);
            }
            return rustix::io::pread(random, buffer, offset);
        }
        (offset / WINDOW_BYTES..=last / WINDOW_BYTES + 1).for_each(|index| self.judge(file, index));
        rustix::io::pread(file, buffer, offset)
    }

    /// Drops everything that is still cached because of us.
    pub(super) fn finish(&self, file: &File) {
        let Judged { windows, scattered } = std::mem::take(&mut *self.lock());
        windows.iter().chain(&scattered).for_each(|window| window.forget(file));
    }

    fn judge(&self, file: &File, index: u64) {
        let mut judged = self.lock();
        let range = ByteRange::new(index * WINDOW_BYTES, (index + 1) * WINDOW_BYTES);
        if judged.windows.iter().any(|window| window.range == range) {
            return;
        }
        judged.windows.push_back(Window::judge(file, range));
        let surplus = judged.windows.len().saturating_sub(WINDOWS_KEPT);
        let dropped: Vec<Window> = judged.windows.drain(..surplus).collect();
        drop(judged);
        dropped.iter().for_each(|window| window.forget(file));
    }

    fn judge_alone(&self, file: &File, pages: ByteRange) {
        let window = Window::judge(file, pages);
        let mut judged = self.lock();
        judged.scattered.push_back(window);
        let dropped =
            if judged.scattered.len() > SCATTERED_KEPT { judged.scattered.pop_front() } else { None };
        drop(judged);
        dropped.iter().for_each(|window| window.forget(file));
    }

    fn lock(&self) -> MutexGuard<'_, Judged> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the same file once more, even if its name is another file's by now, for reads that start no read-ahead.
fn open_random(file: &File) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let random = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    rustix::fs::fadvise(&random, 0, None, Advice::Random).ok()?;
    Some(random)
}

/// What of a window is not cached.
fn not_cached(file: &File, window: ByteRange) -> Vec<ByteRange> {
    match sys::cached_pages(file, window) {
        Ok(0) => vec![window],
        Ok(count) if count == window.length_bytes() / PAGE_BYTES => Vec::new(),
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
    use super::{
        Course, DropBehind, PAGE_BYTES, SCATTERED_KEPT, SCATTERED_MAX_BYTES, WINDOW_BYTES, absent_runs,
    };
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

    #[test]
    fn small_reads_that_continue_no_other_are_judged_alone() {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let file = file_with(folder.path(), 0..MIB);
        let reader = DropBehind::default();
        let read = |offset: usize, length: usize| {
            let range = ByteRange::new(offset as u64, (offset + length) as u64);
            let course = reader.lock().course(range);
            reader.read(&file, range.start(), &mut vec![0; length]).expect("read");
            course
        };
        let small = SCATTERED_MAX_BYTES as usize;
        assert_eq!(read(100 * MIB, small), Course::Alone);
        assert_eq!(read(102 * MIB, small), Course::Alone);
        assert_eq!(read(100 * MIB + 8192, 4096), Course::Again);
        assert_eq!(read(200 * MIB, small + 4096), Course::Windows, "longer than such reads are");
        assert_eq!(read(210 * MIB, 4096), Course::Windows, "in the window that was judged ahead");
        assert_eq!(read(102 * MIB + small, small), Course::Windows, "continues another");
        assert_eq!(read(97 * MIB, 4096), Course::Windows, "in the same window as that");
    }

    #[test]
    fn scattered_reads_leave_the_cache_as_it_was() {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let file = file_with(folder.path(), 33 * MIB..44 * MIB);
        let before = residency(&file);
        let device = FileDevice::open_with(&folder.path().join("disk"), Access::Read, ReadMode::DropBehind)
            .expect("opened");
        // Each one is far from the one before, and some are cached in part.
        let (step, count) = (LENGTH / 2048, 2048);
        let mut buffer = vec![1; step / 2];
        for turn in 0..count {
            let offset = turn * 779 % count * step + step / 4;
            device.read_at(offset as u64, &mut buffer).expect("read");
            assert!(is_zero(&buffer));
        }
        let brought = cached_pages(&file).saturating_sub(11 * MIB / 4096);
        let most = SCATTERED_KEPT * buffer.len().div_ceil(4096) + 16;
        assert!(brought <= most, "{brought} pages came into the cache, and {most} is all that is kept");
        drop(device);
        let after = residency(&file);
        let lost = before.iter().zip(&after).filter(|(before, after)| **before && !**after).count();
        let left = before.iter().zip(&after).filter(|(before, after)| !**before && **after).count();
        assert!(lost <= 128, "{lost} pages dropped that were cached before");
        assert!(left <= 16, "{left} pages left behind");
    }
}
