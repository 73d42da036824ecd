//! Random ranges of random disks are trusted: the digests are those of a whole scan, and only the rest is read.

use failback_blockio::{BufferPool, Device, DiskError, Operation, UnitSource};
use failback_engine::{
    DigestRun, DigestSource, KeptBytes, Known, PartlyTrusted, Scan, ScanEnd, TrustedDigests,
};
use failback_model::limits::{SEGMENT_MAX_BYTES, UNIT_MIN_BYTES};
use failback_model::{BlockIndex, BlockRange, BlockSize, ByteRange, Code, Digest, DiskGeometry, Layout};
use failback_testkit::{Call, Damage, Fault, Faulty, MemoryDevice, Random, When};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A disk that notes which bytes were read.
struct Noting {
    disk: Faulty<MemoryDevice>,
    read_bytes: u64,
    reads: Mutex<Vec<ByteRange>>,
}

impl UnitSource for Noting {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.disk.length_bytes(), sector_size: self.disk.sector_size() }
    }

    fn name(&self) -> &Path {
        self.disk.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let range = ByteRange::new(offset_bytes, offset_bytes + buffer.len() as u64);
        self.reads.lock().expect("no test panics with it").push(range);
        Device::read_at(&self.disk, offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        Device::next_data(&self.disk, from_bytes)
    }

    fn read_bytes(&self) -> u64 {
        self.read_bytes
    }
}

/// Digests of a whole disk; those of one block may be lost.
struct Remembered(Vec<Digest>, Option<u64>);

impl TrustedDigests for Remembered {
    fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError> {
        match self.1 {
            Some(lost) if (blocks.start.0..blocks.end.0).contains(&lost) => {
                Err(DiskError::new(Code::ReadFailed, Operation::Read, Path::new("digests"), "lost"))
            }
            _ => Ok(self.0[blocks.start.0 as usize..blocks.end.0 as usize].to_vec()),
        }
    }

    fn next_data(&self, from: BlockIndex) -> Result<Option<BlockIndex>, DiskError> {
        let is_data = |block: &usize| !self.0[*block].is_zero() || self.1 == Some(*block as u64);
        Ok((from.0 as usize..self.0.len()).find(is_data).map(|block| BlockIndex(block as u64)))
    }
}

/// A disk, how it is scanned, and how much that read.
struct Case {
    source: Arc<Noting>,
    scan: Scan,
    metered_bytes: Arc<AtomicU64>,
}

impl Case {
    /// Runs of data, of zeros and of holes, of any length.
    fn new(random: &mut Random, faults: impl IntoIterator<Item = Fault>) -> Self {
        let length = 1 + random.below(40 << 20);
        let disk = MemoryDevice::new(length);
        let mut at = 0;
        while at < length {
            let end = length.min(at + 1 + random.below(1 << 20));
            if random.below(2) == 0 {
                let mut bytes = vec![0; (end - at) as usize];
                random.fill(&mut bytes);
                disk.write_at(at, &bytes).expect("memory takes it");
            }
            at = end;
        }
        let read_bytes = [UNIT_MIN_BYTES, SEGMENT_MAX_BYTES, u64::MAX][random.below(3) as usize];
        let source =
            Arc::new(Noting { disk: Faulty::new(disk, faults), read_bytes, reads: Mutex::default() });
        let block_size = BlockSize::new(16 << 10).expect("a block size");
        let layout = Layout::new(length, block_size).expect("a small disk");
        let metered_bytes = Arc::new(AtomicU64::new(0));
        let meter = Arc::clone(&metered_bytes);
        let scan = Scan {
            source: Arc::clone(&source) as _,
            layout,
            blocks: layout.blocks(),
            threads: 1 + random.below(3) as usize,
            // Room for all: this listener lets nothing go.
            keep: (random.below(2) == 0).then(|| BufferPool::new(64 << 20)),
            meter: Arc::new(move |bytes, _| _ = meter.fetch_add(bytes, Ordering::Relaxed)),
        };
        Self { source, scan, metered_bytes }
    }

    /// Ranges of every length, some of them empty or touching.
    fn ranges(&self, random: &mut Random) -> Vec<BlockRange> {
        let count = self.scan.layout.block_count();
        let (mut ranges, mut at) = (Vec::new(), 0);
        while at < count && ranges.len() < 20 {
            let most = [1, 20, 400][random.below(3) as usize];
            let start = (at + random.below(1 + most)).min(count);
            let most = [2, 200, 3000][random.below(3) as usize];
            at = (start + random.below(most)).min(count);
            ranges.push(BlockRange::new(start, at));
        }
        ranges
    }

