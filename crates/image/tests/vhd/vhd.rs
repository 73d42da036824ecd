//! VHD against qemu-img.

use crate::{assert_holds, compare, convert, length_by_qemu, let_go, sample_disk, second_reader_agrees};
use failback_image::{Access, CreateOptions, ImageFormat, Provisioning, vhd};
use failback_model::Code;
use std::os::unix::fs::MetadataExt;

const MIB: u64 = 1 << 20;

#[test]
fn what_we_create_has_its_exact_length_and_bytes_for_qemu() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for length in [512, MIB, 12_345 * 512, 40 * MIB + 512] {
        let (path, raw) = (folder.path().join(format!("{length}.vhd")), folder.path().join("raw"));
        let disk = sample_disk(length as usize);
        let image = vhd::create(&path, &CreateOptions::new(length)).unwrap();
        for (number, piece) in disk.chunks(70_000).enumerate() {
            image.write_at(number as u64 * 70_000, piece).unwrap();
        }
        image.close().unwrap();
        let_go(image);
        std::fs::write(&raw, &disk).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length + 512);
        compare("vpc", &path, &raw);
        second_reader_agrees(&path, &raw);
        assert_holds(vhd::open(&path, Access::Read).unwrap().as_ref(), &disk);
    }
}

#[test]
fn a_disk_of_no_bytes_and_one_larger_than_2_tib_are_created_and_read() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for length in [0, 3 << 40] {
        let path = folder.path().join(format!("{length}.vhd"));
        let image = vhd::create(&path, &CreateOptions::new(length)).unwrap();
        assert_eq!(image.next_data(0).unwrap(), None);
        image.close().unwrap();
        let_go(image);
        let image = vhd::open(&path, Access::Write).unwrap();
        assert_eq!((image.geometry().length_bytes, image.provisioning()), (length, Provisioning::Thin));
        assert!(image.allocated_bytes().unwrap() < MIB);
    }
}

#[test]
fn what_we_grow_is_read_by_qemu() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (path, raw) = (folder.path().join("disk.vhd"), folder.path().join("raw"));
    let mut disk = sample_disk(5 << 20);
    let image = vhd::create(&path, &CreateOptions::new(5 * MIB)).unwrap();
    image.write_at(0, &disk).unwrap();
    image.grow(9 * MIB + 512).unwrap();
    disk.resize((9 << 20) + 512, 0);
    let last = disk.len() - 1;
    disk[last] = 9;
    image.write_at(last as u64, &[9]).unwrap();
    image.close().unwrap();
    assert_holds(image.as_ref(), &disk);
    let_go(image);
    std::fs::write(&raw, &disk).unwrap();
    compare("vpc", &path, &raw);
    second_reader_agrees(&path, &raw);
}

#[test]
fn provisioning_is_made_and_kept() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (provisioning, reopened) in [
        (Provisioning::Thin, Provisioning::Thin),
        (Provisioning::Thick, Provisioning::Thick),
        (Provisioning::Eager, Provisioning::Thick),
    ] {
        let path = folder.path().join(provisioning.as_str());
        let options = CreateOptions { provisioning: Some(provisioning), ..CreateOptions::new(8 * MIB) };
        let image = vhd::create(&path, &options).unwrap();
        assert_eq!(image.provisioning(), provisioning);
        image.grow(16 * MIB).unwrap();
        image.close().unwrap();
        let_go(image);
        assert_eq!(vhd::open(&path, Access::Read).unwrap().provisioning(), reopened);
        let taken_bytes = std::fs::metadata(&path).unwrap().blocks() * 512;
        assert_eq!(taken_bytes >= 16 * MIB, provisioning != Provisioning::Thin, "{taken_bytes} bytes");
    }
}

#[test]
fn what_qemu_makes_is_read_and_fixed_ones_are_written() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let raw = folder.path().join("raw");
    for (options, format) in [
        ("subformat=fixed,force_size=on", ImageFormat::VhdFixed),
        ("subformat=fixed", ImageFormat::VhdFixed),
        ("subformat=dynamic,force_size=on", ImageFormat::VhdDynamic),
        ("subformat=dynamic", ImageFormat::VhdDynamic),
    ] {
        for length in [MIB as usize, (33 << 20) + 512] {
            let path = folder.path().join("disk.vhd");
            let mut disk = sample_disk(length);
            std::fs::write(&raw, &disk).unwrap();
            convert(&raw, "vpc", options, &path);
            let image = vhd::open(&path, Access::Read).unwrap();
            assert_eq!(image.identity().format, format);
            assert_eq!(image.check().unwrap(), []);
            // Without force_size, qemu rounds up to a whole cylinder.
            let rounded = image.geometry().length_bytes as usize;
            assert_eq!(rounded as u64, length_by_qemu("vpc", &path));
            assert!(rounded == length || !options.contains("force_size") && rounded > length);
            disk.resize(rounded, 0);
            assert_holds(image.as_ref(), &disk);
            let_go(image);
            std::fs::write(&raw, &disk).unwrap();
            second_reader_agrees(&path, &raw);
            if format == ImageFormat::VhdDynamic {
                let error = vhd::open(&path, Access::Write).err().expect("dynamic VHDs are not written");
                assert_eq!(error.code, Code::ImageReadOnlyKind);
                continue;
            }
            let image = vhd::open(&path, Access::Write).unwrap();
            image.write_at(length as u64 / 2, b"written").unwrap();
            image.close().unwrap();
            let_go(image);
            disk[length / 2..][..7].copy_from_slice(b"written");
            std::fs::write(&raw, &disk).unwrap();
            compare("vpc", &path, &raw);
        }
    }
}

#[test]
fn an_image_that_is_open_for_writing_is_not_opened_again() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("disk.vhd");
    let first = vhd::create(&path, &CreateOptions::new(MIB)).unwrap();
    let second = vhd::open(&path, Access::Write).err().expect("the first has it");
    assert_eq!(second.code, Code::InUse);
    let again = vhd::create(&path, &CreateOptions::new(MIB)).err().expect("there is one");
    assert_eq!(again.code, Code::ImageExists);
    let_go(first);
    vhd::open(&path, Access::Write).unwrap();
}
