//! Points that are recorded while a pass is about to write: what it logs is behind the point or in front of it, and so is
//! what it changes.

use crate::support::{
    BLOCK_BYTES, DeviceImage, MemoryMedium, claim, contents, digest, disk_id, layout, machine, range, root_of,
};
use failback_blockio::{Device, DiskError, Zeroing};
use failback_model::{ByteRange, Code, Epoch, SectorSize};
use failback_store::{Fingerprint, MachineStore, Phase, RollbackProgress};
use failback_testkit::MemoryDevice;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// More than undo takes into one record.
const BLOCKS: u64 = 160;
const LATE_BYTES: u64 = 2 << 20;

type Hook = Box<dyn FnOnce() + Send>;

/// A disk on which something happens when its end is read.
struct Hooked {
    inner: MemoryDevice,
    late: Mutex<Option<Hook>>,
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Device for Hooked {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn length_bytes(&self) -> u64 {
        Device::length_bytes(&self.inner)
    }

    fn sector_size(&self) -> SectorSize {
        self.inner.sector_size()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let hook = match offset_bytes >= LATE_BYTES {
            true => self.late.lock().expect("no test panics with it").take(),
            false => None,
        };
        hook.into_iter().for_each(|hook| hook());
        Device::read_at(&self.inner, offset_bytes, buffer)
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.inner.write_at(offset_bytes, bytes)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        self.inner.zero(range, zeroing)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        Device::next_data(&self.inner, from_bytes)
    }

    fn set_length(&self, length_bytes: u64) -> Result<(), DiskError> {
        self.inner.set_length(length_bytes)
    }

    fn start_writeback(&self, _range: ByteRange) {}

    fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

#[test]
fn a_point_that_is_recorded_while_a_pass_logs_what_it_will_change_has_all_of_it_behind_it() {
    let sealed = contents(5).repeat(BLOCKS as usize);
    let device = Arc::new(Hooked { inner: MemoryDevice::from_bytes(&sealed), late: Mutex::new(None) });
    let image = DeviceImage::new(device.clone());
    let undo = Some(Box::new(MemoryMedium::new()) as _);
    let store = MachineStore::open_on(Box::new(MemoryMedium::new()), undo, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let fingerprint = Fingerprint::of_image(&*image, Epoch(1)).expect("looked at");
    let session = || {
        let number = disk.open_session(Epoch(1), layout(BLOCKS), false, &fingerprint).expect("a session");
        disk.sink(image.clone(), number, claim())
    };
    let all = range(0, BLOCKS);
    let first = session();
    first.scanned(all, Some(&vec![digest(5); BLOCKS as usize])).expect("logged");
    first.seal(root_of(layout(BLOCKS), &vec![digest(5); BLOCKS as usize])).expect("sealed");

    // The next pass begins before anybody asked for the point.
    let next = session();
    let (is_late, late) = channel();
    let (recorded, is_recorded) = channel();
    *device.late.lock().expect("no test panics with it") = Some(Box::new(move || {
        is_late.send(()).expect("it is waited for");
        // Whoever records may have to wait for this call: then nothing is recorded until it is over.
        let _either = is_recorded.recv_timeout(Duration::from_millis(500));
    }));
    std::thread::scope(|scope| {
        let store = &store;
        scope.spawn(move || {
            late.recv().expect("it is said");
            store.record_point(&[disk_id()]).expect("asked");
            let _waited = recorded.send(());
        });
        next.begin(&[all], &[layout(BLOCKS).bytes_of(all)]).expect("begun");
    });
    for block in 0..BLOCKS {
        next.write(block * BLOCK_BYTES, &contents(6)).expect("written");
    }
    next.commit().expect("committed");
    let newest = store.points().last().expect("the original at least").number;
    let disks = [(disk.clone(), image.clone() as _)];
    store
        .roll_back(newest, &disks, &RollbackProgress::default(), &|| false)
        .unwrap_or_else(|error| panic!("point {newest}: {error}"));
    assert!(device.inner.to_bytes() == sealed, "point {newest} is not what was sealed");
}

#[test]
fn a_session_of_before_a_release_writes_no_more() {
    let image = DeviceImage::new(Arc::new(MemoryDevice::from_bytes(&contents(5).repeat(BLOCKS as usize))));
    let undo = Some(Box::new(MemoryMedium::new()) as _);
    let store = MachineStore::open_on(Box::new(MemoryMedium::new()), undo, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let fingerprint = Fingerprint::of_text("a job");
    let number = disk.open_session(Epoch(1), layout(BLOCKS), false, &fingerprint).expect("a session");
    let sink = disk.sink(image.clone(), number, claim());
    store.release(Phase::Cancelled).expect("released");
    let block = range(0, 1);
    let refused = sink.begin(&[block], &[layout(BLOCKS).bytes_of(block)]).expect_err("the job is over");
    assert_eq!(refused.code, Code::StaleSession, "{refused}");
    sink.seal(digest(1)).expect_err("the job is over");
}
