//! Making, growing and closing.

use crate::support::{alone, bytes_of, open, pattern, qemu_ok, text, together};
use failback_blockio::{Zeroing, draft_of};
use failback_image::{Access, CreateOptions, ImageSpec, Provisioning, VmdkType};
use failback_model::{ByteRange, Code};
use failback_testkit::Mounted;
use std::fs;
use std::os::unix::fs::MetadataExt;
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
    let rfc = "6000c29b-1f0a-7734-5c02-9e8d1044abf3";
    let esxi = "60 00 C2 9b 1f 0a 77 34-5c 02 9e 8d 10 44 ab f3";
    for (name, given, written) in
        [("c.vmdk", rfc, esxi), ("d.vmdk", esxi, esxi), ("e.vhd", rfc, rfc), ("f.vhd", esxi, rfc)]
    {
        let uuid = Some(given.parse().expect("a uuid"));
        let named = CreateOptions { uuid, ..options(VmdkType::Vmfs, MIB) };
        let image = create(&folder.path().join(name), &named).expect("created");
        assert_eq!(image.identity().uuid.as_deref(), Some(written), "{name}");
    }
    assert_eq!(count(folder.path()), 10);
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
    let _guard = alone();
    // Not every file system holds a file of that length; this one does.
    let folder = Mounted::tmpfs(MIB);
    let path = folder.path().join("huge.vmdk");
    let image = create(&path, &options(VmdkType::Vmfs, 64 << 40)).expect("created");
    image.write_at((64 << 40) - 512, &[7; 512]).expect("written");
    image.close().expect("closed");
    drop(image);
    let image = open(&path, Access::Read);
    assert_eq!(image.geometry().length_bytes, 64 << 40);
    assert_eq!(image.next_data(0).expect("sought"), Some(ByteRange::new((64 << 40) - 4096, 64 << 40)));
    assert!(image.allocated_bytes().expect("counted") < MIB);
    let mut last = [0; 1024];
    image.read_at((64 << 40) - 1024, &mut last).expect("read");
    assert!(last[..512] == [0; 512] && last[512..] == [7; 512]);
    drop(image);
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

/// What a kill leaves right before the descriptor gets its name: files that are still drafts too.
fn left_over(folder: &Path, names: &[&str]) {
    for name in names {
        let draft = draft_of(&folder.join(name));
        fs::write(&draft, "of a disk that never was").expect("written");
        fs::hard_link(&draft, folder.join(name)).expect("linked");
    }
}

#[test]
fn what_a_killed_creation_left_is_no_obstacle_to_the_next() {
    let _guard = together();
    for (kind, files) in [
        (VmdkType::Vmfs, vec!["d-flat.vmdk"]),
        (VmdkType::TwoGbMaxExtentFlat, vec!["d-f001.vmdk", "d-f002.vmdk"]),
        (VmdkType::TwoGbMaxExtentSparse, vec!["d-s001.vmdk", "d-s002.vmdk"]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("d.vmdk");
        left_over(folder.path(), &files);
        // The disk was to be longer then.
        for longer in ["d-f003.vmdk", "d-f004.vmdk", "d-s003.vmdk"] {
            if files.len() > 1 && longer[..3] == files[0][..3] {
                left_over(folder.path(), &[longer]);
            }
        }
        // The descriptor was not whole yet.
        fs::write(draft_of(&path), "# Disk Descr").expect("written");
        let image = create(&path, &options(kind, 2048 * MIB)).expect("created");
        image.write_at(2047 * MIB - 5, &pattern(1, 10)).expect("written");
        image.close().expect("closed");
        drop(image);
        open(&path, Access::Write);
        assert_eq!(count(folder.path()), files.len() + 1, "{kind:?} leaves no draft");
        for name in files {
            let file = fs::metadata(folder.path().join(name)).expect("there");
            assert_eq!(file.nlink(), 1, "{name}");
        }
    }
}

#[test]
fn what_a_killed_growth_left_is_no_obstacle_to_the_next() {
    let _guard = together();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.vmdk");
    let image = create(&path, &options(VmdkType::TwoGbMaxExtentFlat, MIB)).expect("created");
    left_over(folder.path(), &["d-f002.vmdk"]);
    let somebodys = folder.path().join("d-f003.vmdk");
    fs::write(&somebodys, "mine").expect("written");
    let error = image.grow(2 * 2047 * MIB + 512).unwrap_err();
    assert_eq!(error.code, Code::ImageExists);
    drop(image);
    fs::remove_file(&somebodys).expect("removed");
    let image = open(&path, Access::Write);
    assert_eq!(image.geometry().length_bytes, MIB);
    image.grow(2 * 2047 * MIB + 512).expect("grown");
    image.close().expect("closed");
    drop(image);
    assert_eq!(open(&path, Access::Read).geometry().length_bytes, 2 * 2047 * MIB + 512);
    assert_eq!(count(folder.path()), 4);
}

#[test]
fn a_creation_that_is_stopped_leaves_nothing() {
    let _guard = together();
    let folder = tempfile::tempdir().expect("a folder");
    for (name, kind) in [
        ("d.vmdk", VmdkType::Vmfs),
        ("e.vmdk", VmdkType::TwoGbMaxExtentFlat),
        ("f.vhd", VmdkType::Vmfs),
        ("g.raw", VmdkType::Vmfs),
    ] {
        let spec = ImageSpec::from(folder.path().join(name));
        let made = CreateOptions { provisioning: Some(Provisioning::Thick), ..options(kind, 100 * MIB) };
        let asked = std::cell::Cell::new(0);
        let in_the_middle = || {
            asked.set(asked.get() + 1);
            asked.get() > 1
        };
        let error = failback_image::create_unless(&spec, &made, &in_the_middle).err().expect("stopped");
        assert_eq!(error.code, Code::Cancelled, "{name}: {error}");
        assert_eq!(count(folder.path()), 0, "{name}");
    }
}
