//! The codec against hostile headers, and the root against values computed by another program.

use super::*;
use failback_model::block_digest;
use failback_model::limits::DISK_MAX_BYTES;
use proptest::prelude::*;

/// The tiny disk of FORMATS.md: block 0 counts modulo 251, block 1 is zero, the short block 2 is 7232 times 0xa5.
fn golden_disk() -> (Layout, Vec<u8>) {
    let mut disk: Vec<u8> = (0..16_384u32).map(|i| (i % 251) as u8).collect();
    disk.resize(32_768, 0);
    disk.resize(40_000, 0xa5);
    (Layout::new(40_000, BlockSize::new(16 << 10).unwrap()).unwrap(), disk)
}

#[test]
fn the_root_of_the_golden_disk_is_what_another_blake3_computed() {
    let (layout, disk) = golden_disk();
    let entries: Vec<u8> = disk.chunks(16_384).flat_map(|block| block_digest(block).0).collect();
    let chunk = chunk_digest(&entries);
    assert_eq!(chunk.to_string(), "b89e333b9b553ee7c2795f4b53629a5c0d68eab75ed731fbae62fbe1c18285ff");
    let mut hasher = RootHasher::new(layout);
    hasher.update(chunk);
    assert_eq!(
        hasher.finish().to_string(),
        "11e0355a6f83ed060c1752ffb46125361900d2c8b9ae2f3c224c7012bb2ec115"
    );
    let empty = Layout::new(0, BlockSize::DEFAULT).unwrap();
    assert_eq!(
        RootHasher::new(empty).finish().to_string(),
        "dc708672403a11050172fead9657195ff5e49a39dfd053ae2190dc8b69293164"
    );
}

#[test]
fn zero_chunks_in_bulk_hash_as_one_by_one() {
    let layout = Layout::new(64 << 40, BlockSize::DEFAULT).unwrap();
    let (mut bulk, mut single) = (RootHasher::new(layout), RootHasher::new(layout));
    bulk.update_zeros(5000);
    (0..5000).for_each(|_| single.update(Digest::ZERO));
    assert_eq!(bulk.finish(), single.finish());
}

#[test]
fn the_file_is_header_entries_and_an_aligned_chunk_table() {
    let (layout, _) = golden_disk();
    let file = ManifestLayout::new(layout);
    assert_eq!((file.entry_offset(BlockIndex(2)), file.chunk_table_offset()), (4160, 8192));
    assert_eq!((file.chunk_digest_offset(ChunkIndex(0)), file.file_bytes()), (8192, 8224));
    let huge = ManifestLayout::new(Layout::new(64 << 40, BlockSize::new(16 << 10).unwrap()).unwrap());
    assert_eq!(huge.file_bytes(), 4096 + (32 << 32) + (32 << 22));
}

/// A header page with `field` put at `at` and the checksum made right again.
fn forged(page: &[u8; MANIFEST_HEADER_BYTES], at: usize, field: &[u8]) -> [u8; MANIFEST_HEADER_BYTES] {
    let mut page = *page;
    put(&mut page, at, field);
    let checksum = blake3::hash(&page[..CHECKSUM_AT]);
    put(&mut page, CHECKSUM_AT, checksum.as_bytes());
    page
}

#[test]
fn headers_come_back_and_every_flipped_bit_is_noticed() {
    let (layout, _) = golden_disk();
    let length = ManifestLayout::new(layout).file_bytes();
    for root in [None, Some(Digest([7; 32]))] {
        let header = ManifestHeader { layout, generation: 42, root };
        let page = header.encode();
        assert_eq!(ManifestHeader::decode(&page, length), Ok(header));
        for bit in 0..page.len() * 8 {
            let mut damaged = page;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(ManifestHeader::decode(&damaged, length).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn forged_sizes_are_refused_at_their_field() {
    let (layout, _) = golden_disk();
    let page = ManifestHeader { layout, generation: 1, root: None }.encode();
    let length = ManifestLayout::new(layout).file_bytes();
    let huge = u64::MAX.to_le_bytes();
    for (at, field) in [
        (VERSION_AT, &2u32.to_le_bytes()[..]),
        (BLOCK_SIZE_AT, &12_345u32.to_le_bytes()),
        (SOURCE_LENGTH_AT, &huge),
        (BLOCK_COUNT_AT, &huge),
        (BLOCK_COUNT_AT, &4u64.to_le_bytes()),
        (FLAGS_AT, &2u32.to_le_bytes()),
        (ROOT_AT, &[1; 32]),
    ] {
        let error = ManifestHeader::decode(&forged(&page, at, field), length).unwrap_err();
        assert_eq!(error.offset_bytes, at as u64, "{error}");
    }
    assert!(ManifestHeader::decode(&page, length - 1).unwrap_err().reason.contains("8224"));
    assert!(ManifestHeader::decode(&page, u64::MAX).is_err());
    assert!(ManifestHeader::decode(&page[..4095], length).is_err());
}

proptest! {
    #[test]
    fn headers_of_any_disk_come_back(
        length_bytes in 0..=DISK_MAX_BYTES,
        block_shift in 14..=20_u32,
        generation: u64,
        root in proptest::option::of(any::<[u8; 32]>()),
    ) {
        let layout = Layout::new(length_bytes, BlockSize::new(1 << block_shift).unwrap()).unwrap();
        let header = ManifestHeader { layout, generation, root: root.map(Digest) };
        let length = ManifestLayout::new(layout).file_bytes();
        prop_assert_eq!(ManifestHeader::decode(&header.encode(), length), Ok(header));
        prop_assert!(ManifestHeader::decode(&header.encode(), length + 1).is_err());
    }

    #[test]
    fn any_bytes_are_a_header_that_encodes_to_them_or_an_error(
        noise in proptest::collection::vec(any::<u8>(), 0..5000),
        mutations in proptest::collection::vec((0..CHECKSUM_AT, any::<u8>()), 0..6),
        file_bytes: u64,
    ) {
        let _ = ManifestHeader::decode(&noise, file_bytes);
        let (layout, _) = golden_disk();
        let mut page = ManifestHeader { layout, generation: 3, root: None }.encode();
        for (at, value) in mutations {
            page = forged(&page, at, &[value]);
        }
        let _ = ManifestHeader::decode(&page, file_bytes);
        if let Ok(header) = ManifestHeader::decode_page(&page) {
            prop_assert_eq!(header.encode(), page);
        }
    }
}
