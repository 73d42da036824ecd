//! Passes in which both ends know the state that the target was sealed in: the same result, only what changed is read, and
//! hardly anything is said.

use crate::memory_image::MemoryImage;
use crate::{assert_same, options};
use failback_blockio::{DiskError, Operation, UnitSource};
use failback_engine::reference::reference_pass;
use failback_engine::seed::SeedIndex;
use failback_engine::{Known, TrustedDigests};
use failback_model::{BlockIndex, BlockRange, BlockSize, Code, Digest, Layout, block_digest};
use failback_pass::{Cancel, Link, PassOptions, Progress, ReceivingEnd, Refinement, SendingEnd};
use failback_testkit::Random;
use std::path::Path;
use std::sync::Arc;

const BLOCK: u64 = 16 << 10;

/// Digests of a disk; those of some blocks may be lost.
struct Held(Vec<Digest>, Vec<u64>);

impl TrustedDigests for Held {
    fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError> {
        if self.1.iter().any(|lost| (blocks.start.0..blocks.end.0).contains(lost)) {
            return Err(DiskError::new(Code::ReadFailed, Operation::Read, Path::new("digests"), "lost"));
        }
        Ok(self.0[blocks.start.0 as usize..blocks.end.0 as usize].to_vec())
    }

    fn next_data(&self, from: BlockIndex) -> Result<Option<BlockIndex>, DiskError> {
        let next = (from.0 as usize..self.0.len()).find(|&block| !self.0[block].is_zero());
        Ok(next.map(|block| BlockIndex(block as u64)))
    }
}

/// Data, zeros and holes of a thousand blocks and more, and what a while of writing makes of them.
struct Cycle {
    layout: Layout,
    old: Vec<u8>,
    new: Vec<u8>,
    /// What the feed names: the blocks that changed, and some that did not.
    named: Vec<BlockRange>,
    options: PassOptions,
}

impl Cycle {
    fn new(random: &mut Random) -> Self {
        let length = (random.below(2500 * BLOCK) + 1) as usize;
        let layout = Layout::new(length as u64, BlockSize::new(BLOCK).expect("a size")).expect("a layout");
        let mut old = vec![0; length];
        for _ in 0..random.below(20) {
            let at = random.below(length as u64) as usize;
            let end = length.min(at + random.below(2 << 20) as usize);
            random.fill(&mut old[at..end]);
        }
        let (mut new, mut named) = (old.clone(), Vec::new());
        let mut block = random.below(50);
        while block < layout.block_count() {
            let end = layout.block_count().min(block + 1 + random.below(3));
            let bytes = layout.bytes_of(BlockRange::new(block, end));
            let bytes = &mut new[bytes.start() as usize..bytes.end() as usize];
            match random.below(4) {
                0 => bytes.fill(0),
                1 => random.fill(bytes),
                2 => bytes[0] ^= 1,
                _ => {}
            }
            named.push(BlockRange::new(block, end));
            block = end + 1 + random.below(200);
        }
        let refinement = [Refinement::On, Refinement::Off, Refinement::Auto][random.below(3) as usize];
        let options = PassOptions {
            block_size: layout.block_size(),
            refinement,
            verify: random.below(4) == 0,
            window_bytes: [64 << 10, 64 << 20][random.below(2) as usize],
            ..options()
        };
        Self { layout, old, new, named, options }
    }

    fn old_digests(&self) -> Vec<Digest> {
        self.old.chunks(BLOCK as usize).map(block_digest).collect()
    }

    /// What the feed does not name.
    fn unnamed(&self) -> Vec<BlockRange> {
        let (mut ranges, mut at) = (Vec::new(), 0);
        for named in &self.named {
            ranges.push(BlockRange::new(at, named.start.0));
            at = named.end.0;
        }
        ranges.push(BlockRange::new(at, self.layout.block_count()));
        ranges
    }

    /// Runs it: what the source's side believes of the target, what is lost of that and of what the target knows.
    fn run(&self, base: Option<Held>, target_knows: Held, has_seeds: bool) -> Ran {
        let (source, target) = (MemoryImage::new(&self.new, []), MemoryImage::new(&self.old, []));
        let progress = [Arc::new(Progress::default()), Arc::default()];
        let (cancel, (left, right)) = (Cancel::default(), Link::pair());
        let seed = Arc::new(failback_testkit::MemoryDevice::from_bytes(&self.new)) as Arc<dyn UnitSource>;
        let index = || {
            SeedIndex::build(&[seed], self.layout.block_size(), 1, &(Arc::new(|_, _| {}) as _), &|| true)
                .expect("an index")
        };
        let sending = SendingEnd {
            source: Arc::clone(&source) as _,
            layout: self.layout,
            options: &self.options,
            ships_everything: false,
            expects_changes: !has_seeds,
            base: base.map(|held| Arc::new(held) as _),
            scan_log: None,
            progress: Arc::clone(&progress[0]),
            cancel: cancel.clone(),
        };
        let receiving = ReceivingEnd {
            image: Arc::clone(&target) as _,
            sink: Arc::clone(&target) as _,
            layout: self.layout,
            is_new: false,
            is_at_seal: true,
            seeds: has_seeds.then(|| Arc::new(index())),
            options: &self.options,
            progress: Arc::clone(&progress[1]),
            cancel,
        };
        let known = Known { digests: Box::new(Held(self.old_digests(), Vec::new())), ranges: self.unnamed() };
        let target_knows = Known { digests: Box::new(target_knows), ranges: vec![self.layout.blocks()] };
        let (sent, received) = std::thread::scope(|scope| {
            let sent = scope.spawn(|| sending.run(left, Some(known)));
            let received = receiving.run(right, Some(target_knows));
            (sent.join().expect("no panic").expect("sent"), received.expect("received"))
        });
        assert_eq!(sent, received.root);
        assert_same(&source, &target);
        Ran { target, sent: progress[0].clone(), received: progress[1].clone(), root: sent }
    }
}

