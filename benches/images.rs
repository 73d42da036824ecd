//! Writing new VMDKs: a mebibyte at a time, durable at the end.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use failback_image::{CreateOptions, Image, ImageSpec, VmdkType};
use failback_testkit::Random;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Length of the disk, all of it written.
const DISK_BYTES: u64 = 64 << 20;
/// Bytes of one write.
const WRITE_BYTES: usize = 1 << 20;

fn create(folder: &Path, vmdk_type: VmdkType) -> Arc<dyn Image> {
    let path = folder.join("disk.vmdk");
    for entry in std::fs::read_dir(folder).expect("the folder") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("a file of the run before");
    }
    let options = CreateOptions { vmdk_type, ..CreateOptions::new(DISK_BYTES) };
    failback_image::create(&ImageSpec::parse(&path), &options).expect("a new image")
}

fn write_all(image: &dyn Image, bytes: &[u8]) {
    for offset_bytes in (0..DISK_BYTES).step_by(WRITE_BYTES) {
        image.write_at(offset_bytes, bytes).expect("a write");
    }
    image.close().expect("durable");
}

fn write(c: &mut Criterion) {
    let mut bytes = vec![0; WRITE_BYTES];
    Random::new(1).fill(&mut bytes);
    let mut group = c.benchmark_group("vmdk_write_durable");
    group.throughput(Throughput::Bytes(DISK_BYTES));
    for vmdk_type in [VmdkType::MonolithicSparse, VmdkType::Vmfs] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        group.bench_function(vmdk_type.as_str(), |b| {
            b.iter_batched(
                || create(folder.path(), vmdk_type),
                |image| write_all(&*image, &bytes),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = images;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(3));
    targets = write
}
criterion_main!(images);
