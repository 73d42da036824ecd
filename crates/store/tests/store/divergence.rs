//! What else wrote to a disk that was left is noticed before the next session, and what no stranger did is not.

use crate::support::{
    BLOCK_BYTES, DeviceImage, MemoryMedium, claim, contents, digest, disk_id, layout, machine, range,
    root_of, write_blocks,
};
use failback_blockio::Device;
use failback_engine::Sink;
use failback_image::{Access, Image, ImageSpec};
use failback_model::limits::RECHECK_BYTES;
use failback_model::{Digest, Epoch};
use failback_store::{DiskStore, Divergence, Fingerprint, MachineStore};
use failback_testkit::MemoryDevice;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const BLOCKS: u64 = 64;
/// Three times what is read again at once.
const MANY_BLOCKS: u64 = 3 * RECHECK_BYTES / BLOCK_BYTES;

fn session(disk: &DiskStore, image: &Arc<dyn Image>, blocks: u64) -> Arc<dyn Sink> {
    let fingerprint = Fingerprint::of_image(&**image, Epoch(1)).expect("looked at");
    let number = disk.open_session(Epoch(1), layout(blocks), false, &fingerprint).expect("a session");
    disk.sink(Arc::clone(image), number, claim())
}

/// Every block written and sealed.
fn seal(sink: &dyn Sink, blocks: u64, version: u8) {
    write_blocks(sink, range(0, blocks), version);
    sink.commit().expect("committed");
    sink.seal(root_of(layout(blocks), &vec![digest(version); blocks as usize])).expect("sealed");
}

fn leave(disk: &DiskStore, image: &dyn Image) {
    image.close().expect("closed");
    disk.released(&Fingerprint::of_settled_image(image, Epoch(1)).expect("looked at")).expect("noted");
}

/// A file that was sealed and left.
struct Left {
    folder: TempDir,
    medium: MemoryMedium,
    disk: Arc<DiskStore>,
}

impl Left {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("disk.raw"), vec![0; (BLOCKS * BLOCK_BYTES) as usize]).expect("written");
        let medium = MemoryMedium::new();
        let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("opened");
        let disk = store.disk(&disk_id()).expect("a disk");
        let left = Self { folder, medium, disk };
        let image = left.image();
        seal(&*session(&left.disk, &image, BLOCKS), BLOCKS, 1);
        leave(&left.disk, &*image);
        left
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk.raw")
    }

    fn image(&self) -> Arc<dyn Image> {
        failback_image::open(&ImageSpec::parse(self.path()), Access::Write).expect("opened")
    }

    fn file(&self) -> fs::File {
        fs::File::options().write(true).open(self.path()).expect("opened")
    }

    fn looked(&self) -> Option<Divergence> {
        self.looked_at(&*self.image())
    }

    fn looked_at(&self, image: &dyn Image) -> Option<Divergence> {
        self.disk.recheck(image, Epoch(2)).expect("looked at").divergence
    }

    #[track_caller]
    fn differs(&self, words: &str) {
        let found = self.looked().expect("it is noticed").to_string();
        for word in [words, "; it was left at 20", "Z, its last sealed generation is 1"] {
            assert!(found.contains(word), "{found} does not say {word}");
        }
    }
}

#[test]
fn a_disk_that_nobody_touched_is_as_it_was_left_also_after_a_restart() {
    let left = Left::new();
    assert_eq!(left.looked(), None);
    let store = MachineStore::open_on(Box::new(left.medium.repaired()), None, &machine()).expect("recovered");
    let disk = store.disk(&disk_id()).expect("a disk");
    let image = left.image();
    let looked = disk.recheck(&*image, Epoch(9)).expect("looked at");
    assert_eq!((looked.divergence, looked.bytes), (None, BLOCKS * BLOCK_BYTES));
}

#[test]
fn what_a_stranger_did_to_the_file_is_named_also_after_a_restart() {
    let left = Left::new();
    left.file().write_all_at(&[9], 0).expect("written");
    left.file().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)).expect("set");
    left.differs("disk.raw was written to at 2027-01-15T08:00:00Z");
    let store = MachineStore::open_on(Box::new(left.medium.repaired()), None, &machine()).expect("recovered");
    Left { disk: store.disk(&disk_id()).expect("a disk"), ..left }.differs("disk.raw was written to at");
}

#[test]
fn touched_replaced_resized_and_changed_files_have_diverged() {
    let left = Left::new();
    // The same bytes: that they are, only a scan could tell.
    left.file().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)).expect("set");
    left.differs("disk.raw was written to at");
    let left = Left::new();
    let copy = left.path().with_extension("copy");
    fs::copy(left.path(), &copy).expect("copied");
    fs::rename(copy, left.path()).expect("renamed");
    left.differs("another file is in the place of disk.raw");
    let left = Left::new();
    left.file().set_len(BLOCKS * BLOCK_BYTES / 2).expect("shortened");
    left.differs("the disk was resized: it has 524288 bytes, had 1048576");
    let left = Left::new();
    fs::set_permissions(left.path(), fs::Permissions::from_mode(0o600)).expect("set");
    left.differs("disk.raw was changed at");
}

#[test]
fn after_a_kill_nobody_can_say_what_a_stranger_did() {
    let left = Left::new();
    let image = left.image();
    let sink = session(&left.disk, &image, BLOCKS);
    assert_eq!(left.looked_at(&*image), None, "a session that wrote nothing has changed nothing");
    write_blocks(&*sink, range(3, 5), 2);
    assert_eq!(left.looked_at(&*image), None, "in mid-pass");
    sink.commit().expect("committed");
    left.file().write_all_at(&[9], 0).expect("written");
    let store = MachineStore::open_on(Box::new(left.medium.repaired()), None, &machine()).expect("recovered");
    let disk = store.disk(&disk_id()).expect("a disk");
    let looked = disk.recheck(&*image, Epoch(1)).expect("looked at");
    assert_eq!((looked.divergence, looked.bytes), (None, 0));
}

