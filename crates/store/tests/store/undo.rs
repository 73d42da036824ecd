//! Undo, points and ways back, against a model that keeps whole copies of the disks.

mod disks;
mod log;

use crate::support::{BLOCK_BYTES, DeviceImage, MemoryMedium, layout, machine, range, root_of};
use failback_blockio::UnitSource as _;
use failback_engine::Sink;
use failback_image::Image;
use failback_model::{
    BlockIndex, BlockRange, BlockSize, ByteRange, Code, Digest, DiskId, Epoch, Layout, PointClaim,
    PointLabel, block_digest,
};
use failback_store::{DiskStore, Fingerprint, MachineStore, OpenDisk, Phase, RollbackProgress, StoreError};
use failback_testkit::{MemoryDevice, Random};
use std::collections::BTreeMap;
use std::sync::Arc;

const BLOCKS: u64 = 24;
const DISKS: usize = 2;
const PAGE: u64 = 4096;

type Copies = Vec<Vec<u8>>;

/// A machine of two disks, its store on media in memory, and what each point was.
struct Machine {
    journal: MemoryMedium,
    undo: MemoryMedium,
    images: Vec<Arc<DeviceImage>>,
    store: Arc<MachineStore>,
    epoch: u64,
    points: BTreeMap<u64, Copies>,
}

fn ids() -> Vec<DiskId> {
    (0..DISKS).map(|at| DiskId::new(format!("disk{at}")).expect("an id")).collect()
}

fn claim(at: u64) -> PointClaim {
    PointClaim { source_unix_ms: at, label: PointLabel::CrashConsistent, reason: String::new(), cycle: 0 }
}

impl Machine {
    fn new(random: &mut Random, segment_max_bytes: u64) -> Self {
        let images: Vec<Arc<DeviceImage>> = (0..DISKS)
            .map(|_| {
                let mut bytes = vec![0; (BLOCKS * BLOCK_BYTES) as usize];
                random.fill(&mut bytes[..(BLOCKS / 2 * BLOCK_BYTES) as usize]);
                DeviceImage::new(Arc::new(MemoryDevice::from_bytes(&bytes)))
            })
            .collect();
        let (mut journal, mut undo) = (MemoryMedium::new(), MemoryMedium::new());
        (journal.segment_max_bytes, undo.segment_max_bytes) = (16 << 10, segment_max_bytes);
        let store = open(&journal, &undo);
        let mut new = Self { journal, undo, images, store, epoch: 0, points: BTreeMap::new() };
        new.points.insert(0, new.copies());
        new
    }

    fn copies(&self) -> Copies {
        let copy = |image: &Arc<DeviceImage>| {
            let mut bytes = vec![0; (BLOCKS * BLOCK_BYTES) as usize];
            image.read_at(0, &mut bytes).expect("read");
            bytes
        };
        self.images.iter().map(copy).collect()
    }

    /// As a kill leaves it: what was written is there, what the process knew is not.
    fn reopen(self) -> Self {
        let Self { journal, undo, images, store, epoch, points } = self;
        drop(store);
        let store = open(&journal, &undo);
        Self { journal, undo, images, store, epoch, points }
    }

    fn disk(&self, at: usize) -> Arc<DiskStore> {
        self.store.disk(&ids()[at]).expect("a disk")
    }

    fn open_disks(&self) -> Vec<OpenDisk> {
        let open = |at: usize| (self.disk(at), Arc::clone(&self.images[at]) as Arc<dyn Image>);
        (0..DISKS).map(open).collect()
    }

    /// A pass of a disk in the running job: writes some pages at random; seals where it is asked to.
    fn pass(&self, at: usize, random: &mut Random, seals: bool) {
        let (disk, image) = (self.disk(at), &self.images[at]);
        let fingerprint = Fingerprint::of_text("an image");
        let number =
            disk.open_session(Epoch(self.epoch), layout(BLOCKS), false, &fingerprint).expect("a session");
        let sink = disk.sink(image.clone(), number, claim(self.epoch));
        let digests: Vec<Digest> = (0..BLOCKS).map(|block| image.digest_of(block)).collect();
        sink.scanned(range(0, BLOCKS), Some(&digests)).expect("scanned");
        for _ in 0..random.below(12) {
            write_some(&*sink, image, random);
            if random.below(3) == 0 {
                sink.commit().expect("committed");
            }
        }
        if seals {
            let digests: Vec<Digest> = (0..BLOCKS).map(|block| image.digest_of(block)).collect();
            sink.seal(root_of(layout(BLOCKS), &digests)).expect("sealed");
        }
    }

