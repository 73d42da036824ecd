//! What keeps a disk from being written under somebody who uses it.

use crate::support::{ESXI_V3, alone, open, pattern, qemu_ok, refusal, text, together};
use failback_image::Access;
use failback_model::Code;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

fn lay(folder: &Path) -> PathBuf {
    let path = folder.join("db01.vmdk");
    fs::write(&path, ESXI_V3).expect("written");
    fs::write(folder.join("db01-flat.vmdk"), pattern(3, 1 << 20)).expect("written");
    path
}

#[test]
fn lock_files_of_hosted_products_and_of_esxi_on_nfs_mean_in_use() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = lay(folder.path());
    let nfs_lock = |name: &str| {
        let inode = fs::metadata(folder.path().join(name)).expect("there").ino();
        folder.path().join(format!(".lck-{:016x}", inode.swap_bytes()))
    };
    let mut locks = Vec::new();
    for name in ["db01.vmdk", "db01-flat.vmdk"] {
        let hosted = folder.path().join(format!("{name}.lck"));
        fs::create_dir(&hosted).expect("made");
        fs::write(hosted.join("M41822.lck"), "host").expect("written");
        assert_in_use(&path);
        fs::remove_dir_all(&hosted).expect("removed");
        locks.extend([hosted, nfs_lock(name)]);
    }
    for lock in locks {
        fs::write(&lock, "esx1.example.com").expect("written");
        assert_in_use(&path);
        fs::remove_file(&lock).expect("removed");
    }
    fs::write(folder.path().join("other.vswp"), "swap").expect("written");
    fs::write(nfs_lock("other.vswp"), "esx1.example.com").expect("written");
    open(&path, Access::Write);
}

fn assert_in_use(path: &Path) {
    for access in [Access::Read, Access::Write] {
        let error = refusal(path, access);
        assert_eq!(error.code, Code::InUse, "{error}");
    }
}

#[test]
fn a_writer_is_alone_and_readers_share() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = lay(folder.path());
    let writer = open(&path, Access::Write);
    writer.write_at(0, b"x").expect("written");
    for access in [Access::Read, Access::Write] {
        assert_eq!(refusal(&path, access).code, Code::InUse);
    }
    drop(writer);
    let (_one, _two) = (open(&path, Access::Read), open(&path, Access::Read));
    assert_eq!(refusal(&path, Access::Write).code, Code::InUse);
}

/// A delta's descriptor as ESXi writes it.
fn delta(parent_id: &str, hint: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=3\nCID=11111111\nparentCID={parent_id}\ncreateType=\"vmfsSparse\"\n\
         parentFileNameHint=\"{hint}\"\n# Extent description\nRW 2048 VMFSSPARSE \"db01-000001-delta.vmdk\"\n"
    )
}

#[test]
fn a_parent_is_read_but_not_written() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = lay(folder.path());
    let sibling = folder.path().join("db01-000001.vmdk");
    let children = [
        delta("7f3ac1d9", "db01.vmdk"),
        delta("00abcdef", "db01.vmdk"),
        delta("7f3ac1d9", "/vmfs/volumes/5f1e-77/db01/db01.vmdk"),
        delta("7f3ac1d9", "renamed.vmdk"),
        delta("00abcdef", "db01.vmdk").replace("version=3", "version=9"),
        delta("7f3ac1d9", "x").replace("parentFileNameHint=\"x\"\n", ""),
    ];
    for child in children {
        fs::write(&sibling, &child).expect("written");
        let error = refusal(&path, Access::Write);
        assert_eq!(error.code, Code::ImageHasChild, "{error}\n{child}");
        open(&path, Access::Read);
        // The delta itself is refused, with another remedy.
        let error = refusal(&sibling, Access::Read);
        assert_eq!(error.code, Code::ImageUnsupported);
        assert!(child.contains("version=9") || error.to_string().contains("consolidate"), "{error}");
    }
    fs::write(folder.path().join("other.vmdk"), ESXI_V3).expect("written");
    let strangers = [
        delta("00abcdef", "elsewhere/db01.vmdk"),
        delta("00abcdef", "renamed.vmdk"),
        delta("7f3ac1d9", "other.vmdk"),
        ESXI_V3.to_owned(),
        "no descriptor at all".to_owned(),
        String::new(),
    ];
    for stranger in strangers {
        fs::write(&sibling, &stranger).expect("written");
        open(&path, Access::Write);
    }
}

