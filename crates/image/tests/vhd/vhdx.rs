//! VHDX as qemu-img makes it, and as nobody should.

use crate::{assert_holds, convert, let_go, qemu_img, sample_disk, second_reader_agrees};
use ::vhdx::header::crc32c;
use failback_image::{Access, Image, ImageFormat, vhdx};
use failback_model::{Code, SectorSize};
use failback_testkit::{MemoryDevice, Random};
use std::path::Path;
use std::sync::Arc;

/// A VHDX of 3 MiB as qemu makes it, in memory.
fn sample() -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (raw, path) = (folder.path().join("raw"), folder.path().join("disk.vhdx"));
    let disk = sample_disk(3 << 20);
    std::fs::write(&raw, &disk).unwrap();
    convert(&raw, "vhdx", "block_size=1M", &path);
    (std::fs::read(&path).unwrap(), disk)
}

/// Number of a region in the region table, and where it lies.
fn region(bytes: &[u8], guid_start: u8) -> (usize, usize) {
    let entry = |number: usize| &bytes[0x3_0000 + 16 + number * 32..][..32];
    let number = (0..2).find(|&number| entry(number)[0] == guid_start).expect("qemu writes both regions");
    let at = u64::from_le_bytes(*entry(number)[16..].first_chunk().unwrap());
    (number, at as usize)
}

/// First byte of the GUID of the block allocation table and of the metadata.
const TABLE: u8 = 0x66;
const METADATA: u8 = 0x06;

fn over(bytes: &[u8]) -> Result<Arc<dyn Image>, failback_blockio::DiskError> {
    vhdx::over(Arc::new(MemoryDevice::from_bytes(bytes)))
}

fn code_of(bytes: &[u8]) -> Code {
    over(bytes).err().expect("this image is refused").code
}

/// Puts `field` at `at` of a checked structure and makes the structure's CRC-32C right again.
fn forge(bytes: &mut [u8], structure: usize, length: usize, at: usize, field: &[u8]) {
    bytes[structure + at..][..field.len()].copy_from_slice(field);
    bytes[structure + 4..structure + 8].fill(0);
    let sum = crc32c(&bytes[structure..structure + length]);
    bytes[structure + 4..structure + 8].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn what_qemu_makes_is_read() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (raw, path) = (folder.path().join("raw"), folder.path().join("disk.vhdx"));
    for (options, length) in [
        ("", 20 << 20),
        ("subformat=dynamic,block_size=1M", (64 << 20) + 512),
        ("subformat=fixed", 9 << 20),
        ("block_size=256M", 1 << 20),
    ] {
        let disk = sample_disk(length);
        std::fs::write(&raw, &disk).unwrap();
        convert(&raw, "vhdx", options, &path);
        let image = vhdx::open(&path, Access::Read).unwrap();
        assert_holds(image.as_ref(), &disk);
        assert_eq!(image.identity().format, ImageFormat::Vhdx);
        assert_eq!(image.geometry().sector_size, SectorSize::B512);
        assert_eq!(image.check().unwrap(), []);
        assert_eq!(image.read_at(length as u64, &mut [0]).unwrap_err().code, Code::ReadFailed);
        let_go(image);
        qemu_img(["check".as_ref(), "-f".as_ref(), "vhdx".as_ref(), path.as_os_str()]);
        second_reader_agrees(&path, &raw);
    }
    let refused = vhdx::open(&path, Access::Write).err().expect("a VHDX is not written");
    assert_eq!(refused.code, Code::ImageReadOnlyKind);
    let missing = vhdx::open(Path::new("/nowhere.vhdx"), Access::Read).err().expect("nothing there");
    assert_eq!(missing.code, Code::OpenFailed);
}

#[test]
fn a_log_is_not_replayed_and_a_parent_not_looked_for() {
    let (mut bytes, _) = sample();
    for header in [0x1_0000, 0x2_0000] {
        forge(&mut bytes, header, 4096, 48, &[1; 16]);
    }
    let finding = over(&bytes).err().expect("this image is refused").to_finding();
    assert_eq!(finding.code, Code::ImageUnclean);
    assert!(finding.remedy.contains("qemu-img check -r all"), "{}", finding.remedy);
    let (mut bytes, _) = sample();
    // The items lie 64 KiB behind the table of metadata; qemu's first is the block size, then the flags.
    let at = region(&bytes, METADATA).1;
    bytes[at + 65_536 + 4] |= 2;
    assert_eq!(code_of(&bytes), Code::ImageUnsupported);
}

#[test]
fn absurd_regions_are_refused_before_anything_is_allocated() {
    let (bytes, _) = sample();
    let (table, metadata) = (region(&bytes, TABLE).0, region(&bytes, METADATA).0);
    let huge = MemoryDevice::from_bytes(&bytes);
    for (number, length) in [(table, 0xffff_ffffu32), (metadata, 0x7fff_ffff)] {
        let mut head = bytes[..0x5_0000].to_vec();
        for structure in [0x3_0000, 0x4_0000] {
            forge(&mut head, structure, 65_536, 16 + number * 32 + 24, &length.to_le_bytes());
        }
        let device = huge.duplicate();
        failback_blockio::Device::write_at(&device, 0, &head).unwrap();
        failback_blockio::Device::set_length(&device, 1 << 40).unwrap();
        let error = vhdx::over(Arc::new(device)).err().expect("this image is refused");
        assert_eq!(error.code, Code::ImageUnsupported, "{error}");
    }
    let mut short = bytes.clone();
    for structure in [0x3_0000, 0x4_0000] {
        forge(&mut short, structure, 65_536, 16 + table * 32 + 24, &8u32.to_le_bytes());
    }
    assert_eq!(code_of(&short), Code::ImageDamaged);
}

#[test]
fn truncated_images_give_errors_and_whole_ones_their_bytes() {
    let (bytes, disk) = sample();
    assert_holds(over(&bytes).unwrap().as_ref(), &disk);
    for length in
        [0, 7, 8, 0x1_0000, 0x3_0010, 0x5_0000, 1 << 20, (2 << 20) + 100, 3 << 20, bytes.len() - (1 << 20)]
    {
        if let Ok(image) = over(&bytes[..length]) {
            let error = image.read_at(0, &mut vec![0; disk.len()]).unwrap_err();
            assert_eq!(error.code, Code::ImageDamaged, "{length} bytes: {error}");
            assert!(!image.check().unwrap().is_empty());
        }
    }
}

#[test]
fn flipped_bytes_give_errors_or_other_bytes_but_never_a_panic() {
    let (bytes, _) = sample();
    let mut random = Random::part(1, 1);
    let (table_at, metadata_at) = (region(&bytes, TABLE).1, region(&bytes, METADATA).1);
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..400 {
        let mut damaged = bytes.clone();
        for _ in 0..=random.below(8) {
            // Table and metadata are where a flip survives the checksums.
            let structures = [0x1_0000, 0x3_0000, metadata_at, metadata_at + 65_536, table_at];
            let at = structures[random.below(5) as usize] + random.below(96) as usize;
            damaged[at] = random.below(256) as u8;
        }
        match over(&damaged) {
            Err(_) => refused += 1,
            Ok(image) => {
                opened += 1;
                let length = image.geometry().length_bytes;
                assert!(length <= 64 << 40);
                let mut piece = vec![0; length.min(1 << 20) as usize];
                let _outcome = image.read_at(length - piece.len() as u64, &mut piece);
                let _outcome = image.read_at(0, &mut piece);
                image.check().unwrap();
            }
        }
    }
    assert!(opened > 20 && refused > 20, "{opened} opened, {refused} refused");
}
