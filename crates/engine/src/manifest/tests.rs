//! The mapped manifest against the codec's own rules, against damage, and against the size of the largest disk.

use super::*;
use failback_model::BlockSize;
use std::os::unix::fs::{FileExt, MetadataExt};

fn digest(seed: u64) -> Digest {
    Digest(*blake3::hash(&seed.to_le_bytes()).as_bytes())
}

fn layout(blocks: u64) -> Layout {
    Layout::new(blocks * BlockSize::DEFAULT.bytes(), BlockSize::DEFAULT).unwrap()
}

/// The root by the rule alone, without maps, sets and threads.
fn root_by_rule(layout: Layout, entries: &[[u8; 32]]) -> Digest {
    let mut hasher = RootHasher::new(layout);
    entries.chunks(1024).for_each(|chunk| hasher.update(chunk_digest(chunk.as_flattened())));
    hasher.finish()
}

#[test]
fn what_is_set_is_sealed_to_the_root_of_the_rule_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.manifest");
    let layout = layout(70 * 1024 + 3);
    let mut manifest = Manifest::create(&path, layout).unwrap();
    let run: Vec<Digest> = (0..3000).map(|i| if i % 7 == 0 { Digest::ZERO } else { digest(i) }).collect();
    manifest.set_run(BlockIndex(1000), &run).unwrap();
    manifest.set(BlockIndex(70 * 1024 + 2), digest(1)).unwrap();
    manifest.set_run(BlockIndex(65 * 1024), &run[..10]).unwrap();
    manifest.set_zeros(BlockRange::new(65 * 1024, 70 * 1024)).unwrap();
    manifest.set_zeros(BlockRange::new(2000, 2500)).unwrap();
    let mut expected = vec![[0; 32]; layout.block_count() as usize];
    run.iter().enumerate().for_each(|(i, digest)| expected[1000 + i] = digest.0);
    expected[2000..2500].fill([0; 32]);
    expected[70 * 1024 + 2] = digest(1).0;
    assert_eq!(manifest.entries(layout.blocks()), expected);
    let unsealed: Vec<_> = (0..71).map(|chunk| manifest.chunk_digest(ChunkIndex(chunk))).collect();
    assert_eq!(manifest.root(), None);
    let root = manifest.seal(5).unwrap();
    assert_eq!(root, root_by_rule(layout, &expected));
    drop(manifest);

    let manifest = Manifest::open(&path).unwrap();
    assert_eq!((manifest.root(), manifest.generation(), manifest.layout()), (Some(root), 5, layout));
    assert_eq!(manifest.entries(layout.blocks()), expected);
    assert_eq!(manifest.get(BlockIndex(1001)), run[1]);
    assert!((0..71).all(|chunk| manifest.is_chunk_intact(ChunkIndex(chunk))));
    assert_eq!(unsealed, (0..71).map(|chunk| manifest.chunk_digest(ChunkIndex(chunk))).collect::<Vec<_>>());
    assert!(manifest.chunk_digest(ChunkIndex(65)).is_zero(), "what was set back to zero has no digest");
}

#[test]
fn an_unsealed_manifest_is_changed_and_sealed_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.manifest");
    let mut manifest = Manifest::create(&path, layout(5000)).unwrap();
    let empty = manifest.seal(1).unwrap();
    manifest.unseal().unwrap();
    manifest.set(BlockIndex(4999), digest(9)).unwrap();
    drop(manifest);
    let mut manifest = Manifest::open(&path).unwrap();
    assert_eq!((manifest.root(), manifest.generation()), (None, 1));
    assert_eq!(manifest.get(BlockIndex(4999)), digest(9), "entries of an unsealed manifest are kept");
    assert_ne!(manifest.seal(2).unwrap(), empty);
    manifest.unseal().unwrap();
    manifest.set_zeros(BlockRange::new(0, 5000)).unwrap();
    assert_eq!(manifest.seal(3).unwrap(), empty, "the generation is not part of the root");
}

