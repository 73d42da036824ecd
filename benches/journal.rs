//! What the journal costs: a commit group of 64 MiB, begun, applied and committed message by message, in patches of one
//! page over as many blocks, and in whole blocks; without an image, so that nothing but the journal is measured. And what
//! undo costs: the same bytes of a raw image logged before they change, and put back.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use failback_blockio::{Device, DiskError, UnitSource, Zeroing};
use failback_engine::Sink;
use failback_image::{CreateOptions, Image, ImageFormat, ImageIdentity, ImageSpec, Provisioning};
use failback_model::{
    BlockIndex, BlockRange, BlockSize, ByteRange, Digest, DiskGeometry, DiskId, Epoch, Finding, Layout,
    MachineId, PointClaim, PointLabel,
};
use failback_store::{Fingerprint, MachineStore, OpenDisk, RollbackProgress};
use failback_testkit::{MemoryDevice, Random};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of contents in the group.
const GROUP_BYTES: u64 = 64 << 20;
/// Bytes of contents in one message.
const MESSAGE_BYTES: u64 = 1 << 20;
const PAGE_BYTES: u64 = 4096;
const BLOCKS: u64 = 1 << 20;

/// A disk that takes no time.
struct NoImage(MemoryDevice);

impl UnitSource for NoImage {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.0.length_bytes(), sector_size: self.0.sector_size() }
    }

    fn name(&self) -> &Path {
        self.0.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        Device::read_at(&self.0, offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        Device::next_data(&self.0, from_bytes)
    }
}

impl Image for NoImage {
    fn identity(&self) -> ImageIdentity {
        let files = Vec::new();
        ImageIdentity {
            format: ImageFormat::Raw,
            uuid: None,
            content_id: None,
            adapter_type: None,
            files,
            version: None,
        }
    }

    fn provisioning(&self) -> Provisioning {
        Provisioning::Thin
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        Ok(0)
    }

    fn write_at(&self, _offset_bytes: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        Ok(())
    }

    fn zero(&self, _range: ByteRange, _zeroing: Zeroing) -> Result<(), DiskError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn grow(&self, _length_bytes: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn close(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        Ok(Vec::new())
    }
}

/// A session on a disk of which everything is known.
fn session(folder: &Path) -> Arc<dyn Sink> {
    let layout = Layout::new(BLOCKS * BlockSize::DEFAULT.bytes(), BlockSize::DEFAULT).expect("a layout");
    let machine = MachineId::new("machine").expect("an id");
    let store = MachineStore::open(folder, None, &machine).expect("opened");
    let disk = store.disk(&DiskId::new("disk").expect("an id")).expect("a disk");
    let fingerprint = Fingerprint::of_text("it is new");
    let number = disk.open_session(Epoch(1), layout, true, &fingerprint).expect("a session");
    let claim = PointClaim { source_unix_ms: 0, label: PointLabel::PerDisk, reason: String::new(), cycle: 0 };
    disk.sink(Arc::new(NoImage(MemoryDevice::new(layout.length_bytes()))), number, claim)
}

/// One group: blocks of contents, `blocks_per_message` of each message, every other block of the disk.
fn group(sink: &dyn Sink, blocks_per_message: u64) {
    let messages = GROUP_BYTES / MESSAGE_BYTES;
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                for message in (thread..messages).step_by(2) {
                    let first = message * blocks_per_message * 2;
                    let blocks: Vec<u64> = (0..blocks_per_message).map(|block| first + 2 * block).collect();
                    let ranges: Vec<_> =
                        blocks.iter().map(|&block| BlockRange::new(block, block + 1)).collect();
                    let digests: Vec<_> =
                        blocks.iter().map(|&block| (BlockIndex(block), Digest([block as u8; 32]))).collect();
                    sink.begin(&ranges, &[]).expect("begun");
                    sink.applied(&digests, &[]).expect("applied");
                }
            });
        }
    });
    sink.commit().expect("committed");
}

fn journal(c: &mut Criterion) {
    let mut criterion_group = c.benchmark_group("journal_group");
    criterion_group.throughput(Throughput::Bytes(GROUP_BYTES));
    let kinds =
        [("pages", MESSAGE_BYTES / PAGE_BYTES), ("blocks", MESSAGE_BYTES / BlockSize::DEFAULT.bytes())];
    for (kind, blocks_per_message) in kinds {
        criterion_group.bench_function(kind, |b| {
            b.iter_batched(
                || {
                    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
                    let sink = session(folder.path());
                    (folder, sink)
                },
                |(folder, sink)| {
                    group(&*sink, blocks_per_message);
                    (folder, sink)
                },
                BatchSize::PerIteration,
            );
        });
    }
    criterion_group.finish();
}

/// A raw image of random bytes beside its journal and undo log, and a session on it.
struct Protected {
    _folder: tempfile::TempDir,
    store: Arc<MachineStore>,
    disks: Vec<OpenDisk>,
    sink: Arc<dyn Sink>,
}

impl Protected {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let (spec, options) =
            (ImageSpec::parse(folder.path().join("disk.raw")), CreateOptions::new(GROUP_BYTES));
        let image = failback_image::create(&spec, &options).expect("made");
        let mut bytes = vec![0; GROUP_BYTES as usize];
        Random::new(1).fill(&mut bytes);
        image.write_at(0, &bytes).and_then(|()| image.flush()).expect("written");
        let machine = MachineId::new("machine").expect("an id");
        let (journal, undo) = (folder.path().join("journal"), folder.path().join("undo"));
        let store = MachineStore::open(&journal, Some(&undo), &machine).expect("opened");
        let disk = store.disk(&DiskId::new("disk").expect("an id")).expect("a disk");
        let layout = Layout::new(GROUP_BYTES, BlockSize::DEFAULT).expect("a layout");
        let fingerprint = Fingerprint::of_image(&*image, Epoch(1)).expect("looked at");
        let number = disk.open_session(Epoch(1), layout, false, &fingerprint).expect("a session");
        let claim =
            PointClaim { source_unix_ms: 0, label: PointLabel::PerDisk, reason: String::new(), cycle: 0 };
        let sink = disk.sink(Arc::clone(&image), number, claim);
        Self { _folder: folder, store, disks: vec![(disk, image)], sink }
    }

    /// As if all of it were about to change.
    fn log(self) -> Self {
        for start in (0..GROUP_BYTES).step_by(MESSAGE_BYTES as usize) {
            let changes = ByteRange::new(start, start + MESSAGE_BYTES);
            let blocks = BlockSize::DEFAULT.bytes();
            let blocks = BlockRange::new(changes.start() / blocks, changes.end() / blocks);
            self.sink.begin(&[blocks], &[changes]).expect("logged");
        }
        self
    }

    fn put_back(self) -> Self {
        self.store.roll_back(0, &self.disks, &RollbackProgress::default(), &|| false).expect("put back");
        self
    }
}

fn undo(c: &mut Criterion) {
    let mut criterion_group = c.benchmark_group("undo_segment");
    criterion_group.throughput(Throughput::Bytes(GROUP_BYTES));
    criterion_group.bench_function("log", |b| {
        b.iter_batched(Protected::new, Protected::log, BatchSize::PerIteration);
    });
    criterion_group.bench_function("put_back", |b| {
        b.iter_batched(|| Protected::new().log(), Protected::put_back, BatchSize::PerIteration);
    });
    criterion_group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(3));
    targets = journal, undo
}
criterion_main!(benches);