    /// A pass of every disk, and the point that comes of it.
    fn cycle(&mut self, random: &mut Random) -> u64 {
        self.epoch += 1;
        (0..DISKS).for_each(|at| self.pass(at, random, true));
        let point = self.store.record_point(&ids()).expect("recorded").expect("a point");
        assert_eq!(self.store.record_point(&ids()).expect("looked"), None, "once");
        assert!(point.disks.iter().all(|disk| disk.root.is_some()));
        self.points.insert(point.number, self.copies());
        point.number
    }

    fn go_to(&mut self, number: u64) -> u64 {
        let progress = RollbackProgress::default();
        let done = self.store.roll_back(number, &self.open_disks(), &progress, &|| false).expect("gone back");
        assert!(self.copies() == self.points[&number], "point {number} is not what it was");
        let copies = self.copies();
        self.points.insert(done.point, copies);
        assert_eq!(self.store.standing().at, Some(done.point));
        done.point
    }

    fn numbers(&self) -> Vec<u64> {
        self.store.points().iter().map(|point| point.number).collect()
    }
}

fn open(journal: &MemoryMedium, undo: &MemoryMedium) -> Arc<MachineStore> {
    MachineStore::open_on(Box::new(journal.clone()), Some(Box::new(undo.clone())), &machine())
        .expect("opened")
}

/// Writes or zeroes a run of pages, as a message of a pass does.
fn write_some(sink: &dyn Sink, image: &DeviceImage, random: &mut Random) {
    let first = random.below(BLOCKS * BLOCK_BYTES / PAGE - 6);
    let bytes = ByteRange::new(first * PAGE, (first + 1 + random.below(6)) * PAGE);
    let blocks = layout(BLOCKS).blocks_covering(bytes);
    sink.begin(&[blocks], &[bytes]).expect("begun");
    match random.below(3) {
        0 => sink.zero(bytes).expect("zeroed"),
        _ => {
            let mut contents = vec![0; bytes.length_bytes() as usize];
            random.fill(&mut contents);
            sink.write(bytes.start(), &contents).expect("written");
        }
    }
    let digests: Vec<(BlockIndex, Digest)> =
        blocks.iter().map(|block| (block, image.digest_of(block.0))).collect();
    sink.applied(&digests, &[]).expect("applied");
}

#[test]
fn every_point_is_had_back_and_newer_ones_stay_in_reach() {
    let mut random = Random::new(1);
    let mut machine = Machine::new(&mut random, 64 << 20);
    let points: Vec<u64> = (0..3).map(|_| machine.cycle(&mut random)).collect();
    assert_eq!((points, machine.numbers()), (vec![1, 2, 3], vec![0, 1, 2, 3]));
    assert_eq!(machine.go_to(1), 4);
    assert_eq!(machine.store.points()[4].restored, Some(1));
    assert_eq!(machine.go_to(1), 4, "it is there");
    assert_eq!(machine.go_to(3), 5);
    assert_eq!(machine.go_to(0), 6);
    machine.store.release(Phase::Cancelled).expect("released");
    let mut machine = machine.reopen();
    assert_eq!(machine.store.standing().phase, Phase::Cancelled);
    assert_eq!(machine.go_to(5), 7);
    assert!(machine.store.commit().expect("committed") > 0);
    assert!(machine.undo.files().len() == 1, "{:?}", machine.undo.files().keys());
    let again = machine.store.commit().expect_err("it is final");
    assert_eq!((again.code(), machine.numbers()), (Code::AlreadyCommitted, vec![]));
}

#[test]
fn a_partial_pass_is_undone_without_a_source() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut machine = Machine::new(&mut random, 32 << 10);
        let last = if seed % 4 == 0 { 0 } else { machine.cycle(&mut random) };
        machine.epoch += 1;
        machine.pass(0, &mut random, true);
        machine.pass(1, &mut random, false);
        if seed % 2 == 0 {
            machine = machine.reopen();
        }
        assert_eq!(machine.store.record_point(&ids()).expect("looked"), None);
        assert_eq!(machine.go_to(last), last, "seed {seed}");
        assert!(!machine.store.standing().is_partial);
        machine.cycle(&mut random);
        machine.go_to(last);
    }
}

#[test]
fn what_is_no_state_is_not_made_final() {
    let mut random = Random::new(4);
    let mut machine = Machine::new(&mut random, 64 << 20);
    machine.cycle(&mut random);
    machine.epoch += 1;
    machine.pass(0, &mut random, true);
    machine.pass(1, &mut random, false);
    let refused = machine.store.commit().expect_err("a part of a pass is on the disks");
    assert_eq!((refused.code(), machine.numbers()), (Code::PointUnknown, vec![0, 1]));
    machine.go_to(1);
    machine.store.commit().expect("committed");
}

