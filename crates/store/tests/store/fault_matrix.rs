//! One call fails, whichever it is: of the journal, of the undo log or of the image, in a pass, a seal, a way back or while
//! points are given up. The error says what failed; once the medium is healed every point is what it was, nothing is half
//! applied, and the machine goes on.

use crate::support::{
    BLOCK_BYTES, DeviceImage, MemoryMedium, claim, contents, digest, disk_id, layout, machine, range, root_of,
};
use failback_blockio::Device;
use failback_image::Image;
use failback_model::{Code, Epoch};
use failback_store::{Fingerprint, MachineStore, OpenDisk, RollbackProgress, StoreError};
use failback_testkit::{Call, Calls, Damage, Fault, Faulty, MemoryDevice, When};
use std::sync::Arc;

pub(crate) const BLOCKS: u64 = 6;
/// Short, so that segments change.
const SEGMENT_BYTES: u64 = 48 << 10;

/// What the disk holds, a version for each block.
pub(crate) type Versions = [u8; BLOCKS as usize];

pub(crate) const ORIGINAL: Versions = [101, 102, 0, 104, 105, 106];
pub(crate) const FIRST: Versions = [1, 102, 2, 104, 0, 106];
const SECOND: Versions = [3, 102, 4, 5, 0, 0];

/// What the points of the script hold, by number.
const POINTS: [Versions; 5] = [ORIGINAL, FIRST, SECOND, ORIGINAL, SECOND];

/// Which media one of them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Journal,
    Undo,
    Image,
}

pub(crate) struct Media {
    pub(crate) journal: MemoryMedium,
    pub(crate) undo: MemoryMedium,
    pub(crate) image: Arc<dyn Device>,
}

impl Media {
    fn new(place: Place, fault: Fault) -> (Self, Calls) {
        let calls = Calls::default();
        let medium = |of: Place| {
            let calls = calls.clone();
            let mut medium = MemoryMedium::made_of(move |name| {
                let device = MemoryDevice::new(0).named(name);
                match of == place {
                    true => Arc::new(Faulty::counted(device, [fault], calls.clone())),
                    false => Arc::new(device),
                }
            });
            medium.segment_max_bytes = SEGMENT_BYTES;
            medium
        };
        let bytes: Vec<u8> = ORIGINAL.into_iter().flat_map(contents).collect();
        let image = MemoryDevice::from_bytes(&bytes).named("disk.raw");
        let image: Arc<dyn Device> = match place == Place::Image {
            true => Arc::new(Faulty::counted(image, [fault], calls.clone())),
            false => Arc::new(image),
        };
        (Self { journal: medium(Place::Journal), undo: medium(Place::Undo), image }, calls)
    }

    /// Media that do not fail.
    pub(crate) fn sound() -> Self {
        let never = Fault { call: Call::Read, when: When::Nth(u64::MAX), damage: Damage::Io };
        Self::new(Place::Journal, never).0
    }

    /// The same media as others that do not fail.
    pub(crate) fn healed(&self) -> Self {
        let mut bytes = vec![0; self.image.length_bytes() as usize];
        // The fault struck already.
        self.image.read_at(0, &mut bytes).expect("the medium is healed");
        let image = Arc::new(MemoryDevice::from_bytes(&bytes).named("disk.raw"));
        Self { journal: self.journal.repaired(), undo: self.undo.repaired(), image }
    }

    pub(crate) fn open(&self) -> Result<(Arc<MachineStore>, [OpenDisk; 1]), StoreError> {
        let undo = Box::new(self.undo.clone());
        let store = MachineStore::open_on(Box::new(self.journal.clone()), Some(undo), &machine())?;
        let disk = store.disk(&disk_id())?;
        let image: Arc<dyn Image> = DeviceImage::new(self.image.clone());
        Ok((store, [(disk, image)]))
    }
}

/// A pass that brings the disk from one state to another, and seals it where it is to.
pub(crate) fn pass(
    disks: &[OpenDisk; 1],
    from: Versions,
    to: Versions,
    seals: bool,
) -> Result<(), StoreError> {
    let (disk, image) = &disks[0];
    let number = disk.open_session(Epoch(1), layout(BLOCKS), false, &Fingerprint::of_text("a job"))?;
    let sink = disk.sink(image.clone(), number, claim());
    for block in 0..BLOCKS {
        let (old, new) = (from[block as usize], to[block as usize]);
        let blocks = range(block, block + 1);
        if old == new {
            sink.scanned(blocks, Some(&[digest(new)]))?;
            continue;
        }
        let bytes = layout(BLOCKS).bytes_of(blocks);
        sink.begin(&[blocks], &[bytes])?;
        if new == 0 {
            sink.zero(bytes)?;
            sink.applied(&[], &[blocks])?;
        } else {
            sink.write(block * BLOCK_BYTES, &contents(new))?;
            sink.applied(&[(blocks.start, digest(new))], &[])?;
        }
        if block % 2 == 0 {
            sink.commit()?;
        }
    }
    sink.commit()?;
    if seals {
        sink.seal(root_of(layout(BLOCKS), &to.map(digest)))?;
    }
    Ok(())
}

