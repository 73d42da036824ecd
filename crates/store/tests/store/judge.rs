//! What a loss left is judged by the notes of before it.

use crate::machine_model::{
    Contents, LENGTHS, Note, Notes, Opened, PAGE_BYTES, Site, all_bytes, fill, layout_of, page_range,
};
use crate::undo_oracle::take_back;
use failback_model::{Epoch, block_digest};
use failback_store::{RollbackProgress, StoreError};
use failback_testkit::Random;
use std::sync::Arc;

/// Goes back to a point.
pub(crate) fn roll_back(opened: &Opened, point: u64) -> Result<u64, StoreError> {
    let progress = RollbackProgress::default();
    let done = opened.store.roll_back(point, &opened.disks, &progress, &|| false)?;
    Ok(done.point)
}

/// The disks hold this, byte for byte.
#[track_caller]
pub(crate) fn assert_contents(opened: &Opened, contents: &Contents, what: &str) {
    for (disk, pages) in contents.iter().enumerate() {
        let (held, expected) = (held(opened, disk), all_bytes(disk, pages));
        let differs = held.iter().zip(&expected).position(|(held, expected)| held != expected);
        assert_eq!(differs, None, "{what}: disk {disk} differs from this byte on");
    }
}

/// Every digest that is trusted is that of the image.
#[track_caller]
pub(crate) fn check_trust(opened: &Opened, what: &str) {
    for (disk, (store, image)) in opened.disks.iter().enumerate() {
        let trusted = store.trusted().expect("read");
        for run in trusted.ranges {
            for (block, digest) in run.iter().zip(trusted.digests.digests(run).expect("read")) {
                let range = layout_of(disk).block_bytes(block);
                let mut bytes = vec![0; range.length_bytes() as usize];
                image.read_at(range.start(), &mut bytes).expect("a block of the disk");
                assert_eq!(
                    digest,
                    block_digest(&bytes),
                    "{what}: block {} of disk {disk} is trusted",
                    block.0
                );
            }
        }
    }
}

/// What the notes of before a loss come to.
pub(crate) struct Due {
    /// Points that must be there.
    pub(crate) points: Vec<(u64, Arc<Contents>)>,
    /// Points that may be.
    pub(crate) going: Vec<(u64, Arc<Contents>)>,
    /// What a point may hold that is not among them, the newest last.
    coming: Vec<Arc<Contents>>,
    /// What pages hold for certain.
    holds: Vec<Vec<Option<u32>>>,
    /// Up to which epoch jobs are over.
    over: Epoch,
}

impl Due {
    pub(crate) fn of(notes: &Notes, position: u64) -> Self {
        let pages = |disk: &u64| vec![None; disk.div_ceil(PAGE_BYTES) as usize];
        let holds = LENGTHS.iter().map(pages).collect();
        let mut due =
            Self { points: Vec::new(), going: Vec::new(), coming: Vec::new(), holds, over: Epoch(0) };
        for (_, note) in notes.iter().filter(|(at, _)| *at <= position) {
            match note {
                Note::Holds(pages) => {
                    pages.iter().for_each(|&(disk, page, version)| due.holds[disk][page] = Some(version));
                }
                Note::MayChange(disk, pages) => due.holds[*disk][pages.clone()].fill(None),
                Note::Coming(contents) => due.coming.push(contents.clone()),
                Note::Point(number, contents) => due.points.push((*number, contents.clone())),
                Note::MayGo(numbers) => {
                    due.going.extend(due.points.extract_if(.., |(number, _)| numbers.contains(number)));
                }
                Note::Gone(numbers) => due.going.retain(|(number, _)| !numbers.contains(number)),
                Note::Over(epoch) => due.over = *epoch,
            }
        }
        due
    }

    /// What the disks hold, where all of it was acknowledged.
    pub(crate) fn all_held(&self) -> Option<Contents> {
        self.holds.iter().map(|pages| pages.iter().copied().collect()).collect()
    }

    /// What a point that is listed may hold: what is known of it, or what was coming last, as all else came or failed to;
    /// or what was coming before that, where two were coming at once.
    fn candidates(&self, number: u64) -> Vec<Arc<Contents>> {
        let known = self.points.iter().chain(&self.going).find(|(held, _)| *held == number);
        match known {
            Some((_, contents)) => vec![contents.clone()],
            None => self.coming.iter().rev().take(2).cloned().collect(),
        }
    }
}

