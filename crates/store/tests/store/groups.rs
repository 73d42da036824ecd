//! Threads that write at once share their syncs; what is trusted after a cut is right whoever came first.

use crate::cut_medium::{Contents, CutMedium};
use crate::support::{
    BLOCK_BYTES, DeviceImage, MemoryMedium, claim, contents, digest, disk_id, layout, machine, range,
};
use failback_blockio::{Device, DiskError, Zeroing};
use failback_engine::Sink;
use failback_model::limits::JOURNAL_AHEAD_MIN_BYTES;
use failback_model::{BlockIndex, ByteRange, Epoch, SectorSize};
use failback_store::{Fingerprint, MachineStore};
use failback_testkit::{MemoryDevice, Random};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A file whose syncs are counted, and wait once for a number of writes.
#[derive(Debug)]
struct SlowFile {
    inner: MemoryDevice,
    writes: Mutex<usize>,
    written: Condvar,
    /// A sync returns when so many writes were made; 0 for at once.
    wait_for: AtomicUsize,
    syncs: AtomicUsize,
}

impl Device for SlowFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn length_bytes(&self) -> u64 {
        Device::length_bytes(&self.inner)
    }

    fn sector_size(&self) -> SectorSize {
        self.inner.sector_size()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        Device::read_at(&self.inner, offset_bytes, buffer)
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        *self.writes.lock().expect("no panic") += 1;
        self.written.notify_all();
        self.inner.write_at(offset_bytes, bytes)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        self.inner.zero(range, zeroing)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        Device::next_data(&self.inner, from_bytes)
    }

    fn set_length(&self, length_bytes: u64) -> Result<(), DiskError> {
        self.inner.set_length(length_bytes)
    }

    fn start_writeback(&self, _range: ByteRange) {}

    fn sync(&self) -> Result<(), DiskError> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let wanted = self.wait_for.load(Ordering::Relaxed);
        let writes = self.writes.lock().expect("no panic");
        let patience = Duration::from_secs(60);
        let waited = self.written.wait_timeout_while(writes, patience, |writes| *writes < wanted);
        assert!(!waited.expect("no panic").1.timed_out(), "somebody waits for a sync who should not");
        Ok(())
    }
}

impl SlowFile {
    fn syncs(&self) -> usize {
        self.syncs.load(Ordering::Relaxed)
    }

    /// From now on syncs wait until so many writes more were made.
    fn wait_for(&self, writes: usize) {
        let made = *self.writes.lock().expect("no panic");
        self.wait_for.store(made + writes, Ordering::Relaxed);
    }

    /// No sync waits any more.
    fn release(&self) {
        *self.writes.lock().expect("no panic") = 1 << 40;
        self.written.notify_all();
    }
}

