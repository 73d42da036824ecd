//! Order and latching, with extents that watch and fail.

use super::*;
use crate::vmdk::composite::Slot;
use crate::vmdk::flat::FlatExtent;
use crate::vmdk::folder::Folder;
use failback_blockio::Device;
use failback_testkit::{Call, Damage, Fault, Faulty, MemoryDevice, When};
use std::fs;
use std::sync::Mutex;

const LENGTH_BYTES: u64 = 1 << 20;
const DESCRIPTOR: &str = "# Disk DescriptorFile\nversion=1\nCID=0badcafe\nparentCID=ffffffff\ncreateType=\"vmfs\"\n\
    RW 2048 VMFS \"d-flat.vmdk\"\n";

/// A disk over `device`, its descriptor in `folder`.
fn disk_over(folder: &Path, device: Arc<dyn Device>) -> VmdkDisk {
    let path = folder.join("d.vmdk");
    fs::write(&path, DESCRIPTOR).expect("written");
    let all = ByteRange::new(0, LENGTH_BYTES);
    let store = Arc::new(FlatExtent::new(device, all, Provisioning::Thin).expect("whole"));
    let (home, name) = Folder::of_existing(&path).expect("opened");
    VmdkDisk {
        path,
        access: Access::Write,
        format: ImageFormat::VmdkVmfs,
        provisioning: Provisioning::Thin,
        descriptor: DescriptorFile::open(home, name).expect("read"),
        table: RwLock::new(Arc::new(ExtentTable::new(vec![Slot { disk: all, store }]))),
        failed: OnceLock::new(),
    }
}

/// Notes whether the descriptor still had its old content id whenever bytes of the extent changed.
#[derive(Debug)]
struct Watching {
    inner: MemoryDevice,
    descriptor: PathBuf,
    old_id_seen: Mutex<Vec<bool>>,
}

impl Watching {
    fn note(&self) {
        let text = fs::read_to_string(&self.descriptor).expect("read");
        self.old_id_seen.lock().expect("not poisoned").push(text.contains("CID=0badcafe"));
    }
}

impl Device for Watching {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn length_bytes(&self) -> u64 {
        self.inner.length_bytes()
    }
    fn sector_size(&self) -> SectorSize {
        Device::sector_size(&self.inner)
    }
    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        Device::read_at(&self.inner, offset_bytes, buffer)
    }
    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.note();
        self.inner.write_at(offset_bytes, bytes)
    }
    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        self.note();
        self.inner.zero(range, zeroing)
    }
    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        Device::next_data(&self.inner, from_bytes)
    }
    fn set_length(&self, length_bytes: u64) -> Result<(), DiskError> {
        self.note();
        self.inner.set_length(length_bytes)
    }
    fn start_writeback(&self, range: ByteRange) {
        self.inner.start_writeback(range);
    }
    fn sync(&self) -> Result<(), DiskError> {
        self.inner.sync()
    }
}

type Change = fn(&VmdkDisk) -> Result<(), DiskError>;

#[test]
fn no_change_reaches_an_extent_under_the_old_content_id() {
    let changes: [Change; 4] = [
        |disk| disk.write_at(4096, b"x"),
        |disk| disk.write_vectored_at(LENGTH_BYTES - 2, &[b"x", b"y"]),
        |disk| disk.zero(ByteRange::new(0, LENGTH_BYTES), Zeroing::Punch),
        |disk| disk.grow(2 * LENGTH_BYTES),
    ];
    for change in changes {
        let folder = tempfile::tempdir().expect("a folder");
        let device = Arc::new(Watching {
            inner: MemoryDevice::new(LENGTH_BYTES),
            descriptor: folder.path().join("d.vmdk"),
            old_id_seen: Mutex::default(),
        });
        let disk = disk_over(folder.path(), device.clone());
        change(&disk).expect("done");
        let first = fs::read(folder.path().join("d.vmdk")).expect("read");
        disk.write_at(0, b"once more").expect("written");
        let seen = device.old_id_seen.lock().expect("not poisoned");
        assert!(!seen.is_empty() && seen.iter().all(|&old| !old), "{seen:?}");
        assert_eq!(fs::read(folder.path().join("d.vmdk")).expect("read"), first, "changed once");
    }
}

