//! A scan: reader threads that read units of a disk and hash what they read, in the disk's order for whoever listens.
//!
//! Threads take segments from one plan, so any number of them keeps the disk busy; a small window of segments ahead of
//! the listener bounds what waits.
//!
//! **Invariant**: a segment's buffers are taken in disk order, so the first segment that the listener waits for never
//! waits for buffers that later segments hold.

mod plan;

use crate::digest_source::{DigestRun, DigestSource, KeptBytes, ScanEnd};
use crate::read::{byte_count, read_around_holes, units};
use crossbeam_channel::{Receiver, Sender, bounded};
use failback_blockio::{AlignedBuffer, BufferPool, DiskError, Operation, UnitSource};
use failback_model::{BlockRange, Code, Digest, Layout, block_digest};
use plan::Plan;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Segments that may be read ahead of the listener, for each thread.
const AHEAD_SEGMENTS: u64 = 4;

/// Told of every read: bytes and the thread time that reading and hashing them took.
pub type Meter = Arc<dyn Fn(u64, Duration) + Send + Sync>;

/// A scan of a whole disk, or of a part of it.
#[derive(Clone)]
pub struct Scan {
    /// The disk.
    pub source: Arc<dyn UnitSource>,
    /// How it is cut.
    pub layout: Layout,
    /// Which blocks.
    pub blocks: BlockRange,
    /// Reader threads.
    pub threads: usize,
    /// Keep the bytes of blocks that are not zero, in buffers from here.
    pub keep: Option<BufferPool>,
    /// Told of every read.
    pub meter: Meter,
}

/// One step of the plan: one segment, or a hole of any length.
struct Step {
    ticket: u64,
    blocks: BlockRange,
    /// Blocks that hold data, in order; the others are holes.
    data: Vec<BlockRange>,
    /// Units to read into, in order; empty where nothing is kept.
    buffers: Vec<AlignedBuffer>,
}

/// The plan and how far the listener is.
struct Shared<'a> {
    scan: &'a Scan,
    plan: Mutex<Plan>,
    progress: Mutex<Progress>,
    advanced: Condvar,
}

struct Progress {
    delivered: u64,
    is_awaited: bool,
    is_stopped: bool,
}

impl DigestSource for Scan {
    fn deliver(&mut self, deliver: &mut dyn FnMut(DigestRun) -> ControlFlow<()>) -> Result<(), ScanEnd> {
        let shared = Shared::new(self);
        let (sender, receiver) = bounded(self.threads.max(1) * AHEAD_SEGMENTS as usize);
        let stop = StopOnDrop(&shared);
        std::thread::scope(|scope| {
            for number in 0..self.threads.max(1) {
                let (shared, sender) = (&shared, sender.clone());
                std::thread::Builder::new()
                    .name(format!("scan-{number}"))
                    .spawn_scoped(scope, move || shared.read_segments(&sender))
                    .expect("a thread can be started");
            }
            drop(sender);
            let outcome = shared.deliver_in_order(&receiver, deliver);
            match outcome {
                // All threads have ended by themselves; the pool is its owner's.
                Ok(()) => std::mem::forget(stop),
                Err(_) => drop(stop),
            }
            drop(receiver);
            outcome
        })
    }
}

