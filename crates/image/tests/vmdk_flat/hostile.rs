//! Descriptors that lie: each is refused with its code, and nothing it names is touched.

use crate::support::{ESXI_V3, open, pattern, refusal, together};
use failback_image::Access;
use failback_model::Code;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const EXTENT: &str = "RW 2048 VMFS \"db01-flat.vmdk\"";

fn lay(folder: &Path, descriptor: &str) -> PathBuf {
    let path = folder.join("db01.vmdk");
    fs::write(&path, descriptor).expect("written");
    fs::write(folder.join("db01-flat.vmdk"), pattern(3, 1 << 20)).expect("written");
    path
}

/// Opens ESXi's descriptor with its extent line replaced.
fn code_of(extents: &str) -> (Code, String) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = lay(folder.path(), &ESXI_V3.replace(EXTENT, extents));
    let error = refusal(&path, Access::Write);
    (error.code, error.to_string())
}

#[test]
fn names_that_leave_the_folder() {
    let _guard = together();
    for name in
        ["../../etc/passwd", "..", ".", "", "sub/disk-flat.vmdk", "./db01-flat.vmdk", "sub/../db01-flat.vmdk"]
    {
        let (code, text) = code_of(&format!("RW 1 VMFS \"{name}\""));
        assert_eq!(code, Code::ImageExtentEscapes, "{name}: {text}");
    }
    let long = "x".repeat(300);
    assert_eq!(code_of(&format!("RW 1 VMFS \"{long}\"")).0, Code::ImageExtentEscapes);
}

#[test]
fn names_of_what_is_no_file_here_say_hot_add() {
    let _guard = together();
    for line in [
        "RW 1 VMFS \"/etc/passwd\"",
        "RW 1 VMFS \"/vmfs/devices/disks/naa.6000\"",
        "RW 1 VMFS \"vsan://5dd1ac70-a96e-1d0b-4a1a-04fe7f3ac1d9\"",
        "RW 1 VMFS \"vvol://rfc4122.a3c5e0d2-1111-2222-3333-444455556666\"",
        "RW 1 FLAT \"\\\\.\\PhysicalDrive0\" 0",
        "RW 1 FLAT \"C:\\disks\\a.vmdk\" 0",
        "RW 1 VMFSRDM \"db01-rdm.vmdk\"",
        "RW 1 VMFSRAW \"naa.6000\"",
        "NOACCESS 1 FLAT \"db01-flat.vmdk\" 0",
    ] {
        let (code, text) = code_of(line);
        assert_eq!(code, Code::ImageUnsupported, "{line}: {text}");
        assert!(text.contains("hot-add"), "{text}");
    }
    for line in ["RW 1 VMFSSPARSE \"db01-delta.vmdk\"", "RW 1 SESPARSE \"db01-sesparse.vmdk\""] {
        let (code, text) = code_of(line);
        assert_eq!(code, Code::ImageUnsupported);
        assert!(text.contains("consolidate"), "{text}");
    }
}