    fn partly_trusted(&self, digests: &[Digest], ranges: Vec<BlockRange>) -> PartlyTrusted {
        self.source.reads.lock().expect("no test panics with it").clear();
        self.metered_bytes.store(0, Ordering::Relaxed);
        let known = Known { digests: Box::new(Remembered(digests.to_vec(), None)), ranges };
        PartlyTrusted { known, scan: self.scan.clone() }
    }

    /// The bytes of the disk.
    fn bytes(&self) -> Vec<u8> {
        self.source.disk.inner().to_bytes()
    }
}

/// All digests that a source delivers, and what it kept. Runs touch and stay within what one message holds.
///
/// What a run says was read is what was not known.
fn collect(source: &mut dyn DigestSource, layout: Layout) -> (Vec<Digest>, Vec<KeptBytes>) {
    let (mut digests, mut kept) = (Vec::new(), Vec::new());
    let outcome = source.deliver(&mut |run: DigestRun| {
        assert_eq!(run.blocks.start.0, digests.len() as u64, "runs come in order and touch");
        let read: u64 = run.read().map(|(blocks, _)| blocks.count()).sum();
        let known: u64 = run.known.iter().map(|blocks| blocks.count()).sum();
        assert_eq!(read + known, run.blocks.count());
        let of_run = run.digests.unwrap_or_else(|| vec![Digest::ZERO; run.blocks.count() as usize]);
        assert_eq!(of_run.len() as u64, run.blocks.count());
        digests.extend(of_run);
        kept.extend(run.kept);
        ControlFlow::Continue(())
    });
    outcome.expect("nothing fails");
    assert_eq!(digests.len() as u64, layout.block_count());
    (digests, kept)
}

#[test]
fn what_is_trusted_is_not_read_and_gives_what_a_scan_gives() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let case = Case::new(&mut random, []);
        let layout = case.scan.layout;
        let (expected, _) = collect(&mut Scan { keep: None, ..case.scan.clone() }, layout);
        let ranges = case.ranges(&mut random);
        let is_trusted = |block: u64| ranges.iter().any(|r| (r.start.0..r.end.0).contains(&block));
        let (digests, kept) = collect(&mut case.partly_trusted(&expected, ranges.clone()), layout);
        assert!(digests == expected, "seed {seed}");
        let reads = case.source.reads.lock().expect("no test panics with it");
        let mut read_bytes = 0;
        for read in reads.iter() {
            read_bytes += read.length_bytes();
            let blocks = layout.blocks_covering(*read);
            assert!(!blocks.iter().any(|block| is_trusted(block.0)), "seed {seed}: {read:?} is trusted");
        }
        assert_eq!(
            case.metered_bytes.load(Ordering::Relaxed),
            read_bytes,
            "seed {seed}: what is read counts"
        );
        let bytes = case.bytes();
        for part in &kept {
            let start = layout.block_bytes(part.first).start() as usize;
            assert!(bytes[start..start + part.bytes.len()] == part.bytes, "seed {seed}");
        }
        if case.scan.keep.is_some() {
            let kept_blocks: u64 = kept.iter().map(|part| part.bytes.len().div_ceil(16 << 10) as u64).sum();
            let shipping =
                (0..).zip(&expected).filter(|(block, d)| !d.is_zero() && !is_trusted(*block)).count();
            assert!(kept_blocks >= shipping as u64, "seed {seed}: {kept_blocks} of {shipping} are kept");
        }
    }
}

