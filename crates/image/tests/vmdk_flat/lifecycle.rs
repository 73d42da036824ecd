//! Making, growing and closing.

use crate::support::{alone, bytes_of, open, pattern, qemu_ok, text, together};
use failback_blockio::Zeroing;
use failback_image::{Access, CreateOptions, ImageSpec, Provisioning, VmdkType};
use failback_model::{ByteRange, Code};
use std::fs;
use std::path::Path;

const MIB: u64 = 1 << 20;

fn options(kind: VmdkType, length_bytes: u64) -> CreateOptions {
    CreateOptions { vmdk_type: kind, ..CreateOptions::new(length_bytes) }
}

fn create(path: &Path, options: &CreateOptions) -> Result<std::sync::Arc<dyn failback_image::Image>, Code> {
    failback_image::create(&ImageSpec::from(path), options).map_err(|error| error.code)
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).expect("listed").count()
}

#[test]
fn a_new_disk_has_a_fresh_identity_unless_one_is_given() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let mut seen = std::collections::HashSet::new();
    for name in ["a.vmdk", "b.vmdk"] {
        let image = create(&folder.path().join(name), &options(VmdkType::Vmfs, MIB)).expect("created");
        let uuid = image.identity().uuid.expect("a uuid");
        let groups: Vec<&str> = uuid.split(['-', ' ']).collect();
        assert!(uuid.starts_with("60 00 C2 9") && groups.len() == 16 && uuid.len() == 47, "{uuid}");
        assert!(seen.insert(uuid));
    }
    let given = "60 00 C2 9b 1f 0a 77 34-5c 02 9e 8d 10 44 ab f3".to_owned();
    let named = CreateOptions { uuid: Some(given.clone()), ..options(VmdkType::Vmfs, MIB) };
    let image = create(&folder.path().join("c.vmdk"), &named).expect("created");
    assert_eq!(image.identity().uuid, Some(given));
    let hostile = CreateOptions { uuid: Some("x\"\nRW 1 FLAT \"/etc/passwd\" 0".into()), ..named };
    assert_eq!(create(&folder.path().join("d.vmdk"), &hostile).err(), Some(Code::CreateFailed));
    assert_eq!(count(folder.path()), 6);
}

#[test]
fn sizes_that_are_no_sectors_name_the_next_and_an_empty_disk_is_one() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("d.vmdk");
    let error = failback_image::create(&ImageSpec::from(&path), &options(VmdkType::Vmfs, MIB + 1))
        .err()
        .expect("refused");
    assert_eq!(error.code, Code::ImageSizeUnsupported);
    assert!(error.to_string().contains("1049088"), "{error}");
    assert_eq!(count(folder.path()), 0);
    for kind in [VmdkType::Vmfs, VmdkType::MonolithicFlat, VmdkType::TwoGbMaxExtentFlat] {
        let path = folder.path().join(format!("{}.vmdk", kind.as_str()));
        drop(create(&path, &options(kind, 0)).expect("created"));
        let image = open(&path, Access::Write);
        assert_eq!(image.geometry().length_bytes, 0);
        image.read_at(0, &mut []).expect("nothing is there");
        assert!(image.read_at(0, &mut [0]).is_err());
        assert_eq!(image.next_data(0).expect("sought"), None);
        image.close().expect("closed");
    }
}

#[test]
fn a_disk_of_64_tib_is_made_and_one_more_sector_is_not() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("huge.vmdk");
    let huge = options(VmdkType::Vmfs, 64 << 40);
    match create(&path, &huge) {
        Ok(image) => {
            image.write_at((64 << 40) - 512, &[7; 512]).expect("written");
            assert!(image.allocated_bytes().expect("counted") < MIB);
        }
        // Some file systems hold no file of that length; then nothing may be left of it.
        Err(_) => assert_eq!(count(folder.path()), 0),
    }
    let path = folder.path().join("over.vmdk");
    assert_eq!(
        create(&path, &options(VmdkType::Vmfs, (64 << 40) + 512)).err(),
        Some(Code::ImageSizeUnsupported)
    );
    // 4096 files of 2047 MiB are the most that a split disk may have.
    let split = options(VmdkType::TwoGbMaxExtentFlat, 4097 * 2047 * MIB);
    assert_eq!(create(&path, &split).err(), Some(Code::ImageSizeUnsupported));
}

