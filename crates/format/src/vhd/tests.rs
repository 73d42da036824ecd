//! Footers and headers through bytes and back, against every flipped bit, and the geometry against worked examples.

use super::*;
use proptest::prelude::*;

const ID: [u8; 16] = *b"0123456789abcdef";

fn geometry_of(sectors: u64) -> (u16, u8, u8) {
    let geometry = ChsGeometry::of_sectors(sectors);
    assert!(geometry.sectors() <= sectors);
    (geometry.cylinders, geometry.heads, geometry.sectors_per_track)
}

#[test]
fn geometry_follows_the_appendix_at_each_of_its_branches() {
    assert_eq!(geometry_of(0), (0, 4, 17));
    assert_eq!(geometry_of(4 * 1024 * 17 - 1), (1023, 4, 17), "fewer than 4 heads become 4");
    assert_eq!(geometry_of(4 * 1024 * 17), (140, 16, 31), "1024 cylinders are one too many");
    assert_eq!(geometry_of(81_920), (963, 5, 17));
    assert_eq!(geometry_of(16 * 1023 * 17), (1023, 16, 17));
    assert_eq!(geometry_of(16 * 1024 * 31 - 1), (1023, 16, 31));
    assert_eq!(geometry_of(16 * 1024 * 31), (503, 16, 63));
    assert_eq!(geometry_of((1 << 30) / 512), (2080, 16, 63));
    assert_eq!(geometry_of(65_535 * 16 * 63 - 1), (65_534, 16, 63));
    assert_eq!(geometry_of(65_535 * 16 * 63), (16_191, 16, 255));
    assert_eq!(geometry_of((64 << 40) / 512), (65_535, 16, 255), "larger than the geometry can say");
}

#[test]
fn a_new_footer_has_the_fields_of_the_document_and_comes_back() {
    let footer = VhdFooter::new_fixed(1 << 30, ID, 0x0102_0304).unwrap();
    let bytes = footer.as_bytes();
    assert_eq!(&bytes[..16], b"conectix\0\0\0\x02\0\x01\0\0");
    assert_eq!(&bytes[16..40], b"\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04win \0\x0a\0\0Wi2k");
    assert_eq!(&bytes[40..64], b"\0\0\0\0\x40\0\0\0\0\0\0\0\x40\0\0\0\x08\x20\x10\x3f\0\0\0\x02");
    assert_eq!(&bytes[68..84], &ID);
    let sum: u32 = bytes.iter().map(|&byte| u32::from(byte)).sum();
    let own: u32 = bytes[64..68].iter().map(|&byte| u32::from(byte)).sum();
    assert_eq!(u32::from_be_bytes([bytes[64], bytes[65], bytes[66], bytes[67]]), !(sum - own));
    let read = VhdFooter::decode(bytes).unwrap();
    assert_eq!(read, footer);
    assert_eq!((read.kind(), read.length_bytes(), read.unique_id()), (VhdKind::Fixed, 1 << 30, ID));
}

#[test]
fn a_longer_disk_changes_size_geometry_and_checksum_alone() {
    let mut bytes = *VhdFooter::new_fixed(81_920 * 512, ID, 7).unwrap().as_bytes();
    bytes[300] = 0x55;
    bytes[CREATOR_AT..CREATOR_AT + 4].copy_from_slice(b"vbox");
    let sum = checksum(&bytes, CHECKSUM_AT);
    put(&mut bytes, CHECKSUM_AT, &sum.to_be_bytes());
    let old = VhdFooter::decode(&bytes).unwrap();
    let new = old.with_length(1 << 30).unwrap();
    let differing: Vec<usize> = (0..512).filter(|&i| old.as_bytes()[i] != new.as_bytes()[i]).collect();
    assert!(differing.iter().all(|i| (48..60).contains(i) || (64..68).contains(i)), "{differing:?}");
    assert_eq!(VhdFooter::decode(new.as_bytes()), Ok(new.clone()));
    assert_eq!((new.length_bytes(), new.geometry()), (1 << 30, ChsGeometry::of_sectors(1 << 21)));
    assert_eq!(&new.as_bytes()[CREATOR_AT..CREATOR_AT + 4], b"vbox");
}

