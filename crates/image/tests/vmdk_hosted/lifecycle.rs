//! What opening, writing, flushing and closing do to a sparse disk's file.

use crate::support::{GRAIN, assert_same, content, fill, made, make, read_back, refusal, together};
use failback_blockio::Zeroing;
use failback_image::vmdk::{create, open};
use failback_image::{Access, CreateOptions, Provisioning, VmdkType};
use failback_model::limits::GRAIN_TABLES_MAX;
use failback_model::{ByteRange, Code};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

const SPARSE: VmdkType = VmdkType::MonolithicSparse;
const UNCLEAN: u64 = 72;

fn byte_at(path: &Path, at: u64) -> u8 {
    let mut byte = [0];
    std::fs::File::open(path).and_then(|file| file.read_exact_at(&mut byte, at)).expect("read");
    byte[0]
}

fn patch(path: &Path, at: u64, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
    file.write_all_at(bytes, at).expect("patched");
}

/// Number at a field of a file, of 4 bytes.
fn number_at(path: &Path, at: u64) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|byte| byte_at(path, at + byte)))
}

/// Byte of the file of the first entry of the first table, in the directory named at byte `field` of the header.
fn first_entry(path: &Path, field: u64) -> u64 {
    u64::from(number_at(path, u64::from(number_at(path, field)) * 512)) * 512
}

#[test]
fn reading_changes_nothing_and_writing_marks_until_close() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let bytes = content(1, 5 * GRAIN);
    let path = made(folder.path(), SPARSE, &bytes);
    let before = std::fs::read(&path).expect("read");
    let image = open(&path, Access::Write).expect("opened");
    let id = image.identity().content_id;
    image.flush().expect("flushed");
    image.zero(ByteRange::new(0, 0), Zeroing::Punch).expect("nothing");
    assert_eq!(image.check().expect("checked"), []);
    image.close().expect("closed");
    assert_same(&std::fs::read(&path).expect("read"), &before, "opened and closed");

    image.write_at(0, &[1]).expect("written");
    assert_eq!(byte_at(&path, UNCLEAN), 1);
    let renewed = image.identity().content_id;
    assert_ne!(renewed, id);
    drop(image);
    let image = open(&path, Access::Read).expect("opened");
    let findings = image.check().expect("checked");
    assert_eq!(findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), [Code::ImageUnclean]);
    assert_eq!(image.identity().content_id, renewed);
    assert_eq!(image.write_at(0, &[1]).expect_err("read only").code, Code::WriteFailed);
    drop(image);
    let image = open(&path, Access::Write).expect("opened");
    image.write_at(0, &[1]).expect("written");
    image.close().expect("closed");
    assert_eq!(byte_at(&path, UNCLEAN), 0);
    assert_eq!(image.check().expect("checked"), []);
    image.write_at(9, &[1]).expect("written after close");
    assert_eq!(byte_at(&path, UNCLEAN), 1);
}

#[test]
fn a_content_id_without_its_zeros_moves_no_byte() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = made(folder.path(), SPARSE, &content(1, GRAIN));
    let mut file = std::fs::read(&path).expect("read");
    let at = file.windows(4).position(|word| word == b"CID=").expect("a descriptor") + 4;
    // What qemu writes for 0x0123abc: seven digits.
    file.splice(at..at + 8, *b"0123abc");
    file.splice(21 * 512 - 1..21 * 512 - 1, [0]);
    std::fs::write(&path, &file).expect("written");
    let image = open(&path, Access::Write).expect("opened");
    image.write_at(0, &[1]).expect("written");
    let id = image.identity().content_id.expect("an id");
    image.close().expect("closed");
    let after = std::fs::read(&path).expect("read");
    assert_eq!(after[at..at + 8], *format!("{id:07x}\n").as_bytes());
    assert_eq!(after[at + 8..at + 200], file[at + 8..at + 200]);
}

#[test]
fn both_tables_follow_and_either_copy_is_enough() {
    let _guard = together();
    for (stale, other) in [(56, 48), (48, 56)] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let bytes = vec![5; 3 * GRAIN as usize];
        let path = made(folder.path(), SPARSE, &bytes);
        let (stale, other) = (first_entry(&path, stale), first_entry(&path, other));
        assert_eq!(number_at(&path, stale), number_at(&path, other));
        let whole = number_at(&path, stale);
        assert_ne!(whole, 0);
        patch(&path, stale, &[0; 4]);
        assert_same(&read_back(&path), &bytes, "one copy has it");
        assert_eq!(number_at(&path, stale), 0, "reading repairs nothing");
        let image = open(&path, Access::Write).expect("opened");
        let findings = image.check().expect("checked");
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].code, Code::ImageCheck);
        assert!(findings[0].evidence.contains("copies"), "{}", findings[0].evidence);
        image.write_at(2 * GRAIN, &[5]).expect("written");
        image.close().expect("closed");
        assert_eq!(number_at(&path, stale), whole);
        assert_eq!(image.check().expect("checked"), []);
        drop(image);
        patch(&path, stale, &(whole + 128).to_le_bytes());
        let error = refusal(&path, Access::Read);
        assert_eq!(error.code, Code::ImageDamaged);
        assert!(error.offset_bytes.is_some_and(|at| at == stale || at == other), "{error}");
    }
}