#[test]
fn damage_is_found_where_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.manifest");
    let layout = layout(3000);
    let mut manifest = Manifest::create(&path, layout).unwrap();
    manifest.set(BlockIndex(1500), digest(1)).unwrap();
    manifest.seal(1).unwrap();
    let file = ManifestLayout::new(layout);
    drop(manifest);
    let good = std::fs::read(&path).unwrap();
    let medium = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let flip = |at: u64| medium.write_all_at(&[good[at as usize] ^ 4], at).unwrap();

    flip(file.entry_offset(BlockIndex(2047)));
    let opened = Manifest::open(&path).unwrap();
    let intact: Vec<bool> = (0..3).map(|chunk| opened.is_chunk_intact(ChunkIndex(chunk))).collect();
    assert_eq!(intact, [true, false, true]);
    drop(opened);

    let mut opened = Manifest::open(&path).unwrap();
    opened.unseal().unwrap();
    let entries = opened.entries(layout.blocks()).to_vec();
    assert_eq!(opened.seal(2).unwrap(), root_by_rule(layout, &entries), "what is there is what is sealed");
    drop(opened);
    medium.write_all_at(&good, 0).unwrap();
    flip(file.entry_offset(BlockIndex(5)));
    let mut opened = Manifest::open(&path).unwrap();
    assert!(!opened.is_chunk_intact(ChunkIndex(0)), "an entry where none was");
    opened.unseal().unwrap();
    let entries = opened.entries(layout.blocks()).to_vec();
    assert_eq!(opened.seal(2).unwrap(), root_by_rule(layout, &entries), "what is there is what is sealed");
    drop(opened);
    medium.write_all_at(&good, 0).unwrap();

    for at in [file.chunk_digest_offset(ChunkIndex(2)), 20] {
        flip(at);
        let error = Manifest::open(&path).unwrap_err();
        assert_eq!((error.code, error.path.as_path()), (Code::ManifestDamaged, path.as_path()), "{error}");
        medium.write_all_at(&good, 0).unwrap();
    }
    for length in [0, 100, good.len() as u64 - 1, good.len() as u64 + 1] {
        medium.set_len(length).unwrap();
        assert_eq!(Manifest::open(&path).unwrap_err().code, Code::ManifestDamaged, "{length} bytes");
    }
}

#[test]
fn the_largest_disk_costs_kilobytes_while_it_is_zero() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.manifest");
    let layout = Layout::new(64 << 40, BlockSize::DEFAULT).unwrap();
    let mut manifest = Manifest::create(&path, layout).unwrap();
    manifest.set_zeros(layout.blocks()).unwrap();
    manifest.set_run(BlockIndex(12_345), &[Digest::ZERO; 5000]).unwrap();
    let empty = manifest.seal(1).unwrap();
    manifest.unseal().unwrap();
    manifest.set(BlockIndex(layout.block_count() - 1), digest(3)).unwrap();
    let root = manifest.seal(2).unwrap();
    assert_ne!(root, empty);
    drop(manifest);
    let taken_bytes = std::fs::metadata(&path).unwrap().blocks() * 512;
    assert!(taken_bytes < 256 << 10, "{taken_bytes} bytes taken");
    let manifest = Manifest::open(&path).unwrap();
    assert_eq!(manifest.root(), Some(root));
}

#[test]
fn no_disk_at_all_has_a_root_and_a_temporary_manifest_no_file() {
    let mut manifest = Manifest::create_temp(layout(0)).unwrap();
    let root = manifest.seal(1).unwrap();
    assert_eq!(root.to_string(), "dc708672403a11050172fead9657195ff5e49a39dfd053ae2190dc8b69293164");
    assert!(manifest.entries(BlockRange::new(0, 0)).is_empty());
}

#[test]
#[should_panic(expected = "unsealed before it changes")]
fn a_sealed_manifest_does_not_change() {
    let mut manifest = Manifest::create_temp(layout(10)).unwrap();
    manifest.seal(1).unwrap();
    let _ = manifest.set(BlockIndex(0), digest(0));
}
