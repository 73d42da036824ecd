//! The format is what the name says; a container's content must agree.

use crate::raw::folder;
use failback_image::{Access, CreateOptions, ImageFormat, ImageSpec, RawImage, VmdkType};
use failback_model::Code;
use failback_testkit::{LoopDevice, run, sparse_file};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const MIB: u64 = 1 << 20;

#[test]
fn a_name_without_a_format_is_refused() {
    let folder = folder();
    for name in ["disk", "disk.qcow2", "disk.vmdk.old"] {
        let spec = ImageSpec::from(sparse_file(folder.path(), name, MIB));
        assert_eq!(
            failback_image::open(&spec, Access::Read).err().map(|e| e.code),
            Some(Code::ImageFormatUnknown)
        );
        let new = ImageSpec::from(folder.path().join(format!("new-{name}")));
        let refused = failback_image::create(&new, &CreateOptions::new(MIB)).err();
        assert_eq!(refused.map(|error| error.code), Some(Code::ImageFormatUnknown));
        assert!(!failback_image::exists(&new).expect("known"));
    }
    let missing = ImageSpec::from(folder.path().join("missing.raw"));
    assert_eq!(failback_image::open(&missing, Access::Read).err().map(|e| e.code), Some(Code::OpenFailed));
}

#[test]
fn a_container_that_is_none_is_refused() {
    let folder = folder();
    for (name, content) in [
        ("zeros.vmdk", vec![0; 1024]),
        ("empty.vhd", vec![]),
        ("short.vhdx", b"vhdxfil".to_vec()),
        ("is-a-vhdx.vhd", b"vhdxfile".repeat(200)),
        ("is-a-vmdk.vhdx", b"KDMV".repeat(200)),
        ("qcow2.vmdk", b"QFI\xfb".repeat(200)),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        let refused = failback_image::open(&ImageSpec::from(&path), Access::Read).err();
        assert_eq!(refused.map(|error| error.code), Some(Code::ImageFormatDisagrees), "{name}");
    }
}

#[test]
fn created_containers_are_opened_by_their_name() {
    let folder = folder();
    for (name, format) in [("disk.vmdk", ImageFormat::VmdkVmfs), ("disk.vhd", ImageFormat::VhdFixed)] {
        let spec = ImageSpec::from(folder.path().join(name));
        let options = CreateOptions { vmdk_type: VmdkType::Vmfs, ..CreateOptions::new(MIB) };
        let image = failback_image::create(&spec, &options).expect("created");
        image.write_at(1000, b"hello").expect("written");
        image.close().expect("closed");
        drop(image);
        let image = failback_image::open(&spec, Access::Read).expect("opened");
        let mut bytes = [0; 5];
        image.read_at(1000, &mut bytes).expect("read");
        assert_eq!((&bytes, image.identity().format), (b"hello", format));
    }
    let flat = ImageSpec::from(folder.path().join("disk-flat.vmdk"));
    let refused = failback_image::open(&flat, Access::Read).err().expect("refused");
    assert_eq!(refused.code, Code::ImageFormatDisagrees);
    assert!(refused.reason.contains("named by its descriptor"), "{refused}");
}

#[test]
fn one_disk_under_two_names_is_one_disk() {
    let folder = folder();
    let path = sparse_file(folder.path(), "disk.raw", MIB);
    let other = sparse_file(folder.path(), "other.raw", MIB);
    let (soft, hard) = (folder.path().join("soft.raw"), folder.path().join("hard.raw"));
    symlink(&path, &soft).expect("linked");
    std::fs::hard_link(&path, &hard).expect("linked");
    let identity =
        |path| failback_image::Image::identity(&RawImage::open(path, Access::Read).expect("opened"));
    let disk = identity(&path);
    assert!(failback_image::same_disk(&disk, &identity(&soft)));
    assert!(failback_image::same_disk(&disk, &identity(&hard)));
    assert!(!failback_image::same_disk(&disk, &identity(&other)));
}

#[test]
fn a_disk_is_its_partitions_and_a_loop_device_its_file() {
    let folder = folder();
    let file = sparse_file(folder.path(), "disk.raw", 32 * MIB);
    let other = sparse_file(folder.path(), "other.raw", MIB);
    let layout = folder.path().join("layout");
    std::fs::write(&layout, "size=16M\nsize=8M\n").expect("written");
    let layout = std::fs::File::open(layout).expect("opened");
    run(Command::new("sfdisk").args(["--quiet", "--label", "gpt"]).arg(&file).stdin(layout));
    let disk = LoopDevice::attach_with_partitions(&file);
    let again = LoopDevice::attach(&file, 512);
    let elsewhere = LoopDevice::attach(&other, 512);
    let (first, second) = (disk.partition(1), disk.partition(2));
    let is_same = |a: &Path, b: &Path| {
        let of = |path: &Path| failback_image::ImageIdentity {
            format: ImageFormat::Raw,
            uuid: None,
            content_id: None,
            adapter_type: None,
            files: vec![path.into()],
            version: None,
        };
        let same = failback_image::same_disk(&of(a), &of(b));
        assert_eq!(same, failback_image::same_disk(&of(b), &of(a)), "{a:?} and {b:?}");
        same
    };
    let all = [disk.path(), again.path(), &file];
    for (index, whole) in all.into_iter().enumerate() {
        assert!(all[index..].iter().all(|other| is_same(whole, other)), "{whole:?}");
        assert!(is_same(whole, &first) && is_same(whole, &second), "{whole:?}");
        assert!(!is_same(whole, elsewhere.path()) && !is_same(whole, &other), "{whole:?}");
    }
    assert!(is_same(&first, &first) && !is_same(&first, &second), "partitions share no byte");
}
