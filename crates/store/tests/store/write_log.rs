//! Power cuts by the kernel's own order of writes: image and journal lie on one real file system, whose disk logs what is
//! written to it; every state that a cut could have left is mounted, recovered and judged.

use crate::judge::judge;
use crate::machine_model::{Opened, Site, all_bytes, original};
use crate::player::Player;
use crate::support::{BLOCK_BYTES, claim, contents, digest, disk_id, layout, machine, range, root_of};
use crate::undo_oracle::{Segments, segments_in};
use failback_engine::Sink;
use failback_image::{Access, Image, ImageSpec};
use failback_model::{Digest, Epoch, block_digest};
use failback_store::{Fingerprint, MachineStore};
use failback_testkit::{LoggedFileSystem, Random, asked};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BLOCKS: u64 = 96;
/// A way back wants room for a segment of undo.
const FILE_SYSTEM_BYTES: u64 = 160 << 20;

fn open(folder: &Path) -> (Arc<MachineStore>, Arc<dyn Image>) {
    let store = MachineStore::open(&folder.join("store"), None, &machine()).expect("recovered");
    let image = ImageSpec::parse(folder.join("disk.raw"));
    (store, failback_image::open(&image, Access::Write).expect("opened"))
}

fn version(byte: u8) -> Option<Digest> {
    (byte > 0).then(|| digest(byte))
}

#[test]
fn every_cut_of_a_real_file_system_is_recovered() {
    let medium = LoggedFileSystem::new(FILE_SYSTEM_BYTES, |folder| {
        std::fs::write(folder.join("disk.raw"), contents(200).repeat(BLOCKS as usize)).expect("written");
    });
    let mut random = Random::new(7);
    // What each block was promised to be, and from which entry of the log on.
    let mut promises: Vec<(u64, Vec<Option<Digest>>)> = vec![(0, vec![None; BLOCKS as usize])];
    let mut begun: Vec<(u64, u64)> = Vec::new();
    let (store, image) = open(medium.path());
    let disk = store.disk(&disk_id()).expect("a disk");
    let number = disk
        .open_session(Epoch(1), layout(BLOCKS), false, &Fingerprint::of_text("a job"))
        .expect("a session");
    let sink = disk.sink(image.clone(), number, claim());
    let mut now = vec![200; BLOCKS as usize];
    for round in 1..=40 {
        let start = random.below(BLOCKS);
        let blocks = range(start, (start + 1 + random.below(4)).min(BLOCKS));
        blocks.iter().for_each(|block| begun.push((medium.flushed(), block.0)));
        sink.begin(&[blocks], &[layout(BLOCKS).bytes_of(blocks)]).expect("begun");
        for block in blocks.iter() {
            sink.write(block.0 * BLOCK_BYTES, &contents(round)).expect("written");
            now[block.0 as usize] = round;
        }
        let digests: Vec<_> = blocks.iter().map(|block| (block, digest(round))).collect();
        sink.applied(&digests, &[]).expect("applied");
        if random.below(3) == 0 {
            sink.commit().expect("committed");
            let known = now.iter().map(|&byte| version(byte).filter(|_| byte != 200)).collect();
            promises.push((medium.flushed(), known));
        }
    }
    let sealed_root = seal(&*sink, &now, &begun);
    let sealed_at = medium.flushed();
    let log = medium.written();
    let mut states = 0;
    for entries in 0..=log.entries() {
        let cut = log.cut(entries, &mut random);
        let what = format!("cut after {entries} of {} entries", log.entries());
        let (store, image) = open(cut.path());
        assert!(store.recovered().findings.is_empty(), "{what}: {:?}", store.recovered());
        let disk = store.disk(&disk_id()).expect("a disk");
        if entries >= sealed_at {
            assert_eq!(disk.state().root, Some(sealed_root), "{what}: a seal was promised");
        }
        judge_trust(&disk, &*image, &promises, &begun, entries, &what);
        states += 1;
    }
    println!("{states} states of a disk after power cuts");
}

