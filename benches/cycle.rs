//! A steady cycle: 4,096 random blocks changed, named by a feed, on a disk of 4 GiB and on one of 64 GiB, in turn. Both ends
//! in one process with the target's journal and undo, digests of a full disk; from the opened session to the closed image.
//!
//! Says the median of each and their ratio. `CYCLE_ROUNDS` sets the rounds (default 7), `CYCLE_STREAMS=1` lets the target tell all
//! its digests, as where the process server does not know them.

use failback_blockio::{DiskError, UnitSource};
use failback_engine::manifest::Manifest;
use failback_engine::{Known, TrustedDigests};
use failback_image::{Access, CreateOptions, Image, ImageSpec};
use failback_model::{
    BlockIndex, BlockRange, BlockSize, Digest, DiskId, Epoch, Layout, MachineId, PointClaim, PointLabel,
    block_digest,
};
use failback_pass::{Cancel, Link, PassOptions, Progress, ReceivingEnd, SendingEnd};
use failback_store::{DiskStore, Fingerprint, MachineStore, SourceState};
use failback_testkit::Random;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Blocks that change in a cycle.
const CHANGED: u64 = 4096;
const BLOCK_BYTES: u64 = BlockSize::DEFAULT.bytes();
const SIZES_GIB: [u64; 2] = [4, 64];

/// Digests as they are kept in memory: what they are read from costs little beside.
struct Held(Arc<Vec<Digest>>);

impl TrustedDigests for Held {
    fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError> {
        Ok(self.0[blocks.start.0 as usize..blocks.end.0 as usize].to_vec())
    }

    fn next_data(&self, from: BlockIndex) -> Result<Option<BlockIndex>, DiskError> {
        Ok(((from.0 as usize) < self.0.len()).then_some(from))
    }
}

/// A disk at both sites.
struct Disk {
    folder: tempfile::TempDir,
    layout: Layout,
    /// What both hold.
    digests: Arc<Vec<Digest>>,
    store: Arc<DiskStore>,
    epoch: Epoch,
    random: Random,
}

