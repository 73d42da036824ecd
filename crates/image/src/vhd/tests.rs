//! VHDs on a disk in memory: hostile bytes, faults while growing. What qemu-img says of them is in `tests/vhd.rs`.

use super::*;
use failback_blockio::Zeroing;
use failback_format::vhd::DynamicHeader;
use failback_model::Severity;
use failback_testkit::{Call, Damage, Fault, FaultyDevice, MemoryDevice, When};

const BLOCK: usize = 4096;

fn pattern(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 11) as u8).collect()
}

fn fixed(disk: &[u8]) -> Vec<u8> {
    let footer = VhdFooter::new_fixed(disk.len() as u64, [7; 16], 1).unwrap();
    [disk, footer.as_bytes()].concat()
}

fn open_bytes(bytes: &[u8]) -> Result<Arc<dyn Image>, DiskError> {
    over(Arc::new(MemoryDevice::from_bytes(bytes)), Access::Read)
}

/// The error of what must not open.
fn refused(result: Result<Arc<dyn Image>, DiskError>) -> DiskError {
    result.err().expect("this image is refused")
}

fn disk_of(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0xee; image.geometry().length_bytes as usize];
    image.read_at(0, &mut bytes).unwrap();
    bytes
}

/// A footer with `fields` put over it and its checksum made right.
fn forged(footer: &VhdFooter, fields: &[(usize, &[u8])]) -> [u8; 512] {
    let mut bytes = *footer.as_bytes();
    for (at, field) in fields {
        bytes[*at..at + field.len()].copy_from_slice(field);
    }
    bytes[64..68].fill(0);
    let sum: u32 = bytes.iter().map(|&byte| u32::from(byte)).sum();
    bytes[64..68].copy_from_slice(&(!sum).to_be_bytes());
    bytes
}

/// A dynamic disk of blocks of 4096 bytes: copy of the footer, header, table, then blocks of a bitmap sector and data.
fn dynamic(blocks: &[Option<(u8, &[u8])>]) -> Vec<u8> {
    let fixed = VhdFooter::new_fixed((blocks.len() * BLOCK) as u64, [7; 16], 1).unwrap();
    let footer = forged(&fixed, &[(16, &512u64.to_be_bytes()), (60, &3u32.to_be_bytes())]);
    let header =
        DynamicHeader { table_offset_bytes: 1536, table_entries: blocks.len() as u32, block_bytes: 4096 };
    let (mut table, mut data) = (Vec::new(), Vec::new());
    let data_at = 1536 + (blocks.len() * 4).next_multiple_of(512);
    for block in blocks {
        let sector = block.map_or(u32::MAX, |_| ((data_at + data.len()) / 512) as u32);
        table.extend(sector.to_be_bytes());
        if let Some((bitmap, bytes)) = block {
            data.extend([*bitmap]);
            data.extend([0; 511]);
            data.extend(*bytes);
        }
    }
    table.resize(data_at - 1536, 0xff);
    [&footer[..], &header.encode(), &table, &data, &footer].concat()
}

#[test]
fn a_fixed_disk_ends_before_its_footer() {
    let disk = pattern(20_480, 1);
    let image = over(Arc::new(MemoryDevice::from_bytes(&fixed(&disk))), Access::Write).unwrap();
    assert_eq!(disk_of(image.as_ref()), disk);
    assert_eq!(image.identity().uuid.as_deref(), Some("07070707-0707-0707-0707-070707070707"));
    assert_eq!(image.check().unwrap(), []);
    assert_eq!(image.next_data(100).unwrap(), Some(ByteRange::new(100, 20_480)));
    assert_eq!(image.next_data(20_480).unwrap(), None);
    for (offset, length) in [(20_480, 1), (20_479, 2), (u64::MAX, 2)] {
        let bytes = vec![1; length];
        assert_eq!(image.read_at(offset, &mut vec![0; length]).unwrap_err().code, Code::ReadFailed);
        assert_eq!(image.write_at(offset, &bytes).unwrap_err().code, Code::WriteFailed);
    }
    assert!(image.zero(ByteRange::new(20_000, 20_481), Zeroing::Punch).is_err());
    image.write_vectored_at(20_470, &[&[1; 4], &[2; 6]]).unwrap();
    image.zero(ByteRange::new(0, 4096), Zeroing::Punch).unwrap();
    let expected = [&[0; 4096], &disk[4096..20_470], &[1; 4], &[2; 6]].concat();
    assert_eq!(disk_of(image.as_ref()), expected);
    image.close().unwrap();
}