#[test]
fn damage_and_impossible_sizes_are_refused() {
    let footer = VhdFooter::new_fixed(1 << 30, ID, 0).unwrap();
    for bit in 0..512 * 8 {
        let mut bytes = *footer.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(VhdFooter::decode(&bytes).is_err(), "bit {bit}");
    }
    for (at, field) in [
        (VERSION_AT, &0x0002_0000u32.to_be_bytes()[..]),
        (KIND_AT, &1u32.to_be_bytes()),
        (CURRENT_SIZE_AT, &u64::MAX.to_be_bytes()),
        (CURRENT_SIZE_AT, &511u64.to_be_bytes()),
    ] {
        let mut bytes = *footer.as_bytes();
        put(&mut bytes, at, field);
        let sum = checksum(&bytes, CHECKSUM_AT);
        put(&mut bytes, CHECKSUM_AT, &sum.to_be_bytes());
        assert_eq!(VhdFooter::decode(&bytes).unwrap_err().offset_bytes, at as u64);
    }
    assert!(VhdFooter::decode(&footer.as_bytes()[1..]).is_err());
    assert!(VhdFooter::new_fixed(1000, ID, 0).is_err());
    assert!(VhdFooter::new_fixed((64 << 40) + 512, ID, 0).is_err());
}

#[test]
fn a_dynamic_header_comes_back_and_must_fit_its_disk_and_file() {
    let header = DynamicHeader { table_offset_bytes: 1536, table_entries: 20, block_bytes: 2 << 20 };
    let bytes = header.encode();
    let disk_bytes = 40 << 20;
    assert_eq!(DynamicHeader::decode(&bytes, disk_bytes, 4096), Ok(header));
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(DynamicHeader::decode(&damaged, disk_bytes, 4096).is_err(), "bit {bit}");
    }
    assert!(DynamicHeader::decode(&bytes, disk_bytes + 1, 4096).is_err(), "a block without an entry");
    assert!(DynamicHeader::decode(&bytes, disk_bytes, 1536 + 79).is_err(), "a table past the end");
    for hostile in [
        DynamicHeader { table_offset_bytes: u64::MAX - 3, ..header },
        DynamicHeader { block_bytes: 3 << 20, ..header },
        DynamicHeader { block_bytes: 256, ..header },
        DynamicHeader { block_bytes: 0, ..header },
    ] {
        assert!(DynamicHeader::decode(&hostile.encode(), disk_bytes, 4096).is_err(), "{hostile:?}");
    }
}

#[test]
fn table_entries_are_sectors_and_bitmap_bits_run_from_the_top() {
    let table = BlockTable::new(&[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0]);
    assert_eq!(table.iter().collect::<Vec<_>>(), [Some(2048), None, Some(0xffff_fffe * 512)]);
    assert_eq!((bitmap_bytes(2 << 20), bitmap_bytes(512), bitmap_bytes(1 << 31)), (512, 512, 512 << 10));
    assert!(is_sector_present(&[0x80, 0x01], 0) && is_sector_present(&[0x80, 0x01], 15));
    assert!(!is_sector_present(&[0x80, 0x01], 1));
}

/// Makes the checksum at `own_at` right, as anyone can.
fn forge(bytes: &mut [u8], own_at: usize) {
    let sum = checksum(bytes, own_at);
    put(bytes, own_at, &sum.to_be_bytes());
}

