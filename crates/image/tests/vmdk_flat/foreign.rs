//! Descriptors that others wrote keep every byte that is not theirs to change.

use crate::support::{ESXI_V3, alone, bytes_of, open, pattern, qemu_ok, text, together};
use failback_image::{Access, ImageFormat, Provisioning};
use failback_model::ByteRange;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Lays a descriptor and its 1 MiB flat file into a folder.
fn lay(folder: &Path, descriptor: &[u8]) -> PathBuf {
    let path = folder.join("db01.vmdk");
    fs::write(&path, descriptor).expect("written");
    fs::write(folder.join("db01-flat.vmdk"), pattern(3, 1 << 20)).expect("written");
    path
}

/// Writes one byte run and returns the descriptor after it, with the content id that must stand in it.
fn write_once(path: &Path) -> (Vec<u8>, u32) {
    let image = open(path, Access::Write);
    image.write_at(1000, b"changed").expect("written");
    image.write_at(9000, b"changed again").expect("written");
    image.close().expect("closed");
    (fs::read(path).expect("read"), image.identity().content_id.expect("a VMDK has one"))
}

fn expect_only_ids_changed(before: &str, after: &[u8], old: &str, new: u32) {
    let new = format!("{new:08x}");
    assert_ne!(new, old);
    assert!(!["ffffffff", "fffffffe", "00000000"].contains(&new.as_str()));
    assert_eq!(String::from_utf8_lossy(after), before.replace(old, &new));
}

#[test]
fn an_esxi_descriptor_changes_in_its_ids_alone() {
    let _guard = together();
    let crlf = ESXI_V3.replace('\n', "\r\n");
    let version_1 = ESXI_V3.replace("version=3", "version=1");
    let with_offset = ESXI_V3.replace("db01-flat.vmdk\"", "db01-flat.vmdk\" 0");
    let padded = format!("{ESXI_V3}{}", "\0".repeat(700));
    let unended = ESXI_V3.trim_end().to_owned();
    let reordered = {
        let mut lines: Vec<&str> = ESXI_V3.lines().collect();
        lines[2..].reverse();
        lines.join("\n") + "\n\t # odd = comment\nsome.future.key=  \"x = y\"  \n"
    };
    for text in [ESXI_V3.to_owned(), crlf, version_1, with_offset, padded, unended, reordered] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let path = lay(folder.path(), text.as_bytes());
        let (after, id) = write_once(&path);
        expect_only_ids_changed(&text, &after, "7f3ac1d9", id);
        let reopened = open(&path, Access::Read);
        assert_eq!(reopened.identity().content_id, Some(id));
        let mut expected = pattern(3, 1 << 20);
        expected[1000..1007].copy_from_slice(b"changed");
        expected[9000..9013].copy_from_slice(b"changed again");
        assert!(bytes_of(reopened.as_ref()) == expected, "content");
    }
}

#[test]
fn a_disk_that_is_only_read_is_not_touched() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = lay(folder.path(), ESXI_V3.as_bytes());
    let inode = fs::metadata(&path).expect("there").ino();
    for access in [Access::Read, Access::Write] {
        let image = open(&path, access);
        bytes_of(image.as_ref());
        assert!(image.check().expect("checked").is_empty());
        image.flush().expect("flushed");
        image.close().expect("closed");
    }
    assert_eq!(fs::read(&path).expect("read"), ESXI_V3.as_bytes());
    assert_eq!(fs::metadata(&path).expect("there").ino(), inode);
    let image = open(&path, Access::Read);
    assert!(image.write_at(0, b"x").is_err(), "opened for reading");
    assert_eq!(fs::read(&path).expect("read"), ESXI_V3.as_bytes());
}