/// Lets all threads of a scan end, whether it ends by an error or by a panic.
struct StopOnDrop<'a>(&'a Shared<'a>);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// One reader thread's: where it panics, its segment will never come, so nobody shall wait for it.
struct PanicGuard<'a> {
    shared: &'a Shared<'a>,
    runs: &'a Sender<Result<(u64, DigestRun), DiskError>>,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.stop();
            let name = self.shared.scan.source.name();
            let error = DiskError::new(Code::Internal, Operation::Read, name, "a reading thread panicked");
            // Whoever listens may have stopped for another reason.
            let _ = self.runs.send(Err(error));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Shared<'a> {
    fn new(scan: &'a Scan) -> Self {
        Self {
            scan,
            plan: Mutex::new(Plan::new(scan.layout, scan.blocks)),
            progress: Mutex::new(Progress { delivered: 0, is_awaited: false, is_stopped: false }),
            advanced: Condvar::new(),
        }
    }

    fn stop(&self) {
        lock(&self.progress).is_stopped = true;
        self.advanced.notify_all();
        if let Some(pool) = &self.scan.keep {
            pool.close();
        }
    }

    /// Hands runs over in the order of their tickets.
    fn deliver_in_order(
        &self,
        runs: &Receiver<Result<(u64, DigestRun), DiskError>>,
        deliver: &mut dyn FnMut(DigestRun) -> ControlFlow<()>,
    ) -> Result<(), ScanEnd> {
        let mut early = BTreeMap::new();
        let mut next = 0;
        for run in runs {
            let (ticket, run) = run?;
            early.insert(ticket, run);
            while let Some(run) = early.remove(&next) {
                if deliver(run).is_break() {
                    return Err(ScanEnd::Stopped);
                }
                next += 1;
            }
            let mut progress = lock(&self.progress);
            progress.delivered = next;
            if std::mem::take(&mut progress.is_awaited) {
                self.advanced.notify_all();
            }
        }
        Ok(())
    }

    /// One reader thread.
    fn read_segments(&self, runs: &Sender<Result<(u64, DigestRun), DiskError>>) {
        let unit_bytes = (self.scan.layout.unit_blocks() * self.scan.layout.block_size().bytes()) as usize;
        let mut scratch = AlignedBuffer::new(unit_bytes);
        let _guard = PanicGuard { shared: self, runs };
        loop {
            let step = match self.next_step() {
                Ok(Some(step)) => step,
                Ok(None) => return,
                Err(error) => return drop(runs.send(Err(error))),
            };
            let ticket = step.ticket;
            let run = read_segment(self.scan, step, &mut scratch);
            if runs.send(run.map(|run| (ticket, run))).is_err() {
                return;
            }
        }
    }

    /// Takes the next step, with its buffers, once the listener is near enough.
    fn next_step(&self) -> Result<Option<Step>, DiskError> {
        let mut plan = lock(&self.plan);
        let ahead = self.scan.threads.max(1) as u64 * AHEAD_SEGMENTS;
        let mut progress = lock(&self.progress);
        while plan.next_ticket() >= progress.delivered + ahead && !progress.is_stopped {
            progress.is_awaited = true;
            progress = self.advanced.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        if progress.is_stopped {
            return Ok(None);
        }
        drop(progress);
        let Some((blocks, data)) = plan.advance(&*self.scan.source)? else { return Ok(None) };
        let ticket = plan.take_ticket();
        let layout = self.scan.layout;
        let units = data.iter().flat_map(|&part| units(layout, part));
        let buffers = match &self.scan.keep {
            Some(pool) => units.map(|unit| pool.acquire(byte_count(layout, unit))).collect(),
            None => Vec::new(),
        };
        Ok(Some(Step { ticket, blocks, data, buffers }))
    }
}

/// Reads and hashes one step, unit by unit, so that a unit is hashed while it is in the cache.
fn read_segment(scan: &Scan, step: Step, scratch: &mut AlignedBuffer) -> Result<DigestRun, DiskError> {
    let (layout, blocks) = (scan.layout, step.blocks);
    if step.data.is_empty() {
        return Ok(DigestRun::zeros(blocks));
    }
    let started = Instant::now();
    let mut digests = Vec::with_capacity(blocks.count() as usize);
    let mut kept = Vec::new();
    let mut buffers = step.buffers.into_iter();
    let mut bytes_read = 0;
    for unit in step.data.iter().flat_map(|&part| units(layout, part)) {
        digests.resize((unit.start.0 - blocks.start.0) as usize, Digest::ZERO);
        let count = byte_count(layout, unit);
        match buffers.next() {
            Some(mut buffer) => {
                if read_unit(scan, unit, &mut buffer[..count], &mut digests, &mut bytes_read)? {
                    kept.push(KeptBytes { first: unit.start, bytes: buffer.into_bytes() });
                }
            }
            None => {
                read_unit(scan, unit, &mut scratch[..count], &mut digests, &mut bytes_read)?;
            }
        }
    }
    (scan.meter)(bytes_read, started.elapsed());
    if digests.iter().all(Digest::is_zero) {
        return Ok(DigestRun::zeros(blocks));
    }
    digests.resize(blocks.count() as usize, Digest::ZERO);
    Ok(DigestRun { blocks, digests: Some(digests), kept })
}