#[test]
fn writers_that_start_together_change_the_content_id_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let device = Arc::new(Watching {
        inner: MemoryDevice::new(LENGTH_BYTES),
        descriptor: folder.path().join("d.vmdk"),
        old_id_seen: Mutex::default(),
    });
    let disk = disk_over(folder.path(), device.clone());
    let ids: Vec<Option<u32>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|i| {
                let disk = &disk;
                scope.spawn(move || {
                    disk.write_at(i * 4096, &[7; 4096]).expect("written");
                    disk.identity().content_id
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("no panic")).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0] && *id != Some(0x0bad_cafe)), "{ids:?}");
    assert!(device.old_id_seen.lock().expect("not poisoned").iter().all(|&old| !old));
}

fn faulty(call: Call, damage: Damage) -> Arc<Faulty<MemoryDevice>> {
    Arc::new(Faulty::new(MemoryDevice::new(LENGTH_BYTES), [Fault { call, when: When::Nth(1), damage }]))
}

#[test]
fn after_a_failed_flush_nothing_is_done_any_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = disk_over(folder.path(), faulty(Call::Sync, Damage::Io));
    disk.write_at(0, b"x").expect("written");
    assert_eq!(disk.flush().expect_err("EIO").code, Code::FlushFailed);
    let calls: [Change; 7] = [
        |disk| disk.flush(),
        |disk| disk.close(),
        |disk| disk.write_at(0, b"y"),
        |disk| disk.zero(ByteRange::new(0, 1), Zeroing::Punch),
        |disk| disk.grow(2 * LENGTH_BYTES),
        |disk| disk.read_at(0, &mut [0]),
        |disk| disk.check().map(|_| ()),
    ];
    for call in calls {
        let error = call(&disk).expect_err("latched");
        assert!(error.to_string().contains("open it again"), "{error}");
    }
}

#[test]
fn a_write_that_fails_says_where_and_the_next_may_succeed() {
    for damage in [Damage::Io, Damage::NoSpace, Damage::Short] {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = disk_over(folder.path(), faulty(Call::Write, damage));
        let error = disk.write_at(8192, &[7; 4096]).expect_err("failed");
        let expected = if damage == Damage::NoSpace { Code::NoSpace } else { Code::WriteFailed };
        assert_eq!(error.code, expected);
        assert!(error.offset_bytes.is_some_and(|at| (8192..12_288).contains(&at)), "{error}");
        disk.write_at(8192, &[7; 4096]).expect("the second run finishes");
        disk.flush().expect("flushed");
        let mut read = [0; 4096];
        disk.read_at(8192, &mut read).expect("read");
        assert_eq!(read, [7; 4096]);
    }
}

#[test]
fn a_grow_whose_flush_fails_leaves_the_descriptor_as_long_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = disk_over(folder.path(), faulty(Call::Sync, Damage::Io));
    assert!(disk.grow(2 * LENGTH_BYTES).is_err());
    let text = fs::read_to_string(folder.path().join("d.vmdk")).expect("read");
    assert!(text.contains("RW 2048 VMFS"), "{text}");
}

#[test]
fn a_full_file_system_leaves_descriptor_and_extent_whole() {
    let small = failback_testkit::Mounted::tmpfs(64 << 10);
    let device = Arc::new(MemoryDevice::new(LENGTH_BYTES));
    let disk = disk_over(small.path(), device.clone());
    let filler = small.path().join("filler");
    let mut length = 64 << 10;
    while fs::write(&filler, vec![1; length]).is_err() {
        length -= 4096;
    }
    let error = disk.write_at(0, b"x").expect_err("no room for the new descriptor");
    assert_eq!(error.code, Code::NoSpace, "{error}");
    assert_eq!(fs::read_to_string(small.path().join("d.vmdk")).expect("read"), DESCRIPTOR);
    assert!(!small.path().join("d.vmdk.failback-draft").exists());
    assert!(device.to_bytes().iter().all(|&byte| byte == 0));
    fs::remove_file(&filler).expect("removed");
    drop(disk);
    disk_over(small.path(), device.clone()).write_at(0, b"x").expect("the second run finishes");
    assert_eq!(device.to_bytes()[0], b'x');
}