#[test]
fn identity_and_thin_flag_are_read_and_owner_and_mode_stay() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = lay(folder.path(), ESXI_V3.as_bytes());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode set");
    let owned = std::os::unix::fs::chown(&path, Some(1234), Some(2345)).is_ok();
    // What a crash between writing and renaming leaves is no obstacle.
    fs::write(folder.path().join("db01.vmdk.failback-draft"), "torn").expect("written");
    let image = open(&path, Access::Write);
    assert_eq!(image.provisioning(), Provisioning::Thin);
    let identity = image.identity();
    assert_eq!(identity.format, ImageFormat::VmdkVmfs);
    assert_eq!(identity.uuid.as_deref(), Some("60 00 C2 9b 1f 0a 77 34-5c 02 9e 8d 10 44 ab f3"));
    assert_eq!(identity.files.len(), 2);
    image.write_at(0, b"x").expect("written");
    let after = fs::metadata(&path).expect("there");
    assert_eq!(after.mode() & 0o7777, 0o640);
    assert_eq!((after.uid(), after.gid()) == (1234, 2345), owned);
    let names: Vec<_> =
        fs::read_dir(folder.path()).expect("listed").map(|entry| entry.expect("read").file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn the_new_content_id_is_durable_before_the_data() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = lay(folder.path(), ESXI_V3.as_bytes());
    let image = open(&path, Access::Write);
    // Where the descriptor cannot be replaced, no byte of the extent changes, now or later.
    fs::create_dir(folder.path().join("db01.vmdk.failback-draft")).expect("made");
    assert!(image.write_at(0, b"x").is_err());
    fs::remove_dir(folder.path().join("db01.vmdk.failback-draft")).expect("removed");
    let error = image.write_at(0, b"x").expect_err("latched");
    assert!(error.to_string().contains("open it again"), "{error}");
    drop(image);
    assert_eq!(fs::read(&path).expect("read"), ESXI_V3.as_bytes());
    assert!(bytes_of(open(&path, Access::Read).as_ref()) == pattern(3, 1 << 20));
}

#[test]
fn a_replaced_descriptor_keeps_its_extended_attributes() {
    let _guard = together();
    let folder = tempfile::tempdir().expect("a folder");
    let path = lay(folder.path(), ESXI_V3.as_bytes());
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&path, "user.owner", b"team db", flags).expect("this file system keeps attributes");
    write_once(&path);
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(&path, "user.owner", &mut value[..]).expect("kept");
    assert_eq!(&value[..length], b"team db");
}

#[test]
fn qemu_reads_an_esxi_disk_that_we_wrote_to() {
    let _guard = alone();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = lay(folder.path(), ESXI_V3.as_bytes());
    write_once(&path);
    let raw = folder.path().join("db01-flat.vmdk");
    qemu_ok(&["compare", "-f", "vmdk", "-F", "raw", text(&path), text(&raw)]);
}

#[test]
fn one_file_may_hold_several_extents_and_zero_has_none() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let text = ESXI_V3.replace("createType=\"vmfs\"", "createType=\"monolithicFlat\"").replace(
        "RW 2048 VMFS \"db01-flat.vmdk\"",
        "RW 1024 FLAT \"db01-flat.vmdk\" 1024\nRW 8 ZERO\nRW 1024 FLAT \"db01-flat.vmdk\" 0",
    );
    let path = lay(folder.path(), text.as_bytes());
    let image = open(&path, Access::Write);
    let file = pattern(3, 1 << 20);
    let expected = [&file[524_288..], &[0; 4096], &file[..524_288]].concat();
    assert!(bytes_of(image.as_ref()) == expected);
    let run = image.next_data(524_288).expect("sought").expect("data behind the zeros");
    assert_eq!(run.start(), 524_288 + 4096);
    image.write_at(524_288, &[0; 4096]).expect("zeros are there already");
    assert!(image.write_at(524_280, &[1; 4096]).is_err(), "there is no file to hold data");
    assert_eq!(image.unwritable_ranges(), [ByteRange::new(524_288, 528_384)]);
}

#[test]
fn a_link_to_a_descriptor_is_the_disk_it_leads_to() {
    let _guard = together();
    let (folder, links) = (
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let path = lay(folder.path(), ESXI_V3.as_bytes());
    let link = links.path().join("current.vmdk");
    std::os::unix::fs::symlink(&path, &link).expect("linked");
    let (after, id) = write_once(&link);
    expect_only_ids_changed(ESXI_V3, &after, "7f3ac1d9", id);
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink(), "the link stays one");
    assert_eq!(fs::read(&path).expect("read"), after);
    assert_eq!(fs::read_dir(links.path()).expect("listed").count(), 1);
}
