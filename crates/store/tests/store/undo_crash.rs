//! Power cuts at every point of passes, seals, rollbacks, thinning, commits and of recovery itself, with any part of what was
//! not made durable: what was acknowledged stays, sealed points restore exactly, also after another cut in the way back.
//!
//! `tools/long crash-states` asks for more states by FAILBACK_CRASH_STATES, from another FAILBACK_SEED.

use crate::cut_medium::{Contents, CutMedium};
use crate::judge::judge;
use crate::machine_model::{Notes, Opened, Site, all_bytes, original};
use crate::player::Player;
use crate::support::{DeviceImage, machine};
use crate::undo_oracle::Segments;
use failback_store::{MachineStore, Medium};
use failback_testkit::{MemoryDevice, Random, asked};
use std::collections::BTreeMap;

/// So short that a pass goes through several, of the journal and of undo.
const SEGMENT_BYTES: u64 = 24 << 10;

/// Enough for everything to be played.
const USUAL_STATES: u64 = 2500;

/// Media in memory that remember.
pub(crate) struct Recorded {
    medium: CutMedium,
}

impl Recorded {
    pub(crate) fn over(contents: &Contents, seed: u64) -> Self {
        let ahead_bytes = (seed % 2) * 4 * crate::support::BLOCK_BYTES;
        Self { medium: CutMedium::over(contents, SEGMENT_BYTES, ahead_bytes) }
    }

    /// Disks that are what they were before anything happened.
    pub(crate) fn new(seed: u64) -> Self {
        let images = original().into_iter().enumerate();
        let images = images.map(|(disk, pages)| MemoryDevice::from_bytes(&all_bytes(disk, &pages)));
        Self::over(&Contents::with_images(images), seed)
    }

    /// What a power cut leaves after so many changes.
    pub(crate) fn cut(&self, position: u64, random: &mut Random) -> Contents {
        self.medium.cut(position as usize, random)
    }
}

impl Site for Recorded {
    fn open(&self) -> Opened {
        let undo = Box::new(self.medium.folder("undo/"));
        let store = MachineStore::open_on(Box::new(self.medium.clone()), Some(undo), &machine())
            .unwrap_or_else(|error| panic!("recovery: {error}"));
        let image = |disk| DeviceImage::new(self.medium.image_of(disk)) as _;
        Opened::new(store, vec![image(0), image(1)])
    }

    fn undo(&self) -> Segments {
        let undo = self.medium.folder("undo/");
        let read = |name: String| {
            let file = undo.open(&name).expect("opened");
            let mut bytes = vec![0; file.length_bytes() as usize];
            file.read_at(0, &mut bytes).expect("read");
            (name, bytes)
        };
        undo.names().expect("listed").into_iter().map(read).collect()
    }

    fn position(&self) -> u64 {
        self.medium.events() as u64
    }
}

/// Recovers what a cut left, on media that remember, and judges it. Where the way back is cut, too, and what was noted.
fn recover(
    left: &Contents,
    notes: &Notes,
    position: u64,
    random: &mut Random,
    what: &str,
) -> (Recorded, Notes) {
    let site = Recorded::over(left, random.below(2));
    let opened = site.open();
    let done = judge(&site, &opened, notes, position, random, what);
    drop(opened);
    (site, done)
}

/// What was promised up to a cut, as promises of what came after it.
pub(crate) fn carried(notes: &Notes, position: u64, more: Notes) -> Notes {
    let carried = notes.iter().filter(|(at, _)| *at <= position).map(|(_, note)| (0, note.clone()));
    carried.chain(more).collect()
}

#[test]
fn whatever_a_cut_leaves_leads_back_to_every_point() {
    let wanted = asked("FAILBACK_CRASH_STATES", USUAL_STATES);
    let mut seed = asked("FAILBACK_SEED", 1);
    let (mut states, mut again, mut done) = (0, 0, BTreeMap::new());
    while states < wanted {
        let site = Recorded::new(seed);
        let mut player = Player::new(&site, original(), seed);
        player.play(25);
        let (notes, end) = (player.notes.clone(), site.position());
        for (what, count) in &player.done {
            *done.entry(*what).or_insert(0) += count;
        }
        let mut random = Random::new(seed ^ 0xc0_ffee);
        for position in 0..=end {
            let left = site.cut(position, &mut random);
            let what = format!("seed {seed}, cut after {position} of {end}");
            let (recovered, more) = recover(&left, &notes, position, &mut random, &what);
            states += 1;
            // Recovery and the way back are cut now and then.
            if random.below(4) == 0 {
                let second = random.below(recovered.position() + 1);
                let left = recovered.cut(second, &mut random);
                let notes = carried(&notes, position, more);
                recover(&left, &notes, second, &mut random, &format!("{what}, again after {second}"));
                (states, again) = (states + 1, again + 1);
            }
        }
        seed += 1;
    }
    println!(
        "{states} states after power cuts, {again} of them after a second cut in recovery or on the way back"
    );
    println!("in runs of {done:?}");
    if wanted < USUAL_STATES {
        return;
    }
    let all = ["cycles", "seals", "rollbacks", "thinnings", "kills", "jobs", "commits for good", "points"];
    all.iter().for_each(|what| assert!(done.contains_key(what), "{what} were never played: {done:?}"));
}