pub(crate) fn go_to(store: &MachineStore, disks: &[OpenDisk; 1], point: u64) -> Result<(), StoreError> {
    store.roll_back(point, disks, &RollbackProgress::default(), &|| false).map(drop)
}

/// Two passes that are sealed and one that is not, back to the original, forward to the second, and the first is given up.
fn script(media: &Media) -> Result<(), StoreError> {
    let (store, disks) = media.open()?;
    pass(&disks, ORIGINAL, FIRST, true)?;
    store.record_point(&[disk_id()])?;
    pass(&disks, FIRST, SECOND, true)?;
    store.record_point(&[disk_id()])?;
    pass(&disks, SECOND, [9; BLOCKS as usize], false)?;
    go_to(&store, &disks, 0)?;
    go_to(&store, &disks, 2)?;
    store.drop_points(&[1], false)?;
    Ok(())
}

pub(crate) fn assert_holds(disks: &[OpenDisk; 1], versions: Versions, what: &str) {
    let mut bytes = vec![0; (BLOCKS * BLOCK_BYTES) as usize];
    disks[0].1.read_at(0, &mut bytes).expect("read");
    let held: Vec<u8> = bytes.chunks(BLOCK_BYTES as usize).map(|block| block[0]).collect();
    assert_eq!(held, versions, "{what}");
    assert!(bytes == versions.into_iter().flat_map(contents).collect::<Vec<_>>(), "{what}: torn");
}

/// Every point that is listed is what it was, and another pass is sealed.
fn goes_on(media: &Media, what: &str) {
    let (store, disks) = media.open().unwrap_or_else(|error| panic!("{what}: {error}"));
    let numbers: Vec<u64> = store.points().iter().map(|point| point.number).collect();
    let newest = numbers.last().copied();
    for number in newest.into_iter().chain(numbers.iter().copied()).chain(newest) {
        go_to(&store, &disks, number).unwrap_or_else(|error| panic!("{what}, healed, to {number}: {error}"));
        assert_holds(&disks, POINTS[number as usize], &format!("{what}, healed, point {number}"));
    }
    let from = newest.map_or(ORIGINAL, |newest| POINTS[newest as usize]);
    assert_holds(&disks, from, what);
    let to = [7; BLOCKS as usize];
    pass(&disks, from, to, true).unwrap_or_else(|error| panic!("{what}, healed: {error}"));
    let point = store.record_point(&[disk_id()]).expect("recorded");
    assert!(point.is_some(), "{what}: it is sealed");
    assert_holds(&disks, to, what);
}

/// How an error is told: a code of the media, and what failed by its name.
fn assert_told(error: &StoreError, place: Place, call: Call, damage: Damage, what: &str) {
    let code = error.code();
    let codes: &[Code] = match (place, call, damage) {
        (Place::Image, Call::Read, _) => &[Code::ReadFailed],
        (Place::Image, Call::Sync, _) => &[Code::FlushFailed],
        (Place::Image, _, Damage::NoSpace) => &[Code::NoSpace],
        (Place::Image, ..) => &[Code::WriteFailed],
        _ => &[Code::JournalFailed, Code::ReadFailed, Code::WriteFailed, Code::FlushFailed, Code::NoSpace],
    };
    assert!(codes.contains(&code), "{what}: {code:?}: {error}");
    let said = error.to_string();
    let names: &[&str] = match place {
        Place::Journal => &["journal-", "disk-", "expected"],
        Place::Undo => &["undo-"],
        Place::Image => &["disk.raw"],
    };
    assert!(names.iter().any(|name| said.contains(name)), "{what}: it does not say where: {said}");
}

#[test]
fn every_failing_call_is_told_and_healed() {
    let (mut struck, mut silent) = (0, 0);
    for place in [Place::Journal, Place::Undo, Place::Image] {
        for (call, damage) in [
            (Call::Read, Damage::Io),
            (Call::Write, Damage::Io),
            (Call::Write, Damage::Short),
            (Call::Write, Damage::NoSpace),
            (Call::Write, Damage::ReadOnly),
            (Call::Zero, Damage::Io),
            (Call::Zero, Damage::NoSpace),
            (Call::Sync, Damage::Io),
        ] {
            for nth in 1.. {
                let (media, calls) = Media::new(place, Fault { call, when: When::Nth(nth), damage });
                let what = format!("{place:?}, {call:?} {nth} fails with {damage:?}");
                let outcome = script(&media);
                if calls[call as usize].load(std::sync::atomic::Ordering::Relaxed) < nth {
                    outcome.unwrap_or_else(|error| panic!("{what}: nothing failed, and yet {error}"));
                    break;
                }
                struck += 1;
                match outcome {
                    Ok(()) => {
                        // A digest that cannot be read is learned from the disk.
                        assert_eq!(
                            (place, call),
                            (Place::Journal, Call::Read),
                            "{what}, and nobody was told"
                        );
                        silent += 1;
                    }
                    Err(error) => assert_told(&error, place, call, damage, &what),
                }
                goes_on(&media.healed(), &what);
            }
        }
    }
    println!("{struck} calls failed, one at a time; {silent} of them nobody needed");
    assert!(struck > 300, "only {struck} calls failed");
}
