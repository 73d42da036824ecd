//! Images that were cut short or made to mislead: an error that names the place, never a panic, never wrong bytes.

use crate::support::{GRAIN, content, made, together};
use failback_blockio::{Access, DiskError};
use failback_image::VmdkType;
use failback_image::vmdk::open_on;
use failback_model::Code;
use failback_testkit::{MemoryDevice, Random};
use std::sync::Arc;

/// A disk's bytes, which a failed test need not print.
#[derive(PartialEq, Eq)]
struct Disk(Vec<u8>);

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Opens a file's bytes and reads all of the disk.
fn read_all(file: &[u8]) -> Result<Disk, DiskError> {
    let image = open_on(Arc::new(MemoryDevice::from_bytes(file)), Access::Read)?;
    let length_bytes = image.geometry().length_bytes;
    assert!(length_bytes < 1 << 32, "{length_bytes}");
    let mut bytes = vec![0; length_bytes as usize];
    for (index, piece) in bytes.chunks_mut(3 << 20).enumerate() {
        image.read_at(index as u64 * (3 << 20), piece)?;
    }
    let mut at = 0;
    while let Some(run) = image.next_data(at)? {
        assert!(run.start() >= at && run.end() <= length_bytes && !run.is_empty());
        at = run.end();
    }
    image.check()?;
    Ok(Disk(bytes))
}

fn good(kind: VmdkType) -> (Vec<u8>, Disk) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let bytes = content(11, 40 * GRAIN + 512);
    let path = made(folder.path(), kind, &bytes);
    (std::fs::read(path).expect("read"), Disk(bytes))
}

fn number(file: &[u8], at: usize) -> usize {
    u32::from_le_bytes(*file[at..].first_chunk().expect("4 bytes")) as usize
}

