//! Writing a streamOptimized disk: order, lateness, what is read back meanwhile, and what an unfinished one is.

use crate::support::{GRAIN, assert_same, content, make, read_back, refusal, together};
use failback_blockio::Zeroing;
use failback_format::vmdk::stream::Marker;
use failback_image::{Access, Image, VmdkType};
use failback_model::limits::{STREAM_WINDOW_BYTES, WINDOW_DEFAULT_BYTES};
use failback_model::{ByteRange, Code};
use failback_testkit::Random;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

const STREAM: VmdkType = VmdkType::StreamOptimized;

fn begin(length_bytes: u64) -> (TempDir, PathBuf, Arc<dyn Image>) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("disk.vmdk");
    let image = make(&path, STREAM, length_bytes);
    (folder, path, image)
}

/// Walks a file by its markers as a reader of a pipe would; the disk's sectors of its grains in the file's order.
fn walk(path: &Path) -> Vec<u64> {
    let file = std::fs::read(path).expect("read");
    let mut at = 128 * 512;
    let mut grains = Vec::new();
    let mut last = 0;
    loop {
        let marker = Marker::parse(file[at..].first_chunk().expect("a marker"), at as u64).expect("a marker");
        at += match marker {
            Marker::Grain { disk_sector, size_bytes } => {
                assert!(last <= 1, "a grain behind the directory");
                grains.push(disk_sector);
                (12 + size_bytes as usize).next_multiple_of(512)
            }
            Marker::Table { sectors } => 512 + sectors as usize * 512,
            Marker::Directory { sectors } => {
                last = 2;
                512 + sectors as usize * 512
            }
            Marker::Footer => {
                assert_eq!(last, 2);
                last = 3;
                1024
            }
            Marker::EndOfStream => {
                assert_eq!((last, at + 512), (3, file.len()));
                return grains;
            }
        };
    }
}

#[test]
fn disorder_within_a_window_comes_out_in_order() {
    let _guard = together();
    let length_bytes = 130 * (1 << 20) + 512;
    let bytes = content(5, length_bytes);
    let (_folder, path, image) = begin(length_bytes);
    // Each thread takes the next block but delivers after a delay of up to a window.
    let blocks: Vec<&[u8]> = bytes.chunks(GRAIN as usize).collect();
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    let mut random = Random::new(1);
    let reach = WINDOW_DEFAULT_BYTES / GRAIN / 2;
    order.sort_by_cached_key(|&block| block as u64 + random.below(reach));
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(&block) = order.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    if !failback_model::is_zero(blocks[block]) {
                        image.write_at(block as u64 * GRAIN, blocks[block]).expect("in time");
                    }
                }
            });
        }
    });
    image.close().expect("closed");
    drop(image);
    assert_same(&read_back(&path), &bytes, "a disordered stream");
    let grains = walk(&path);
    assert!(grains.windows(2).all(|pair| pair[0] < pair[1]), "ascending");
    let stored = blocks.iter().filter(|block| !failback_model::is_zero(block)).count();
    assert_eq!(grains.len(), stored, "zero grains are left out, each other one is there once");
}

#[test]
fn what_comes_too_late_is_refused_and_what_waits_can_change() {
    let _guard = together();
    let length_bytes = 2 * STREAM_WINDOW_BYTES;
    let (_folder, path, image) = begin(length_bytes);
    let sevens = vec![7; GRAIN as usize];
    image.write_at(GRAIN, &sevens).expect("written");
    image.write_at(GRAIN + 100, &[8; 50]).expect("a deflated grain that waits takes new bytes");
    image.write_at(3 * GRAIN, &sevens).expect("written");
    image.zero(ByteRange::new(2 * GRAIN, 4 * GRAIN), Zeroing::Punch).expect("waiting grains are zeroed");
    image.write_at(4 * GRAIN + 1000, &[9; 3]).expect("a piece");
    for block in 5..STREAM_WINDOW_BYTES / GRAIN + 10 {
        image.write_at(block * GRAIN, &sevens).expect("written");
    }
    for (at, why) in
        [(GRAIN, "gone out"), (0, "never came, but its place is gone"), (4 * GRAIN, "gone out in part")]
    {
        let error = image.write_at(at, &[1]).expect_err(why);
        assert_eq!((error.code, error.offset_bytes), (Code::ImageReadOnlyKind, Some(at)), "{why}: {error}");
    }
    image.zero(ByteRange::new(0, GRAIN), Zeroing::Punch).expect("zero already");
    image.zero(ByteRange::new(0, 2 * GRAIN), Zeroing::Punch).expect_err("gone out");
    image.close().expect("closed");
    let mut expected = vec![0; length_bytes as usize];
    expected[GRAIN as usize..2 * GRAIN as usize].fill(7);
    expected[GRAIN as usize + 100..][..50].fill(8);
    expected[4 * GRAIN as usize + 1000..][..3].fill(9);
    expected[5 * GRAIN as usize..STREAM_WINDOW_BYTES as usize + 10 * GRAIN as usize].fill(7);
    drop(image);
    assert_same(&read_back(&path), &expected, "a stream with late writes");
}

#[test]
fn an_unfinished_stream_is_no_image_and_a_finished_one_is_not_written() {
    let _guard = together();
    let (_folder, path, image) = begin(10 * GRAIN);
    let mut bytes = vec![1; 2 * GRAIN as usize];
    image.read_at(0, &mut bytes).expect("what was never written reads as zero");
    assert!(failback_model::is_zero(&bytes));
    assert_eq!(image.next_data(0).expect("looked"), None);
    image.write_at(GRAIN, &[5; 512]).expect("written");
    assert_eq!(image.next_data(0).expect("looked"), Some(ByteRange::new(GRAIN, 2 * GRAIN)));
    image.read_at(2 * GRAIN, &mut bytes).expect("still zero");
    assert_eq!(image.read_at(0, &mut bytes).expect_err("written").code, Code::ImageUnsupported);
    image.flush().expect("flushed");
    assert_eq!(image.write_at(10 * GRAIN, &[1]).expect_err("past the end").code, Code::WriteFailed);
    let unfinished = path.with_file_name("unfinished.vmdk");
    assert!(!path.exists(), "it has no name before it is whole");
    std::fs::copy(failback_blockio::draft_of(&path), &unfinished).expect("copied");
    let error = refusal(&unfinished, Access::Read);
    assert_eq!(error.code, Code::ImageDamaged);
    assert!(error.reason.contains("never finished"), "{error}");
    image.close().expect("closed");
    image.close().expect("closed twice");
    assert!(path.exists() && !failback_blockio::draft_of(&path).exists());
    image.read_at(GRAIN, &mut bytes).expect("a finished stream reads");
    assert!(bytes[..512].iter().all(|&byte| byte == 5) && failback_model::is_zero(&bytes[512..]));
    assert_eq!(image.check().expect("checked"), []);
    assert_eq!(image.write_at(0, &[1]).expect_err("closed").code, Code::ImageReadOnlyKind);
    drop(image);
    assert_eq!(refusal(&path, Access::Write).code, Code::ImageReadOnlyKind);
    let image = failback_image::vmdk::open(&path, Access::Read).expect("opened");
    assert_eq!(image.write_at(0, &[1]).expect_err("read only").code, Code::ImageReadOnlyKind);
    assert_eq!(image.next_data(0).expect("looked"), Some(ByteRange::new(GRAIN, 2 * GRAIN)));
    let mut piece = [0; 1024];
    image.read_at(GRAIN - 100, &mut piece).expect("read");
    assert!(piece[100..612].iter().all(|&byte| byte == 5) && failback_model::is_zero(&piece[612..]));
}
