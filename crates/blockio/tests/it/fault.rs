//! Media that fail: full, shortened under the reader, unable to take what they promised.

use crate::content::{folder, read_all};
use failback_blockio::{Access, Device, FileDevice, MappedFile, Zeroing};
use failback_model::{ByteRange, Code};
use failback_testkit::{LoopDevice, Mounted, reopen, sparse_file};
use std::fs::File;

const MIB: u64 = 1 << 20;

#[test]
fn a_file_shortened_while_open_is_an_error_and_never_zeros() {
    let folder = folder();
    let path = folder.path().join("source");
    std::fs::write(&path, vec![7; MIB as usize]).expect("written");
    let device = FileDevice::open(&path, Access::Read).expect("opened");
    File::options().write(true).open(&path).and_then(|file| file.set_len(300_000)).expect("shortened");

    let error = device.read_at(299_000, &mut [0; 4096]).unwrap_err();
    assert_eq!((error.code, error.offset_bytes), (Code::ChangedMeanwhile, Some(300_000)));
    assert!(error.to_string().contains("1048576 bytes when it was opened"), "{error}");
    let rest = device.next_data(400_000).expect("looked").expect("not a hole");
    assert_eq!(rest, ByteRange::new(400_000, MIB), "the lost bytes are still asked for");
}

#[test]
fn a_full_file_system_says_so_and_the_second_run_succeeds() {
    let tmpfs = Mounted::tmpfs(MIB);
    let ballast = tmpfs.path().join("ballast");
    std::fs::write(&ballast, vec![1; MIB as usize / 2]).expect("written");
    let path = tmpfs.path().join("disk");
    let device = FileDevice::create_new(&path, 3 * MIB / 4).expect("created");
    let content = vec![5; 3 * MIB as usize / 4];
    let all = ByteRange::new(0, content.len() as u64);

    let error = device.write_at(0, &content).unwrap_err();
    assert_eq!(error.code, Code::NoSpace);
    assert!(error.offset_bytes.is_some_and(|offset| offset < content.len() as u64), "{error}");
    assert_eq!(device.reserve(all).unwrap_err().code, Code::NoSpace);
    device.zero(all, Zeroing::Punch).expect("punched");
    assert_eq!(device.zero(all, Zeroing::KeepAllocation).unwrap_err().code, Code::NoSpace);
    device.zero(all, Zeroing::Punch).expect("punching needs no space");
    let map = MappedFile::create_temp(tmpfs.path(), MIB).expect("created: it is sparse");
    assert_eq!(map.reserve(ByteRange::new(0, MIB)).unwrap_err().code, Code::NoSpace);
    drop(map);

    std::fs::remove_file(&ballast).expect("removed");
    device.write_at(0, &content).expect("written");
    device.sync().expect("synced");
    assert_eq!(read_all(&device), content);
}

#[test]
fn after_a_failed_flush_everything_is_refused_until_it_is_opened_again() {
    let tmpfs = Mounted::tmpfs(MIB);
    let file = sparse_file(tmpfs.path(), "promises-more-than-it-has", 8 * MIB);
    let disk = LoopDevice::attach(&file, 512);
    let device = FileDevice::open(disk.path(), Access::Write).expect("opened");
    device.write_at(0, &vec![1; 4 * MIB as usize]).expect("the page cache takes it");
    let first = device.sync().unwrap_err();
    assert!(matches!(first.code, Code::FlushFailed | Code::NoSpace), "{first}");
    let second = device.sync().unwrap_err();
    assert_eq!(second.code, Code::FlushFailed);
    assert!(second.to_string().contains("an earlier flush failed"), "{second}");
    assert_eq!(device.write_at(0, b"x").unwrap_err().code, Code::FlushFailed);
    assert_eq!(device.read_at(0, &mut [0]).unwrap_err().code, Code::FlushFailed);
    drop(device);
    let again = reopen(|| FileDevice::open(disk.path(), Access::Write));
    again.write_at(0, b"x").expect("the first page is there");
    again.sync().expect("synced");
}