/// A pass that ended well.
struct Ran {
    target: Arc<MemoryImage>,
    sent: Arc<Progress>,
    received: Arc<Progress>,
    root: Digest,
}

#[test]
fn what_both_ends_know_is_neither_read_nor_told_and_the_result_is_that_of_the_reference() {
    for seed in 0..25 {
        let mut random = Random::new(seed);
        let cycle = Cycle::new(&mut random);
        let digests = cycle.old_digests();
        let has_seeds = random.below(4) == 0;
        let agreed = cycle.run(Some(Held(digests.clone(), vec![])), Held(digests.clone(), vec![]), has_seeds);
        let streamed = cycle.run(None, Held(digests, vec![]), has_seeds);

        let (slow, source) = (MemoryImage::new(&cycle.old, []), MemoryImage::new(&cycle.new, []));
        let refines = cycle.options.refinement != Refinement::Off;
        let reference = reference_pass(&*source, &*slow, cycle.layout, refines).expect("a pass");
        assert_eq!((agreed.root, streamed.root), (reference.root, reference.root), "seed {seed}");
        if !has_seeds && cycle.options.refinement != Refinement::Auto {
            assert_eq!(agreed.target.written_pages(), streamed.target.written_pages(), "seed {seed}");
        }
        for counter in ["bytes_read_source", "blocks_differing", "blocks_repaired"] {
            let of = |ran: &Ran| ran.sent.all().find(|(name, _)| *name == counter);
            if !(counter == "bytes_read_source" && cycle.options.refinement == Refinement::Auto) {
                assert_eq!(of(&agreed), of(&streamed), "seed {seed}");
            }
        }
        assert_eq!(Progress::get(&agreed.sent.blocks_repaired), 0, "seed {seed}");
        // Each block that the feed names is read once, though it ships, unless a seed may hold it.
        let named: u64 = cycle.named.iter().map(|range| cycle.layout.bytes_of(*range).length_bytes()).sum();
        assert!(
            Progress::get(&agreed.sent.bytes_read_source) <= (1 + u64::from(has_seeds)) * named,
            "seed {seed}"
        );
        let told = |ran: &Ran| Progress::get(&ran.received.bytes_to_source);
        let digests_bytes = cycle.old_digests().iter().filter(|digest| !digest.is_zero()).count() as u64 * 16;
        if cycle.options.refinement != Refinement::Auto {
            // Acknowledgements and runs of zeros are as many as they happen to be.
            let (most, least) = (told(&streamed) + 8192, told(&agreed) + digests_bytes);
            assert!(least <= most, "seed {seed}: {least} of {most} bytes");
        }
    }
}

#[test]
fn a_base_or_digests_that_are_wrong_or_lost_cost_time_and_no_byte() {
    let mut repaired = 0;
    for seed in 0..25 {
        let mut random = Random::new(1000 + seed);
        let cycle = Cycle::new(&mut random);
        let count = cycle.layout.block_count();
        let damage = |random: &mut Random| {
            let mut digests = cycle.old_digests();
            for _ in 0..random.below(4) {
                let other = [Digest::ZERO, Digest([7; 32]), digests[random.below(count) as usize]];
                digests[random.below(count) as usize] = other[random.below(3) as usize];
            }
            // As though what changed had come before: only the roots tell.
            for named in cycle.named.iter().filter(|_| random.below(20) == 0) {
                let block = named.start.0 as usize;
                let bytes = &cycle.new[block * BLOCK as usize..];
                digests[block] = block_digest(&bytes[..bytes.len().min(BLOCK as usize)]);
            }
            digests
        };
        let base = Held(damage(&mut random), (0..random.below(3)).map(|_| random.below(count)).collect());
        let lost = (0..random.below(3)).map(|_| random.below(count)).collect();
        let ran = cycle.run(Some(base), Held(cycle.old_digests(), lost), random.below(4) == 0);
        repaired += Progress::get(&ran.sent.blocks_repaired);
    }
    assert!(repaired > 0, "some of it needed a repair");
}
