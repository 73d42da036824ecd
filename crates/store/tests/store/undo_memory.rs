//! Memory of a way back and of thinning: that of one segment, however often the pages of a disk were logged.
//!
//! Each case is a process of its own, whose peak the kernel knows. `tools/long undo-memory` asks for more pages by
//! FAILBACK_UNDO_PAGES and for segments of full length by FAILBACK_UNDO_SEGMENT_MEBIBYTES.

use crate::support::{
    BLOCK_BYTES, DeviceImage, MemoryMedium, claim, contents, digest, disk_id, layout, machine,
};
use failback_blockio::{Device, DiskError, FileDevice, Zeroing};
use failback_engine::Sink;
use failback_format::manifest::{RootHasher, chunk_digest};
use failback_image::Image as _;
use failback_model::{BlockIndex, ByteRange, Digest, Epoch, Layout, SectorSize};
use failback_store::{Fingerprint, MachineStore, OpenDisk, RollbackProgress};
use failback_testkit::asked;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

const NAME: &str = "undo_memory::memory_does_not_grow_with_the_log";
const KIND: &str = "FAILBACK_UNDO_MEMORY_KIND";
const ROUNDS: &str = "FAILBACK_UNDO_MEMORY_ROUNDS";
const PAGES: &str = "FAILBACK_UNDO_PAGES";
const PAGE: u64 = 4096;
const PAGES_PER_BLOCK: u64 = BLOCK_BYTES / PAGE;
/// What a process of ours may keep resident.
const MOST_KIB: u64 = 256 << 10;
/// Peaks of one program wander by so much.
const NOISE_KIB: u64 = 4 << 10;

/// What the pages held before.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Bytes, logged page by page: one record each.
    Bytes,
    /// Zeros, no two beside each other: as many runs as pages.
    Zeros,
}

/// Files without names: their space is free when the last handle is gone.
fn unnamed_files(folder: &Path) -> MemoryMedium {
    let folder = folder.to_path_buf();
    let mut medium = MemoryMedium::made_of(move |name| {
        let path = folder.join(name);
        let file = FileDevice::create_new(&path, 0).expect("made");
        std::fs::remove_file(&path).expect("removed");
        Arc::new(file)
    });
    medium.segment_max_bytes = asked("FAILBACK_UNDO_SEGMENT_MEBIBYTES", 1) << 20;
    medium
}

/// A disk of zeros that takes no memory, whatever is put into it.
#[derive(Debug)]
struct Zeros(u64);

impl Device for Zeros {
    fn path(&self) -> &Path {
        Path::new("zeros")
    }

    fn length_bytes(&self) -> u64 {
        self.0
    }

    fn sector_size(&self) -> SectorSize {
        SectorSize::B512
    }

    fn read_at(&self, _offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        buffer.fill(0);
        Ok(())
    }

    fn write_at(&self, _offset_bytes: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        panic!("only zeros are put back")
    }

    fn zero(&self, _range: ByteRange, _zeroing: Zeroing) -> Result<(), DiskError> {
        Ok(())
    }

    fn next_data(&self, _from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        Ok(None)
    }

