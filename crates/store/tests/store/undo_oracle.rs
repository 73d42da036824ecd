//! The oldest point of a machine as FORMATS.md says that anyone can have it back: every record of undo is put back, the
//! newest first. Slow, in memory, and none of the store's own code.

use failback_format::journal_record::{
    Found, OldPages, Place, Record, SEGMENT_HEADER_BYTES, SegmentHeader, find_record,
};
use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::path::Path;

const PAGE_BYTES: usize = 4096;

/// Segments of undo by name: all that a folder holds.
pub(crate) type Segments = BTreeMap<String, Vec<u8>>;

/// The segments in a folder.
pub(crate) fn segments_in(folder: &Path) -> Segments {
    let entries = std::fs::read_dir(folder).expect("listed").map(|entry| entry.expect("listed"));
    let name = |entry: &DirEntry| entry.file_name().into_string().expect("text");
    entries.map(|entry| (name(&entry), std::fs::read(entry.path()).expect("read"))).collect()
}

/// Takes back all that these segments say, in disks that hold these bytes.
pub(crate) fn take_back(segments: &Segments, disks: &mut [Vec<u8>]) {
    let segments = segments.iter().filter(|(name, _)| name.starts_with("undo-") && name.ends_with(".fbu"));
    for (name, bytes) in segments.rev() {
        for (disk, record) in records(bytes).into_iter().rev() {
            let Record::Undo(undo) = record else { panic!("{name} holds {record:?}") };
            for piece in undo.pieces {
                put_back(&mut disks[disk], piece.pages.start as usize, piece.pages.end as usize, piece.old);
            }
        }
    }
}

fn records(segment: &[u8]) -> Vec<(usize, Record)> {
    let header = SegmentHeader::decode(&segment[..SEGMENT_HEADER_BYTES]).expect("a header");
    let (mut at, mut records) = (SEGMENT_HEADER_BYTES, Vec::new());
    loop {
        let place = Place { salt: header.salt, offset_bytes: at as u32, sequence: records.len() as u32 };
        match find_record(&segment[at..], place).expect("a record of ours") {
            Found::Record { disk, record, framed_bytes, .. } => {
                records.push((usize::from(disk.0), record));
                at += framed_bytes;
            }
            Found::Incomplete { .. } | Found::Bad { .. } => return records,
        }
    }
}

fn put_back(disk: &mut [u8], start: usize, end: usize, old: OldPages) {
    let until = disk.len().min(end * PAGE_BYTES);
    let pages = &mut disk[start * PAGE_BYTES..until];
    match old {
        OldPages::Zero => pages.fill(0),
        OldPages::Stored { bytes, plain_bytes } if bytes.len() == plain_bytes as usize => {
            pages.copy_from_slice(&bytes);
        }
        OldPages::Stored { bytes, plain_bytes } => {
            let plain = zstd::bulk::decompress(&bytes, plain_bytes as usize).expect("one frame");
            pages.copy_from_slice(&plain);
        }
    }
}