#[test]
fn a_dynamic_disk_is_read_block_by_block_and_sector_by_sector() {
    let (a, b) = (pattern(BLOCK, 1), pattern(BLOCK, 2));
    let bytes = dynamic(&[None, Some((0xff, &a)), Some((0b0110_0001, &b)), None]);
    let image = open_bytes(&bytes).unwrap();
    let mut expected = [vec![0; BLOCK], a, b, vec![0; BLOCK]].concat();
    for sector in [0, 3, 4, 5, 6] {
        expected[2 * BLOCK + sector * 512..][..512].fill(0);
    }
    assert_eq!(disk_of(image.as_ref()), expected);
    for (offset, length) in [(0, 16_384), (4095, 2), (8191, 514), (9000, 3000), (8704, 1024), (12_287, 1)] {
        let mut part = vec![0xee; length];
        image.read_at(offset as u64, &mut part).unwrap();
        assert_eq!(part, expected[offset..offset + length], "{length} bytes from {offset}");
    }
    assert_eq!(image.next_data(0).unwrap(), Some(ByteRange::new(4096, 12_288)));
    assert_eq!(image.next_data(5000).unwrap(), Some(ByteRange::new(5000, 12_288)));
    assert_eq!(image.next_data(12_288).unwrap(), None);
    assert_eq!(image.next_data(u64::MAX).unwrap(), None);
    assert_eq!(image.check().unwrap(), []);
    assert_eq!(image.write_at(0, &[1]).unwrap_err().code, Code::ImageReadOnlyKind);
    assert_eq!(image.grow(1 << 20).unwrap_err().code, Code::ImageReadOnlyKind);
    let for_writing = over(Arc::new(MemoryDevice::from_bytes(&bytes)), Access::Write);
    assert_eq!(refused(for_writing).code, Code::ImageReadOnlyKind);
}

#[test]
fn a_damaged_tail_is_replaced_by_the_copy_in_front_of_a_dynamic_disk_only() {
    let data = pattern(BLOCK, 1);
    let mut bytes = dynamic(&[Some((0xff, &data))]);
    let last = bytes.len() - 1;
    bytes[last - 100] ^= 1;
    let image = open_bytes(&bytes).unwrap();
    assert_eq!(disk_of(image.as_ref()), data);
    let findings = image.check().unwrap();
    assert_eq!(findings.len(), 1);
    assert!(findings[0].severity == Severity::Error && findings[0].evidence.contains("the footer at byte"));

    let footer = VhdFooter::new_fixed(512, [1; 16], 0).unwrap();
    let guest_wrote_a_footer = [footer.as_bytes(), &[0; 512][..]].concat();
    let error = refused(open_bytes(&guest_wrote_a_footer));
    assert_eq!((error.code, error.offset_bytes), (Code::ImageDamaged, Some(512)));
}

#[test]
fn a_footer_of_511_bytes_is_read() {
    let disk = pattern(4096, 3);
    let bytes = fixed(&disk);
    let image = over(Arc::new(MemoryDevice::from_bytes(&bytes[..bytes.len() - 1])), Access::Write).unwrap();
    assert_eq!(disk_of(image.as_ref()), disk);
    assert_eq!(image.grow(8192).unwrap_err().code, Code::ImageUnsupported);
}

#[test]
fn a_table_that_points_at_metadata_past_the_end_or_twice_at_one_place_is_found() {
    let data = pattern(BLOCK, 1);
    let good = dynamic(&[Some((0xff, &data)), Some((0xff, &data)), None]);
    let entry = |bytes: &mut [u8], block: usize, sector: u32| {
        bytes[1536 + block * 4..][..4].copy_from_slice(&sector.to_be_bytes());
    };
    for sector in [0, 1, 2, 3, good.len() as u32 / 512, u32::MAX - 1] {
        let mut bytes = good.clone();
        entry(&mut bytes, 1, sector);
        let image = open_bytes(&bytes).unwrap();
        let error = image.read_at(BLOCK as u64, &mut [0; 512]).unwrap_err();
        assert_eq!(
            (error.code, error.offset_bytes),
            (Code::ImageDamaged, Some(1540)),
            "sector {sector}: {error}"
        );
        image.read_at(0, &mut [0; BLOCK]).unwrap();
        assert_eq!(image.check().unwrap().len(), 1);
    }
    let mut bytes = good.clone();
    entry(&mut bytes, 1, 5);
    assert!(open_bytes(&bytes).unwrap().check().unwrap()[0].evidence.contains("blocks 0 and 1"));
}

