//! Power cuts and kills at every point of made-up passes: what is trusted afterwards is what the image holds, what was
//! acknowledged stays, a seal is there or not, and sessions, epochs and generations only count up.

use crate::cut_medium::{Contents, CutMedium};
use crate::support::{
    BLOCK_BYTES, DeviceImage, claim, contents, digest, disk_id, layout, machine, range, root_of,
};
use failback_engine::Sink;
use failback_model::{BlockIndex, BlockRange, Digest, Epoch, Generation, SessionNumber};
use failback_store::{DiskState, DiskStore, Fingerprint, MachineStore, Medium};
use failback_testkit::Random;
use std::sync::Arc;

const BLOCKS: u64 = 48;
/// So short that a pass goes through several.
const SEGMENT_BYTES: u64 = 12 << 10;

/// Nothing is announced ahead, or a few blocks are.
fn ahead_bytes(seed: u64) -> u64 {
    (seed % 2) * 4 * BLOCK_BYTES
}

/// What a call promised or undid.
#[derive(Debug, Clone)]
enum Promise {
    /// These blocks are durable and known.
    Known(Vec<(BlockIndex, Digest)>),
    /// These may be unknown from here on.
    Doubtful(BlockRange),
    /// A session was opened.
    Session(SessionNumber, Epoch),
    /// A state was sealed.
    Sealed(Generation, Digest),
}

/// A promise, and after how many changes it held: those that undo count from when they were about to be made.
type History = Vec<(usize, Promise)>;

/// A pass by chance over a medium that records.
struct Player {
    medium: CutMedium,
    random: Random,
    history: History,
    image: Arc<DeviceImage>,
    store: Arc<MachineStore>,
    disk: Arc<DiskStore>,
    sink: Arc<dyn Sink>,
    /// What was scanned or applied since the last commit, by block.
    pending: Vec<Option<Digest>>,
    /// Blocks that this session touched.
    begun: Vec<bool>,
    version: u8,
    /// Blocks of the disk, by the layout of the session.
    blocks: u64,
}

impl Player {
    fn open(medium: CutMedium, seed: u64) -> Self {
        let image = DeviceImage::new(medium.image());
        let medium_is_new = medium.names().expect("listed").is_empty();
        let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("opened");
        let disk = store.disk(&disk_id()).expect("a disk");
        let sink = disk.sink(image.clone(), SessionNumber(0), claim());
        let mut player = Self {
            medium,
            random: Random::new(seed),
            history: Vec::new(),
            image,
            store,
            disk,
            sink,
            pending: vec![None; BLOCKS as usize],
            begun: vec![false; BLOCKS as usize],
            version: 0,
            blocks: BLOCKS,
        };
        // An image in which nothing was written yet is zero.
        let is_new = medium_is_new && player.random.below(2) == 0;
        player.open_session(is_new);
        player
    }

    fn promise(&mut self, promise: Promise) {
        self.history.push((self.medium.events(), promise));
    }

    /// A session; now and then one that sees fewer blocks of the disk, or all of them again.
    fn open_session(&mut self, is_new: bool) {
        if self.random.below(6) == 0 {
            self.blocks = if self.blocks == BLOCKS { BLOCKS - 9 } else { BLOCKS };
        }
        let state = self.disk.state();
        let epoch = Epoch(state.epoch.0 + self.random.below(4) / 3);
        let is_other_job = epoch != state.epoch && (state.in_pass || state.root.is_none());
        if state.layout != Some(layout(self.blocks)) || is_other_job {
            self.promise(Promise::Doubtful(range(0, BLOCKS)));
        }
        let fingerprint = Fingerprint::of_image(&*self.image, epoch).expect("it has no files");
        let number =
            self.disk.open_session(epoch, layout(self.blocks), is_new, &fingerprint).expect("a session");
        self.promise(Promise::Session(number, epoch));
        self.sink = self.disk.sink(self.image.clone(), number, claim());
        self.pending = vec![None; BLOCKS as usize];
        self.begun = vec![false; BLOCKS as usize];
    }

    /// The process is killed and starts again; what it had written is in the kernel's cache.
    fn kill(&mut self) {
        let medium = Box::new(self.medium.clone());
        self.store = MachineStore::open_on(medium, None, &machine()).expect("opened");
        self.disk = self.store.disk(&disk_id()).expect("a disk");
        assert!(self.store.recovered().findings.is_empty(), "{:?}", self.store.recovered());
        check_trust(&self.disk, &self.image, "after a kill");
        self.open_session(false);
    }

    fn some_blocks(&mut self) -> BlockRange {
        let start = self.random.below(self.blocks);
        range(start, (start + 1 + self.random.below(6)).min(self.blocks))
    }

    fn scan(&mut self) {
        let blocks = self.some_blocks();
        let digests: Vec<Digest> = blocks.iter().map(|block| self.image.digest_of(block.0)).collect();
        let all_zero = digests.iter().all(Digest::is_zero);
        self.sink.scanned(blocks, (!all_zero).then_some(&digests)).expect("logged");
        for (block, digest) in blocks.iter().zip(digests) {
            if !self.begun[block.0 as usize] {
                self.pending[block.0 as usize] = Some(digest);
            }
        }
    }

