//! What cannot be made or extended is known before anything is, and what does not open is still looked through.

use crate::raw::folder;
use failback_image::{
    Access, CreateOptions, ImageSpec, Provisioning, VmdkType, check, check_create, check_new_file, create,
    open,
};
use failback_model::{Code, Finding, Severity};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

const MIB: u64 = 1 << 20;

fn codes(findings: &[Finding]) -> Vec<Code> {
    findings.iter().map(|finding| finding.code).collect()
}

/// What speaks against making `name`, and that making it fails too and leaves nothing.
fn refusals(folder: &Path, name: &str, options: &CreateOptions) -> Vec<Finding> {
    let spec = ImageSpec::parse(match name.split_once(':') {
        Some((prefix, name)) => format!("{prefix}:{}", folder.join(name).display()),
        None => folder.join(name).display().to_string(),
    });
    let count = |path| std::fs::read_dir(path).map(Iterator::count).unwrap_or(0);
    let before = count(folder);
    let findings = check_create(&spec, options);
    assert_eq!(create(&spec, options).is_err(), !findings.is_empty(), "{name}: {findings:?}");
    if !findings.is_empty() {
        assert_eq!(count(folder), before, "{name}");
    }
    findings
}

#[test]
fn everything_that_forbids_making_an_image_is_told_at_once() {
    let folder = folder();
    std::fs::write(folder.path().join("taken-flat.vmdk"), b"").expect("written");
    std::fs::write(folder.path().join("file"), b"").expect("written");
    let new = CreateOptions::new(MIB);
    let odd = CreateOptions::new(MIB + 100);
    let eager = |vmdk_type, length| CreateOptions {
        provisioning: Some(Provisioning::Eager),
        vmdk_type,
        ..CreateOptions::new(length)
    };
    let sparse =
        |length| CreateOptions { vmdk_type: VmdkType::MonolithicSparse, ..CreateOptions::new(length) };
    for (name, options, expected) in [
        ("missing/new.raw", &new, &[Code::CreateFailed][..]),
        ("file/new.raw", &new, &[Code::CreateFailed]),
        ("new.vhdx", &new, &[Code::ImageUnsupported]),
        ("new", &new, &[Code::ImageFormatUnknown]),
        ("dev:new", &new, &[Code::CreateFailed]),
        ("taken.vmdk", &new, &[Code::ImageExists]),
        ("new.vmdk", &odd, &[Code::ImageSizeUnsupported]),
        ("new.vhd", &odd, &[Code::ImageSizeUnsupported]),
        ("new.raw", &CreateOptions::new(1 << 60), &[Code::ImageSizeUnsupported]),
        ("big.vmdk", &sparse(3 << 40), &[Code::ImageSizeUnsupported]),
        ("eager.vmdk", &eager(VmdkType::MonolithicSparse, MIB), &[Code::CreateFailed]),
        ("eager.vmdk", &eager(VmdkType::StreamOptimized, MIB), &[Code::CreateFailed]),
        (
            "missing/eager.vmdk",
            &eager(VmdkType::MonolithicSparse, MIB + 1),
            &[Code::ImageSizeUnsupported, Code::CreateFailed, Code::CreateFailed],
        ),
        ("new.raw", &odd, &[]),
        ("new.vmdk", &new, &[]),
        ("new.vhd", &new, &[]),
        ("eager-flat.vmdk", &eager(VmdkType::MonolithicFlat, MIB), &[]),
        ("sparse.vmdk", &sparse(MIB), &[]),
        ("UPPER.VMDK", &sparse(MIB), &[]),
    ] {
        let findings = refusals(folder.path(), name, options);
        assert_eq!(codes(&findings), expected, "{name}: {findings:?}");
        assert!(findings.iter().all(|finding| finding.place.path.is_some() && !finding.remedy.is_empty()));
    }
}

#[test]
fn nothing_is_ever_made_among_devices() {
    let new = CreateOptions::new(MIB);
    for name in ["raw:/dev/failback-none", "/dev/failback-none", "raw:/dev/disk/by-id/failback-none"] {
        let spec = ImageSpec::parse(name);
        let findings = check_create(&spec, &new);
        assert_eq!(codes(&findings), [Code::CreateFailed], "{name}");
        assert!(findings[0].remedy.contains("lsblk"), "{}", findings[0].remedy);
        assert_eq!(create(&spec, &new).err().map(|error| error.code), Some(Code::CreateFailed));
        assert!(!spec.path.exists());
    }
}

#[test]
fn a_folder_that_may_not_be_written_is_told_before_it_is_tried() {
    // Root may write anywhere but where nobody may: /proc has no new files.
    let findings = check_new_file(Path::new("/proc/self/new.raw"));
    assert_eq!(codes(&findings), [Code::CreateFailed], "{findings:?}");
    assert_eq!(codes(&check_new_file(Path::new("/"))), [Code::CreateFailed]);
}