#[test]
fn kinds_that_are_not_handled_say_what_to_do() {
    let _guard = together();
    for (kind, remedy) in [
        ("vmfsSparse", "consolidate"),
        ("seSparse", "consolidate"),
        ("vmfsRawDeviceMap", "hot-add"),
        ("vmfsPassthroughRawDeviceMap", "hot-add"),
        ("fullDevice", "hot-add"),
        ("partitionedDevice", "hot-add"),
        ("custom", "hot-add"),
    ] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let text = ESXI_V3.replace("createType=\"vmfs\"", &format!("createType=\"{kind}\""));
        let error = refusal(&lay(folder.path(), &text), Access::Read);
        assert_eq!(error.code, Code::ImageUnsupported, "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

#[test]
fn lengths_that_cannot_be() {
    let _guard = together();
    for line in [
        "RW 18446744073709551615 VMFS \"db01-flat.vmdk\"",
        "RW 18446744073709551616 VMFS \"db01-flat.vmdk\"",
        "RW 36028797018963968 VMFS \"db01-flat.vmdk\"",
        "RW 2048 VMFS \"db01-flat.vmdk\" 36028797018963967",
        "RW 2049 VMFS \"db01-flat.vmdk\"",
        "RW 2048 VMFS \"db01-flat.vmdk\" 1",
        "RW 1024 FLAT \"db01-flat.vmdk\" 0\nRW 1024 FLAT \"db01-flat.vmdk\" 1023",
        "RW 2048 VMFS \"db01-flat.vmdk\"\nRW 2048 VMFS \"db01-flat.vmdk\"",
        "RW -1 VMFS \"db01-flat.vmdk\"",
        "RW 0x800 VMFS \"db01-flat.vmdk\"",
        "RW 2048 FLAT \"db01-flat.vmdk\"",
        "RW 2048 VMFS \"db01-flat.vmdk",
        "RW 2048 VMFS db01-flat.vmdk",
        "RW 2048 MYSTERY \"db01-flat.vmdk\"",
        "RW 2048",
        "RW 1 VMFS \"db01.vmdk\"",
        "RW 20000000000000000 ZERO\nRW 20000000000000000 ZERO",
        "gibberish",
    ] {
        let (code, text) = code_of(line);
        assert_eq!(code, Code::ImageDamaged, "{line}: {text}");
    }
    assert_eq!(code_of("RW 137438953473 ZERO").0, Code::ImageSizeUnsupported);
    assert_eq!(code_of("RW 1 VMFS \"absent.vmdk\"").0, Code::OpenFailed);
    assert_eq!(code_of("RDONLY 2048 VMFS \"db01-flat.vmdk\"").0, Code::ImageReadOnlyKind);
    let many = "RW 1 ZERO\n".repeat(4097);
    assert_eq!(code_of(&many).0, Code::ImageDamaged);
}

#[test]
fn links_and_what_is_no_regular_file_are_not_followed() {
    let _guard = together();
    let outside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let secret = outside.path().join("secret");
    fs::write(&secret, pattern(1, 1 << 20)).expect("written");
    let path = lay(folder.path(), ESXI_V3);
    let flat = folder.path().join("db01-flat.vmdk");
    fs::remove_file(&flat).expect("removed");
    symlink(&secret, &flat).expect("linked");
    for access in [Access::Read, Access::Write] {
        assert_eq!(refusal(&path, access).code, Code::ImageExtentEscapes);
    }
    fs::remove_file(&flat).expect("removed");
    // A cycle of links, then a folder in the file's place.
    symlink("db01-flat.vmdk", &flat).expect("linked");
    assert_eq!(refusal(&path, Access::Write).code, Code::ImageExtentEscapes);
    fs::remove_file(&flat).expect("removed");
    fs::create_dir(&flat).expect("made");
    assert_eq!(refusal(&path, Access::Write).code, Code::ImageExtentEscapes);
    assert_eq!(fs::read(&secret).expect("read"), pattern(1, 1 << 20));
}

#[test]
fn two_names_of_one_file_are_damage() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let extents = "RW 2048 FLAT \"db01-flat.vmdk\" 0\nRW 2048 FLAT \"again.vmdk\" 0";
    let path = lay(folder.path(), &ESXI_V3.replace(EXTENT, extents));
    fs::hard_link(folder.path().join("db01-flat.vmdk"), folder.path().join("again.vmdk")).expect("linked");
    let error = refusal(&path, Access::Read);
    assert_eq!(error.code, Code::ImageDamaged, "{error}");
}

#[test]
fn a_hard_link_to_something_else_is_read_but_not_written() {
    let _guard = together();
    let folder = tempfile::tempdir().expect("a folder");
    let path = lay(folder.path(), ESXI_V3);
    let flat = folder.path().join("db01-flat.vmdk");
    let elsewhere = folder.path().join("elsewhere.bin");
    fs::hard_link(&flat, &elsewhere).expect("linked");
    let error = refusal(&path, Access::Write);
    assert_eq!(error.code, Code::ImageExtentEscapes, "{error}");
    drop(open(&path, Access::Read));
    fs::remove_file(&elsewhere).expect("removed");
    // A second name that a creation of ours left behind is taken off.
    let draft = folder.path().join("db01-flat.vmdk.failback-draft");
    fs::hard_link(&flat, &draft).expect("linked");
    drop(open(&path, Access::Write));
    assert!(!draft.exists());
}

#[test]
fn extents_of_another_kind_than_the_disk_says() {
    let _guard = together();
    for (kind, line) in [
        ("vmfs", "RW 2048 SPARSE \"db01-flat.vmdk\""),
        ("monolithicFlat", "RW 1024 FLAT \"db01-flat.vmdk\" 0\nRW 1024 SPARSE \"db01-s001.vmdk\""),
        ("twoGbMaxExtentSparse", "RW 2048 FLAT \"db01-flat.vmdk\" 0"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let text = ESXI_V3.replace("createType=\"vmfs\"", &format!("createType=\"{kind}\""));
        let error = refusal(&lay(folder.path(), &text.replace(EXTENT, line)), Access::Read);
        assert_eq!(error.code, Code::ImageDamaged, "{error}");
        assert!(error.reason.contains(kind), "{error}");
    }
}

#[test]
fn what_is_no_descriptor() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("d.vmdk");
    let cut = |text: &str| ESXI_V3.replace(text, "");
    let cases: [(Vec<u8>, Code); 9] = [
        (Vec::new(), Code::ImageFormatDisagrees),
        (vec![0; 4096], Code::ImageFormatDisagrees),
        (b"version=1\nCID=1\n".to_vec(), Code::ImageFormatDisagrees),
        ([ESXI_V3.as_bytes(), &vec![b'#'; 2 << 20]].concat(), Code::ImageFormatDisagrees),
        (ESXI_V3.replace("version=3", "version=4").into_bytes(), Code::ImageUnsupported),
        (cut("createType=\"vmfs\"").into_bytes(), Code::ImageDamaged),
        (cut("\nCID=7f3ac1d9").into_bytes(), Code::ImageDamaged),
        (ESXI_V3.replace("CID=7f3ac1d9", "CID=7f3ac1d9ff").into_bytes(), Code::ImageDamaged),
        (format!("{ESXI_V3}CID=00000001\n").into_bytes(), Code::ImageDamaged),
    ];
    for (bytes, code) in cases {
        fs::write(&path, &bytes).expect("written");
        let error = refusal(&path, Access::Read);
        assert_eq!(error.code, code, "{error}");
    }
}
