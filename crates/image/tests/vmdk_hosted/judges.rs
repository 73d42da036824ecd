//! Other programs judge what we make, and we read what they make.

use crate::support::{
    GRAIN, KINDS, alone, assert_same, content, expect_ok, fill, made, qemu_ok, read_back, run, text,
};
use failback_blockio::Zeroing;
use failback_image::vmdk::open;
use failback_image::{Access, VmdkType};
use failback_model::ByteRange;
use std::io::Read;
use std::path::Path;
use vmdk::VmdkReader;

/// Lengths that end within a sector run, a grain and a table.
const LENGTHS: [u64; 3] = [512, 3 * GRAIN + 1536, (32 << 20) + 512];

const DISSECT: &str = "
import shutil, sys
from pathlib import Path
from dissect.hypervisor.disk.vmdk import VMDK
with open(sys.argv[2], 'wb') as out:
    disk = VMDK(Path(sys.argv[1]))
    for sector in range(0, disk.sector_count, 2048):
        out.write(disk.read_sectors(sector, min(2048, disk.sector_count - sector)))
";

/// Reads an image with dissect.hypervisor into a raw file.
fn dissect(vmdk: &Path, raw: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python");
    let python = std::env::var("FAILBACK_PYTHON").unwrap_or_else(|_| text(&here).into());
    let package = "a Python with dissect.hypervisor; FAILBACK_PYTHON names it, tools/test makes one";
    let output = run(&python, package, &["-c", DISSECT, text(vmdk), text(raw)]);
    expect_ok(&output, "dissect.hypervisor");
}

#[test]
fn four_programs_read_what_we_make() {
    let _guard = alone();
    for kind in KINDS {
        for length_bytes in LENGTHS {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
            let bytes = content(length_bytes, length_bytes);
            let raw = folder.path().join("twin.raw");
            std::fs::write(&raw, &bytes).expect("a twin");
            let vmdk = made(folder.path(), kind, &bytes);
            let what = format!("{} of {length_bytes}", kind.as_str());

            let info = qemu_ok(&["info", "-f", "vmdk", "--output=json", text(&vmdk)]);
            assert!(info.contains(&format!("\"virtual-size\": {length_bytes}")), "{what}: {info}");
            assert!(info.contains(&format!("\"create-type\": \"{}\"", kind.as_str())), "{what}: {info}");
            qemu_ok(&["check", "-f", "vmdk", text(&vmdk)]);
            qemu_ok(&["compare", "-f", "vmdk", "-F", "raw", text(&vmdk), text(&raw)]);

            let back = folder.path().join("back.raw");
            dissect(&vmdk, &back);
            assert_same(&std::fs::read(&back).expect("read"), &bytes, &format!("dissect, {what}"));

            let mut third = Vec::new();
            let mut reader = VmdkReader::open_path(&vmdk).expect("vmdk-core opens it");
            reader.read_to_end(&mut third).expect("vmdk-core reads it");
            assert_same(&third, &bytes, &format!("vmdk-core, {what}"));

            let said = expect_ok(&run("vmdkinfo", "package libvmdk-utils", &[text(&vmdk)]), "vmdkinfo");
            assert!(said.contains(&format!("{length_bytes} bytes")), "{what}: {said}");
            assert_same(&read_back(&vmdk), &bytes, &what);
        }
    }
}