/// Reads one unit and appends its blocks' digests; whether any block is not zero.
fn read_unit(
    scan: &Scan,
    unit: BlockRange,
    buffer: &mut [u8],
    digests: &mut Vec<Digest>,
    bytes_read: &mut u64,
) -> Result<bool, DiskError> {
    *bytes_read += read_around_holes(&*scan.source, scan.layout.bytes_of(unit).start(), buffer)?;
    let before = digests.len();
    digests.extend(buffer.chunks(scan.layout.block_size().bytes() as usize).map(block_digest));
    Ok(digests[before..].iter().any(|digest| !digest.is_zero()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_blockio::Device;
    use failback_model::BlockSize;
    use failback_testkit::MemoryDevice;

    /// A disk with data in the blocks named.
    fn scan(length_bytes: u64, data: &[u64], threads: usize) -> Scan {
        let disk = MemoryDevice::new(length_bytes);
        for block in data {
            disk.write_at(block * 65_536 + 9, b"data").expect("memory takes it");
        }
        let layout = Layout::new(length_bytes, BlockSize::DEFAULT).expect("a layout");
        let (source, meter): (Arc<dyn UnitSource>, Meter) = (Arc::new(disk), Arc::new(|_, _| {}));
        Scan { source, layout, blocks: layout.blocks(), threads, keep: None, meter }
    }

    fn runs(scan: &mut Scan) -> Vec<(u64, u64, usize)> {
        let mut runs = Vec::new();
        let delivered = scan.deliver(&mut |run| {
            let digests = run.digests.unwrap_or_default();
            runs.push((
                run.blocks.start.0,
                run.blocks.end.0,
                digests.iter().filter(|d| !d.is_zero()).count(),
            ));
            ControlFlow::Continue(())
        });
        delivered.expect("memory reads");
        runs
    }

    #[test]
    fn holes_of_any_length_are_one_run_and_segments_keep_their_place() {
        for threads in [1, 3] {
            let mut scan = scan(1000 * 65_536 - 100, &[0, 3, 64, 700, 999], threads);
            let expected =
                [(0, 64, 2), (64, 128, 1), (128, 640, 0), (640, 704, 1), (704, 960, 0), (960, 1000, 1)];
            assert_eq!(runs(&mut scan), expected);
        }
        assert_eq!(runs(&mut scan(0, &[], 2)), []);
        assert_eq!(runs(&mut scan(64 << 40, &[], 2)), [(0, 1 << 30, 0)]);
    }

    #[test]
    fn what_is_kept_is_what_lies_there() {
        let mut scan = Scan { keep: Some(BufferPool::new(8 << 20)), ..scan(300 * 65_536, &[2, 66, 250], 2) };
        let mut kept = Vec::new();
        let delivered = scan.deliver(&mut |run| {
            kept.extend(run.kept);
            ControlFlow::Continue(())
        });
        delivered.expect("memory reads");
        let blocks: Vec<_> = kept.iter().map(|kept| kept.first.0).collect();
        assert_eq!(blocks, [2, 66, 250]);
        assert!(kept.iter().all(|kept| kept.bytes[9..13] == *b"data"));
    }

    #[test]
    fn a_listener_that_stops_ends_the_scan() {
        let mut scan = scan(64 * 1024 * 65_536, &(0..1000).map(|n| n * 64).collect::<Vec<_>>(), 2);
        let mut count = 0;
        let outcome = scan.deliver(&mut |_| {
            count += 1;
            if count == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(outcome, Err(ScanEnd::Stopped)) && count == 5);
    }
}