#[test]
fn between_seal_and_close_nothing_is_claimed() {
    let left = Left::new();
    let image = left.image();
    seal(&*session(&left.disk, &image, BLOCKS), BLOCKS, 2);
    // As closing an image of another kind does.
    left.file().write_all_at(&[9], 0).expect("written");
    assert_eq!(left.looked_at(&*image), None);
    leave(&left.disk, &*image);
    left.file().set_modified(SystemTime::UNIX_EPOCH).expect("set");
    assert!(left.looked_at(&*image).is_some());
}

#[test]
fn a_pass_that_ended_early_in_good_order_is_guarded_too() {
    let left = Left::new();
    let image = left.image();
    write_blocks(&*session(&left.disk, &image, BLOCKS), range(3, 5), 2);
    leave(&left.disk, &*image);
    assert_eq!(left.looked_at(&*image), None);
    drop(image);
    left.file().set_modified(SystemTime::UNIX_EPOCH).expect("set");
    left.differs("disk.raw was written to at 1970-01-01T00:00:00Z");
}

#[test]
fn what_was_given_up_is_no_divergence_and_is_scanned() {
    let left = Left::new();
    left.file().write_all_at(&[9], 0).expect("written");
    assert!(left.looked().is_some());
    left.disk.forget().expect("forgotten");
    assert_eq!(left.looked(), None);
    let _sink = session(&left.disk, &left.image(), BLOCKS);
    assert_eq!(left.disk.state().trusted_blocks, 0);
}

/// A disk without times, that was sealed and left.
fn left_in_memory() -> (MemoryMedium, Arc<MemoryDevice>, Arc<dyn Image>, Arc<DiskStore>) {
    let device = Arc::new(MemoryDevice::new(MANY_BLOCKS * BLOCK_BYTES));
    let image: Arc<dyn Image> = DeviceImage::new(device.clone());
    let medium = MemoryMedium::new();
    let store = MachineStore::open_on(Box::new(medium.clone()), None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    seal(&*session(&disk, &image, MANY_BLOCKS), MANY_BLOCKS, 1);
    leave(&disk, &*image);
    (medium, device, image, disk)
}

#[test]
fn what_left_no_trace_in_the_times_is_found_when_its_turn_comes_and_stays_found() {
    let (medium, device, image, disk) = left_in_memory();
    let looked = disk.recheck(&*image, Epoch(1)).expect("looked at");
    assert_eq!((looked.divergence, looked.bytes), (None, RECHECK_BYTES));
    let changed = RECHECK_BYTES * 2 + 5 * BLOCK_BYTES;
    device.write_at(changed + 77, &[0xee; 9]).expect("written");
    leave(&disk, &*image);
    // The next look begins where this one ended, also after a restart.
    let store = MachineStore::open_on(Box::new(medium.repaired()), None, &machine()).expect("recovered");
    let disk = store.disk(&disk_id()).expect("a disk");
    let looked = disk.recheck(&*image, Epoch(1)).expect("looked at");
    assert_eq!((looked.divergence, looked.bytes), (None, RECHECK_BYTES), "it is the second part's turn");
    for _ in 0..2 {
        let found =
            disk.recheck(&*image, Epoch(1)).expect("looked at").divergence.expect("found").to_string();
        let words =
            format!("blocks that were read again are not what was written, the first at byte {changed};");
        assert!(found.contains(&words), "{found}");
    }
    device.write_at(changed, &contents(1)).expect("written");
    for _ in 0..4 {
        assert_eq!(disk.recheck(&*image, Epoch(1)).expect("looked at").divergence, None);
    }
}

#[test]
fn holes_are_passed_over_and_data_in_them_is_found() {
    let device = Arc::new(MemoryDevice::new(MANY_BLOCKS * BLOCK_BYTES));
    let image: Arc<dyn Image> = DeviceImage::new(device.clone());
    let store = MachineStore::open_on(Box::new(MemoryMedium::new()), None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let sink = session(&disk, &image, MANY_BLOCKS);
    sink.scanned(range(0, MANY_BLOCKS), None).expect("logged");
    write_blocks(&*sink, range(MANY_BLOCKS - 2, MANY_BLOCKS), 1);
    sink.commit().expect("committed");
    let mut digests = vec![Digest::ZERO; MANY_BLOCKS as usize];
    digests[MANY_BLOCKS as usize - 2..].fill(digest(1));
    sink.seal(root_of(layout(MANY_BLOCKS), &digests)).expect("sealed");
    leave(&disk, &*image);
    let looked = disk.recheck(&*image, Epoch(1)).expect("looked at");
    assert_eq!(looked.divergence, None);
    assert!((2 * BLOCK_BYTES..RECHECK_BYTES).contains(&looked.bytes), "{} bytes", looked.bytes);
    device.write_at(40 * BLOCK_BYTES, &contents(7)).expect("written");
    assert!(disk.recheck(&*image, Epoch(1)).expect("looked at").divergence.is_some());
}

#[test]
fn damaged_digests_are_doubted_and_no_divergence() {
    let (medium, _, image, disk) = left_in_memory();
    let manifest = medium.file(|name| name.ends_with(".manifest"));
    manifest.write_at(4096 + 32 * 7, &[0xaa; 32]).expect("written");
    assert_eq!(disk.recheck(&*image, Epoch(1)).expect("looked at").divergence, None);
    assert!(disk.state().trusted_blocks < MANY_BLOCKS, "the chunk is scanned");
}