#[test]
fn what_cannot_grow_says_so_before_anything_is_written() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let make = |name: &str, vmdk_type| {
        let options = CreateOptions { vmdk_type, ..CreateOptions::new(MIB) };
        let image = create(&ImageSpec::from(path(name)), &options).expect("created");
        image.close().expect("closed");
        image
    };
    for (name, kind, length, expected) in [
        ("a.raw", VmdkType::Vmfs, MIB + 1, None),
        ("a.vhd", VmdkType::Vmfs, 2 * MIB, None),
        ("b.vhd", VmdkType::Vmfs, MIB + 1, Some(Code::ImageSizeUnsupported)),
        ("flat.vmdk", VmdkType::Vmfs, 2 * MIB, None),
        ("odd.vmdk", VmdkType::Vmfs, 2 * MIB + 1, Some(Code::ImageSizeUnsupported)),
        ("split.vmdk", VmdkType::TwoGbMaxExtentFlat, 3 << 30, None),
        ("sparse.vmdk", VmdkType::MonolithicSparse, 2 * MIB, Some(Code::ImageUnsupported)),
        ("splits.vmdk", VmdkType::TwoGbMaxExtentSparse, 2 * MIB, Some(Code::ImageUnsupported)),
        ("stream.vmdk", VmdkType::StreamOptimized, 2 * MIB, Some(Code::ImageUnsupported)),
    ] {
        let image = make(name, kind);
        let refused = image.check_grow(length).err();
        assert_eq!(refused.as_ref().map(|error| error.code), expected, "{name}: {refused:?}");
        assert_eq!(image.grow(length).is_ok(), expected.is_none(), "{name}: what is said is what is done");
    }
}

#[test]
fn a_damaged_image_is_looked_through_as_far_as_it_goes() {
    let folder = folder();
    let path = folder.path().join("disk.vmdk");
    let options = CreateOptions { vmdk_type: VmdkType::MonolithicSparse, ..CreateOptions::new(40 * 65_536) };
    let image = create(&ImageSpec::from(&path), &options).expect("created");
    for grain in 0..3 {
        image.write_at(grain * 65_536, b"something").expect("written");
    }
    image.close().expect("closed");
    drop(image);
    let sound = check(&ImageSpec::from(&path)).expect("it can be looked at");
    assert!(sound.format.is_some() && sound.findings.is_empty(), "{sound:?}");

    let file = std::fs::File::options().read(true).write(true).open(&path).expect("opened");
    let number = |at| {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, at).expect("read");
        u64::from(u32::from_le_bytes(bytes))
    };
    // Two entries of both copies of the first table lead past the end of the file.
    for directory_at in [48, 56] {
        let table_at = number(number(directory_at) * 512) * 512;
        for entry in [0, 2] {
            file.write_all_at(&0x00ff_0000_u32.to_le_bytes(), table_at + entry * 4).expect("written");
        }
    }
    assert_eq!(open(&ImageSpec::from(&path), Access::Read).err().map(|e| e.code), Some(Code::ImageDamaged));
    let damaged = check(&ImageSpec::from(&path)).expect("damage is no error");
    assert_eq!(codes(&damaged.findings), [Code::ImageCheck; 2], "{damaged:?}");
    for finding in &damaged.findings {
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.place.offset_bytes.is_some() && finding.remedy.contains("good copy"), "{finding:?}");
    }
    assert!(
        check(&ImageSpec::from(folder.path().join("none.vmdk"))).is_err(),
        "what is not there is no damage"
    );
}

#[test]
fn an_image_that_was_not_closed_warns() {
    let folder = folder();
    for (name, kind) in
        [("one.vmdk", VmdkType::MonolithicSparse), ("split.vmdk", VmdkType::TwoGbMaxExtentSparse)]
    {
        let spec = ImageSpec::from(folder.path().join(name));
        let options = CreateOptions { vmdk_type: kind, ..CreateOptions::new(MIB) };
        let image = create(&spec, &options).expect("created");
        image.write_at(0, b"something").expect("written");
        image.flush().expect("flushed");
        assert!(image.warnings().is_empty(), "a mark of our own is no warning");
        drop(image);
        let image = open(&spec, Access::Read).expect("opened");
        let warnings = image.warnings();
        assert_eq!(codes(&warnings), [Code::ImageUnclean], "{name}");
        assert_eq!(warnings[0].severity, Severity::Warning);
    }
}

#[test]
fn who_may_read_a_new_image_is_the_umasks_to_say() {
    let folder = folder();
    let probe = folder.path().join("probe");
    std::fs::write(&probe, b"").expect("written");
    let expected = std::fs::metadata(&probe).expect("known").permissions().mode() & 0o777;
    let spec = ImageSpec::from(folder.path().join("new.vmdk"));
    let image = create(&spec, &CreateOptions::new(MIB)).expect("created");
    for file in image.identity().files {
        assert_eq!(std::fs::metadata(&file).expect("known").mode() & 0o777, expected, "{}", file.display());
    }
}