#[test]
fn a_sibling_that_cannot_be_judged_counts_as_a_delta() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let elsewhere = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = lay(folder.path());
    let sibling = folder.path().join("db01-000001.vmdk");
    let refused = |what: &str| {
        let error = refusal(&path, Access::Write);
        assert_eq!(error.code, Code::ImageHasChild, "{what}: {error}");
        assert!(error.reason.contains("db01-000001.vmdk"), "{what}: {error}");
        open(&path, Access::Read);
    };
    let hidden = elsewhere.path().join("hidden.vmdk");
    symlink(&hidden, &sibling).expect("linked");
    refused("a link to a place that is away");
    fs::write(&hidden, delta("7f3ac1d9", "db01.vmdk")).expect("written");
    refused("a link to a delta");
    fs::write(&hidden, ESXI_V3).expect("written");
    open(&path, Access::Write);
    fs::remove_file(&sibling).expect("removed");
    symlink("db01-000001.vmdk", &sibling).expect("linked");
    refused("a link to itself");
    fs::remove_file(&sibling).expect("removed");
    fs::create_dir(&sibling).expect("made");
    refused("a folder");
    fs::remove_dir(&sibling).expect("removed");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &sibling, rustix::fs::FileType::Fifo, mode, 0).expect("made");
    refused("a FIFO");
    fs::remove_file(&sibling).expect("removed");
    for (what, bytes) in [
        ("too long", [ESXI_V3.as_bytes(), &vec![b'#'; 2 << 20]].concat()),
        ("damaged", b"# Disk DescriptorFile\nnonsense".to_vec()),
        ("a sparse file cut short", b"KDMV\x01\0\0\0".to_vec()),
        ("a damaged sparse file", [&b"KDMV"[..], &[0xff; 508]].concat()),
    ] {
        fs::write(&sibling, bytes).expect("written");
        refused(what);
    }
    fs::remove_file(&sibling).expect("removed");
    open(&path, Access::Write);
}

#[test]
fn a_guest_cannot_lock_its_own_disk_whatever_its_extent_is_called() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = lay(folder.path());
    let flat = "db01-data.vmdk";
    fs::write(&path, ESXI_V3.replace("db01-flat.vmdk", flat)).expect("written");
    let mut bytes = pattern(3, 1 << 20);
    let text = delta("7f3ac1d9", "db01.vmdk");
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    fs::write(folder.path().join(flat), bytes).expect("written");
    open(&path, Access::Write);
}

#[test]
fn a_hosted_delta_with_its_descriptor_inside_counts() {
    let _guard = alone();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let base = folder.path().join("base.vmdk");
    let child = folder.path().join("base-000001.vmdk");
    qemu_ok(&["create", "-f", "vmdk", "-o", "subformat=monolithicFlat", text(&base), "1M"]);
    qemu_ok(&[
        "create",
        "-f",
        "vmdk",
        "-o",
        "subformat=monolithicSparse,adapter_type=ide",
        text(&child),
        "1M",
    ]);
    open(&base, Access::Write);
    // qemu bases deltas on sparse parents only: the descriptor inside is edited to name ours.
    let mut bytes = fs::read(&child).expect("read");
    let at = bytes.windows(19).position(|window| window == b"parentCID=ffffffff\n").expect("a descriptor");
    let id = open(&base, Access::Read).identity().content_id.expect("a VMDK has one");
    bytes[at + 10..at + 18].copy_from_slice(format!("{id:08x}").as_bytes());
    fs::write(&child, bytes).expect("written");
    assert_eq!(refusal(&base, Access::Write).code, Code::ImageHasChild);
}

#[test]
fn what_a_guest_wrote_into_its_disk_locks_no_other() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = lay(folder.path());
    fs::write(folder.path().join("db02-flat.vmdk"), delta("7f3ac1d9", "db01.vmdk")).expect("written");
    fs::write(folder.path().join("db03-f001.vmdk"), delta("7f3ac1d9", "db01.vmdk")).expect("written");
    open(&path, Access::Write);
}
