//! Dirty bitmaps and extent lists of real programs.

use crate::server::{Server, assert_same, open, raw_disk, read_all, uri};
use failback_model::{BlockRange, BlockSize, Code, Layout};
use failback_remote::{FeedSpec, OpenOptions, SourceSpec, changed_blocks, open_feed};
use failback_testkit::run;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

const LENGTH: u64 = 16 << 20;

/// Blocks of 64 KiB that a feed names.
fn named(feed: &str, source: &str) -> Vec<BlockRange> {
    let (feed, source) =
        (feed.parse::<FeedSpec>().expect("a feed"), SourceSpec::parse(source).expect("a source"));
    let feed = open_feed(&feed, &source, &OpenOptions::default()).expect("opened");
    changed_blocks(&*feed, Layout::new(LENGTH, BlockSize::DEFAULT).expect("a layout")).expect("named")
}

/// Writes a few places of a QEMU image by its own tool.
fn write(image: &Path, places: &[&str]) {
    for place in places {
        run(Command::new("qemu-io").args(["-f", "qcow2", "-c", &format!("write -P 9 {place}")]).arg(image));
    }
}

#[test]
fn a_bitmap_names_what_was_written_since_it_was_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, _) = raw_disk(folder.path(), LENGTH);
    let disk = folder.path().join("disk.qcow2");
    run(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(&raw).arg(&disk));
    run(Command::new("qemu-img").args(["bitmap", "--add", "-g", "64k"]).arg(&disk).arg("base0"));
    write(&disk, &["0 4k", "192k 70k", "15M 1M"]);
    run(Command::new("qemu-img").args(["bitmap", "--disable"]).arg(&disk).arg("base0"));
    let _server =
        Server::qemu(folder.path(), &["--format=qcow2", "-B", "base0", disk.to_str().expect("a name")]);
    let source = uri(folder.path(), "");
    let expected = [BlockRange::new(0, 1), BlockRange::new(3, 5), BlockRange::new(240, 256)];
    assert_eq!(named("bitmap:base0", &source), expected);
    // What nbdinfo prints of the same bitmap is a feed, too.
    let list = folder.path().join("changed.json");
    let printed = run(Command::new("nbdinfo").args(["--json", "--map=qemu:dirty-bitmap:base0"]).arg(&source));
    fs::write(&list, printed).expect("kept");
    assert_eq!(named(&format!("extents:{}", list.display()), &source), expected);
    let (feed, spec) =
        ("bitmap:base1".parse().expect("a feed"), SourceSpec::parse(&source).expect("a source"));
    let missing = open_feed(&feed, &spec, &OpenOptions::default()).err().expect("there is none");
    assert_eq!(missing.code, Code::FeedUnusable);
    assert!(missing.evidence.contains("no dirty bitmap 'base1'; it has base0"), "{}", missing.evidence);
}

#[test]
fn a_map_of_an_overlay_names_what_lies_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, mut bytes) = raw_disk(folder.path(), LENGTH);
    let overlay = folder.path().join("overlay.qcow2");
    run(Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(&raw)
        .arg(&overlay));
    write(&overlay, &["1M 64k", "3M 128k"]);
    run(Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -z 8M 64k"]).arg(&overlay));
    let list = folder.path().join("changed.json");
    fs::write(&list, run(Command::new("qemu-img").args(["map", "--output=json"]).arg(&overlay)))
        .expect("kept");
    let _server = Server::qemu(folder.path(), &["--format=qcow2", overlay.to_str().expect("a name")]);
    let source = uri(folder.path(), "");
    let expected = [BlockRange::new(16, 17), BlockRange::new(48, 50), BlockRange::new(128, 129)];
    assert_eq!(named(&format!("extents:{}", list.display()), &source), expected);
    for (start, length, byte) in [(1 << 20, 64 << 10, 9), (3 << 20, 128 << 10, 9), (8 << 20, 64 << 10, 0)] {
        bytes[start..start + length].fill(byte);
    }
    assert_same(&read_all(&*open(&source).expect("opened")), &bytes);
    // A list of a longer disk is not one of this.
    File::options().write(true).open(&raw).and_then(|file| file.set_len(LENGTH / 2)).expect("cut");
    let local = SourceSpec::parse(&raw).expect("a source");
    let feed = FeedSpec::Extents(list);
    let other = open_feed(&feed, &local, &OpenOptions::default()).err().expect("of another disk");
    assert_eq!(other.code, Code::FeedUnusable);
}
