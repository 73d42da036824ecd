//! qemu-img, libvmdk and dissect.hypervisor judge what we make, and we read what qemu-img makes.

use crate::support::{alone, bytes_of, open, pattern, qemu_img, qemu_ok, text, two_more_readers_agree};
use failback_blockio::Zeroing;
use failback_image::{Access, AdapterType, CreateOptions, ImageSpec, Provisioning, VmdkType};
use failback_model::ByteRange;
use std::path::Path;

const MIB: u64 = 1 << 20;
const FLAT: [VmdkType; 3] = [VmdkType::Vmfs, VmdkType::MonolithicFlat, VmdkType::TwoGbMaxExtentFlat];

/// Makes a disk with data at its start, at its end and around 2047 MiB where it reaches that far, and a raw twin.
fn make(folder: &Path, kind: VmdkType, length_bytes: u64, provisioning: Provisioning) -> (String, String) {
    let (vmdk, raw) = (folder.join("made.vmdk"), folder.join("twin.raw"));
    let options = CreateOptions {
        vmdk_type: kind,
        provisioning: Some(provisioning),
        ..CreateOptions::new(length_bytes)
    };
    let image = failback_image::create(&ImageSpec::from(&vmdk), &options).expect("created");
    let twin =
        failback_image::create(&ImageSpec::from(&raw), &CreateOptions::new(length_bytes)).expect("created");
    let mut places = vec![0, length_bytes.saturating_sub(70_000)];
    places.extend((length_bytes > 2048 * MIB).then_some(2047 * MIB - 33_333));
    for (seed, at) in places.into_iter().enumerate() {
        let data = pattern(seed as u64 + 1, 70_000.min((length_bytes - at) as usize));
        let (head, tail) = data.split_at(data.len() / 3);
        image.write_vectored_at(at, &[head, &[], tail]).expect("written");
        twin.write_at(at, &data).expect("written");
    }
    let hole = ByteRange::new(4096.min(length_bytes), 12_288.min(length_bytes));
    image.zero(hole, Zeroing::KeepAllocation).expect("zeroed");
    twin.zero(hole, Zeroing::KeepAllocation).expect("zeroed");
    image.close().expect("closed");
    twin.close().expect("closed");
    (text(&vmdk).into(), text(&raw).into())
}

#[test]
fn others_read_what_we_make() {
    let _guard = alone();
    for kind in FLAT {
        for length_bytes in [512, MIB + 512, 3 * 1024 * MIB + 1536] {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
            let (vmdk, raw) = make(folder.path(), kind, length_bytes, Provisioning::Thin);
            let info = qemu_ok(&["info", "-f", "vmdk", "--output=json", &vmdk]);
            assert!(info.contains(&format!("\"virtual-size\": {length_bytes}")), "{info}");
            assert!(info.contains(&format!("\"create-type\": \"{}\"", kind.as_str())), "{info}");
            qemu_ok(&["compare", "-f", "vmdk", "-F", "raw", &vmdk, &raw]);
            let back = folder.path().join("back.raw");
            qemu_ok(&["convert", "-f", "vmdk", "-O", "raw", &vmdk, text(&back)]);
            qemu_ok(&["compare", "-f", "raw", "-F", "raw", text(&back), &raw]);
            check(&vmdk);
            // The largest is left to qemu-img: a reader in Python takes its time.
            if length_bytes < 16 * MIB {
                two_more_readers_agree(Path::new(&vmdk), Path::new(&raw), length_bytes);
            }
        }
    }
}

/// qemu-img has no check for flat extents and says so; anything else it says is a fault.
fn check(vmdk: &str) {
    let output = qemu_img(&["check", "-f", "vmdk", vmdk]);
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() || said.contains("does not support checks"),
        "qemu-img check {vmdk}: {said}"
    );
}

#[test]
fn we_read_and_write_what_qemu_makes() {
    let _guard = alone();
    for subformat in ["monolithicFlat", "twoGbMaxExtentFlat"] {
        for adapter in ["ide", "lsilogic", "buslogic"] {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
            let (raw, vmdk) = (folder.path().join("in.raw"), folder.path().join("made.vmdk"));
            let length_bytes = 2049 * MIB;
            let twin = failback_image::create(&ImageSpec::from(&raw), &CreateOptions::new(length_bytes))
                .expect("created");
            twin.write_at(2048 * MIB - 50_000, &pattern(7, 100_000)).expect("written");
            drop(twin);
            let options = format!("subformat={subformat},adapter_type={adapter}");
            qemu_ok(&["convert", "-f", "raw", "-O", "vmdk", "-o", &options, text(&raw), text(&vmdk)]);
            let image = open(&vmdk, Access::Write);
            assert_eq!(image.geometry().length_bytes, length_bytes);
            assert_eq!(image.identity().adapter_type.as_deref(), Some(adapter));
            assert_eq!(image.identity().format.as_str(), subformat);
            let mut read = vec![0; 100_000];
            image.read_at(2048 * MIB - 50_000, &mut read).expect("read");
            assert_eq!(read, pattern(7, 100_000));
            image.write_at(2048 * MIB - 7, &pattern(8, 5000)).expect("written");
            let twin = open(&raw, Access::Write);
            twin.write_at(2048 * MIB - 7, &pattern(8, 5000)).expect("written");
            image.close().expect("closed");
            drop((image, twin));
            qemu_ok(&["compare", "-f", "vmdk", "-F", "raw", text(&vmdk), text(&raw)]);
        }
    }
}

#[test]
fn every_adapter_and_provisioning_opens_in_qemu() {
    let _guard = alone();
    for adapter_type in [AdapterType::LsiLogic, AdapterType::BusLogic, AdapterType::Ide] {
        for provisioning in [Provisioning::Thin, Provisioning::Thick, Provisioning::Eager] {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
            let path = folder.path().join("d.vmdk");
            let options = CreateOptions {
                adapter_type,
                provisioning: Some(provisioning),
                ..CreateOptions::new(8 * MIB)
            };
            let image = failback_image::create(&ImageSpec::from(&path), &options).expect("created");
            let taken = image.allocated_bytes().expect("counted");
            assert_eq!(taken >= 8 * MIB, provisioning != Provisioning::Thin, "{provisioning:?}: {taken}");
            drop(image);
            let image = open(&path, Access::Read);
            assert_eq!(image.provisioning() == Provisioning::Thin, provisioning == Provisioning::Thin);
            assert_eq!(image.identity().adapter_type.as_deref(), Some(adapter_type.as_str()));
            assert!(bytes_of(image.as_ref()).iter().all(|&byte| byte == 0));
            drop(image);
            qemu_ok(&["info", "-f", "vmdk", text(&path)]);
        }
    }
}
