//! Passes, seals, rollbacks, thinning and losses by chance, with a model that keeps full copies.
//!
//! **Invariant**: what the player promises was answered by the store before; what may be undone or half done is noted
//! before the store is asked. So whatever a loss leaves can be judged by the notes of before it.

use crate::judge::{Due, assert_contents, check_trust, roll_back};
use crate::machine_model::{
    Contents, Note, Notes, Opened, PAGE_BYTES, PAGES_A_BLOCK, Site, bytes_of, digests_of, disk_ids, fill,
    layout_of, pages_of_block, plain,
};
use crate::support::{claim, root_of};
use failback_engine::Sink;
use failback_model::{BlockIndex, BlockRange, Code, Epoch, block_digest};
use failback_store::{Fingerprint, Phase};
use failback_testkit::Random;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Plays.
pub(crate) struct Player<'a> {
    site: &'a dyn Site,
    pub(crate) random: Random,
    pub(crate) notes: Notes,
    /// None while the process is dead.
    opened: Option<Opened>,
    sinks: Vec<Option<Arc<dyn Sink>>>,
    epoch: Epoch,
    /// What the disks are to hold; where a page is torn, what was last meant for it.
    now: Contents,
    torn: Vec<Vec<bool>>,
    /// Pages that were applied and not committed.
    pending: Vec<(usize, usize)>,
    /// Blocks that the session touched.
    begun: Vec<Vec<bool>>,
    points: Vec<(u64, Arc<Contents>)>,
    version: u32,
    /// How often each thing was done.
    pub(crate) done: BTreeMap<&'static str, u64>,
}

impl<'a> Player<'a> {
    /// Begins with disks that hold this, and no history.
    pub(crate) fn new(site: &'a dyn Site, now: Contents, seed: u64) -> Self {
        Self::with_points(site, site.open(), now, Vec::new(), seed)
    }

    /// Goes on behind a judgement, which ended at the newest point. `None` where there is none to go on from.
    pub(crate) fn resume(site: &'a dyn Site, opened: Opened, notes: &Notes, seed: u64) -> Option<Self> {
        let due = Due::of(notes, u64::MAX);
        let listed: Vec<u64> = opened.store.points().iter().map(|point| point.number).collect();
        let known = due.points.iter().chain(&due.going);
        let mut points: Vec<_> = known.filter(|(number, _)| listed.contains(number)).cloned().collect();
        points.sort_by_key(|(number, _)| *number);
        points.dedup_by_key(|(number, _)| *number);
        assert_eq!(points.iter().map(|(number, _)| *number).collect::<Vec<_>>(), listed, "all are known");
        let now = match points.last() {
            Some((_, contents)) => contents.to_vec(),
            // It was committed for good, and nothing was begun since.
            None => due.all_held()?,
        };
        let mut player = Self::with_points(site, opened, now, points, seed);
        let epochs = player.opened().disks.iter().map(|(disk, _)| disk.state().epoch);
        player.epoch = epochs.max()?.max(Epoch(player.opened().store.standing().epoch.0 + 1));
        // Versions of before stay what they are.
        player.version = (seed as u32 % 1000 + 2) * 1_000_000;
        player.notes = notes.clone();
        Some(player)
    }

    fn with_points(
        site: &'a dyn Site,
        opened: Opened,
        now: Contents,
        points: Vec<(u64, Arc<Contents>)>,
        seed: u64,
    ) -> Self {
        Self {
            site,
            random: Random::new(seed),
            notes: Notes::new(),
            opened: Some(opened),
            sinks: vec![None; now.len()],
            epoch: Epoch(1),
            torn: now.iter().map(|pages| vec![false; pages.len()]).collect(),
            begun: (0..now.len()).map(|disk| vec![false; layout_of(disk).block_count() as usize]).collect(),
            pending: Vec::new(),
            points,
            version: 1,
            now,
            done: BTreeMap::new(),
        }
    }

    /// Does so many things.
    pub(crate) fn play(&mut self, steps: u64) {
        for _ in 0..steps {
            match self.random.below(40) {
                0..4 => self.scan(),
                4..18 => self.write(),
                18..24 => self.commit(),
                24..27 => self.write_half(),
                27..29 => self.seal(0),
                29..35 => self.cycle(),
                35..37 => self.roll_back(),
                37 => self.thin(),
                38 => self.reopen(),
                _ => self.end_job(),
            }
        }
    }

