//! The sparse and stream codecs against arbitrary and hostile bytes.

use super::sparse::*;
use super::stream::*;
use failback_model::Code;
use proptest::prelude::*;

fn good() -> SparseHeader {
    new_header(1_000_001, true).expect("a small disk")
}

fn patched(offset: usize, value: &[u8]) -> Result<SparseHeader, SparseError> {
    let mut bytes = good().to_bytes();
    bytes[offset..offset + value.len()].copy_from_slice(value);
    SparseHeader::parse(&bytes, 4096)
}

#[test]
fn a_new_layout_leaves_no_two_parts_on_one_sector() {
    for capacity in [0, 1, 127, 128, 129, 65_536, 65_537, 4 << 20, (2 << 21) + 3] {
        let header = new_header(capacity, true).unwrap();
        let tables = header.geometry.table_count();
        assert_eq!(header.geometry.grain_count(), capacity.div_ceil(128));
        assert_eq!(header.redundant_directory_sector, 21);
        let end = header.directory_sector + header.geometry.directory_sectors() + 4 * tables;
        assert!(end <= header.overhead_sectors && header.overhead_sectors.is_multiple_of(128));
        let directory = new_directory(header.geometry, header.directory_sector);
        let found: Vec<u32> = entries(&directory).take(tables as usize).collect();
        assert!(found.windows(2).all(|pair| pair[1] - pair[0] == 4), "capacity {capacity}");
    }
}

#[test]
fn two_tebibytes_with_metadata_do_not_fit() {
    assert_eq!(new_header(SECTORS_MAX, false).unwrap_err().code, Code::ImageSizeUnsupported);
    assert_eq!(new_header(u64::MAX, true).unwrap_err().code, Code::ImageSizeUnsupported);
    assert!(new_header(SECTORS_MAX - (1 << 21), true).is_ok());
}

