//! Every mode reads the same bytes.

use crate::content::folder;
use failback_blockio::{Access, AlignedBuffer, Device, FileDevice, ReadMode, ReadPath};
use failback_testkit::{LoopDevice, Random};
use std::fs::File;
use std::os::unix::fs::FileExt;

const MIB: usize = 1 << 20;

#[test]
fn every_mode_reads_the_same_at_every_alignment() {
    let folder = folder();
    let path = folder.path().join("disk");
    let mut content = vec![0; MIB + 513];
    Random::new(2).fill(&mut content);
    std::fs::write(&path, &content).expect("written");
    let mut random = Random::new(3);
    for mode in [ReadMode::Auto, ReadMode::DropBehind, ReadMode::Direct] {
        let device = FileDevice::open_with(&path, Access::Read, mode).expect("opened");
        let mut buffer = AlignedBuffer::new(content.len() + 16);
        for _ in 0..200 {
            let start = random.below(content.len() as u64) as usize;
            let start = if random.below(2) == 0 { start } else { start - start % 4096 };
            let length = random.below((content.len() - start) as u64 + 1) as usize;
            let skew = random.below(2) as usize * 8;
            let into = &mut buffer[skew..skew + length];
            device.read_at(start as u64, into).expect("read");
            assert!(into == &content[start..start + length], "{mode:?} at {start} of {length}");
        }
        assert!(
            device.read_at(content.len() as u64 - 1, &mut [0; 2]).is_err(),
            "{mode:?} reads past the end"
        );
    }
}

#[test]
fn direct_reads_see_what_was_just_written() {
    let folder = folder();
    let device = FileDevice::create_new(&folder.path().join("disk"), 8192).expect("created");
    let direct = FileDevice::open_with(device.path(), Access::Read, ReadMode::Direct).expect("opened");
    let mut buffer = AlignedBuffer::new(4096);
    for value in 1..20 {
        device.write_at(4096, &[value; 4096]).expect("written");
        direct.read_at(4096, &mut buffer).expect("read");
        assert!(buffer.iter().all(|&byte| byte == value));
    }
}

#[test]
fn what_is_dropped_is_read_from_the_medium() {
    let folder = folder();
    let below = folder.path().join("below");
    std::fs::write(&below, vec![1; 1 << 20]).expect("written");
    let disk = LoopDevice::attach(&below, 512);
    let device = FileDevice::open_with(disk.path(), Access::Write, ReadMode::DropBehind).expect("opened");
    device.write_at(0, &[2; 8192]).expect("written");
    device.sync().expect("synced");
    let mut bytes = [0; 8192];
    device.read_at(0, &mut bytes).expect("read");
    // The medium rots.
    File::options()
        .write(true)
        .open(&below)
        .and_then(|file| file.write_all_at(&[3; 4096], 4096))
        .expect("changed");
    assert_eq!(device.drop_cached(), ReadPath::CacheDropped);
    device.read_at(0, &mut bytes).expect("read");
    assert_eq!((bytes[0], bytes[4096]), (2, 3));
}

#[test]
fn what_cannot_be_dropped_is_read_past_the_cache() {
    let folder = folder();
    let device = FileDevice::create_new(&folder.path().join("disk"), 1 << 20).expect("created");
    device.write_at(8192, &[7; 4096]).expect("written");
    // The page is not durable, so the kernel keeps it.
    assert_eq!(device.drop_cached(), ReadPath::Direct);
    let mut bytes = [0; 100];
    device.read_at(8190, &mut bytes).expect("read");
    assert_eq!((bytes[1], bytes[2]), (0, 7));
    assert_eq!(device.drop_cached(), ReadPath::Direct, "it stays so");
    let memory = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let device = FileDevice::create_new(&memory.path().join("disk"), 8192).expect("created");
    device.write_at(0, &[7; 8192]).expect("written");
    assert_ne!(device.drop_cached(), ReadPath::CacheDropped, "memory is all that it has");
}
