//! Disks for the servers, and how they are read.

use failback_image::Image;
use failback_model::Finding;
use failback_remote::{OpenOptions, SourceSpec};
use failback_testkit::GeneratedDisk;
pub(crate) use failback_testkit::{NbdServer as Server, nbd_socket as socket};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The URI of an export of the server in this folder.
pub(crate) fn uri(folder: &Path, export: &str) -> String {
    format!("nbd+unix:///{export}?socket={}", socket(folder).display())
}

/// Opens a source with four connections.
pub(crate) fn open(uri: &str) -> Result<Arc<dyn Image>, Finding> {
    failback_remote::open(&SourceSpec::parse(uri)?, &OpenOptions::default())
}

/// What opening a source that cannot be opened says.
#[track_caller]
pub(crate) fn refused(uri: &str) -> Finding {
    open(uri).err().unwrap_or_else(|| panic!("{uri} was opened"))
}

/// A raw file with holes, and its bytes.
pub(crate) fn raw_disk(folder: &Path, length_bytes: u64) -> (PathBuf, Vec<u8>) {
    let path = folder.join("disk.raw");
    let file = File::create(&path).expect("made");
    file.set_len(length_bytes).expect("lengthened");
    let disk = GeneratedDisk::new(7, length_bytes, 64 << 10);
    let mut bytes = vec![0; length_bytes as usize];
    for (range, content) in disk.slots() {
        if content != failback_testkit::Content::Hole {
            let slot = disk.slot(&range);
            file.write_all_at(&slot, range.start).expect("written");
            bytes[range.start as usize..range.end as usize].copy_from_slice(&slot);
        }
    }
    (path, bytes)
}

/// Reads all of a disk around its holes.
pub(crate) fn read_all(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0xaa; image.geometry().length_bytes as usize];
    let mut at = 0;
    while let Some(data) = image.next_data(at).expect("mapped") {
        bytes[at as usize..data.start() as usize].fill(0);
        for start in (data.start()..data.end()).step_by(1 << 20) {
            let end = data.end().min(start + (1 << 20));
            image.read_at(start, &mut bytes[start as usize..end as usize]).expect("read");
        }
        at = data.end();
    }
    bytes[at as usize..].fill(0);
    bytes
}

/// Panics with the first place where two disks differ.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len(), "lengths");
    let differs = got.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first byte that differs");
}