    fn next_version(&mut self) -> u8 {
        self.version = self.version.wrapping_add(1).max(1);
        self.version
    }

    /// What is in doubt when blocks are begun: what is announced ahead, too.
    fn doubtful(&self, blocks: BlockRange) -> BlockRange {
        let ahead_blocks = 2 * self.medium.ahead_bytes() / BLOCK_BYTES;
        range(blocks.start.0, (blocks.end.0 + ahead_blocks).min(self.blocks))
    }

    fn begin(&mut self, blocks: BlockRange) {
        let doubtful = self.doubtful(blocks);
        self.promise(Promise::Doubtful(doubtful));
        self.sink.begin(&[blocks], &[]).expect("begun");
        blocks.iter().for_each(|block| self.pending[block.0 as usize] = None);
        let scanned = |block: &BlockIndex| !self.begun[block.0 as usize];
        doubtful.iter().filter(scanned).for_each(|block| self.pending[block.0 as usize] = None);
        blocks.iter().for_each(|block| self.begun[block.0 as usize] = true);
    }

    /// Begins blocks, writes some of them, and says so of those.
    fn write(&mut self) {
        let blocks = self.some_blocks();
        self.next_version();
        self.begin(blocks);
        let written = range(blocks.start.0, blocks.start.0 + self.random.below(blocks.count() + 1));
        if self.random.below(4) == 0 && !written.is_empty() {
            let bytes = layout(self.blocks).bytes_of(written);
            self.sink.zero(bytes).expect("zeroed");
            self.sink.applied(&[], &[written]).expect("applied");
            written.iter().for_each(|block| self.pending[block.0 as usize] = Some(Digest::ZERO));
            return;
        }
        for block in written.iter() {
            self.sink.write(block.0 * BLOCK_BYTES, &contents(self.version)).expect("written");
        }
        let digests: Vec<_> = written.iter().map(|block| (block, digest(self.version))).collect();
        self.sink.applied(&digests, &[]).expect("applied");
        digests.iter().for_each(|(block, digest)| self.pending[block.0 as usize] = Some(*digest));
    }

    fn known(&mut self) -> Vec<(BlockIndex, Digest)> {
        let known = self.pending.iter_mut().enumerate();
        known.filter_map(|(block, digest)| Some((BlockIndex(block as u64), digest.take()?))).collect()
    }

    /// Commits; now and then blocks are begun and half written while the image is flushed.
    fn commit(&mut self) {
        let mut known = self.known();
        if self.random.below(3) == 0 {
            let blocks = self.some_blocks();
            let doubtful = self.doubtful(blocks);
            known.retain(|(block, _)| !(doubtful.start..doubtful.end).contains(block));
            let (sink, version) = (self.sink.clone(), self.next_version());
            self.image.during_flush(move || write_half(&*sink, blocks, version));
            blocks.iter().for_each(|block| self.begun[block.0 as usize] = true);
            self.promise(Promise::Doubtful(doubtful));
        }
        self.sink.commit().expect("committed");
        self.promise(Promise::Known(known));
    }

    /// Scans what is unknown, writes what was begun and not written, and seals.
    fn seal(&mut self) {
        self.commit();
        let trusted = self.disk.trusted().expect("known").ranges;
        let is_trusted = |block: u64| trusted.iter().any(|run| (run.start.0..run.end.0).contains(&block));
        for block in (0..self.blocks).filter(|&block| !is_trusted(block)) {
            if self.begun[block as usize] {
                self.next_version();
                self.begin(range(block, block + 1));
                self.sink.write(block * BLOCK_BYTES, &contents(self.version)).expect("written");
                self.sink.applied(&[(BlockIndex(block), digest(self.version))], &[]).expect("applied");
            } else {
                let digest = self.image.digest_of(block);
                self.sink.scanned(range(block, block + 1), Some(&[digest])).expect("logged");
            }
        }
        let digests: Vec<Digest> = (0..self.blocks).map(|block| self.image.digest_of(block)).collect();
        let root = root_of(layout(self.blocks), &digests);
        let generation = self.sink.seal(root).expect("sealed");
        assert_eq!(self.disk.state().trusted_blocks, self.blocks);
        let all = digests.into_iter().enumerate().map(|(block, digest)| (BlockIndex(block as u64), digest));
        self.promise(Promise::Known(all.collect()));
        self.promise(Promise::Sealed(Generation(generation), root));
        self.pending = vec![None; BLOCKS as usize];
    }

    fn play(&mut self, steps: u64) {
        for _ in 0..steps {
            match self.random.below(24) {
                0..8 => self.scan(),
                8..16 => self.write(),
                16..20 => self.commit(),
                20 => self.kill(),
                21 => self.open_session(false),
                22 => self.seal(),
                _ => {
                    let blocks = self.some_blocks();
                    self.begin(blocks);
                    let version = self.next_version();
                    write_half(&*self.sink, blocks, version);
                }
            }
        }
    }
}