fn seal(sink: &dyn Sink, now: &[u8], begun: &[(u64, u64)]) -> Digest {
    for block in (0..BLOCKS).filter(|&block| begun.iter().all(|&(_, begun)| begun != block)) {
        sink.scanned(range(block, block + 1), Some(&[digest(200)])).expect("logged");
    }
    let digests: Vec<_> = now.iter().map(|&byte| digest(byte)).collect();
    let root = root_of(layout(BLOCKS), &digests);
    sink.seal(root).expect("sealed");
    root
}

/// What is trusted is what the image holds, what was promised is trusted, and what was not begun is as it was.
fn judge_trust(
    disk: &failback_store::DiskStore,
    image: &dyn Image,
    promises: &[(u64, Vec<Option<Digest>>)],
    begun: &[(u64, u64)],
    entries: u64,
    what: &str,
) {
    let held = |block: u64| {
        let mut bytes = contents(0);
        image.read_at(block * BLOCK_BYTES, &mut bytes).expect("a block of the disk");
        block_digest(&bytes)
    };
    let trusted = disk.trusted().expect("read");
    for run in trusted.ranges {
        for (block, digest) in run.iter().zip(trusted.digests.digests(run).expect("read")) {
            assert_eq!(digest, held(block.0), "{what}: block {block:?} is trusted");
        }
    }
    let (promised_at, promised) = promises.iter().rfind(|(at, _)| *at <= entries).expect("one at 0");
    for block in 0..BLOCKS {
        let mut changes = begun.iter().filter(|(_, begun)| *begun == block);
        let is_untouched = changes.clone().all(|(at, _)| *at > entries);
        assert!(!is_untouched || held(block) == digest(200), "{what}: block {block} was not begun");
        let is_settled = changes.all(|(at, _)| at < promised_at || *at > entries);
        let promise = promised[block as usize].filter(|_| is_settled);
        assert!(promise.is_none_or(|digest| held(block) == digest), "{what}: block {block} was promised");
    }
}

/// A machine whose images, journal and undo log lie on one file system.
struct Mounted<'a> {
    folder: &'a Path,
    logged: Option<&'a LoggedFileSystem>,
}

impl Site for Mounted<'_> {
    fn open(&self) -> Opened {
        let [store, undo] = ["store", "undo"].map(|name| self.folder.join(name));
        let store = MachineStore::open(&store, Some(&undo), &machine());
        let image = |disk| {
            let image = ImageSpec::parse(image_path(self.folder, disk));
            failback_image::open(&image, Access::Write).expect("opened")
        };
        Opened::new(store.unwrap_or_else(|error| panic!("recovery: {error}")), vec![image(0), image(1)])
    }

    fn undo(&self) -> Segments {
        segments_in(&self.folder.join("undo"))
    }

    fn position(&self) -> u64 {
        self.logged.map_or(0, LoggedFileSystem::flushed)
    }
}

fn image_path(folder: &Path, disk: usize) -> PathBuf {
    folder.join(format!("disk-{disk}.raw"))
}

#[test]
fn every_cut_of_a_real_file_system_leads_back_to_every_point() {
    let wanted = asked("FAILBACK_WRITE_LOG_STATES", 120);
    let mut seed = asked("FAILBACK_SEED", 3);
    let mut states = 0;
    while states < wanted {
        let medium = LoggedFileSystem::new(FILE_SYSTEM_BYTES, |folder| {
            for (disk, pages) in original().iter().enumerate() {
                std::fs::write(image_path(folder, disk), all_bytes(disk, pages)).expect("written");
            }
        });
        let site = Mounted { folder: medium.path(), logged: Some(&medium) };
        let mut player = Player::new(&site, original(), seed);
        player.play(20);
        let (notes, log) = (player.notes.clone(), medium.written());
        drop(player);
        let mut random = Random::new(seed);
        for entries in 0..=log.entries() {
            let cut = log.cut(entries, &mut random);
            let site = Mounted { folder: cut.path(), logged: None };
            let what = format!("seed {seed}, cut after {entries} of {} entries", log.entries());
            judge(&site, &site.open(), &notes, entries, &mut random, &what);
            states += 1;
            if states >= wanted {
                break;
            }
        }
        seed += 1;
    }
    println!("{states} states of a machine after power cuts, by the kernel's own order of writes");
}
