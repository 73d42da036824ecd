//! A scan: reader threads that read units of a disk and hash what they read, in the disk's order for whoever listens.
//!
//! Threads take steps from one plan, so any number of them keeps the disk busy, also where what is known leaves only
//! scattered blocks to read; a small window of steps ahead of the listener bounds what waits.
//!
//! **Invariant**: a step's buffers are taken in disk order, so the first step that the listener waits for never waits for
//! buffers that later steps hold.

mod plan;

use crate::digest_source::{DigestRun, DigestSource, KeptBytes, ScanEnd};
use crate::partly_trusted::{Known, TrustedDigests};
use crate::read::{byte_count, read_around_holes, units};
use crossbeam_channel::{Receiver, Sender, bounded};
use failback_blockio::{AlignedBuffer, BufferPool, DiskError, Operation, UnitSource};
use failback_model::{BlockRange, Code, Digest, Layout, block_digest};
use plan::{Part, Plan};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Steps that may be read ahead of the listener, for each thread.
const AHEAD_STEPS: u64 = 4;

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

/// One step of the plan.
struct Step {
    ticket: u64,
    part: Part,
    /// Units to read into, in order; empty where nothing is kept.
    buffers: Vec<AlignedBuffer>,
}

/// The plan and how far the listener is.
struct Shared<'a> {
    scan: &'a Scan,
    known: Option<&'a dyn TrustedDigests>,
    plan: Mutex<Plan<'a>>,
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
        self.deliver_beside(None, deliver)
    }
}