#[test]
fn nothing_is_left_of_a_disk_that_could_not_be_made() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let in_the_way = folder.path().join("d-f002.vmdk");
    fs::write(&in_the_way, "mine").expect("written");
    let split = options(VmdkType::TwoGbMaxExtentFlat, 3 * 2047 * MIB);
    assert_eq!(create(&folder.path().join("d.vmdk"), &split).err(), Some(Code::ImageExists));
    assert_eq!(count(folder.path()), 1);
    assert_eq!(fs::read(&in_the_way).expect("read"), b"mine");
    for name in ["a\"b.vmdk", "a\nb.vmdk"] {
        assert_eq!(
            create(&folder.path().join(name), &options(VmdkType::Vmfs, MIB)).err(),
            Some(Code::CreateFailed)
        );
    }
    assert_eq!(count(folder.path()), 1);
}

#[test]
fn growing_keeps_the_bytes_and_the_descriptor_follows() {
    let _guard = alone();
    for (kind, from, to) in [
        (VmdkType::Vmfs, MIB, 5 * MIB),
        (VmdkType::MonolithicFlat, MIB, 3000 * MIB),
        (VmdkType::TwoGbMaxExtentFlat, 10 * MIB, 2 * 2047 * MIB + 512),
        (VmdkType::TwoGbMaxExtentFlat, 2047 * MIB, 2048 * MIB),
        (VmdkType::Vmfs, 0, MIB),
    ] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let path = folder.path().join("d.vmdk");
        let image = create(&path, &options(kind, from)).expect("created");
        let data = pattern(5, 100_000.min(from as usize));
        image.write_at(0, &data).expect("written");
        image.grow(to).expect("grown");
        assert_eq!(image.geometry().length_bytes, to);
        image.write_at(to - 600, &pattern(6, 600)).expect("written");
        assert!(image.grow(to - 512).is_err(), "a disk never shrinks");
        assert_eq!(image.grow(to + 1).err().map(|error| error.code), Some(Code::ImageSizeUnsupported));
        image.close().expect("closed");
        drop(image);
        let image = open(&path, Access::Read);
        assert_eq!(image.geometry().length_bytes, to);
        let (mut head, mut tail) = (vec![0; data.len()], vec![0; 600]);
        image.read_at(0, &mut head).expect("read");
        image.read_at(to - 600, &mut tail).expect("read");
        assert!(head == data && tail == pattern(6, 600));
        drop(image);
        let info = qemu_ok(&["info", "-f", "vmdk", "--output=json", text(&path)]);
        assert!(info.contains(&format!("\"virtual-size\": {to}")), "{info}");
    }
}

#[test]
fn zeros_keep_the_space_of_a_thick_disk_and_free_that_of_a_thin_one() {
    let _guard = together();
    for (provisioning, kept) in [(Provisioning::Thick, true), (Provisioning::Thin, false)] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let path = folder.path().join("d.vmdk");
        let made = CreateOptions { provisioning: Some(provisioning), ..options(VmdkType::Vmfs, 4 * MIB) };
        drop(create(&path, &made).expect("created"));
        let image = open(&path, Access::Write);
        assert_eq!(image.provisioning(), provisioning);
        image.write_at(0, &pattern(9, 4 << 20)).expect("written");
        image.zero(ByteRange::new(MIB, 3 * MIB), Zeroing::Punch).expect("zeroed");
        image.flush().expect("flushed");
        assert_eq!(image.allocated_bytes().expect("counted") >= 4 * MIB, kept);
        let bytes = bytes_of(image.as_ref());
        assert!(bytes[1 << 20..3 << 20].iter().all(|&byte| byte == 0));
        assert!(bytes[..1 << 20] == pattern(9, 4 << 20)[..1 << 20]);
    }
}