    fn set_length(&self, _length_bytes: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn start_writeback(&self, _range: ByteRange) {}

    fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

/// The root of a disk whose blocks are all the same.
fn root_of_all(layout: Layout, block: Digest) -> Digest {
    let mut hasher = RootHasher::new(layout);
    for chunk in 0..layout.chunk_count() {
        let count = (layout.block_count() - chunk * 1024).min(1024);
        hasher.update(match block {
            Digest::ZERO => Digest::ZERO,
            block => chunk_digest(vec![block.0; count as usize].as_flattened()),
        });
    }
    hasher.finish()
}

/// Every page of the disk changes to this version, one message after the other.
fn write_pages(sink: &dyn Sink, blocks: u64, version: u8) {
    let pages = blocks * PAGES_PER_BLOCK;
    for page in 0..pages {
        let bytes = ByteRange::new(page * PAGE, (page + 1) * PAGE);
        sink.begin(&[layout(blocks).blocks_covering(bytes)], &[bytes]).expect("begun");
        sink.write(bytes.start(), &contents(version)[..PAGE as usize]).expect("written");
    }
    let digests: Vec<_> = (0..blocks).map(|block| (BlockIndex(block), digest(version))).collect();
    sink.applied(&digests, &[]).expect("applied");
    sink.commit().expect("committed");
}

/// A page of every other block is said to change, as many to a message as a megabyte has.
fn touch_zeros(sink: &dyn Sink, blocks: u64) {
    let every_other: Vec<u64> = (0..blocks).step_by(2).collect();
    for group in every_other.chunks(64 << 8) {
        for message in group.chunks(256) {
            let changes: Vec<_> = message
                .iter()
                .map(|block| ByteRange::new(block * BLOCK_BYTES, block * BLOCK_BYTES + PAGE))
                .collect();
            let touched: Vec<_> =
                changes.iter().map(|bytes| layout(blocks).blocks_covering(*bytes)).collect();
            sink.begin(&touched, &changes).expect("begun");
            sink.applied(&[], &touched).expect("applied");
        }
        sink.commit().expect("committed");
    }
}

/// What the other process does: as many points, each with all of its pages logged; all the way back; points given up.
fn live(kind: Kind, rounds: u64) {
    let pages = asked(PAGES, 1024);
    // Where there is one in memory: what a sync costs is not the question.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let (journal, undo) = (unnamed_files(folder.path()), unnamed_files(folder.path()));
    let (blocks, image, block) = match kind {
        Kind::Bytes => {
            let blocks = pages / PAGES_PER_BLOCK;
            let disk =
                FileDevice::create_new(&folder.path().join("disk"), blocks * BLOCK_BYTES).expect("made");
            let image = DeviceImage::new(Arc::new(disk));
            let fill = |block| image.write_at(block * BLOCK_BYTES, &contents(1)).expect("written");
            (0..blocks).for_each(fill);
            (blocks, image, digest(1))
        }
        Kind::Zeros => (pages * 2, DeviceImage::new(Arc::new(Zeros(pages * 2 * BLOCK_BYTES))), Digest::ZERO),
    };
    let store = MachineStore::open_on(Box::new(journal), Some(Box::new(undo)), &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let started = Instant::now();
    for round in 1..=rounds {
        let fingerprint = Fingerprint::of_text("an image");
        let number = disk.open_session(Epoch(round), layout(blocks), false, &fingerprint).expect("a session");
        let sink = disk.sink(image.clone(), number, claim());
        for chunk in (0..blocks).step_by(1024) {
            let chunk = crate::support::range(chunk, (chunk + 1024).min(blocks));
            let held = vec![digest(round as u8); chunk.count() as usize];
            sink.scanned(chunk, (kind == Kind::Bytes).then_some(&held)).expect("scanned");
        }
        match kind {
            Kind::Bytes => write_pages(&*sink, blocks, round as u8 + 1),
            Kind::Zeros => touch_zeros(&*sink, blocks),
        }
        let sealed = if kind == Kind::Bytes { digest(round as u8 + 1) } else { Digest::ZERO };
        sink.seal(root_of_all(layout(blocks), sealed)).expect("sealed");
        store.record_point(&[disk_id()]).expect("recorded").expect("a point");
    }
    let logged = (started.elapsed(), peak_kib());
    let undo_bytes = store.undo_space().expect("looked").expect("kept").used_bytes;
    let (disks, started): (Vec<OpenDisk>, _) = (vec![(disk, image.clone())], Instant::now());
    store.roll_back(0, &disks, &RollbackProgress::default(), &|| false).expect("gone back");
    assert_eq!(image.digest_of(blocks - 1), block);
    let back = (started.elapsed(), peak_kib());
    let (numbers, started): (Vec<u64>, _) = ((1..=rounds).collect(), Instant::now());
    store.drop_points(&numbers, false).expect("given up");
    let thinned = (started.elapsed(), peak_kib());
    let what = if kind == Kind::Bytes { "records of one page" } else { "runs of zeros" };
    let seconds = |(time, _): (std::time::Duration, u64)| time.as_secs_f64();
    println!(
        "\n| {what} | {} | {} | {:.1} s, {} | {:.1} s, {} | {:.1} s, {} |",
        pages * rounds,
        undo_bytes >> 20,
        seconds(logged),
        logged.1 >> 10,
        seconds(back),
        back.1 >> 10,
        seconds(thinned),
        thinned.1 >> 10,
    );
    println!("peak {}", peak_kib());
}

/// Most that this process had resident.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is told");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn memory_does_not_grow_with_the_log() {
    if let Ok(kind) = std::env::var(KIND) {
        return live(if kind == "bytes" { Kind::Bytes } else { Kind::Zeros }, asked(ROUNDS, 1));
    }
    let pages = asked(PAGES, 1024);
    for (kind, times) in [("bytes", 1), ("zeros", 96)] {
        let [once, four_times] = [1, 4].map(|rounds: u64| {
            let child = Command::new(std::env::current_exe().expect("this test"))
                .args(["--exact", NAME, "--nocapture"])
                .envs([(KIND, kind), (ROUNDS, &rounds.to_string()), (PAGES, &(pages * times).to_string())])
                .output()
                .expect("started");
            let text = String::from_utf8_lossy(&child.stdout);
            assert!(child.status.success(), "{kind}: {text}{}", String::from_utf8_lossy(&child.stderr));
            text.lines().filter(|line| line.starts_with("| ")).for_each(|line| println!("{line}"));
            let peak = text.lines().find_map(|line| line.strip_prefix("peak ")?.parse::<u64>().ok());
            peak.expect("it says its peak")
        });
        assert!(four_times <= once + NOISE_KIB, "{kind}: {once} KiB, with four times as much {four_times}");
        assert!(four_times <= MOST_KIB, "{kind}: {four_times} KiB");
    }
}
