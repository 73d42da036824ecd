//! Whole passes over files in the page cache, from opened images to durable bytes.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use failback_image::{Access, CreateOptions, Image, ImageSpec};
use failback_pass::{Cancel, PassOptions, Progress, Target, run};
use failback_testkit::{GeneratedDisk, Mutation};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Length of the disks.
const DISK_BYTES: u64 = 256 << 20;
/// What the target lacks in the second case: one page of a hundred.
const CHANGES: Mutation = Mutation { seed: 2, permille: 10 };

/// Makes the target of one pass.
type Prepare = fn(&Disks) -> Target;

/// Files of a run.
struct Disks {
    folder: tempfile::TempDir,
    source: PathBuf,
    target: PathBuf,
}

impl Disks {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let (source, target) = (folder.path().join("source.raw"), folder.path().join("target.raw"));
        for path in [&source, &target] {
            generate(path);
        }
        Self { folder, source, target }
    }

    fn open_target(&self) -> Target {
        Target::Existing(open(&self.target, Access::Write))
    }

    /// The target with changes that the source does not have, durable so that the pass pays for its own writes only.
    fn changed_target(&self) -> Target {
        let file = File::options().write(true).open(&self.target).expect("the target");
        for (offset_bytes, bytes) in CHANGES.pages(DISK_BYTES) {
            file.write_all_at(&bytes, offset_bytes).expect("a change");
        }
        file.sync_all().expect("durable changes");
        self.open_target()
    }

    fn new_target(&self) -> Target {
        let path = self.folder.path().join("new.raw");
        if path.exists() {
            std::fs::remove_file(&path).expect("the file of the run before");
        }
        let image = failback_image::create(&ImageSpec::parse(&path), &CreateOptions::new(DISK_BYTES));
        Target::New(Some(image.expect("a new image")))
    }

    fn pass(&self, target: Target) {
        let (source, progress) = (open(&self.source, Access::Read), Arc::new(Progress::default()));
        run(source, target, &PassOptions::default(), &progress, &Cancel::default())
            .expect("a pass without faults");
    }
}

/// A sparse file with the shares of holes, files and noise of real disks.
fn generate(path: &Path) {
    let disk = GeneratedDisk::new(1, DISK_BYTES, GeneratedDisk::SLOT_DEFAULT_BYTES);
    let file = File::create(path).expect("a file");
    file.set_len(DISK_BYTES).expect("its length");
    for (range, content) in disk.slots() {
        if content != failback_testkit::Content::Hole {
            file.write_all_at(&disk.slot(&range), range.start).expect("a slot");
        }
    }
    file.sync_all().expect("durable");
}

fn open(path: &Path, access: Access) -> Arc<dyn Image> {
    failback_image::open(&ImageSpec::parse(path), access).expect("a raw disk")
}

fn passes(c: &mut Criterion) {
    let disks = Disks::new();
    let cases: [(&str, Prepare); 3] = [
        ("identical", Disks::open_target),
        ("one_percent_of_pages", Disks::changed_target),
        ("new_disk", Disks::new_target),
    ];
    let mut group = c.benchmark_group("pass_256m");
    group.throughput(Throughput::Bytes(DISK_BYTES));
    for (name, target) in cases {
        group.bench_function(name, |b| {
            b.iter_batched(|| target(&disks), |target| disks.pass(target), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group! {
    name = pipeline;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(5));
    targets = passes
}
criterion_main!(pipeline);