#[test]
fn every_truncation_and_every_forged_header_is_an_error() {
    let disk = pattern(8192, 5);
    let whole = fixed(&disk);
    for length in (0..whole.len()).step_by(61) {
        let error = open_bytes(&whole[..length]);
        assert!(error.is_err_and(|error| error.code == Code::ImageDamaged), "{length} bytes");
    }
    let bytes = dynamic(&[Some((0xff, &disk[..BLOCK])), None]);
    let footer = VhdFooter::decode(&bytes[..512]).unwrap();
    let open_forged = |fields: &[(usize, &[u8])]| {
        let mut bytes = bytes.clone();
        let at = bytes.len() - 512;
        bytes[at..].copy_from_slice(&forged(&footer, fields));
        open_bytes(&bytes)
    };
    for offset in [u64::MAX, u64::MAX - 1023, bytes.len() as u64 - 1023, 0, 1] {
        assert_eq!(refused(open_forged(&[(16, &offset.to_be_bytes())])).code, Code::ImageDamaged, "{offset}");
    }
    let huge = (64u64 << 40).to_be_bytes();
    assert_eq!(refused(open_forged(&[(48, &huge)])).code, Code::ImageDamaged);
    assert_eq!(refused(open_forged(&[(60, &2u32.to_be_bytes()), (48, &huge)])).code, Code::ImageDamaged);
    assert_eq!(refused(open_forged(&[(60, &4u32.to_be_bytes())])).code, Code::ImageUnsupported);
}

#[test]
fn growing_moves_the_footer_and_leaves_zeros() {
    let disk = pattern(8192, 5);
    let device = Arc::new(MemoryDevice::from_bytes(&fixed(&disk)));
    let image = over(device.clone(), Access::Write).unwrap();
    for length in [8704, 8704, 1 << 20] {
        image.grow(length).unwrap();
        assert_eq!(image.geometry().length_bytes, length);
        let reopened = over(device.clone(), Access::Read).unwrap();
        assert_eq!(reopened.check().unwrap(), []);
        assert_eq!(disk_of(reopened.as_ref()), [&disk[..], &vec![0; length as usize - 8192]].concat());
        assert_eq!(reopened.identity(), image.identity());
    }
    assert_eq!(image.grow(8192).unwrap_err().code, Code::WriteFailed);
    assert_eq!(image.grow((1 << 20) + 100).unwrap_err().code, Code::ImageSizeUnsupported);
    assert_eq!(image.grow(65 << 40).unwrap_err().code, Code::ImageSizeUnsupported);
}

#[test]
fn a_fault_at_any_call_of_growing_leaves_an_image_that_opens_with_its_data() {
    let disk = pattern(8192, 5);
    let mut struck = 0;
    for (call, count) in [(Call::Write, 1), (Call::Sync, 2), (Call::Zero, 1)] {
        for (nth, damage) in
            (1..=count).flat_map(|n| [(n, Damage::Io), (n, Damage::NoSpace), (n, Damage::Short)])
        {
            let fault = Fault { call, when: When::Nth(nth), damage };
            let device = Arc::new(FaultyDevice::new(MemoryDevice::from_bytes(&fixed(&disk)), [fault]));
            let image = over(device.clone(), Access::Write).unwrap();
            assert!(image.grow(1 << 20).is_err(), "{fault:?}");
            struck += device.struck().len();
            let after = device.inner().duplicate();
            let reopened =
                over(Arc::new(after), Access::Write).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
            assert_eq!(disk_of(reopened.as_ref())[..8192], disk, "{fault:?}");
            reopened.grow(2 << 20).unwrap();
            assert_eq!(disk_of(reopened.as_ref())[..8192], disk, "{fault:?}");
        }
    }
    assert_eq!(struck, 12, "every fault struck");
}

#[test]
fn a_disk_that_no_vhd_can_hold_leaves_no_file_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.vhd");
    let code = |options: &CreateOptions| refused(create(&path, options)).code;
    assert_eq!(code(&CreateOptions::new(1000)), Code::ImageSizeUnsupported);
    assert_eq!(code(&CreateOptions::new((64 << 40) + 512)), Code::ImageSizeUnsupported);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
