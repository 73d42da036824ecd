//! Every medium holds what was written to it, whatever it can or cannot do by itself.

use failback_blockio::{Access, Device, FileDevice, ReadMode, Zeroing};
use failback_model::{ByteRange, Code, SectorSize};
use failback_testkit::{LoopDevice, Mounted, Random, reopen, sparse_file};
use std::path::Path;

const MIB: u64 = 1 << 20;

/// Where these tests keep files: a real file system, unlike many a `/tmp`.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

pub(crate) fn read_all(device: &dyn Device) -> Vec<u8> {
    let mut bytes = vec![1; usize::try_from(device.length_bytes()).expect("a small device")];
    device.read_at(0, &mut bytes).expect("read");
    bytes
}

fn runs(device: &dyn Device) -> Vec<ByteRange> {
    let mut at = 0;
    std::iter::from_fn(|| {
        let run = device.next_data(at).expect("looked for data")?;
        assert!(run.start() >= at && !run.is_empty(), "{run:?} after {at}");
        at = run.end();
        Some(run)
    })
    .collect()
}

/// Does things to a device and to memory, and compares the two.
fn exercise(device: &dyn Device, seed: u64) {
    let mut expected = read_all(device);
    let length = expected.len() as u64;
    let mut random = Random::new(seed);
    for step in 0..300_u64 {
        let start = random.below(length);
        let end = start + random.below(100_000.min(length - start) + 1);
        let range = ByteRange::new(start, end);
        let bytes = &mut expected[start as usize..end as usize];
        bytes.fill(0);
        match random.below(4) {
            0 => device.zero(range, Zeroing::Punch).expect("punched"),
            1 => device.zero(range, Zeroing::KeepAllocation).expect("zeroed"),
            2 => {
                bytes.fill(step as u8);
                device.write_at(start, bytes).expect("written");
            }
            _ => {
                random.fill(bytes);
                // More parts than one system call takes.
                let parts: Vec<&[u8]> = bytes.chunks(61).collect();
                device.write_vectored_at(start, &parts).expect("written in parts");
            }
        }
    }
    device.sync().expect("synced");
    let path = device.path().display();
    assert!(read_all(device) == expected, "seed {seed}: {path} differs");
    let mut only_data = vec![0; expected.len()];
    for run in runs(device) {
        let run = run.start() as usize..run.end() as usize;
        only_data[run.clone()].copy_from_slice(&expected[run]);
    }
    assert!(only_data == expected, "seed {seed}: {path} calls data a hole");
}

#[test]
fn files_and_devices_hold_what_was_written() {
    let folder = folder();
    let tmpfs = Mounted::tmpfs(64 * MIB);
    let odd_bytes = 3 * MIB + 513;
    for path in [folder.path(), tmpfs.path()] {
        for length_bytes in [1, 511, 513, odd_bytes] {
            let path = path.join(format!("file-{length_bytes}"));
            exercise(&FileDevice::create_new(&path, length_bytes).expect("created"), length_bytes);
        }
    }
    for sector_bytes in [512, 4096] {
        let file = sparse_file(folder.path(), &format!("disk-{sector_bytes}"), 3 * MIB + 4096);
        let disk = LoopDevice::attach(&file, sector_bytes);
        for mode in [ReadMode::DropBehind, ReadMode::Direct] {
            let device = reopen(|| FileDevice::open_with(disk.path(), Access::Write, mode));
            assert_eq!(device.length_bytes(), 3 * MIB + 4096);
            assert_eq!(device.sector_size(), SectorSize::new(sector_bytes.into()).expect("possible"));
            assert!(device.is_block_device() && device.set_length(1).is_err());
            exercise(&device, sector_bytes.into());
        }
    }
}

#[test]
fn a_disk_whose_length_is_no_multiple_of_a_page_is_read_to_its_end() {
    let folder = folder();
    let file = sparse_file(folder.path(), "disk", MIB + 512);
    let disk = LoopDevice::attach(&file, 512);
    let device = FileDevice::open_with(disk.path(), Access::Write, ReadMode::Direct).expect("opened");
    device.write_at(MIB + 510, b"ab").expect("written");
    assert!(read_all(&device).ends_with(b"\0ab"));
    assert!(device.write_at(MIB + 511, b"ab").is_err(), "a device has an end");
}

#[test]
fn empty_and_huge_files() {
    let tmpfs = Mounted::tmpfs(MIB);
    let empty = FileDevice::create_new(&tmpfs.path().join("empty"), 0).expect("created");
    assert_eq!((empty.next_data(0).expect("looked"), empty.length_bytes()), (None, 0));
    empty.read_at(0, &mut []).expect("nothing is read");
    empty.zero(ByteRange::new(0, 0), Zeroing::Punch).expect("nothing is punched");
    assert_eq!(empty.read_at(0, &mut [0]).unwrap_err().code, Code::ReadFailed);

    const END: u64 = 64 << 40;
    let huge = FileDevice::create_new(&tmpfs.path().join("huge"), END).expect("created");
    huge.write_at(END - 1, b"x").expect("written");
    huge.write_at(32 << 40, b"y").expect("written");
    assert_eq!(runs(&huge), [ByteRange::new(32 << 40, (32 << 40) + 4096), ByteRange::new(END - 4096, END)]);
    huge.zero(ByteRange::new(0, END), Zeroing::Punch).expect("punched");
    assert_eq!((runs(&huge), huge.allocated_bytes().expect("known")), (vec![], 0));
}

#[test]
fn zeroing_keeps_space_and_punching_gives_it_back() {
    let folder = folder();
    let device = FileDevice::create_new(&folder.path().join("file"), 4 * MIB).expect("created");
    let all = ByteRange::new(0, 4 * MIB);
    let taken_bytes = || device.allocated_bytes().expect("known");
    assert_eq!(taken_bytes(), 0);
    assert!(device.reserve(all).expect("reserved"), "the file system under target/ can reserve");
    assert!(taken_bytes() >= 4 * MIB);
    device.write_at(0, &[1; 4 * MIB as usize]).expect("written");
    device.zero(all, Zeroing::KeepAllocation).expect("zeroed");
    assert!(taken_bytes() >= 4 * MIB, "zeroing gave space back");
    device.zero(all, Zeroing::Punch).expect("punched");
    assert_eq!(taken_bytes(), 0);
    assert!(device.zero(ByteRange::new(0, 4 * MIB + 1), Zeroing::Punch).is_err(), "past the end");
}

#[test]
fn what_is_no_disk_is_not_opened() {
    let folder = folder();
    let open = |path: &Path| FileDevice::open(path, Access::Read).unwrap_err();
    assert_eq!(open(folder.path()).code, Code::OpenFailed);
    assert!(open(Path::new("/dev/null")).to_string().contains("neither a regular file nor a block device"));
    let missing = open(&folder.path().join("missing")).to_string();
    assert!(missing.contains("missing") && missing.contains("No such file"), "{missing}");
    let file = sparse_file(folder.path(), "file", 10);
    let device = FileDevice::open(&file, Access::Read).expect("opened");
    let refused = device.write_at(0, b"x").unwrap_err();
    assert!(refused.to_string().contains("for reading only"), "{refused}");
    assert!(device.set_length(5).is_err() && device.zero(ByteRange::new(0, 1), Zeroing::Punch).is_err());
}