/// A session on a new disk of a machine whose segment is slow.
fn slow_session(blocks: u64, ahead_bytes: u64) -> (Arc<SlowFile>, Arc<dyn Sink>) {
    let file = Arc::new(Mutex::new(None));
    let keep = file.clone();
    let medium = MemoryMedium::made_of(move |name| {
        if !name.contains(".fbj") {
            return Arc::new(MemoryDevice::new(0).named(name));
        }
        let slow = Arc::new(SlowFile {
            inner: MemoryDevice::new(0).named(name),
            writes: Mutex::default(),
            written: Condvar::new(),
            wait_for: AtomicUsize::new(0),
            syncs: AtomicUsize::new(0),
        });
        *keep.lock().expect("no panic") = Some(slow.clone());
        slow
    });
    let medium = MemoryMedium { ahead_bytes, ..medium };
    let store = MachineStore::open_on(Box::new(medium), None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let fingerprint = Fingerprint::of_text("new");
    let number = disk.open_session(Epoch(1), layout(blocks), true, &fingerprint).expect("a session");
    let sink = disk.sink(DeviceImage::in_memory(layout(blocks)), number, claim());
    let slow = file.lock().expect("no panic").clone().expect("a segment");
    (slow, sink)
}

#[test]
fn those_who_wait_share_one_sync() {
    const THREADS: usize = 8;
    let (slow, sink) = slow_session(1000, 0);
    // The first sync ends when all have written their intent: those that came too late for it need one more.
    slow.wait_for(THREADS);
    let before = slow.syncs();
    std::thread::scope(|scope| {
        for thread in 0..THREADS as u64 {
            let sink = &sink;
            scope.spawn(move || sink.begin(&[range(thread * 100, thread * 100 + 50)], &[]).expect("begun"));
        }
    });
    let syncs = slow.syncs() - before;
    assert!((1..=2).contains(&syncs), "{syncs} syncs for {THREADS} threads");
    for thread in 0..THREADS as u64 {
        sink.begin(&[range(thread * 100, thread * 100 + 50)], &[]).expect("begun");
    }
    assert_eq!(slow.syncs() - before, syncs, "what is begun already costs nothing");
}

#[test]
fn a_sync_covers_only_what_was_written_before_it_began() {
    let (slow, sink) = slow_session(1000, 0);
    let before = slow.syncs();
    slow.wait_for(2);
    std::thread::scope(|scope| {
        scope.spawn(|| sink.begin(&[range(0, 1)], &[]).expect("begun"));
        while slow.syncs() == before {
            std::thread::yield_now();
        }
        // Its write ends the sync under way, which does not cover it.
        sink.begin(&[range(10, 11)], &[]).expect("begun");
    });
    assert_eq!(slow.syncs() - before, 2);
}

#[test]
fn who_goes_through_the_disk_waits_for_no_sync_but_the_first() {
    // As many blocks as are announced at once where nobody has to wait.
    let window = JOURNAL_AHEAD_MIN_BYTES / BLOCK_BYTES;
    let (slow, sink) = slow_session(10 * window, JOURNAL_AHEAD_MIN_BYTES);
    sink.begin(&[range(0, 1)], &[]).expect("begun");
    // The next window is announced now; that it becomes durable takes until the test says so.
    slow.wait_for(1000);
    let before = slow.syncs();
    for block in 1..window {
        sink.begin(&[range(block, block + 1)], &[]).expect("begun without a sync");
    }
    slow.release();
    sink.begin(&[range(window, window + 1)], &[]).expect("begun");
    for block in window + 1..10 * window {
        sink.begin(&[range(block, block + 1)], &[]).expect("begun");
    }
    sink.commit().expect("committed");
    let syncs = slow.syncs() - before;
    assert!((1..=12).contains(&syncs), "{syncs} syncs for 10 windows and a commit");
}

#[test]
fn what_threads_leave_at_a_cut_is_trusted_rightly() {
    const THREADS: u64 = 3;
    const BLOCKS: u64 = 90;
    for seed in 0..6 {
        let ahead_bytes = (seed % 2) * 8 * BLOCK_BYTES;
        let medium = CutMedium::over(&Contents::new(BLOCKS * BLOCK_BYTES), 16 << 10, ahead_bytes);
        let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("opened");
        let disk = store.disk(&disk_id()).expect("a disk");
        let fingerprint = Fingerprint::of_text("new");
        let number = disk.open_session(Epoch(1), layout(BLOCKS), true, &fingerprint).expect("a session");
        let sink = disk.sink(DeviceImage::new(medium.image()), number, claim());
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let sink = &sink;
                    // Each writes to blocks of its own, again and again.
                    scope.spawn(move || {
                        let mut random = Random::new(seed * 10 + thread);
                        for version in 1..=60_u8 {
                            let block = thread + THREADS * random.below(BLOCKS / THREADS);
                            sink.begin(&[range(block, block + 1)], &[]).expect("begun");
                            sink.write(block * BLOCK_BYTES, &contents(version)).expect("written");
                            sink.applied(&[(BlockIndex(block), digest(version))], &[]).expect("applied");
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    sink.commit().expect("committed");
                }
            });
            writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
            is_over.store(true, Ordering::Relaxed);
        });
        let end = medium.events();
        let mut random = Random::new(seed);
        for _ in 0..300 {
            let events = random.below(end as u64 + 1) as usize;
            let left = medium.cut(events, &mut random);
            let after = CutMedium::over(&left, 16 << 10, 0);
            let store = MachineStore::open_on(Box::new(after.clone()), None, &machine())
                .unwrap_or_else(|error| panic!("seed {seed}, cut after {events} of {end}: {error}"));
            let trusted = store.disk(&disk_id()).expect("a disk").trusted().expect("known");
            let image = DeviceImage::new(after.image());
            for run in trusted.ranges {
                for (block, held) in run.iter().zip(trusted.digests.digests(run).expect("read")) {
                    assert_eq!(held, image.digest_of(block.0), "seed {seed}, {events} of {end}: {block:?}");
                }
            }
        }
    }
}