#[test]
fn hostile_headers_are_refused_at_their_offset() {
    type Case = (usize, &'static [u8], u64, Code);
    let cases: [Case; 14] = [
        (0, b"VMDK", 4096, Code::ImageFormatDisagrees),
        (4, &[4], 4100, Code::ImageUnsupported),
        (4, &[0], 4100, Code::ImageUnsupported),
        (12, &[0xff; 8], 4108, Code::ImageSizeUnsupported),
        (16, &[2], 4108, Code::ImageSizeUnsupported),
        (20, &[127], 4116, Code::ImageDamaged),
        (20, &[0], 4116, Code::ImageDamaged),
        (20, &[4], 4116, Code::ImageDamaged),
        (20, &[0, 0, 0, 0, 0, 0, 0, 0x80], 4116, Code::ImageDamaged),
        (36, &[0xff; 8], 4132, Code::ImageDamaged),
        (44, &[0, 1], 4140, Code::ImageDamaged),
        (64, &[0xff; 8], 4160, Code::ImageDamaged),
        (73, b"\r\n", 4169, Code::ImageDamaged),
        (77, &[9], 4173, Code::ImageUnsupported),
    ];
    for (offset, value, at, code) in cases {
        let error = patched(offset, value).unwrap_err();
        assert_eq!((error.offset_bytes, error.code), (at, code), "{value:?} at {offset}: {error}");
    }
    let sector = patched(28, &[0xff; 8]).unwrap();
    assert_eq!(sector.descriptor_range(), None, "a descriptor near 2^64 has no place");
    let empty = SparseHeader { directory_sector: 1 << 60, ..new_header(0, false).unwrap() };
    let error = super::space::MetadataSpace::of_header(&empty, 1 << 20).unwrap_err();
    assert_eq!((error.offset_bytes, error.code), (56, Code::ImageDamaged), "of no disk: {error}");
}

#[test]
fn entries_of_one_mean_zero_only_where_the_flag_says_so() {
    let header = good();
    assert_eq!((header.entry(0), header.entry(1)), (GrainEntry::Hole, GrainEntry::At(1)));
    let zero = SparseHeader { flags: header.flags | FLAG_ZERO_GRAIN, ..header };
    assert_eq!((zero.entry(1), zero.entry(2)), (GrainEntry::Zero, GrainEntry::At(2)));
}

#[test]
fn grains_inflate_to_what_they_were_and_never_to_more() {
    let mut state = 88_172_645_463_325_252_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(65_536)
    .collect();
    for grain in [noise, vec![0; 65_536], vec![7; 65_536]] {
        let packed = pack_grain(77, &grain);
        assert!(packed.len().is_multiple_of(512) && packed.len() < grain.len() + 1024);
        let marker = Marker::parse(packed.first_chunk().unwrap(), 0).unwrap();
        let Marker::Grain { disk_sector: 77, size_bytes } = marker else { panic!("{marker:?}") };
        let body = &packed[GRAIN_MARKER_BYTES..GRAIN_MARKER_BYTES + size_bytes as usize];
        let mut back = vec![1; 65_536];
        inflate_grain(body, &mut back, 65_536, 0).unwrap();
        assert_eq!(back, grain);

        let mut short = vec![0; 65_535];
        let bomb = inflate_grain(body, &mut short, 65_535, 512).unwrap_err();
        assert!(bomb.reason.contains("more than a grain") && bomb.offset_bytes == 512, "{bomb}");
        assert!(inflate_grain(&body[..body.len() - 1], &mut back, 65_536, 0).is_err(), "cut short");
        let mut long = vec![9; 65_600];
        assert!(inflate_grain(body, &mut long, 65_537, 0).is_err(), "too few bytes");
        inflate_grain(body, &mut long, 65_536, 0).unwrap();
        assert!(long[65_536..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn markers_come_back() {
    let all = [
        Marker::Grain { disk_sector: 1 << 31, size_bytes: 99 },
        Marker::EndOfStream,
        Marker::Table { sectors: 4 },
        Marker::Directory { sectors: 1 },
        Marker::Footer,
    ];
    for marker in all {
        assert_eq!(Marker::parse(marker.to_bytes().first_chunk().unwrap(), 0), Ok(marker));
    }
    let mut unknown = Marker::Footer.to_bytes();
    unknown[12] = 9;
    assert_eq!(Marker::parse(unknown.first_chunk().unwrap(), 512).unwrap_err().offset_bytes, 524);
}

proptest! {
    #[test]
    fn headers_come_back_and_mutated_ones_never_panic(
        capacity in 0..SECTORS_MAX - (1 << 22),
        embedded: bool,
        unclean: bool,
        mutations in prop::collection::vec((4..80_usize, any::<u8>()), 0..8),
        file_sectors in 0..1_u64 << 33,
    ) {
        let header = SparseHeader { unclean, ..new_header(capacity, embedded).unwrap() };
        let mut bytes = header.to_bytes();
        prop_assert_eq!(SparseHeader::parse(&bytes, 0), Ok(header));
        for (offset, value) in mutations {
            bytes[offset] = value;
        }
        if let Ok(parsed) = SparseHeader::parse(&bytes, 0) {
            let again = SparseHeader::parse(&parsed.to_bytes(), 0);
            prop_assert_eq!(again, Ok(parsed));
            let _ = super::space::MetadataSpace::of_header(&parsed, file_sectors * 512);
        }
    }

    #[test]
    fn any_bytes_inflate_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..2000), at: u64) {
        let mut grain = vec![0; 4096];
        let _ = inflate_grain(&bytes, &mut grain, 4096, at);
        if let Some(head) = bytes.first_chunk() {
            let _ = Marker::parse(head, at / 2);
        }
    }

    #[test]
    fn markers_come_back_and_any_bytes_are_one_or_an_error(
        disk_sector: u64,
        size_bytes in 1..=u32::MAX,
        sectors: u64,
        noise: [u8; 16],
        at in 0..u64::MAX / 2,
    ) {
        for marker in [
            Marker::Grain { disk_sector, size_bytes },
            Marker::EndOfStream,
            Marker::Table { sectors },
            Marker::Directory { sectors },
            Marker::Footer,
        ] {
            let bytes = marker.to_bytes();
            // A grain's bytes follow where other markers have their kind.
            prop_assert_eq!(Marker::parse(bytes.first_chunk().unwrap(), at), Ok(marker));
        }
        if let Ok(marker) = Marker::parse(&noise, at) {
            let again = marker.to_bytes();
            prop_assert_eq!(Marker::parse(again.first_chunk().unwrap(), at), Ok(marker));
        }
    }

    #[test]
    fn grains_come_back_from_their_stream(
        disk_sector: u64,
        pieces in prop::collection::vec((any::<u8>(), 1..900_usize), 1..40),
        length in 1..=16_384_usize,
    ) {
        let mut grain: Vec<u8> = pieces.iter().flat_map(|&(byte, times)| vec![byte; times]).collect();
        grain.resize(length, 0xc3);
        let packed = pack_grain(disk_sector, &grain);
        prop_assert!(packed.len().is_multiple_of(512));
        let marker = Marker::parse(packed.first_chunk().unwrap(), 0);
        let Ok(Marker::Grain { disk_sector: found, size_bytes }) = marker else {
            panic!("{marker:?}");
        };
        prop_assert_eq!(found, disk_sector);
        let mut back = vec![0xee; length];
        let stream = &packed[GRAIN_MARKER_BYTES..][..size_bytes as usize];
        prop_assert_eq!(inflate_grain(stream, &mut back, length, 0), Ok(()));
        prop_assert_eq!(back, grain);
    }
}
