//! Block devices: what this host uses is refused by name, the rest is written with either sector size.

use crate::raw::folder;
use failback_blockio::{DiskError, Zeroing};
use failback_image::{Access, CreateOptions, DeviceImage, Image, ImageFormat, ImageSpec};
use failback_model::{ByteRange, Code, SectorSize};
use failback_testkit::{LoopDevice, Mounted, reopen, run, sparse_file};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

fn open(path: &Path) -> Result<Arc<dyn Image>, DiskError> {
    failback_image::open(&ImageSpec::from(path), Access::Write)
}

fn refusal(path: &Path) -> DiskError {
    match open(path) {
        Ok(_) => panic!("{} was opened for writing", path.display()),
        Err(error) => error,
    }
}

#[test]
fn both_sector_sizes_are_read_and_written() {
    let folder = folder();
    for sector_bytes in [512, 4096] {
        let file = sparse_file(folder.path(), &format!("disk-{sector_bytes}"), 2 * MIB);
        let disk = LoopDevice::attach(&file, sector_bytes);
        let image = open(disk.path()).expect("opened");
        assert_eq!(image.geometry().sector_size, SectorSize::new(sector_bytes.into()).expect("possible"));
        assert_eq!(image.geometry().length_bytes, 2 * MIB);
        assert_eq!((image.identity().format, image.identity().uuid), (ImageFormat::Device, None));
        image.write_at(0, &[7; 2 * MIB as usize]).expect("written");
        image.zero(ByteRange::new(1000, 100_001), Zeroing::Punch).expect("zeroed");
        image.write_vectored_at(50_001, &[b"ab", b"", b"cde"]).expect("written in no whole sectors");
        assert!(image.write_at(2 * MIB - 1, b"xy").is_err(), "past the end");
        let error = image.grow(3 * MIB).unwrap_err();
        assert_eq!(error.code, Code::TargetTooSmall);
        assert!(error.to_string().contains("extend the disk to 3145728 bytes"), "{error}");
        image.close().expect("closed");
        drop(image);
        let mut expected = vec![7; 2 * MIB as usize];
        expected[1000..100_001].fill(0);
        expected[50_001..50_006].copy_from_slice(b"abcde");
        assert!(std::fs::read(&file).expect("read") == expected);
    }
}

#[test]
fn a_mounted_device_is_refused_and_free_again_afterwards() {
    let folder = folder();
    let disk = LoopDevice::attach(&sparse_file(folder.path(), "disk", 16 * MIB), 512);
    let mounted = Mounted::ext4(disk.path());
    let error = refusal(disk.path());
    assert_eq!(error.code, Code::DeviceMounted);
    let point = mounted.path().to_str().expect("a name");
    assert!(error.reason.contains("is mounted at") && error.reason.contains(point), "{error}");
    let source = DeviceImage::open(disk.path(), Access::Read).expect("reading harms nobody");
    let warnings = source.warnings();
    assert_eq!((warnings.len(), warnings[0].code), (1, Code::DeviceMounted));
    assert!(warnings[0].evidence.contains("for writing"), "{}", warnings[0].evidence);
    drop(mounted);
    assert_eq!(source.warnings(), []);
    drop(source);
    reopen(|| open(disk.path()));
}

#[test]
fn a_disk_with_a_mounted_partition_is_refused() {
    let folder = folder();
    let file = sparse_file(folder.path(), "disk", 32 * MIB);
    run(Command::new("sfdisk").args(["--quiet", "--label", "gpt"]).arg(&file).stdin(layout(folder.path())));
    let disk = LoopDevice::attach_with_partitions(&file);
    let _mounted = Mounted::ext4(&disk.partition(1));
    for path in [disk.path().to_owned(), disk.partition(1)] {
        let error = refusal(&path);
        assert_eq!(error.code, Code::DeviceMounted);
        assert!(error.reason.contains("p1 is mounted at"), "{error}");
    }
    open(&disk.partition(2)).expect("its neighbour is free");
}

fn layout(folder: &Path) -> std::fs::File {
    let path = folder.join("layout");
    std::fs::write(&path, "size=16M\nsize=8M\n").expect("written");
    std::fs::File::open(path).expect("opened")
}

#[test]
fn the_disk_under_this_host_is_refused() {
    let source = run(Command::new("findmnt").args(["--noheadings", "--output", "SOURCE", "/"]));
    let device = PathBuf::from(source.trim());
    if !device.starts_with("/dev") {
        eprintln!(
            "proves nothing here: the root lies on no device; the guard's own tests describe a host with one"
        );
        return;
    }
    let error = refusal(&device);
    assert_eq!(error.code, Code::DeviceIsHosts, "{error}");
}

#[test]
fn a_device_in_use_by_another_failback_is_refused() {
    let folder = folder();
    let disk = LoopDevice::attach(&sparse_file(folder.path(), "disk", MIB), 512);
    let _first = open(disk.path()).expect("free");
    assert_eq!(refusal(disk.path()).code, Code::InUse);
}

#[test]
fn names_and_devices_must_agree() {
    let folder = folder();
    let file = sparse_file(folder.path(), "disk.raw", MIB);
    let disk = LoopDevice::attach(&file, 512);
    let open = |prefix: &str, path: &Path| {
        let spec = ImageSpec::parse(format!("{prefix}:{}", path.display()));
        failback_image::open(&spec, Access::Read)
            .map(|image| image.identity().format)
            .map_err(|error| error.code)
    };
    assert_eq!(open("dev", disk.path()), Ok(ImageFormat::Device));
    assert_eq!(open("raw", disk.path()), Ok(ImageFormat::Device));
    assert_eq!(open("vmdk", disk.path()), Err(Code::ImageFormatDisagrees));
    assert_eq!(open("dev", &file), Err(Code::ImageFormatDisagrees));
    let spec = ImageSpec::parse(format!("dev:{}", folder.path().join("none").display()));
    let refused = failback_image::create(&spec, &CreateOptions::new(MIB)).err().expect("refused");
    assert_eq!(refused.code, Code::CreateFailed);
}