/// Judges what a loss left by the notes of before it, then goes back to points of it and forward again. What is noted
/// meanwhile is returned.
pub(crate) fn judge(
    site: &dyn Site,
    opened: &Opened,
    notes: &Notes,
    position: u64,
    random: &mut Random,
    what: &str,
) -> Notes {
    assert!(opened.store.recovered().findings.is_empty(), "{what}: {:?}", opened.store.recovered());
    check_trust(opened, what);
    let due = Due::of(notes, position);
    check_acknowledged(opened, &due.holds, what);
    let mut numbers: Vec<u64> = opened.store.points().iter().map(|point| point.number).collect();
    for (number, _) in &due.points {
        assert!(numbers.contains(number), "{what}: point {number} is not among {numbers:?}");
    }
    assert!(opened.store.standing().epoch >= due.over, "{what}: the job of {:?} goes on", due.over);
    if let Some(oldest) = numbers.first() {
        let mut disks: Vec<Vec<u8>> = (0..LENGTHS.len()).map(|disk| held(opened, disk)).collect();
        take_back(&site.undo(), &mut disks);
        let candidates = due.candidates(*oldest);
        let is_one = candidates.iter().any(|contents| {
            disks.iter().enumerate().all(|(disk, held)| *held == all_bytes(disk, &contents[disk]))
        });
        assert!(is_one, "{what}: undo in reverse does not lead to point {oldest}");
    }
    // Numbers begin anew behind a commit: what went is not taken for what comes.
    let gone = due.going.iter().map(|(number, _)| *number).filter(|number| !numbers.contains(number));
    let mut done = vec![(site.position(), Note::Gone(gone.collect()))];
    // The newest first, which undoes a partial pass; then any other, then forward again.
    let newest = numbers.pop();
    let other = (!numbers.is_empty()).then(|| numbers[random.below(numbers.len() as u64) as usize]);
    for number in newest.into_iter().chain(other).chain(newest) {
        let what = format!("{what}: back to point {number}");
        let candidates = due.candidates(number);
        (0..LENGTHS.len()).for_each(|disk| {
            done.push((site.position(), Note::MayChange(disk, 0..due.holds[disk].len())));
        });
        done.extend(candidates.iter().map(|contents| (site.position(), Note::Coming(contents.clone()))));
        let stands_at = roll_back(opened, number).unwrap_or_else(|error| panic!("{what}: {error}"));
        let contents = any_of(opened, &candidates, &what);
        assert_contents(opened, &contents, &what);
        done.push((site.position(), Note::Point(number, contents.clone())));
        done.push((site.position(), Note::Point(stands_at, contents)));
        check_trust(opened, &what);
    }
    done
}

/// Pages that were acknowledged and not begun again hold what was acknowledged.
#[track_caller]
fn check_acknowledged(opened: &Opened, holds: &[Vec<Option<u32>>], what: &str) {
    for (disk, versions) in holds.iter().enumerate() {
        let held = held(opened, disk);
        for (page, version) in versions.iter().enumerate() {
            let Some(version) = *version else { continue };
            let range = page_range(disk, page);
            let held = &held[range.start() as usize..range.end() as usize];
            let mut expected = vec![0; held.len()];
            fill(version, &mut expected);
            assert!(held == expected, "{what}: page {page} of disk {disk} was acknowledged as {version}");
        }
    }
}

/// What a disk holds.
fn held(opened: &Opened, disk: usize) -> Vec<u8> {
    let mut held = vec![0; LENGTHS[disk] as usize];
    opened.disks[disk].1.read_at(0, &mut held).expect("a disk is read");
    held
}

/// The one of these that the disks hold.
#[track_caller]
fn any_of(opened: &Opened, candidates: &[Arc<Contents>], what: &str) -> Arc<Contents> {
    let is_held = |contents: &&Arc<Contents>| {
        (0..LENGTHS.len()).all(|disk| held(opened, disk) == all_bytes(disk, &contents[disk]))
    };
    let found = candidates.iter().find(is_held);
    found.unwrap_or_else(|| panic!("{what}: none of {} states that it may be", candidates.len())).clone()
}
