//! Raw files: any length, any provisioning, nothing left behind.

use failback_blockio::{Device, UnitSource, Zeroing};
use failback_image::{Access, CreateOptions, Image, ImageFormat, ImageSpec, Provisioning, RawImage};
use failback_model::limits::DISK_MAX_BYTES;
use failback_model::{ByteRange, Code};
use failback_testkit::{Call, Damage, Fault, Faulty, MemoryDevice, Mounted, When};
use std::path::Path;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

/// Where these tests keep files: a real file system, unlike many a `/tmp`.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

fn options(length_bytes: u64, provisioning: Provisioning) -> CreateOptions {
    CreateOptions { provisioning: Some(provisioning), ..CreateOptions::new(length_bytes) }
}

fn read_all(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![1; image.geometry().length_bytes as usize];
    image.read_at(0, &mut bytes).expect("read");
    bytes
}

#[test]
fn disks_of_any_length_come_back_as_written() {
    let folder = folder();
    for length_bytes in [0, 1, 511, 513, MIB + 1] {
        let path = folder.path().join(format!("disk-{length_bytes}.raw"));
        let spec = ImageSpec::from(&path);
        let image = failback_image::create(&spec, &CreateOptions::new(length_bytes)).expect("created");
        assert_eq!(image.geometry().length_bytes, length_bytes);
        assert!(read_all(image.as_ref()).iter().all(|&byte| byte == 0));
        let content: Vec<u8> = (0..length_bytes).map(|at| (at % 251) as u8 + 1).collect();
        image.write_at(0, &content).expect("written");
        assert_eq!(image.write_at(length_bytes, b"x").unwrap_err().code, Code::WriteFailed, "past the end");
        image.close().expect("closed");
        drop(image);
        assert_eq!(std::fs::read(&path).expect("read"), content);
        let image = failback_image::open(&spec, Access::Read).expect("opened");
        assert_eq!(read_all(image.as_ref()), content);
        assert_eq!((image.identity().format, image.identity().files), (ImageFormat::Raw, vec![path]));
        assert!(content.is_empty() || image.write_at(0, b"x").is_err(), "opened for reading");
    }
}

#[test]
fn the_largest_disk_is_possible_and_one_byte_more_is_not() {
    let tmpfs = Mounted::tmpfs(MIB);
    let create = |name, bytes| RawImage::create(&tmpfs.path().join(name), &CreateOptions::new(bytes));
    let image = create("huge.raw", DISK_MAX_BYTES).expect("created");
    image.write_at(DISK_MAX_BYTES - 1, b"x").expect("written");
    let last_page = ByteRange::new(DISK_MAX_BYTES - 4096, DISK_MAX_BYTES);
    assert_eq!(image.next_data(0).expect("looked"), Some(last_page));
    assert_eq!(create("more.raw", DISK_MAX_BYTES + 1).unwrap_err().code, Code::ImageSizeUnsupported);
    assert_eq!(image.grow(DISK_MAX_BYTES + 1).unwrap_err().code, Code::ImageSizeUnsupported);
    assert!(!tmpfs.path().join("more.raw").exists());
}

#[test]
fn provisioning_is_made_kept_and_recognised() {
    let folder = folder();
    let whole = ByteRange::new(0, 2 * MIB);
    for provisioning in [Provisioning::Thin, Provisioning::Thick, Provisioning::Eager] {
        let path = folder.path().join(provisioning.as_str());
        let image = RawImage::create(&path, &options(2 * MIB, provisioning)).expect("created");
        let is_thin = provisioning == Provisioning::Thin;
        let taken_bytes = |image: &RawImage| image.allocated_bytes().expect("known");
        assert_eq!(taken_bytes(&image) < MIB, is_thin, "{provisioning:?} when created");
        image.zero(whole, Zeroing::KeepAllocation).expect("zeroed");
        assert_eq!(taken_bytes(&image) < MIB, is_thin, "{provisioning:?}: zeros over holes");
        image.write_at(0, &[1; MIB as usize]).expect("written");
        image.zero(whole, Zeroing::KeepAllocation).expect("zeroed");
        assert!(taken_bytes(&image) >= MIB, "{provisioning:?}: what was taken stays taken");
        image.zero(whole, Zeroing::Punch).expect("punched");
        assert_eq!(taken_bytes(&image) < MIB, is_thin, "{provisioning:?}: only thin gives back");
        image.grow(3 * MIB).expect("grown");
        assert_eq!(taken_bytes(&image) >= 3 * MIB, !is_thin, "{provisioning:?} when grown");
        assert!(image.grow(MIB).is_err(), "never shortened");
        assert_eq!(read_all(&image), vec![0; 3 * MIB as usize]);
        drop(image);
        let again = RawImage::open(&path, Access::Write).expect("opened");
        assert_eq!(again.provisioning() == Provisioning::Thin, is_thin);
    }
}

#[test]
fn no_space_leaves_no_file_and_the_second_run_succeeds() {
    let tmpfs = Mounted::tmpfs(MIB);
    let path = tmpfs.path().join("disk.raw");
    let spec = ImageSpec::from(&path);
    let ballast = tmpfs.path().join("ballast");
    std::fs::write(&ballast, vec![1; MIB as usize / 2]).expect("written");
    for provisioning in [Provisioning::Thick, Provisioning::Eager] {
        let refused = failback_image::create(&spec, &options(MIB * 3 / 4, provisioning)).err();
        let refused = refused.unwrap_or_else(|| panic!("{provisioning:?} fitted"));
        assert_eq!(refused.code, Code::NoSpace);
        assert!(!failback_image::exists(&spec).expect("known"), "{provisioning:?} left a file");
    }
    std::fs::remove_file(&ballast).expect("removed");
    failback_image::create(&spec, &options(MIB * 3 / 4, Provisioning::Thick)).expect("created");
    let refused = failback_image::create(&spec, &CreateOptions::new(1)).err().expect("refused");
    assert_eq!(refused.code, Code::ImageExists);
    assert_eq!(std::fs::metadata(&path).expect("still there").len(), MIB * 3 / 4);
}

#[test]
fn an_image_that_was_not_written_to_is_not_touched() {
    let fault = Fault { call: Call::Sync, when: When::From(1), damage: Damage::Io };
    let device = Arc::new(Faulty::new(MemoryDevice::new(MIB), [fault]));
    let image = RawImage::over(Arc::clone(&device) as Arc<dyn Device>).expect("opened");
    image.close().expect("nothing to flush");
    assert_eq!(device.calls(Call::Sync), 0);
    image.write_at(0, b"x").expect("written");
    assert_eq!(image.flush().unwrap_err().code, Code::FlushFailed);
    assert!(image.close().is_err());
}

#[test]
fn the_content_of_a_raw_disk_is_never_asked() {
    let folder = folder();
    for (name, header) in
        [("a.raw", &b"KDMV\x01\0\0\0"[..]), ("b.img", b"# Disk DescriptorFile\n"), ("c.bin", b"vhdxfile")]
    {
        let path = folder.path().join(name);
        std::fs::write(&path, header).expect("written");
        let image = failback_image::open(&ImageSpec::from(&path), Access::Write).expect("opened");
        assert_eq!(image.identity().format, ImageFormat::Raw);
        assert_eq!(image.geometry().length_bytes, header.len() as u64);
        assert_eq!(image.name(), Path::new(&path));
    }
}