    fn opened(&self) -> &Opened {
        self.opened.as_ref().expect("the process lives")
    }

    fn note(&mut self, note: Note) {
        self.site.noted(&note);
        self.notes.push((self.site.position(), note));
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn some_disk(&mut self) -> usize {
        self.random.below(self.now.len() as u64) as usize
    }

    /// The session of a disk, opened where there is none.
    fn sink(&mut self, disk: usize) -> Arc<dyn Sink> {
        if let Some(sink) = &self.sinks[disk] {
            return sink.clone();
        }
        let (store, image) = self.opened().disks[disk].clone();
        let is_first = self.points.is_empty();
        if is_first {
            self.note(Note::Coming(Arc::new(self.now.clone())));
        }
        let fingerprint = Fingerprint::of_image(&*image, self.epoch).expect("it is looked at");
        let number = store
            .open_session(self.epoch, layout_of(disk), false, &fingerprint)
            .unwrap_or_else(|error| panic!("a session: {error}"));
        if is_first {
            self.learn_points(&self.now.clone());
        }
        let sink = store.sink(image, number, claim());
        self.begun[disk].fill(false);
        self.pending.retain(|(of, _)| *of != disk);
        self.sinks[disk] = Some(sink.clone());
        sink
    }

    /// Points that the store has and the model does not: they hold this.
    fn learn_points(&mut self, contents: &Contents) {
        for point in self.opened().store.points() {
            if self.points.iter().all(|(number, _)| *number != point.number) {
                let contents = Arc::new(contents.clone());
                self.points.push((point.number, contents.clone()));
                self.note(Note::Point(point.number, contents));
            }
        }
    }

    fn some_blocks(&mut self, disk: usize) -> Range<usize> {
        let count = layout_of(disk).block_count();
        let start = self.random.below(count);
        start as usize..(start + 1 + self.random.below(3)).min(count) as usize
    }

    fn scan(&mut self) {
        let disk = self.some_disk();
        let (sink, blocks) = (self.sink(disk), self.some_blocks(disk));
        for block in blocks {
            let pages = pages_of_block(disk, block);
            if !self.torn[disk][pages.clone()].contains(&true) && !self.begun[disk][block] {
                let digest = block_digest(&plain(disk, &self.now[disk], pages));
                sink.scanned(one(block), Some(&[digest])).expect("logged");
            }
        }
        self.count("scans");
    }

    /// Pages of some blocks are begun; where this session touched a block before, its torn pages with them.
    fn begin(&mut self, disk: usize, pages: Range<usize>) {
        self.note(Note::MayChange(disk, pages.clone()));
        let (sink, range) = (self.sink(disk), bytes_of(disk, pages.clone()));
        let blocks = layout_of(disk).blocks_covering(range);
        sink.begin(&[blocks], &[range]).unwrap_or_else(|error| panic!("begin {range:?}: {error}"));
        for page in pages {
            self.begun[disk][page / PAGES_A_BLOCK] = true;
            self.pending.retain(|pending| *pending != (disk, page));
        }
    }

    /// Writes some pages of some blocks, and all that is torn in them, and says that the blocks are applied.
    fn write(&mut self) {
        let disk = self.some_disk();
        let blocks = self.some_blocks(disk);
        self.sink(disk);
        let is_zeros = self.random.below(5) == 0;
        for block in blocks {
            let all = pages_of_block(disk, block);
            let start = all.start + self.random.below(all.len() as u64) as usize;
            let end = start + 1 + self.random.below((all.end - start) as u64) as usize;
            self.version += 1;
            let version = if is_zeros { 0 } else { self.version };
            self.write_pages(disk, start..end, version);
            self.mend(disk, block);
        }
        self.count("writes");
    }

    fn write_pages(&mut self, disk: usize, pages: Range<usize>, version: u32) {
        self.begin(disk, pages.clone());
        let sink = self.sink(disk);
        self.now[disk][pages.clone()].fill(version);
        let range = bytes_of(disk, pages.clone());
        match version {
            0 => sink.zero(range).expect("zeroed"),
            _ => sink.write(range.start(), &plain(disk, &self.now[disk], pages.clone())).expect("written"),
        }
        for page in pages {
            self.torn[disk][page] = false;
            self.pending.push((disk, page));
        }
    }

    /// Writes what is torn in a block, and says that the block is applied.
    fn mend(&mut self, disk: usize, block: usize) {
        for page in pages_of_block(disk, block) {
            if self.torn[disk][page] {
                self.version += 1;
                self.write_pages(disk, page..page + 1, self.version);
            }
        }
        let digest = block_digest(&plain(disk, &self.now[disk], pages_of_block(disk, block)));
        let sink = self.sink(disk);
        match digest.is_zero() {
            true => sink.applied(&[], &[one(block)]).expect("applied"),
            false => sink.applied(&[(BlockIndex(block as u64), digest)], &[]).expect("applied"),
        }
    }

    /// Begins pages and writes a part of them.
    fn write_half(&mut self) {
        let disk = self.some_disk();
        let blocks = self.some_blocks(disk);
        let sink = self.sink(disk);
        let pages = pages_of_block(disk, blocks.start);
        self.begin(disk, pages.clone());
        self.torn[disk][pages.clone()].fill(true);
        self.version += 1;
        let mut bytes = vec![0; PAGE_BYTES as usize / 2];
        fill(self.version, &mut bytes);
        sink.write(bytes_of(disk, pages).start(), &bytes).expect("written");
        self.count("halves");
    }

    fn commit(&mut self) {
        let disk = self.some_disk();
        self.commit_disk(disk);
        self.count("commits");
    }

    fn commit_disk(&mut self, disk: usize) {
        self.sink(disk).commit().expect("committed");
        let mut holds = Vec::new();
        for (of, page) in std::mem::take(&mut self.pending) {
            if of == disk {
                holds.push((of, page, self.now[of][page]));
            } else {
                self.pending.push((of, page));
            }
        }
        self.note(Note::Holds(holds));
    }

    /// Ends a pass of one disk: scans what is unknown, writes what was begun and is not, and seals.
    fn seal(&mut self, disk: usize) {
        self.commit_disk(disk);
        let sink = self.sink(disk);
        let trusted = self.opened().disks[disk].0.trusted().expect("known").ranges;
        let is_trusted =
            |block: usize| trusted.iter().any(|run| run.iter().any(|held| held.0 == block as u64));
        for block in 0..layout_of(disk).block_count() as usize {
            let is_torn = self.torn[disk][pages_of_block(disk, block)].contains(&true);
            if is_torn || self.begun[disk][block] && !is_trusted(block) {
                self.version += 1;
                self.write_pages(disk, pages_of_block(disk, block), self.version);
                self.mend(disk, block);
            } else if !is_trusted(block) {
                let digest = block_digest(&plain(disk, &self.now[disk], pages_of_block(disk, block)));
                sink.scanned(one(block), Some(&[digest])).expect("logged");
            }
        }
        let root = root_of(layout_of(disk), &digests_of(disk, &self.now[disk]));
        let held: Vec<_> =
            self.now[disk].iter().enumerate().map(|(page, held)| (disk, page, *held)).collect();
        self.note(Note::Coming(Arc::new(self.now.clone())));
        sink.seal(root).expect("sealed");
        assert_eq!(self.opened().disks[disk].0.state().root, Some(root));
        self.pending.retain(|(of, _)| *of != disk);
        self.note(Note::Holds(held));
        // The next pass of the disk is a session of its own.
        self.sinks[disk] = None;
        self.record();
        self.count("seals");
    }

    /// Asks for a point of what is there.
    fn record(&mut self) {
        self.note(Note::Coming(Arc::new(self.now.clone())));
        if self.opened().store.record_point(&disk_ids()).expect("asked").is_some() {
            self.count("points");
        }
        self.learn_points(&self.now.clone());
    }

    /// A pass of all disks.
    fn cycle(&mut self) {
        let changes = self.random.below(4);
        (0..changes).for_each(|_| self.write());
        (0..self.now.len()).for_each(|disk| self.seal(disk));
        self.count("cycles");
    }

    fn some_point(&mut self) -> Option<(u64, Arc<Contents>)> {
        let at = self.random.below(self.points.len().max(1) as u64) as usize;
        self.points.get(at).cloned()
    }

    fn roll_back(&mut self) {
        let Some((number, contents)) = self.some_point() else { return };
        self.all_may_change();
        self.note(Note::Coming(contents.clone()));
        roll_back(self.opened(), number).unwrap_or_else(|error| panic!("back to {number}: {error}"));
        self.stands_at(&contents);
        self.learn_points(&contents);
        self.count("rollbacks");
    }

    fn all_may_change(&mut self) {
        for disk in 0..self.now.len() {
            self.note(Note::MayChange(disk, 0..self.now[disk].len()));
        }
    }

    /// Everything is as it was at a point, and durable.
    fn stands_at(&mut self, contents: &Contents) {
        self.now = contents.clone();
        self.torn.iter_mut().for_each(|torn| torn.fill(false));
        self.pending.clear();
        self.sinks.fill(None);
        assert_contents(self.opened(), contents, "after a rollback");
        let pages = contents.iter().enumerate();
        let all = pages.flat_map(|(disk, pages)| {
            pages.iter().enumerate().map(move |(page, version)| (disk, page, *version))
        });
        let all = all.collect();
        self.note(Note::Holds(all));
    }

    /// Gives up some points; now and then the original with them.
    fn thin(&mut self) {
        let gives_up_cancel = self.random.below(4) == 0;
        let older = self.points.len().saturating_sub(1);
        let chosen: Vec<u64> = self.points[..older]
            .iter()
            .map(|(number, _)| *number)
            .filter(|number| (*number > 0 || gives_up_cancel) && self.random.below(2) == 0)
            .collect();
        self.note(Note::MayGo(chosen.clone()));
        self.opened().store.drop_points(&chosen, gives_up_cancel).expect("dropped");
        self.points.retain(|(number, _)| !chosen.contains(number));
        self.note(Note::Gone(chosen));
        self.count("thinnings");
    }

    /// The process is killed and starts again; what it had written is in the kernel's cache.
    pub(crate) fn reopen(&mut self) {
        self.sinks.fill(None);
        self.pending.clear();
        self.opened = None;
        let opened = self.site.open();
        assert!(opened.store.recovered().findings.is_empty(), "{:?}", opened.store.recovered());
        check_trust(&opened, "after a kill");
        self.opened = Some(opened);
        self.record();
        self.count("kills");
    }

    /// The machine is handed over, or given back as it was, or what it is becomes final; then another job begins.
    fn end_job(&mut self) {
        let store = Arc::clone(&self.opened().store);
        let Some((number, contents)) = self.some_point() else { return };
        let is_final = self.random.below(3) == 0;
        self.all_may_change();
        self.note(Note::Coming(contents.clone()));
        roll_back(self.opened(), number).expect("rolled back");
        self.stands_at(&contents);
        self.learn_points(&contents);
        let at = store.standing().at.expect("a rollback ends at a point");
        let phase = match number {
            0 => Phase::Cancelled,
            _ => Phase::Released { point: at },
        };
        store.release(phase).expect("released");
        assert_eq!(store.standing().phase, phase);
        let epoch = store.standing().epoch;
        self.note(Note::Over(epoch));
        let (disk, image) = &self.opened().disks[0];
        let fingerprint = Fingerprint::of_image(&**image, epoch).expect("it is looked at");
        let refused = disk.open_session(epoch, layout_of(0), false, &fingerprint);
        assert_eq!(refused.expect_err("the job is over").code(), Code::MachineReleased);
        if is_final {
            let all: Vec<u64> = self.points.drain(..).map(|(number, _)| number).collect();
            self.note(Note::MayGo(all.clone()));
            store.commit().expect("committed");
            assert_eq!(store.commit().expect_err("once").code(), Code::AlreadyCommitted);
            assert!(store.points().is_empty());
            self.note(Note::Gone(all));
            self.count("commits for good");
        }
        self.epoch = Epoch(self.epoch.0 + 1);
        self.count("jobs");
    }
}

fn one(block: usize) -> BlockRange {
    BlockRange::new(block as u64, block as u64 + 1)
}