proptest! {
    #[test]
    fn footers_come_back(
        sectors in 0..=DISK_MAX_BYTES / SECTOR_BYTES,
        longer in 0..=DISK_MAX_BYTES / SECTOR_BYTES,
        id: [u8; 16],
        created: u32,
    ) {
        let footer = VhdFooter::new_fixed(sectors * SECTOR_BYTES, id, created).unwrap();
        prop_assert_eq!(VhdFooter::decode(footer.as_bytes()), Ok(footer.clone()));
        prop_assert_eq!((footer.length_bytes(), footer.unique_id()), (sectors * SECTOR_BYTES, id));
        prop_assert!(footer.geometry().sectors() <= sectors);
        let grown = footer.with_length(longer * SECTOR_BYTES).unwrap();
        prop_assert_eq!(VhdFooter::decode(grown.as_bytes()), Ok(grown.clone()));
        prop_assert_eq!(grown.length_bytes(), longer * SECTOR_BYTES);
        prop_assert_eq!(grown.with_length(sectors * SECTOR_BYTES), Ok(footer));
    }

    #[test]
    fn any_bytes_are_a_footer_that_is_kept_or_an_error(
        noise in prop::collection::vec(any::<u8>(), 0..700),
        mutations in prop::collection::vec((8..84_usize, any::<u8>()), 0..8),
    ) {
        let _ = VhdFooter::decode(&noise);
        let mut bytes = *VhdFooter::new_fixed(1 << 30, ID, 7).unwrap().as_bytes();
        for (at, value) in mutations {
            bytes[at] = value;
        }
        let _ = VhdFooter::decode(&bytes);
        forge(&mut bytes, CHECKSUM_AT);
        if let Ok(footer) = VhdFooter::decode(&bytes) {
            prop_assert_eq!(footer.as_bytes(), &bytes);
            prop_assert!(footer.length_bytes() <= DISK_MAX_BYTES);
            let _ = (footer.geometry().sectors(), footer.data_offset_bytes(), footer.kind());
            prop_assert!(footer.with_length(512).is_ok());
        }
    }

    #[test]
    fn dynamic_headers_come_back_where_they_fit(
        table_offset_bytes in prop_oneof![0..1_u64 << 33, any::<u64>()],
        table_entries: u32,
        block_shift in 0..32_u32,
        disk_bytes in 0..=DISK_MAX_BYTES,
        file_bytes in prop_oneof![0..1_u64 << 33, any::<u64>()],
    ) {
        let header = DynamicHeader { table_offset_bytes, table_entries, block_bytes: 1 << block_shift };
        if let Ok(read) = DynamicHeader::decode(&header.encode(), disk_bytes, file_bytes) {
            prop_assert_eq!(read, header);
            let blocks = disk_bytes.div_ceil(u64::from(header.block_bytes));
            prop_assert!(blocks <= u64::from(table_entries));
            prop_assert!(header.entry_offset(blocks) <= file_bytes);
        }
    }

    #[test]
    fn any_bytes_are_a_dynamic_header_that_fits_or_an_error(
        noise in prop::collection::vec(any::<u8>(), 0..1100),
        mutations in prop::collection::vec((8..40_usize, any::<u8>()), 0..8),
        disk_bytes in 0..=DISK_MAX_BYTES,
        file_bytes: u64,
    ) {
        let _ = DynamicHeader::decode(&noise, disk_bytes, file_bytes);
        let mut bytes =
            DynamicHeader { table_offset_bytes: 1536, table_entries: 1 << 20, block_bytes: 2 << 20 }.encode();
        for (at, value) in mutations {
            bytes[at] = value;
        }
        let _ = DynamicHeader::decode(&bytes, disk_bytes, file_bytes);
        // The checksum lies right behind the fields.
        forge(&mut bytes, 36);
        if let Ok(header) = DynamicHeader::decode(&bytes, disk_bytes, file_bytes) {
            let blocks = disk_bytes.div_ceil(u64::from(header.block_bytes));
            prop_assert!(header.entry_offset(blocks) <= file_bytes);
            prop_assert!(bitmap_bytes(header.block_bytes) * 8 * SECTOR_BYTES >= u64::from(header.block_bytes));
        }
    }
}