#[test]
fn what_is_named_is_read_in_reads_as_large_as_pay_and_no_byte_more() {
    const BLOCK: u64 = BlockSize::DEFAULT.bytes();
    let layout = Layout::new(24 << 20, BlockSize::DEFAULT).expect("a small disk");
    let bytes = |start: u64, end: u64| ByteRange::new(start * BLOCK, end * BLOCK);
    let half = ByteRange::new(320 * BLOCK + BLOCK / 2, 321 * BLOCK);
    let known = [(0, 3), (70, 100), (101, 102), (103, 104), (106, 320), (321, 384)];
    for (read_bytes, of_all, of_some) in
        [(UNIT_MIN_BYTES, 65, 22), (SEGMENT_MAX_BYTES, 5, 6), (u64::MAX, 5, 6)]
    {
        let disk = MemoryDevice::new(layout.length_bytes());
        for data in [bytes(0, 256), half] {
            disk.write_at(data.start(), &vec![7; data.length_bytes() as usize]).expect("memory takes it");
        }
        let source = Arc::new(Noting { disk: Faulty::new(disk, []), read_bytes, reads: Mutex::default() });
        let scan = Scan {
            source: Arc::clone(&source) as _,
            layout,
            blocks: layout.blocks(),
            threads: 2,
            // What a pass has at least: a segment.
            keep: Some(BufferPool::new(SEGMENT_MAX_BYTES as usize)),
            meter: Arc::new(|_, _| {}),
        };
        // Lets go what was kept, as a pass does; how often was read, and what.
        let delivered = |of: &mut dyn DigestSource| {
            let mut digests = Vec::new();
            let outcome = of.deliver(&mut |run| {
                digests.extend(run.digests.unwrap_or(vec![Digest::ZERO; run.blocks.count() as usize]));
                ControlFlow::Continue(())
            });
            outcome.expect("nothing fails");
            let mut reads = std::mem::take(&mut *source.reads.lock().expect("no test panics with it"));
            let count = reads.len();
            reads.sort_unstable_by_key(|read| read.start());
            reads.dedup_by(|next, before| {
                let touches = next.start() == before.end();
                if touches {
                    *before = ByteRange::new(before.start(), next.end());
                }
                touches
            });
            (digests, count, reads)
        };
        let (expected, count, read) = delivered(&mut scan.clone());
        assert_eq!((count, read), (of_all, vec![bytes(0, 256), half]), "{read_bytes}");
        let ranges = known.map(|(start, end)| BlockRange::new(start, end)).to_vec();
        let known = Known { digests: Box::new(Remembered(expected.clone(), None)), ranges };
        let (digests, count, read) = delivered(&mut PartlyTrusted { known, scan });
        assert!(digests == expected);
        let named = [bytes(3, 70), bytes(100, 101), bytes(102, 103), bytes(104, 106), half];
        assert_eq!((count, read), (of_some, named.to_vec()), "{read_bytes}");
    }
}

#[test]
fn digests_that_cannot_be_read_cost_a_scan_of_their_chunk() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let case = Case::new(&mut random, []);
        let layout = case.scan.layout;
        let (mut digests, _) = collect(&mut Scan { keep: None, ..case.scan.clone() }, layout);
        let expected = digests.clone();
        let lost = random.below(layout.block_count());
        // Whoever takes them after all has a wrong one.
        digests[lost as usize] = Digest([0xff; 32]);
        let known =
            Known { digests: Box::new(Remembered(digests, Some(lost))), ranges: vec![layout.blocks()] };
        let (found, _) = collect(&mut PartlyTrusted { known, scan: case.scan.clone() }, layout);
        assert!(found == expected, "seed {seed}");
    }
}

#[test]
fn a_read_error_ends_it_and_is_named() {
    let mut met = 0;
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let fault = Fault { call: Call::Read, when: When::From(1 + random.below(4)), damage: Damage::Io };
        let case = Case::new(&mut random, [fault]);
        let zeros = vec![Digest::ZERO; case.scan.layout.block_count() as usize];
        let ranges = case.ranges(&mut random);
        let mut next = 0;
        let outcome = case.partly_trusted(&zeros, ranges).deliver(&mut |run| {
            assert_eq!(run.blocks.start.0, next, "what came before the error is in order");
            next = run.blocks.end.0;
            ControlFlow::Continue(())
        });
        match outcome {
            Err(ScanEnd::Disk(error)) => {
                met += 1;
                assert_eq!(error.code, Code::ReadFailed, "seed {seed}");
            }
            other => assert!(other.is_ok() && next == case.scan.layout.block_count(), "seed {seed}"),
        }
    }
    assert!(met > 20, "{met} scans met the fault");
}

#[test]
fn whoever_wants_no_more_gets_no_more() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let case = Case::new(&mut random, []);
        let zeros = vec![Digest::ZERO; case.scan.layout.block_count() as usize];
        let ranges = case.ranges(&mut random);
        let most = 1 + random.below(6);
        let mut runs = 0;
        let outcome = case.partly_trusted(&zeros, ranges).deliver(&mut |_| {
            runs += 1;
            if runs == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(matches!(outcome, Err(ScanEnd::Stopped)), runs == most, "seed {seed}");
    }
}

