//! The manifest: the bytes are a header's used part, then a sketch of entries and chunk table. As they are, and with
//! header checksum and root made right.

use crate::sketch::sketched;
use failback_blockio::Device;
use failback_engine::manifest::Manifest;
use failback_format::manifest::{
    MANIFEST_HEADER_BYTES, ManifestHeader, ManifestLayout, RootHasher, chunk_digest,
};
use failback_model::{BlockRange, ChunkIndex, Digest, Layout};
use std::path::Path;

/// Bytes of the header that its checksum covers.
const COVERED_BYTES: usize = 80;
const ROOT_AT: usize = 48;
const FLAGS_AT: usize = 40;
/// Files up to this are written and opened.
const FILE_MAX_BYTES: u64 = 256 << 10;

/// Decodes the header; where the file is small, opens it, changes it, seals it and opens it again.
pub fn manifest(data: &[u8]) {
    let mut page = [0; MANIFEST_HEADER_BYTES];
    let used = data.len().min(COVERED_BYTES + 32);
    page[..used].copy_from_slice(&data[..used]);
    let sketched = sketched(&data[used..]);
    let mut body = vec![0; Device::length_bytes(&sketched).min(FILE_MAX_BYTES) as usize];
    Device::read_at(&sketched, 0, &mut body).expect("as long as it is");
    try_file(&page, &body);
    repair(&mut page, &body);
    try_file(&page, &body);
}

fn try_file(page: &[u8; MANIFEST_HEADER_BYTES], body: &[u8]) {
    let Ok(header) = ManifestHeader::decode_page(page) else { return };
    assert_eq!(&header.encode(), page, "every byte of a header that decodes has a meaning");
    let file = ManifestLayout::new(header.layout);
    assert_eq!(ManifestHeader::decode(page, file.file_bytes()), Ok(header));
    assert!(ManifestHeader::decode(page, file.file_bytes() + 1).is_err());
    if file.file_bytes() > FILE_MAX_BYTES {
        return;
    }
    let mut bytes = page.to_vec();
    bytes.extend(body);
    bytes.resize(file.file_bytes() as usize, 0);
    let medium = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(medium.path(), &bytes).expect("a small file is written");
    reseal(medium.path(), header.layout);
}

fn reseal(path: &Path, layout: Layout) {
    let Ok(mut manifest) = Manifest::open(path) else { return };
    assert_eq!(manifest.layout(), layout);
    if let Some(root) = manifest.root() {
        let mut hasher = RootHasher::new(layout);
        (0..layout.chunk_count()).for_each(|chunk| hasher.update(manifest.chunk_digest(ChunkIndex(chunk))));
        assert_eq!(hasher.finish(), root);
    }
    manifest.unseal().expect("memory takes every write");
    let changed: Vec<Digest> =
        (0..layout.block_count().min(1500)).map(|i| Digest([i as u8 % 3; 32])).collect();
    manifest.set_run(layout.blocks().start, &changed).expect("the file is small");
    let half = layout.block_count() / 2;
    manifest.set_zeros(BlockRange::new(half, layout.block_count())).expect("the file is small");
    let entries = manifest.entries(layout.blocks()).to_vec();
    let root = manifest.seal(7).expect("the file is small");
    drop(manifest);
    let mut hasher = RootHasher::new(layout);
    entries.chunks(1024).for_each(|chunk| hasher.update(chunk_digest(chunk.as_flattened())));
    assert_eq!(hasher.finish(), root, "the root of the rule");
    let again = Manifest::open(path).expect("a manifest that was sealed opens");
    assert_eq!((again.root(), again.generation()), (Some(root), 7));
    assert!(again.entries(layout.blocks()) == entries);
    assert!((0..layout.chunk_count()).all(|chunk| again.is_chunk_intact(ChunkIndex(chunk))));
}

/// Makes the root over the chunk table right where the header says that there is one, then the header's checksum.
fn repair(page: &mut [u8; MANIFEST_HEADER_BYTES], body: &[u8]) {
    let sum = |page: &mut [u8; MANIFEST_HEADER_BYTES]| {
        let sum = blake3::hash(&page[..COVERED_BYTES]);
        page[COVERED_BYTES..COVERED_BYTES + 32].copy_from_slice(sum.as_bytes());
    };
    sum(page);
    if let (1, Ok(header)) = (page[FLAGS_AT], ManifestHeader::decode_page(page)) {
        let file = ManifestLayout::new(header.layout);
        if file.file_bytes() <= FILE_MAX_BYTES {
            let mut hasher = RootHasher::new(header.layout);
            for chunk in 0..header.layout.chunk_count() {
                let at = file.chunk_digest_offset(ChunkIndex(chunk)) as usize - MANIFEST_HEADER_BYTES;
                let mut digest = [0; 32];
                let there = &body[at.min(body.len())..(at + 32).min(body.len())];
                digest[..there.len()].copy_from_slice(there);
                hasher.update(Digest(digest));
            }
            page[ROOT_AT..ROOT_AT + 32].copy_from_slice(&hasher.finish().0);
        }
    }
    sum(page);
}