#[test]
fn zeroing_keeps_holes_and_places() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("disk.vmdk");
    let image = make(&path, SPARSE, 8 * GRAIN + 512);
    image.write_at(2 * GRAIN, &vec![3; 3 * GRAIN as usize]).expect("written");
    image.flush().expect("flushed");
    let length = std::fs::metadata(&path).expect("a file").len();
    let blocks = || std::fs::metadata(&path).expect("a file").blocks();
    let taken = blocks();
    image.zero(ByteRange::new(0, 3 * GRAIN), Zeroing::KeepAllocation).expect("zeroed");
    image.flush().expect("flushed");
    assert_eq!(std::fs::metadata(&path).expect("a file").len(), length);
    assert!(blocks() >= taken, "allocation kept");
    let mut grain = vec![9; GRAIN as usize];
    image.read_at(2 * GRAIN, &mut grain).expect("read");
    assert!(failback_model::is_zero(&grain));
    assert_eq!(image.next_data(0).expect("looked"), Some(ByteRange::new(2 * GRAIN, 5 * GRAIN)));
    assert_eq!(
        image.next_data(3 * GRAIN + 7).expect("looked"),
        Some(ByteRange::new(3 * GRAIN + 7, 5 * GRAIN))
    );
    assert_eq!(image.next_data(5 * GRAIN).expect("looked"), None);
    image.zero(ByteRange::new(2 * GRAIN, 5 * GRAIN), Zeroing::Punch).expect("punched");
    image.flush().expect("flushed");
    assert!(blocks() < taken, "space given back");
    image.write_at(8 * GRAIN, &[1; 512]).expect("the short last grain");
    assert_eq!(image.next_data(6 * GRAIN).expect("looked"), Some(ByteRange::new(8 * GRAIN, 8 * GRAIN + 512)));
    assert_eq!(image.write_at(8 * GRAIN, &[1; 513]).expect_err("past the end").code, Code::WriteFailed);
    image.read_at(8 * GRAIN + 1, &mut [0; 512]).expect_err("past the end");
    image.close().expect("closed");
    assert_eq!(image.check().expect("checked"), []);
}

#[test]
fn threads_write_neighbouring_pieces_of_one_grain() {
    let _guard = together();
    for kind in [SPARSE, VmdkType::TwoGbMaxExtentSparse, VmdkType::StreamOptimized] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let bytes = content(3, 90 * GRAIN + 512);
        let path = folder.path().join("disk.vmdk");
        let image = make(&path, kind, bytes.len() as u64);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (image, bytes) = (&image, &bytes);
                scope.spawn(move || {
                    for (index, piece) in bytes.chunks(5120).enumerate().skip(thread).step_by(4) {
                        if index % 400 == thread {
                            image.flush().expect("flushed");
                        }
                        image.write_at(index as u64 * 5120, piece).expect("written");
                    }
                });
            }
        });
        image.close().expect("closed");
        drop(image);
        assert_same(&read_back(&path), &bytes, kind.as_str());
        assert_eq!(open(&path, Access::Read).expect("opened").check().expect("checked"), []);
    }
}

#[test]
fn more_tables_than_memory_holds_come_back() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("disk.vmdk");
    let table_bytes = 512 * GRAIN;
    let tables = GRAIN_TABLES_MAX as u64 + 300;
    let image = make(&path, SPARSE, tables * table_bytes);
    for table in (0..tables).rev() {
        image.write_at(table * table_bytes + GRAIN + table, &table.to_le_bytes()).expect("written");
    }
    for table in 0..tables {
        let mut bytes = [0; 8];
        image.read_at(table * table_bytes + GRAIN + table, &mut bytes).expect("read");
        assert_eq!(u64::from_le_bytes(bytes), table);
    }
    image.close().expect("closed");
    assert_eq!(image.check().expect("checked"), []);
    drop(image);
    let image = open(&path, Access::Read).expect("opened");
    let mut runs = 0;
    let mut at = 0;
    while let Some(run) = image.next_data(at).expect("looked") {
        assert_eq!(run.length_bytes(), GRAIN);
        let mut bytes = [0; 8];
        image.read_at(run.start() + runs, &mut bytes).expect("read");
        assert_eq!(u64::from_le_bytes(bytes), runs);
        (runs, at) = (runs + 1, run.end());
    }
    assert_eq!(runs, tables);
}