#[test]
fn a_job_that_was_cut_over_writes_no_more() {
    let mut random = Random::new(3);
    let mut machine = Machine::new(&mut random, 64 << 20);
    let point = machine.cycle(&mut random);
    machine.store.release(Phase::Released { point }).expect("released");
    let machine = machine.reopen();
    let fingerprint = Fingerprint::of_text("an image");
    let session = |epoch| machine.disk(0).open_session(Epoch(epoch), layout(BLOCKS), false, &fingerprint);
    let refused = session(machine.epoch).expect_err("it is over");
    assert_eq!(refused.code(), Code::MachineReleased);
    assert_eq!(machine.store.standing().phase, Phase::Released { point });
    session(machine.epoch + 1).expect("a new job");
    assert_eq!(machine.store.standing().phase, Phase::Replicating);
}

#[test]
fn what_was_written_by_chance_comes_back_by_chance() {
    for seed in 0..60 {
        let mut random = Random::new(1000 + seed);
        let mut machine = Machine::new(&mut random, 24 << 10);
        let started = MachineStore::points(&machine.store).len();
        assert_eq!(started, 0);
        machine.cycle(&mut random);
        for _ in 0..random.below(14) {
            match random.below(9) {
                0..3 => {
                    machine.cycle(&mut random);
                }
                3 => {
                    machine.epoch += 1;
                    machine.pass(random.below(2) as usize, &mut random, false);
                }
                4 => machine = machine.reopen(),
                5 | 6 => {
                    let numbers = machine.numbers();
                    let number = numbers[random.below(numbers.len() as u64) as usize];
                    machine.go_to(number);
                }
                7 => {
                    let numbers = machine.numbers();
                    let at = random.below(numbers.len() as u64) as usize;
                    let number = numbers[at];
                    let dropped = machine.store.drop_points(&[number], random.below(2) == 0);
                    match dropped {
                        Ok(_) => assert!(!machine.numbers().contains(&number)),
                        Err(StoreError::Point(_)) => assert!(number == 0 || at + 1 == numbers.len()),
                        Err(error) => panic!("{error}"),
                    }
                }
                _ => {
                    // A kill in the middle of a way back.
                    let numbers = machine.numbers();
                    let number = numbers[random.below(numbers.len() as u64) as usize];
                    let left = std::cell::Cell::new(random.below(6));
                    let is_stopped = || left.replace(left.get().saturating_sub(1)) == 0;
                    let progress = RollbackProgress::default();
                    let gone = machine.store.roll_back(number, &machine.open_disks(), &progress, &is_stopped);
                    machine = machine.reopen();
                    if let Ok(done) = gone {
                        let copies = machine.points[&number].clone();
                        machine.points.insert(done.point, copies);
                    }
                }
            }
        }
        for number in machine.numbers() {
            machine.go_to(number);
        }
    }
}

#[test]
fn thinning_frees_what_no_point_needs() {
    let mut random = Random::new(9);
    let mut machine = Machine::new(&mut random, 24 << 10);
    for _ in 0..8 {
        machine.cycle(&mut random);
    }
    let used = || machine.store.undo_space().expect("looked").expect("kept").used_bytes;
    let before = used();
    let freed = machine.store.drop_points(&[2, 3, 4, 5, 6, 7], false).expect("dropped");
    assert!(freed > before / 4 && used() == before - freed, "{freed} of {before}");
    let freed_with_the_original = machine.store.drop_points(&[0], true).expect("dropped");
    assert!(freed_with_the_original > 0);
    assert_eq!(machine.numbers(), [1, 8]);
    let mut machine = machine.reopen();
    machine.go_to(1);
    assert_eq!(machine.numbers(), [1, 8, 9]);
}