/// Begins blocks and writes one of them in part.
fn write_half(sink: &dyn Sink, blocks: BlockRange, version: u8) {
    sink.begin(&[blocks], &[]).expect("begun");
    let half = &contents(version)[..BLOCK_BYTES as usize / 2];
    sink.write(blocks.start.0 * BLOCK_BYTES, half).expect("written");
}

/// Every digest that is trusted is that of the image.
fn check_trust(disk: &DiskStore, image: &DeviceImage, what: &str) -> Vec<Option<Digest>> {
    let trusted = disk.trusted().expect("read");
    let mut known = vec![None; BLOCKS as usize];
    for run in trusted.ranges {
        let digests = trusted.digests.digests(run).expect("read");
        for (block, digest) in run.iter().zip(digests) {
            assert_eq!(digest, image.digest_of(block.0), "{what}: block {} is trusted", block.0);
            known[block.0 as usize] = Some(digest);
        }
    }
    known
}

/// What the promises of the first `events` changes come to.
fn judge(history: &History, events: usize, state: &DiskState, known: &[Option<Digest>], what: &str) {
    let mut expected = vec![None; BLOCKS as usize];
    let (mut session, mut epoch) = (SessionNumber(0), Epoch(0));
    let (mut generation, mut root) = (Generation(0), None);
    let mut later = None;
    for (at, promise) in history {
        let is_made = *at <= events;
        match promise {
            Promise::Known(blocks) if is_made => {
                blocks.iter().for_each(|(block, digest)| expected[block.0 as usize] = Some(*digest));
            }
            Promise::Doubtful(blocks) if is_made => {
                blocks.iter().for_each(|block| expected[block.0 as usize] = None);
            }
            Promise::Session(number, of) if is_made => (session, epoch) = (*number, *of),
            Promise::Sealed(number, of) if is_made => (generation, root) = (*number, Some(*of)),
            Promise::Sealed(number, of) => later = later.or(Some((*number, Some(*of)))),
            _ => {}
        }
    }
    for (block, expected) in expected.iter().enumerate() {
        assert!(expected.is_none() || known[block] == *expected, "{what}: block {block} was acknowledged");
    }
    assert!(state.session >= session && state.epoch >= epoch, "{what}: {state:?} is behind {session}");
    let sealed = (state.generation, state.root);
    let is_known = sealed == (generation, root) || Some(sealed) == later;
    assert!(is_known, "{what}: {sealed:?} is neither {generation} nor {later:?}");
}

/// Opens what a cut left, checks it, and returns what is known of the disk.
fn recover(left: &Contents, history: &History, events: usize, what: &str) -> DiskState {
    let medium = CutMedium::over(left, SEGMENT_BYTES, 0);
    let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine())
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(store.recovered().findings.is_empty(), "{what}: {:?}", store.recovered().findings);
    let disk = store.disk(&disk_id()).expect("a disk");
    let known = check_trust(&disk, &DeviceImage::new(medium.image()), what);
    let state = disk.state();
    judge(history, events, &state, &known, what);
    state
}

#[test]
fn every_cut_is_recovered() {
    for seed in 0..6 {
        let medium = CutMedium::over(&Contents::new(BLOCKS * BLOCK_BYTES), SEGMENT_BYTES, ahead_bytes(seed));
        let mut player = Player::open(medium.clone(), seed);
        player.play(120);
        let end = medium.events();
        let mut random = Random::new(seed ^ 0xc0ffee);
        for events in 0..=end {
            for _ in 0..2 {
                let left = medium.cut(events, &mut random);
                recover(&left, &player.history, events, &format!("seed {seed}, cut after {events} of {end}"));
            }
        }
    }
}

#[test]
fn what_is_recovered_is_cut_again() {
    for seed in 0..40 {
        let mut random = Random::new(seed ^ 0xbad_cafe);
        let mut left = Contents::new(BLOCKS * BLOCK_BYTES);
        let mut history = History::new();
        for round in 0..4 {
            let medium = CutMedium::over(&left, SEGMENT_BYTES, ahead_bytes(seed));
            let mut player = Player::open(medium.clone(), seed * 100 + round);
            player.play(30);
            // Promises of earlier rounds hold from the start.
            history.extend(player.history.clone());
            let events = random.below(medium.events() as u64 + 1) as usize;
            left = medium.cut(events, &mut random);
            let what = format!("seed {seed}, round {round}, cut after {events}");
            let state = recover(&left, &history, events, &what);
            history.retain(|(at, _)| *at <= events);
            // A seal that was on its way may have arrived.
            history.extend(state.root.map(|root| (0, Promise::Sealed(state.generation, root))));
            history.iter_mut().for_each(|(at, _)| *at = 0);
        }
    }
}