impl Scan {
    /// Delivers what is known, and scans the rest.
    pub(crate) fn deliver_beside(
        &self,
        known: Option<&Known>,
        deliver: &mut dyn FnMut(DigestRun) -> ControlFlow<()>,
    ) -> Result<(), ScanEnd> {
        let shared = Shared::new(self, known);
        let (sender, receiver) = bounded(self.threads.max(1) * AHEAD_STEPS as usize);
        let stop = StopOnDrop(&shared);
        std::thread::scope(|scope| {
            for number in 0..self.threads.max(1) {
                let (shared, sender) = (&shared, sender.clone());
                std::thread::Builder::new()
                    .name(format!("scan-{number}"))
                    .spawn_scoped(scope, move || shared.read_steps(&sender))
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
struct StopOnDrop<'a, 'scan>(&'a Shared<'scan>);

impl Drop for StopOnDrop<'_, '_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// One reader thread's: where it panics, its step will never come, so nobody shall wait for it.
struct PanicGuard<'a, 'scan> {
    shared: &'a Shared<'scan>,
    runs: &'a Sender<Result<(u64, DigestRun), DiskError>>,
}

impl Drop for PanicGuard<'_, '_> {
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
    fn new(scan: &'a Scan, known: Option<&'a Known>) -> Self {
        Self {
            scan,
            known: known.map(|known| &*known.digests),
            plan: Mutex::new(Plan::new(scan.layout, scan.blocks, known)),
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
    fn read_steps(&self, runs: &Sender<Result<(u64, DigestRun), DiskError>>) {
        let unit_bytes = (self.scan.unit_blocks() * self.scan.layout.block_size().bytes()) as usize;
        let mut reading =
            Reading { scan: self.scan, known: self.known, scratch: AlignedBuffer::new(unit_bytes) };
        let _guard = PanicGuard { shared: self, runs };
        loop {
            let step = match self.next_step() {
                Ok(Some(step)) => step,
                Ok(None) => return,
                Err(error) => return drop(runs.send(Err(error))),
            };
            let ticket = step.ticket;
            let run = reading.step(step);
            if runs.send(run.map(|run| (ticket, run))).is_err() {
                return;
            }
        }
    }

    /// Takes the next step, with its buffers, once the listener is near enough.
    fn next_step(&self) -> Result<Option<Step>, DiskError> {
        let mut plan = lock(&self.plan);
        let ahead = self.scan.threads.max(1) as u64 * AHEAD_STEPS;
        let mut progress = lock(&self.progress);
        while plan.next_ticket() >= progress.delivered + ahead && !progress.is_stopped {
            progress.is_awaited = true;
            progress = self.advanced.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        if progress.is_stopped {
            return Ok(None);
        }
        drop(progress);
        let Some(part) = plan.advance(&*self.scan.source)? else { return Ok(None) };
        let ticket = plan.take_ticket();
        let layout = self.scan.layout;
        let unit_blocks = self.scan.unit_blocks();
        let units = part.data.iter().flat_map(|&run| units(unit_blocks, run));
        let buffers = match &self.scan.keep {
            Some(pool) => units.map(|unit| pool.acquire(byte_count(layout, unit))).collect(),
            None => Vec::new(),
        };
        Ok(Some(Step { ticket, part, buffers }))
    }
}

/// What one reader thread reads with.
struct Reading<'a> {
    scan: &'a Scan,
    known: Option<&'a dyn TrustedDigests>,
    scratch: AlignedBuffer,
}

impl Reading<'_> {
    /// Reads and hashes one step, unit by unit: those of a disk of this host are hashed while they are in the cache.
    fn step(&mut self, step: Step) -> Result<DigestRun, DiskError> {
        let (blocks, mut known) = (step.part.blocks(), step.part.known);
        if step.part.is_zero {
            return Ok(DigestRun { known, ..DigestRun::zeros(blocks) });
        }
        let (layout, unit_blocks) = (self.scan.layout, self.scan.unit_blocks());
        let within =
            |run: BlockRange| (run.start.0 - blocks.start.0) as usize..(run.end.0 - blocks.start.0) as usize;
        let mut digests = vec![Digest::ZERO; blocks.count() as usize];
        let unread = known.extract_if(.., |run| match self.known.map(|known| known.digests(*run)) {
            Some(Ok(held)) => {
                digests[within(*run)].copy_from_slice(&held);
                false
            }
            _ => true,
        });
        let unread: Vec<_> = unread.collect();
        let started = Instant::now();
        let (mut kept, mut bytes_read) = (Vec::new(), 0);
        let mut buffers = step.buffers.into_iter();
        for unit in step.part.data.iter().flat_map(|&run| units(unit_blocks, run)) {
            let count = byte_count(layout, unit);
            let found = &mut digests[within(unit)];
            match buffers.next() {
                Some(mut buffer) => {
                    bytes_read += self.scan.read_unit(unit, &mut buffer[..count], found)?;
                    if !found.iter().all(Digest::is_zero) {
                        kept.push(KeptBytes { first: unit.start, bytes: buffer.into_bytes() });
                    }
                }
                None => bytes_read += self.scan.read_unit(unit, &mut self.scratch[..count], found)?,
            }
        }
        for unit in unread.iter().flat_map(|&run| units(unit_blocks, run)) {
            let buffer = &mut self.scratch[..byte_count(layout, unit)];
            bytes_read += self.scan.read_unit(unit, buffer, &mut digests[within(unit)])?;
        }
        if !step.part.data.is_empty() || !unread.is_empty() {
            (self.scan.meter)(bytes_read, started.elapsed());
        }
        let digests = digests.iter().any(|digest| !digest.is_zero()).then_some(digests);
        Ok(DigestRun { blocks, digests, known, kept })
    }
}

impl Scan {
    /// Blocks that are read together.
    fn unit_blocks(&self) -> u64 {
        self.layout.unit_blocks(self.source.read_bytes())
    }

    /// Reads one unit and hashes its blocks; how much was read.
    fn read_unit(
        &self,
        unit: BlockRange,
        buffer: &mut [u8],
        digests: &mut [Digest],
    ) -> Result<u64, DiskError> {
        let bytes_read = read_around_holes(&*self.source, self.layout.bytes_of(unit).start(), buffer)?;
        let blocks = buffer.chunks(self.layout.block_size().bytes() as usize);
        digests.iter_mut().zip(blocks).for_each(|(digest, block)| *digest = block_digest(block));
        Ok(bytes_read)
    }
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