#[test]
fn sizes_and_provisionings_that_cannot_be_are_refused_before_a_file_is_made() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("disk.vmdk");
    for kind in [SPARSE, VmdkType::StreamOptimized] {
        let cases = [
            (CreateOptions::new(513), Code::ImageSizeUnsupported),
            (CreateOptions::new(2 << 40), Code::ImageSizeUnsupported),
            (CreateOptions::new(u64::MAX - 511), Code::ImageSizeUnsupported),
            (
                CreateOptions { provisioning: Some(Provisioning::Eager), ..CreateOptions::new(GRAIN) },
                Code::CreateFailed,
            ),
        ];
        for (options, code) in cases {
            let options = CreateOptions { vmdk_type: kind, ..options };
            let error = create(&path, &options).err().expect("refused");
            assert_eq!(error.code, code, "{error}");
            assert!(!path.exists());
        }
        let image = make(&path, kind, 0);
        image.close().expect("closed");
        drop(image);
        assert_eq!(read_back(&path), b"");
        std::fs::remove_file(&path).expect("removed");
    }
}

#[test]
fn a_disk_that_tracks_changes_is_only_read() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let bytes = content(8, 3 * GRAIN);
    let path = made(folder.path(), SPARSE, &bytes);
    patch(&path, 4, &[3]);
    let before = std::fs::read(&path).expect("read");
    assert_same(&read_back(&path), &bytes, "version 3");
    assert_eq!(refusal(&path, Access::Write).code, Code::ImageReadOnlyKind);
    assert_same(&std::fs::read(&path).expect("read"), &before, "refused");
    fill(&*make(&folder.path().join("other.vmdk"), SPARSE, 3 * GRAIN), &bytes);
}

#[test]
fn a_directory_without_a_table_is_only_read() {
    let _guard = together();
    for kind in [SPARSE, VmdkType::TwoGbMaxExtentSparse] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        // Two tables: the second holds nothing, and loses its place in both directories.
        let path =
            made(folder.path(), kind, &[content(8, 3 * GRAIN), vec![0; 600 * GRAIN as usize]].concat());
        let file = if kind == SPARSE { path.clone() } else { folder.path().join("disk-s001.vmdk") };
        for field in [48, 56] {
            patch(&file, u64::from(number_at(&file, field)) * 512 + 4, &[0; 4]);
        }
        let before = std::fs::read(&file).expect("read");
        assert_same(&read_back(&path)[..3 * GRAIN as usize], &content(8, 3 * GRAIN), "read");
        let error = refusal(&path, Access::Write);
        assert_eq!(error.code, Code::ImageReadOnlyKind, "{error}");
        assert!(error.reason.contains("no table 1"), "{error}");
        assert_same(&std::fs::read(&file).expect("read"), &before, "refused");
    }
}

#[test]
fn what_a_descriptor_inside_forbids_or_says_holds() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let bytes = content(8, 3 * GRAIN);
    let path = made(folder.path(), SPARSE, &bytes);
    let whole = std::fs::read(&path).expect("read");
    let edited = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|word| word == from.as_bytes()).expect("it is there");
        let mut file = whole.clone();
        file.splice(at..at + from.len(), to.bytes());
        // What the text gained is taken from the NULs behind it.
        file.drain(21 * 512..21 * 512 + to.len() - from.len());
        std::fs::write(&path, file).expect("written");
    };
    edited("\nRW ", "\nRDONLY ");
    assert_same(&read_back(&path), &bytes, "RDONLY");
    assert_eq!(refusal(&path, Access::Write).code, Code::ImageReadOnlyKind);
    edited("\nRW ", "\nNOACCESS ");
    assert_eq!(refusal(&path, Access::Read).code, Code::ImageUnsupported);
    edited("\nCID=", "\nchangeTrackPath=\"disk-ctk.vmdk\"\nCID=");
    let codes = || {
        let image = open(&path, Access::Write).expect("opened");
        image.warnings().iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(), [Code::ChangeTracking]);
    patch(&path, UNCLEAN, &[1]);
    assert_eq!(codes(), [Code::ChangeTracking, Code::ImageUnclean]);
    std::fs::write(&path, &whole).expect("written");
    assert_eq!(codes(), []);
}

#[test]
fn an_extent_that_was_not_closed_is_a_warning_of_its_disk() {
    let _guard = together();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = made(folder.path(), VmdkType::TwoGbMaxExtentSparse, &content(8, 3 * GRAIN));
    patch(&folder.path().join("disk-s001.vmdk"), UNCLEAN, &[1]);
    let warnings = open(&path, Access::Write).expect("opened").warnings();
    assert_eq!(warnings.iter().map(|finding| finding.code).collect::<Vec<_>>(), [Code::ImageUnclean]);
}