/// A disk whose reads end only once so many of them are under way, or somebody has waited for long.
struct Meeting {
    disk: MemoryDevice,
    wanted: usize,
    /// Reads under way, the most there ever were, bytes read.
    state: Mutex<(usize, usize, u64)>,
    changed: Condvar,
}

impl UnitSource for Meeting {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.disk.length_bytes(), sector_size: self.disk.sector_size() }
    }

    fn name(&self) -> &Path {
        self.disk.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let mut state = self.state.lock().expect("no test panics with it");
        (state.0, state.1, state.2) = (state.0 + 1, state.1.max(state.0 + 1), state.2 + buffer.len() as u64);
        self.changed.notify_all();
        let met = |state: &mut (usize, usize, u64)| state.1 < self.wanted;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, Duration::from_secs(10), met)
            .expect("no test panics with it");
        state.0 -= 1;
        drop(state);
        Device::read_at(&self.disk, offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        Device::next_data(&self.disk, from_bytes)
    }
}

#[test]
fn scattered_blocks_are_read_by_all_threads_at_once_and_nothing_else_is() {
    const BLOCK: u64 = 16 << 10;
    // Far apart, and all in one chunk.
    for stride in [1000, 20] {
        let (threads, count) = (6, 40);
        let length = count * stride * BLOCK;
        let disk = MemoryDevice::new(length);
        let changed: Vec<u64> = (0..count).map(|n| n * stride + 7).collect();
        changed
            .iter()
            .for_each(|block| disk.write_at(block * BLOCK, &[7; 16 << 10]).expect("memory takes it"));
        // Known to be of data, though it holds none: whoever reads it finds out.
        let layout = Layout::new(length, BlockSize::new(BLOCK).expect("a block size")).expect("a small disk");
        let mut digests = vec![Digest([9; 32]); layout.block_count() as usize];
        let found = failback_model::block_digest(&[7; 16 << 10]);
        let mut ranges = vec![BlockRange::new(0, changed[0])];
        for (at, block) in changed.iter().enumerate() {
            let next = changed.get(at + 1).copied().unwrap_or(layout.block_count());
            ranges.push(BlockRange::new(block + 1, next));
        }
        let source =
            Arc::new(Meeting { disk, wanted: threads, state: Mutex::default(), changed: Condvar::new() });
        let scan = Scan {
            source: Arc::clone(&source) as _,
            layout,
            blocks: layout.blocks(),
            threads,
            keep: None,
            meter: Arc::new(|_, _| {}),
        };
        let known = Known { digests: Box::new(Remembered(digests.clone(), None)), ranges };
        let (delivered, _) = collect(&mut PartlyTrusted { known, scan }, layout);
        changed.iter().for_each(|block| digests[*block as usize] = found);
        assert!(delivered == digests);
        let (_, most, bytes_read) = *source.state.lock().expect("no test panics with it");
        assert_eq!((most, bytes_read), (threads, count * BLOCK), "stride {stride}");
    }
}

#[test]
fn zeros_that_are_known_are_one_run_however_many_they_are() {
    let layout = Layout::new(1 << 40, BlockSize::DEFAULT).expect("a disk of 1 TiB");
    struct Zeros;
    impl TrustedDigests for Zeros {
        fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError> {
            panic!("{blocks:?} are known to be zero")
        }
        fn next_data(&self, _: BlockIndex) -> Result<Option<BlockIndex>, DiskError> {
            Ok(None)
        }
    }
    let scan = Scan {
        source: Arc::new(Meeting {
            disk: MemoryDevice::new(1 << 40),
            wanted: 0,
            state: Mutex::default(),
            changed: Condvar::new(),
        }),
        layout,
        blocks: layout.blocks(),
        threads: 2,
        keep: None,
        meter: Arc::new(|_, _| {}),
    };
    let known = Known { digests: Box::new(Zeros), ranges: vec![layout.blocks()] };
    let mut runs = Vec::new();
    let outcome = PartlyTrusted { known, scan }.deliver(&mut |run| {
        assert!(run.digests.is_none() && run.read().next().is_none());
        runs.push(run.blocks);
        ControlFlow::Continue(())
    });
    outcome.expect("nothing fails");
    assert_eq!(runs, [layout.blocks()]);
}
