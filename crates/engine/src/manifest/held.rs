//! What an existing manifest file holds, found without touching its holes.
//!
//! **Invariant**: a chunk that is not named has neither an entry nor a digest that is not zero, whatever the header
//! says: the file may be damaged, and what is sealed next must be what its entries are.

use super::chunk_set::ChunkSet;
use super::digest_at;
use failback_blockio::{DiskError, MappedFile};
use failback_format::manifest::{ENTRY_BYTES, MANIFEST_HEADER_BYTES, ManifestLayout, RootHasher};
use failback_model::limits::CHUNK_BLOCKS;
use failback_model::{ByteRange, ChunkIndex, Digest};

/// Contents of a manifest file.
#[derive(Debug)]
pub(super) struct Held {
    /// Chunks that may have an entry or a digest that is not zero.
    pub(super) chunks: ChunkSet,
    /// The root that the chunk table gives.
    pub(super) root: Digest,
}

impl Held {
    pub(super) fn survey(map: &MappedFile, file: ManifestLayout) -> Result<Self, DiskError> {
        let count = file.disk().chunk_count();
        let mut chunks = ChunkSet::empty(count);
        let (entries_at, table_at) = (MANIFEST_HEADER_BYTES as u64, file.chunk_table_offset());
        for_each_run(map, ByteRange::new(entries_at, table_at), CHUNK_BLOCKS * ENTRY_BYTES, |chunk| {
            if chunk < count {
                chunks.insert(ChunkIndex(chunk));
            }
        })?;
        let mut hasher = RootHasher::new(file.disk());
        let mut next = 0;
        for_each_run(map, ByteRange::new(table_at, file.file_bytes()), ENTRY_BYTES, |chunk| {
            let digest = digest_at(map.as_slice(), file.chunk_digest_offset(ChunkIndex(chunk)));
            if !digest.is_zero() {
                chunks.insert(ChunkIndex(chunk));
                hasher.update_zeros(chunk - next);
                hasher.update(digest);
                next = chunk + 1;
            }
        })?;
        hasher.update_zeros(count - next);
        Ok(Self { chunks, root: hasher.finish() })
    }
}

/// Calls for the number of each item of `item_bytes` bytes within `area` that data touches, ascending.
fn for_each_run(
    map: &MappedFile,
    area: ByteRange,
    item_bytes: u64,
    mut call: impl FnMut(u64),
) -> Result<(), DiskError> {
    let mut next = 0;
    let mut at = area.start();
    while let Some(run) = map.next_data(at)?.and_then(|run| run.intersection(area)) {
        let first = (run.start() - area.start()) / item_bytes;
        let end = (run.end() - area.start()).div_ceil(item_bytes);
        (first.max(next)..end).for_each(&mut call);
        next = end;
        at = run.end();
    }
    Ok(())
}