fn patched(file: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn tables_that_name_what_they_must_not_are_refused_where_they_lie() {
    let _guard = together();
    let (file, _) = good(VmdkType::MonolithicSparse);
    let directory = number(&file, 56) * 512;
    let redundant = number(&file, 48) * 512;
    let table = number(&file, directory) * 512;
    let copy = number(&file, redundant) * 512;
    let past = (file.len() / 512) as u32;
    let used: Vec<usize> = (0..40).filter(|entry| number(&file, table + 4 * entry) != 0).collect();
    let [first, second, ..] = used[..] else { panic!("a disk with data") };
    let overlap = number(&file, table + 4 * first) as u32;
    let sector = |at: usize| (at / 512) as u32;
    // An entry, and the same entry of the other copy, so that they agree.
    let grains = [
        ("the header", 1),
        ("the descriptor", 2),
        ("the directory", sector(directory)),
        ("its own table", sector(table)),
        ("the redundant table", sector(copy) + 3),
        ("the end of the file", past - 1),
        ("past the end", past),
        ("near 2^32", u32::MAX),
        ("another grain", overlap),
        ("half of another grain", overlap + 64),
        ("the last sector of another", overlap + 127),
    ];
    for (what, raw) in grains {
        let hostile = patched(&file, table + 4 * second, &raw.to_le_bytes());
        let hostile = patched(&hostile, copy + 4 * second, &raw.to_le_bytes());
        let error = read_all(&hostile).expect_err(what);
        assert_eq!(error.code, Code::ImageDamaged, "{what}: {error}");
        let at = error.offset_bytes.expect("an offset") as usize;
        assert!((table..table + 2048).contains(&at), "{what}: {error}");
    }
    for (what, raw) in [("the header", 1), ("itself", sector(directory)), ("the other copy", sector(copy))]
        .into_iter()
        .chain([("past the end", past), ("near 2^32", u32::MAX - 3)])
    {
        let error = read_all(&patched(&file, directory, &raw.to_le_bytes())).expect_err(what);
        assert_eq!(error.code, Code::ImageDamaged, "{what}: {error}");
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let _guard = together();
    let (file, _) = good(VmdkType::MonolithicSparse);
    let cases: [(&str, usize, &[u8], Code); 10] = [
        ("capacity near 2^64", 12, &[0xff; 8], Code::ImageSizeUnsupported),
        ("capacity unlike the descriptor's", 12, &[2], Code::ImageDamaged),
        ("huge grain", 20, &[0, 0, 0, 0, 0, 0, 1, 0], Code::ImageDamaged),
        ("odd grain", 20, &[129], Code::ImageDamaged),
        ("descriptor past the end", 28, &[0, 0, 0, 0, 1], Code::ImageDamaged),
        ("directory past the end", 56, &[0xff, 0xff, 0xff, 0x7f], Code::ImageDamaged),
        ("directory near 2^64", 56, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Code::ImageDamaged),
        ("directory on the header", 56, &[0, 0, 0, 0], Code::ImageDamaged),
        ("a footer it cannot have", 56, &[0xff; 8], Code::ImageFormatDisagrees),
        ("entries of another size", 44, &[0, 4], Code::ImageDamaged),
    ];
    for (what, at, bytes, code) in cases {
        let error = read_all(&patched(&file, at, bytes)).expect_err(what);
        assert_eq!(error.code, code, "{what}: {error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let _guard = together();
    for kind in [VmdkType::MonolithicSparse, VmdkType::StreamOptimized] {
        let (file, bytes) = good(kind);
        assert_eq!(read_all(&file).expect("whole"), bytes);
        let mut cuts: Vec<usize> = (0..file.len()).step_by(9973).collect();
        for near in [4, 76, 512, 21 * 512, 128 * 512, number(&file, 48) * 512, file.len()] {
            cuts.extend([
                near.saturating_sub(513),
                near.saturating_sub(512),
                near.saturating_sub(1),
                near,
                near + 1,
            ]);
        }
        for cut in cuts.into_iter().filter(|&cut| cut < file.len()) {
            let error = read_all(&file[..cut]).expect_err("cut short");
            assert!(error.source.is_none(), "{} cut at {cut}: {error}", kind.as_str());
        }
    }
}

#[test]
fn a_padded_stream_still_ends_with_its_footer() {
    let _guard = together();
    let (mut file, bytes) = good(VmdkType::StreamOptimized);
    file.resize(file.len() + 5000, 0);
    assert_eq!(read_all(&file).expect("padded"), bytes);
    file.resize(file.len() + (64 << 10), 0);
    assert_eq!(read_all(&file).expect_err("far from its end").code, Code::ImageDamaged);
}

#[test]
fn grains_of_a_stream_must_be_what_the_tables_say() {
    let _guard = together();
    let (file, _) = good(VmdkType::StreamOptimized);
    let grain = 128 * 512;
    let size = number(&file, grain + 8);
    let cases: [(&str, usize, &[u8]); 8] = [
        ("another place on the disk", grain, &[1]),
        ("a place near 2^64", grain, &[0xff; 8]),
        ("no grain but a table", grain + 8, &[0, 0, 0, 0, 1]),
        ("larger than the file", grain + 8, &[0xff, 0xff, 0xff, 0x7f]),
        ("larger than a grain can be", grain + 8, &[0, 0, 2, 0]),
        ("cut short", grain + 8, &(size as u32 - 1).to_le_bytes()),
        ("a flipped bit", grain + 12 + size / 2, &[file[grain + 12 + size / 2] ^ 1]),
        ("a wrong checksum", grain + 12 + size - 1, &[file[grain + 12 + size - 1] ^ 1]),
    ];
    for (what, at, bytes) in cases {
        let error = read_all(&patched(&file, at, bytes)).expect_err(what);
        assert_eq!(error.code, Code::ImageDamaged, "{what}: {error}");
        let found = error.offset_bytes.expect("an offset") as usize;
        assert!((grain..grain + 16).contains(&found), "{what}: {error}");
    }
    let footer = file.len() - 1024;
    for (what, at, bytes) in [
        ("no magic", footer, &[0_u8, 0, 0, 0][..]),
        ("another capacity", footer + 12, &[9]),
        ("the directory past the end", footer + 56, &[0xff, 0xff, 0xff, 0xff]),
        ("the directory in the footer", footer + 56, &[0xff; 8]),
        ("no footer marker", footer - 512 + 12, &[2]),
    ] {
        let error = read_all(&patched(&file, at, bytes)).expect_err(what);
        assert_eq!(error.code, Code::ImageDamaged, "{what}: {error}");
    }
}

#[test]
fn a_bomb_inflates_to_no_more_than_a_grain() {
    let _guard = together();
    let (file, _) = good(VmdkType::StreamOptimized);
    let grain = 128 * 512;
    let room = number(&file, grain + 8);
    // A stream of 64 MiB of zeros begins like this; only its first bytes fit the grain's room.
    let bomb = failback_format::vmdk::stream::pack_grain(0, &vec![0; 64 << 20]);
    let length = number(&bomb, 8).min(room.max(60_000));
    let mut hostile = patched(&file, grain + 8, &(length as u32).to_le_bytes());
    hostile[grain + 12..grain + 12 + length].copy_from_slice(&bomb[12..12 + length]);
    let error = read_all(&hostile).expect_err("a bomb");
    assert!(error.reason.contains("more than a grain"), "{error}");
}

#[test]
fn random_damage_never_panics() {
    let _guard = together();
    for kind in [VmdkType::MonolithicSparse, VmdkType::StreamOptimized] {
        let (file, bytes) = good(kind);
        let mut random = Random::new(42);
        let spots = [0..80, 512..1200, 10_752..22_000, 65_536..65_600, file.len() - 5000..file.len()];
        let mut wrong = 0;
        for _ in 0..600 {
            let mut hostile = file.clone();
            for _ in 0..1 + random.below(3) {
                let spot = &spots[random.below(spots.len() as u64) as usize];
                let at = spot.start + random.below((spot.end - spot.start) as u64) as usize;
                hostile[at] = match random.below(3) {
                    0 => 0,
                    1 => 0xff,
                    _ => random.next() as u8,
                };
            }
            wrong += u32::from(
                read_all(&hostile).is_ok_and(|read| read != bytes && kind == VmdkType::StreamOptimized),
            );
        }
        assert!(wrong < 60, "{wrong} of 600 damaged streams read as something else");
    }
}