#[test]
fn we_read_what_qemu_makes_and_qemu_what_we_make_of_it() {
    let _guard = alone();
    for kind in KINDS {
        for length_bytes in LENGTHS {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
            let mut bytes = content(length_bytes + 1, length_bytes);
            let (raw, vmdk) = (folder.path().join("disk.raw"), folder.path().join("disk.vmdk"));
            std::fs::write(&raw, &bytes).expect("written");
            let option = format!("subformat={}", kind.as_str());
            qemu_ok(&["convert", "-f", "raw", "-O", "vmdk", "-o", &option, text(&raw), text(&vmdk)]);
            let what = format!("qemu's {} of {length_bytes}", kind.as_str());
            assert_same(&read_back(&vmdk), &bytes, &what);
            let image = open(&vmdk, Access::Read).expect("opened");
            assert_eq!(image.check().expect("checked"), [], "{what}");
            if kind == VmdkType::StreamOptimized {
                continue;
            }
            drop(image);
            let image = open(&vmdk, Access::Write).expect("opened");
            let other = content(length_bytes + 2, length_bytes);
            fill(&*image, &other);
            for (old, new) in bytes.chunks_mut(40_000).zip(other.chunks(40_000)) {
                if new.iter().any(|&byte| byte != 0) {
                    old.copy_from_slice(new);
                }
            }
            let hole = ByteRange::new(length_bytes / 3, length_bytes / 3 * 2);
            image.zero(hole, Zeroing::Punch).expect("punched");
            bytes[hole.start() as usize..hole.end() as usize].fill(0);
            image.close().expect("closed");
            drop(image);
            std::fs::write(&raw, &bytes).expect("written");
            qemu_ok(&["check", "-f", "vmdk", text(&vmdk)]);
            qemu_ok(&["compare", "-f", "vmdk", "-F", "raw", text(&vmdk), text(&raw)]);
            assert_same(&read_back(&vmdk), &bytes, &what);
        }
    }
}

#[test]
fn zeroed_grains_of_qemu_read_as_zero_and_take_new_data() {
    let _guard = alone();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (raw, vmdk) = (folder.path().join("disk.raw"), folder.path().join("disk.vmdk"));
    let mut bytes = vec![7; 4 * GRAIN as usize];
    std::fs::write(&raw, &bytes).expect("written");
    let option = "subformat=monolithicSparse,zeroed_grain=on";
    qemu_ok(&["convert", "-f", "raw", "-O", "vmdk", "-o", option, text(&raw), text(&vmdk)]);
    let write = |command: &str| {
        let output = run("qemu-io", "package qemu-utils", &["-f", "vmdk", "-c", command, text(&vmdk)]);
        expect_ok(&output, "qemu-io");
    };
    write("write -z 64k 128k");
    bytes[GRAIN as usize..3 * GRAIN as usize].fill(0);
    assert_same(&read_back(&vmdk), &bytes, "zeroed by qemu");
    let image = open(&vmdk, Access::Write).expect("opened");
    let holes = image.next_data(GRAIN).expect("looked").expect("the last grain");
    assert_eq!(holes, ByteRange::new(3 * GRAIN, 4 * GRAIN));
    image.write_at(GRAIN + 5, &[9; 100]).expect("written");
    bytes[GRAIN as usize + 5..][..100].fill(9);
    image.close().expect("closed");
    drop(image);
    std::fs::write(&raw, &bytes).expect("written");
    qemu_ok(&["check", "-f", "vmdk", text(&vmdk)]);
    qemu_ok(&["compare", "-f", "vmdk", "-F", "raw", text(&vmdk), text(&raw)]);
}

#[test]
fn a_disk_of_many_tables_and_files_agrees_with_qemu() {
    let _guard = alone();
    for kind in KINDS {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let length_bytes = (5 << 30) + 512;
        let (raw, vmdk) = (folder.path().join("disk.raw"), folder.path().join("disk.vmdk"));
        let twin = std::fs::File::create(&raw).expect("a twin");
        twin.set_len(length_bytes).expect("a length");
        let image = crate::support::make(&vmdk, kind, length_bytes);
        for (seed, at) in [0, 2047 << 20, 2048 << 20, 3 << 30, length_bytes - 100_000].into_iter().enumerate()
        {
            let piece = content(seed as u64, 100_000);
            let at = at.max(50_000) - 50_000;
            image.write_at(at, &piece).expect("written");
            std::os::unix::fs::FileExt::write_all_at(&twin, &piece, at).expect("written");
        }
        image.close().expect("closed");
        drop(image);
        qemu_ok(&["check", "-f", "vmdk", text(&vmdk)]);
        qemu_ok(&["compare", "-f", "vmdk", "-F", "raw", text(&vmdk), text(&raw)]);
    }
}