#[test]
fn a_disk_that_a_job_made_has_no_original() {
    let undo = MemoryMedium::new();
    let store = open(&MemoryMedium::new(), &undo);
    let disk = store.disk(&ids()[0]).expect("a disk");
    let image = DeviceImage::in_memory(layout(BLOCKS));
    let fingerprint = Fingerprint::of_text("an image");
    let pass = |epoch: u64, is_new| {
        let number =
            disk.open_session(Epoch(epoch), layout(BLOCKS), is_new, &fingerprint).expect("a session");
        let sink = disk.sink(image.clone(), number, claim(epoch));
        let bytes = ByteRange::new(0, BLOCK_BYTES);
        sink.begin(&[BlockRange::new(0, 1)], &[bytes]).expect("begun");
        let contents = vec![epoch as u8; BLOCK_BYTES as usize];
        sink.write(0, &contents).expect("written");
        sink.applied(&[(BlockIndex(0), block_digest(&contents))], &[]).expect("applied");
        let digests: Vec<Digest> = (0..BLOCKS).map(|block| image.digest_of(block)).collect();
        sink.seal(root_of(layout(BLOCKS), &digests)).expect("sealed");
    };
    pass(1, true);
    assert!(disk.was_created() && store.points().is_empty());
    assert_eq!(store.undo_space().expect("looked").expect("kept").used_bytes, 0, "nothing leads back");
    store.record_point(&ids()[..1]).expect("recorded").expect("a point");
    pass(2, false);
    store.record_point(&ids()[..1]).expect("recorded").expect("a point");
    let disks: Vec<OpenDisk> = vec![(Arc::clone(&disk), image.clone())];
    let back = |number| store.roll_back(number, &disks, &RollbackProgress::default(), &|| false);
    back(1).expect("gone back");
    assert_eq!(image.digest_of(0), block_digest(&vec![1; BLOCK_BYTES as usize]));
    assert_eq!(back(0).expect_err("there is none").code(), Code::PointUnknown);
    let anew = |epoch| disk.open_session(Epoch(epoch), layout(BLOCKS), true, &fingerprint);
    assert_eq!(anew(3).expect_err("its medium may not be there").code(), Code::PointUnknown);
    store.release(Phase::Cancelled).expect("released");
    anew(4).expect("what was cancelled was removed");
    assert!(store.points().is_empty(), "nothing leads back to it");
}

#[test]
fn points_of_other_blocks_and_of_a_shorter_disk_are_had_back() {
    let mut random = Random::new(5);
    let short = 20 * BLOCK_BYTES + 512;
    let cut = |length_bytes, block_bytes| {
        Layout::new(length_bytes, BlockSize::new(block_bytes).expect("a size")).expect("a layout")
    };
    let layouts = [cut(short, 16 << 10), cut(short, 64 << 10), cut(30 * BLOCK_BYTES, 32 << 10)];
    // Longer than what the first passes bring: its tail is its own, until a longer source comes.
    let mut original = vec![0; 26 * BLOCK_BYTES as usize];
    random.fill(&mut original);
    let image = DeviceImage::new(Arc::new(MemoryDevice::from_bytes(&original)));
    let store = open(&MemoryMedium::new(), &MemoryMedium::new());
    let disk = store.disk(&ids()[0]).expect("a disk");
    let read = |length_bytes: u64| {
        let mut bytes = vec![0; length_bytes as usize];
        image.read_at(0, &mut bytes).expect("read");
        bytes
    };
    let digests_of = |layout: Layout| {
        let bytes = read(layout.length_bytes());
        bytes.chunks(layout.block_size().bytes() as usize).map(block_digest).collect::<Vec<_>>()
    };
    let mut copies = vec![original];
    for (epoch, layout) in layouts.into_iter().enumerate() {
        if image.geometry().length_bytes < layout.length_bytes() {
            image.grow(layout.length_bytes()).expect("extended");
        }
        let fingerprint = Fingerprint::of_text("an image");
        let number =
            disk.open_session(Epoch(epoch as u64 + 1), layout, false, &fingerprint).expect("a session");
        let sink = disk.sink(image.clone(), number, claim(epoch as u64));
        sink.scanned(layout.blocks(), Some(&digests_of(layout))).expect("scanned");
        let end = layout.length_bytes();
        for (from, length) in [(0, 5000), (end / 2, 40_000), (end - 3000, 3000)] {
            let bytes = ByteRange::new(from, from + length);
            let blocks = layout.blocks_covering(bytes);
            sink.begin(&[blocks], &[bytes]).expect("begun");
            let mut contents = vec![0; length as usize];
            random.fill(&mut contents);
            sink.write(from, &contents).expect("written");
            let digests = digests_of(layout);
            let entries: Vec<(BlockIndex, Digest)> =
                blocks.iter().map(|block| (block, digests[block.0 as usize])).collect();
            sink.applied(&entries, &[]).expect("applied");
        }
        sink.seal(root_of(layout, &digests_of(layout))).expect("sealed");
        store.record_point(&ids()[..1]).expect("recorded").expect("a point");
        copies.push(read(image.geometry().length_bytes));
    }
    let disks: Vec<OpenDisk> = vec![(disk, image.clone())];
    for number in [1, 3, 2, 0, 3, 1] {
        store.roll_back(number, &disks, &RollbackProgress::default(), &|| false).expect("gone back");
        let copy = &copies[number as usize];
        assert!(read(copy.len() as u64) == *copy, "point {number}");
    }
}