impl Disk {
    /// A disk of which every block holds something, as far as anybody was told: what is trusted is not read.
    fn new(gib: u64) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let layout = Layout::new(gib << 30, BlockSize::DEFAULT).expect("a layout");
        let digest = |block: u64| block_digest(&block.to_le_bytes());
        let digests: Vec<Digest> = (0..layout.block_count()).map(digest).collect();
        for name in ["source.raw", "target.raw"] {
            let spec = ImageSpec::parse(folder.path().join(name));
            failback_image::create(&spec, &CreateOptions::new(gib << 30))
                .expect("made")
                .close()
                .expect("closed");
        }
        let (journal, undo) = (folder.path().join("journal"), folder.path().join("undo"));
        let machine = MachineId::new("machine").expect("an id");
        let machine = MachineStore::open(&journal, Some(&undo), &machine).expect("opened");
        let store = machine.disk(&DiskId::new("disk").expect("an id")).expect("a disk");
        let mut disk = Self {
            folder,
            layout,
            digests: Arc::new(digests),
            store,
            epoch: Epoch(1),
            random: Random::new(gib),
        };
        disk.vouch();
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, name: &str, access: Access) -> Arc<dyn Image> {
        failback_image::open(&ImageSpec::parse(self.path(name)), access).expect("opened")
    }

    /// A first session that says what the target holds.
    fn vouch(&mut self) {
        let image = self.open("target.raw", Access::Write);
        let fingerprint = Fingerprint::of_image(&*image, self.epoch).expect("looked at");
        let number =
            self.store.open_session(self.epoch, self.layout, false, &fingerprint).expect("a session");
        let sink = self.store.sink(Arc::clone(&image), number, claim());
        let mut manifest = Manifest::create_temp(self.layout).expect("a manifest");
        for (part, digests) in (0..).zip(self.digests.chunks(1024)) {
            let first = part * 1024;
            sink.scanned(BlockRange::new(first, first + digests.len() as u64), Some(digests)).expect("told");
            manifest.set_run(BlockIndex(first), digests).expect("set");
        }
        sink.seal(manifest.seal(1).expect("a root")).expect("sealed");
        self.close(&*image);
    }

    fn close(&self, image: &dyn Image) {
        image.close().expect("closed");
        let fingerprint = Fingerprint::of_settled_image(image, self.epoch).expect("looked at");
        self.store.released(&fingerprint).expect("noted");
    }

    /// The source's guest writes; the blocks that changed and their digests.
    fn change(&mut self) -> Vec<(u64, Digest)> {
        let file = File::options().write(true).open(self.path("source.raw")).expect("opened");
        let mut blocks = std::collections::BTreeMap::new();
        while (blocks.len() as u64) < CHANGED {
            let block = self.random.below(self.layout.block_count());
            let mut bytes = vec![0; BLOCK_BYTES as usize];
            self.random.fill(&mut bytes);
            file.write_all_at(&bytes, block * BLOCK_BYTES).expect("written");
            blocks.insert(block, block_digest(&bytes));
        }
        file.sync_all().expect("durable");
        blocks.into_iter().collect()
    }

    /// One cycle; how long it took.
    fn cycle(&mut self, streams: bool) -> (Duration, Arc<Progress>) {
        let changed = self.change();
        let source = self.open("source.raw", Access::Read);
        let started = Instant::now();
        let state = SourceState::open(
            &self.path("scan"),
            &Fingerprint::of_image(&*source, self.epoch).expect("looked at"),
            self.layout,
        );
        let state = Arc::new(state.expect("opened"));
        let image = self.open("target.raw", Access::Write);
        let fingerprint = Fingerprint::of_image(&*image, self.epoch).expect("looked at");
        let trusted = self.store.state().trusted_blocks;
        assert_eq!(trusted, self.layout.block_count(), "the target knows all its blocks");
        let number =
            self.store.open_session(self.epoch, self.layout, false, &fingerprint).expect("a session");
        let options = PassOptions::default();
        let opened = started.elapsed();
        let progress = [Arc::new(Progress::default()), Arc::default()];
        let sending = SendingEnd {
            source: Arc::clone(&source) as Arc<dyn UnitSource>,
            layout: self.layout,
            options: &options,
            ships_everything: false,
            expects_changes: true,
            base: (!streams).then(|| Arc::new(Held(Arc::clone(&self.digests))) as _),
            scan_log: Some(state),
            progress: Arc::clone(&progress[0]),
            cancel: Cancel::default(),
        };
        let receiving = ReceivingEnd {
            image: Arc::clone(&image),
            sink: self.store.sink(Arc::clone(&image), number, claim()),
            layout: self.layout,
            is_new: false,
            is_at_seal: true,
            seeds: None,
            options: &options,
            progress: Arc::clone(&progress[1]),
            cancel: Cancel::default(),
        };
        let mut ranges = Vec::new();
        let mut at = 0;
        for (block, _) in &changed {
            ranges.push(BlockRange::new(at, *block));
            at = block + 1;
        }
        ranges.push(BlockRange::new(at, self.layout.block_count()));
        let known = Known { digests: Box::new(Held(Arc::clone(&self.digests))), ranges };
        let (left, right) = Link::pair();
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| sending.run(left, Some(known)));
            let known = self.store.trusted().expect("trusted").into();
            receiving.run(right, Some(known)).expect("received");
            sent.join().expect("no panic").expect("sent");
        });
        let passed = started.elapsed();
        self.close(&*image);
        let took = started.elapsed();
        println!("  opened {opened:.3?}, passed {:.3?}, closed {:.3?}", passed - opened, took - passed);
        let read = Progress::get(&progress[0].bytes_read_source);
        assert_eq!(read, CHANGED * BLOCK_BYTES, "each block that changed is read once");
        let digests = Arc::make_mut(&mut self.digests);
        changed.into_iter().for_each(|(block, digest)| digests[block as usize] = digest);
        let [_, received] = progress;
        (took, received)
    }
}

fn claim() -> PointClaim {
    PointClaim { source_unix_ms: 0, label: PointLabel::PerDisk, reason: String::new(), cycle: 0 }
}

fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

fn main() {
    // What cargo asks of every benchmark when it only tests them.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (rounds, streams) = (number("CYCLE_ROUNDS").unwrap_or(7), number("CYCLE_STREAMS") == Some(1));
    let mut disks = SIZES_GIB.map(Disk::new);
    let mut times = SIZES_GIB.map(|_| Vec::new());
    for round in 0..=rounds {
        for (disk, times) in disks.iter_mut().zip(&mut times) {
            let (took, received) = disk.cycle(streams);
            let told = Progress::get(&received.bytes_to_source);
            let read = Progress::get(&received.bytes_read_target);
            let gib = disk.layout.length_bytes() >> 30;
            println!(
                "round {round}: {gib} GiB {took:.3?}, {told} bytes to the source, {read} read at the target"
            );
            // The first warms up.
            if round > 0 {
                times.push(took);
            }
        }
    }
    let [small, large] = times.map(|times| median(&times));
    println!("medians of {rounds}: 4 GiB {small:.3} s, 64 GiB {large:.3} s, ratio {:.2}", large / small);
}
