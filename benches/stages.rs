//! The stages of a pass that use the CPU, each alone and on one thread but for the scans.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use failback_blockio::UnitSource;
use failback_engine::{
    Comparer, DigestRun, DigestSource, Packer, Scan, TargetDigests, TargetRun, old_pages_of, refine, unpack,
    whole,
};
use failback_image::{Access, ImageSpec};
use failback_model::limits::SEGMENT_BLOCKS;
use failback_model::{
    BlockIndex, BlockRange, BlockSize, Digest, Layout, TruncatedDigest, block_digest, page_digests,
};
use failback_testkit::{Content, GeneratedDisk, MemorySource, Random};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// A block of the default size.
const BLOCK: usize = 64 << 10;
/// Length of the disks that are scanned.
const SCAN_BYTES: u64 = 128 << 20;
/// Blocks that are compared: a disk of 16 GiB.
const COMPARED_BLOCKS: u64 = 256 << 10;

/// Bytes that no compressor shortens.
fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    Random::new(1).fill(&mut bytes);
    bytes
}

/// A mebibyte like that of files.
fn file_like() -> Vec<u8> {
    let disk = GeneratedDisk::new(1, 64 << 20, GeneratedDisk::SLOT_DEFAULT_BYTES);
    let (range, _) =
        disk.slots().find(|(_, content)| *content == Content::FileLike).expect("a slot of files");
    disk.slot(&range)
}

fn hash(c: &mut Criterion) {
    let block = noise(BLOCK);
    let mut group = c.benchmark_group("hash");
    group.throughput(Throughput::Bytes(BLOCK as u64));
    group.bench_function("block_64k", |b| b.iter(|| block_digest(black_box(&block))));
    group.bench_function("pages_of_block_64k", |b| {
        b.iter(|| page_digests(black_box(&block)).for_each(|digest| _ = black_box(digest)));
    });
    group.bench_function("zero_block_64k", |b| b.iter(|| block_digest(black_box(&[0; BLOCK]))));
    group.finish();
}

/// A scan of a whole disk, with every hardware thread.
fn scan_all(source: &Arc<dyn UnitSource>) {
    let layout = Layout::new(source.geometry().length_bytes, BlockSize::DEFAULT).expect("a small disk");
    let mut scan = Scan {
        source: Arc::clone(source),
        layout,
        blocks: layout.blocks(),
        threads: std::thread::available_parallelism().map_or(2, usize::from),
        keep: None,
        meter: Arc::new(|_, _| {}),
    };
    scan.deliver(&mut |run| {
        black_box(run);
        ControlFlow::Continue(())
    })
    .expect("a disk without faults");
}

fn scan(c: &mut Criterion) {
    let bytes = noise(SCAN_BYTES as usize);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("disk.raw");
    std::fs::write(&path, &bytes).expect("a file");
    let memory: Arc<dyn UnitSource> = Arc::new(MemorySource::from_bytes(&bytes));
    let file: Arc<dyn UnitSource> =
        failback_image::open(&ImageSpec::parse(&path), Access::Read).expect("a raw disk");
    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Bytes(SCAN_BYTES));
    group.bench_function("memory", |b| b.iter(|| scan_all(&memory)));
    group.bench_function("file_cached", |b| b.iter(|| scan_all(&file)));
    group.finish();
}

/// Digests of both ends of which one in a hundred differs.
fn runs() -> (Vec<DigestRun>, Vec<TargetRun>) {
    let mut random = Random::new(2);
    let mut digest = || Digest(std::array::from_fn(|_| random.next() as u8));
    let (mut source, mut target) = (Vec::new(), Vec::new());
    for start in (0..COMPARED_BLOCKS).step_by(SEGMENT_BLOCKS as usize) {
        let blocks = BlockRange::new(start, start + SEGMENT_BLOCKS);
        let own: Vec<Digest> = blocks.iter().map(|_| digest()).collect();
        let theirs = blocks.iter().zip(&own).map(|(block, own)| match block.0 % 100 {
            0 => [0xff; 16],
            _ => own.truncated().0,
        });
        let theirs: Vec<u8> = theirs.flatten().collect();
        target.push(TargetRun { blocks, digests: TargetDigests::Truncated(theirs.into()) });
        source.push(DigestRun { blocks, digests: Some(own), known: Vec::new(), kept: Vec::new() });
    }
    (source, target)
}

fn compare(c: &mut Criterion) {
    let mut group = c.benchmark_group("compare");
    group.throughput(Throughput::Elements(COMPARED_BLOCKS));
    // Making the runs takes longer than comparing them.
    group.measurement_time(Duration::from_secs(4));
    group.bench_function("blocks", |b| {
        b.iter_batched(
            runs,
            |(source, target)| {
                let mut comparer = Comparer::default();
                source.into_iter().for_each(|run| comparer.push_source(run));
                target.into_iter().for_each(|run| comparer.push_target(run));
                while let Some(found) = comparer.step() {
                    black_box(found);
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn refine_block(c: &mut Criterion) {
    let block = noise(BLOCK);
    let mut theirs: Vec<TruncatedDigest> = page_digests(&block).map(|digest| digest.truncated()).collect();
    theirs[3] = TruncatedDigest::ZERO;
    let mut group = c.benchmark_group("refine");
    group.throughput(Throughput::Bytes(BLOCK as u64));
    group.bench_function("one_page_of_block_64k", |b| {
        b.iter(|| refine(black_box(&block), black_box(&theirs)))
    });
    group.finish();
}

/// Packs a mebibyte of whole blocks, their digests known.
fn pack_and_unpack(c: &mut Criterion) {
    let bytes = file_like();
    let layout = Layout::new(bytes.len() as u64, BlockSize::DEFAULT).expect("a small disk");
    let blocks: Vec<_> = bytes.chunks(BLOCK).map(|block| (block, whole(block))).collect();
    let pack = |level| {
        let mut packer = Packer::new(level);
        for (index, (block, refined)) in (0..).zip(&blocks) {
            packer.add(BlockIndex(index), block, refined);
        }
        packer.finish()
    };
    for (name, level) in [("off", None), ("zstd_1", Some(1))] {
        let mut group = c.benchmark_group("pack");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| pack(black_box(level))));
        group.finish();
        let messages = pack(level);
        let mut group = c.benchmark_group("unpack");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                for data in &messages {
                    let unpacked = unpack(layout, black_box(data), &|_| old_pages_of(&[]));
                    assert!(unpacked.failed.is_empty());
                }
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = stages;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = hash, scan, compare, refine_block, pack_and_unpack
}
criterion_main!(stages);
