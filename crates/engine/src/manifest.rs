//! A disk's manifest, mapped into memory: entries are set as blocks are hashed, then sealed to a root.
//!
//! **Invariant**: zeros are never written where nothing was, so a manifest takes space only for chunks that hold
//! data; every byte is reserved before it is touched, so a full file system is an error and not a signal; a sealed
//! manifest is unsealed durably before an entry changes.
//!
//! One owner writes (`&mut`), any number of threads may read after (`&`).

mod chunk_set;
mod held;

use chunk_set::ChunkSet;
use failback_blockio::{DiskError, MappedFile, Operation, temp_folder};
use failback_format::FormatError;
use failback_format::manifest::{
    ENTRY_BYTES, MANIFEST_HEADER_BYTES, ManifestHeader, ManifestLayout, RootHasher, chunk_digest,
};
use failback_model::limits::{CHUNK_BLOCKS, PAGE_BYTES};
use failback_model::{BlockIndex, BlockRange, ByteRange, ChunkIndex, Code, Digest, Layout};
use held::Held;
use rayon::prelude::*;
use std::path::Path;

/// A manifest file, mapped.
#[derive(Debug)]
pub struct Manifest {
    map: MappedFile,
    file: ManifestLayout,
    header: ManifestHeader,
    /// Chunks that may hold an entry, or have a digest, that is not zero.
    touched: ChunkSet,
    /// Chunks whose entries have their space on the medium.
    reserved: ChunkSet,
    durable: bool,
}

impl Manifest {
    /// An all-zero manifest in the folder for temporary files; it has no name, and nothing of it is made durable.
    pub fn create_temp(layout: Layout) -> Result<Self, DiskError> {
        let file = ManifestLayout::new(layout);
        let map = MappedFile::create_temp(&temp_folder(), file.file_bytes())?;
        Self::blank(map, file, false)
    }

    /// An all-zero manifest at `path`, which must not exist yet.
    pub fn create(path: &Path, layout: Layout) -> Result<Self, DiskError> {
        let file = ManifestLayout::new(layout);
        let map = MappedFile::create(path, file.file_bytes())?;
        Self::blank(map, file, true)
    }

    /// An existing manifest: header, length and, if it is sealed, the root over its chunk table are checked. Entries
    /// are checked chunk by chunk, with [`Self::is_chunk_intact`].
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let map = MappedFile::open_write(path)?;
        let bytes = map.as_slice();
        let page = &bytes[..bytes.len().min(MANIFEST_HEADER_BYTES)];
        let header =
            ManifestHeader::decode(page, bytes.len() as u64).map_err(|error| damaged(path, error))?;
        let file = ManifestLayout::new(header.layout);
        let held = Held::survey(&map, file)?;
        if header.root.is_some_and(|root| root != held.root) {
            let reason = "the chunk table does not give the header's root";
            return Err(damaged(path, FormatError::new(file.chunk_table_offset(), reason)));
        }
        let reserved = ChunkSet::empty(file.disk().chunk_count());
        Ok(Self { map, file, header, touched: held.chunks, reserved, durable: true })
    }

    fn blank(map: MappedFile, file: ManifestLayout, durable: bool) -> Result<Self, DiskError> {
        let header = ManifestHeader { layout: file.disk(), generation: 0, root: None };
        let count = file.disk().chunk_count();
        let (touched, reserved) = (ChunkSet::empty(count), ChunkSet::empty(count));
        let mut manifest = Self { map, file, header, touched, reserved, durable };
        manifest.map.reserve(ByteRange::new(0, MANIFEST_HEADER_BYTES as u64))?;
        manifest.write_header(header)?;
        Ok(manifest)
    }

    /// The disk's layout.
    pub fn layout(&self) -> Layout {
        self.file.disk()
    }

    /// Generation of the last seal; 0 before.
    pub fn generation(&self) -> u64 {
        self.header.generation
    }

    /// The root, where the manifest is sealed.
    pub fn root(&self) -> Option<Digest> {
        self.header.root
    }

    /// Sets one block's digest. Panics where there is no such block or the manifest is sealed.
    pub fn set(&mut self, block: BlockIndex, digest: Digest) -> Result<(), DiskError> {
        self.set_run(block, &[digest])
    }

    /// Sets the digests of blocks from `first`. Panics past the last block or where the manifest is sealed.
    pub fn set_run(&mut self, first: BlockIndex, digests: &[Digest]) -> Result<(), DiskError> {
        let end = first.0 + digests.len() as u64;
        self.assert_may_set(end);
        let (mut at, mut rest) = (first.0, digests);
        while at < end {
            let chunk = ChunkIndex(at / CHUNK_BLOCKS);
            let (run, behind) = rest.split_at(rest.len().min((CHUNK_BLOCKS - at % CHUNK_BLOCKS) as usize));
            if self.touched.contains(chunk) || run.iter().any(|digest| !digest.is_zero()) {
                self.touch(chunk)?;
                let entries = self.entries_mut(BlockRange::new(at, at + run.len() as u64));
                entries.iter_mut().zip(run).for_each(|(entry, digest)| *entry = digest.0);
            }
            (at, rest) = (at + run.len() as u64, behind);
        }
        Ok(())
    }

    /// Says that these blocks are zero, in time by what was not. Panics as [`Self::set_run`] does.
    pub fn set_zeros(&mut self, blocks: BlockRange) -> Result<(), DiskError> {
        self.assert_may_set(blocks.end.0);
        let mut from = blocks.start.0;
        while from < blocks.end.0 {
            let Some(chunk) = self.touched.next(ChunkIndex(from / CHUNK_BLOCKS)) else { break };
            let start = from.max(chunk.0 * CHUNK_BLOCKS);
            let end = blocks.end.0.min((chunk.0 + 1) * CHUNK_BLOCKS);
            if start < end {
                self.touch(chunk)?;
                self.entries_mut(BlockRange::new(start, end)).fill([0; 32]);
            }
            from = (chunk.0 + 1) * CHUNK_BLOCKS;
        }
        Ok(())
    }

    /// One block's digest. Panics where there is no such block.
    pub fn get(&self, block: BlockIndex) -> Digest {
        Digest(self.entries(BlockRange::new(block.0, block.0 + 1))[0])
    }

    /// Digests of some blocks. Panics past the last block.
    pub fn entries(&self, blocks: BlockRange) -> &[[u8; 32]] {
        self.map.as_slice()[self.entry_bytes(blocks)].as_chunks().0
    }

    /// Digest of a chunk: as sealed, or over its entries as they stand. Panics where there is no such chunk.
    pub fn chunk_digest(&self, chunk: ChunkIndex) -> Digest {
        if !self.touched.contains(chunk) {
            Digest::ZERO
        } else if self.header.root.is_some() {
            digest_at(self.map.as_slice(), self.file.chunk_digest_offset(chunk))
        } else {
            self.computed_digest(chunk)
        }
    }

    /// Whether a chunk's entries give the digest that was sealed. Panics where there is no such chunk.
    pub fn is_chunk_intact(&self, chunk: ChunkIndex) -> bool {
        self.computed_digest(chunk) == digest_at(self.map.as_slice(), self.file.chunk_digest_offset(chunk))
    }

    /// Computes all chunk digests and the root. A manifest with a name is durable after: entries and chunk table
    /// first, then the header that vouches for them.
    pub fn seal(&mut self, generation: u64) -> Result<Digest, DiskError> {
        let chunks: Vec<ChunkIndex> = self.touched.iter().collect();
        let digests: Vec<Digest> = chunks.par_iter().map(|&chunk| self.computed_digest(chunk)).collect();
        let mut hasher = RootHasher::new(self.layout());
        let (mut next, mut reserved_to) = (0, 0);
        for (&chunk, digest) in chunks.iter().zip(digests) {
            hasher.update_zeros(chunk.0 - next);
            hasher.update(digest);
            next = chunk.0 + 1;
            self.write_chunk_digest(chunk, digest, &mut reserved_to)?;
        }
        hasher.update_zeros(self.layout().chunk_count() - next);
        let root = hasher.finish();
        self.flush()?;
        self.write_header(ManifestHeader { generation, root: Some(root), ..self.header })?;
        Ok(root)
    }

    /// Lets entries change again; a manifest with a name says so durably first. The generation stays until the next
    /// seal.
    pub fn unseal(&mut self) -> Result<(), DiskError> {
        match self.header.root {
            Some(_) => self.write_header(ManifestHeader { root: None, ..self.header }),
            None => Ok(()),
        }
    }

    fn assert_may_set(&self, end_block: u64) {
        assert!(self.header.root.is_none(), "a sealed manifest is unsealed before it changes");
        assert!(end_block <= self.layout().block_count(), "entries are set for blocks of the disk");
    }

    /// Makes a chunk ready for entries that are not zero.
    fn touch(&mut self, chunk: ChunkIndex) -> Result<(), DiskError> {
        if !self.reserved.contains(chunk) {
            self.map.reserve(self.file.chunk_entries(chunk))?;
            self.reserved.insert(chunk);
        }
        self.touched.insert(chunk);
        Ok(())
    }

    /// Chunks come in order; the page that this one's digest lies in is reserved with the first of them.
    fn write_chunk_digest(
        &mut self,
        chunk: ChunkIndex,
        digest: Digest,
        reserved_to: &mut u64,
    ) -> Result<(), DiskError> {
        let offset = self.file.chunk_digest_offset(chunk);
        let bytes = ByteRange::new(offset, offset + ENTRY_BYTES);
        if digest_at(self.map.as_slice(), offset) != digest {
            if bytes.end() > *reserved_to {
                *reserved_to = bytes.end().next_multiple_of(PAGE_BYTES).min(self.file.file_bytes());
                self.map.reserve(ByteRange::new(offset, *reserved_to))?;
            }
            self.map.as_mut_slice()[usizes(bytes)].copy_from_slice(&digest.0);
        }
        Ok(())
    }

    fn write_header(&mut self, header: ManifestHeader) -> Result<(), DiskError> {
        self.map.as_mut_slice()[..MANIFEST_HEADER_BYTES].copy_from_slice(&header.encode());
        self.header = header;
        self.flush()
    }

    fn flush(&self) -> Result<(), DiskError> {
        if self.durable { self.map.flush() } else { Ok(()) }
    }

    fn computed_digest(&self, chunk: ChunkIndex) -> Digest {
        chunk_digest(&self.map.as_slice()[usizes(self.file.chunk_entries(chunk))])
    }

    fn entries_mut(&mut self, blocks: BlockRange) -> &mut [[u8; 32]] {
        let bytes = self.entry_bytes(blocks);
        self.map.as_mut_slice()[bytes].as_chunks_mut().0
    }

    fn entry_bytes(&self, blocks: BlockRange) -> std::ops::Range<usize> {
        assert!(blocks.end.0 <= self.layout().block_count(), "entries are those of the disk's blocks");
        usizes(ByteRange::new(self.file.entry_offset(blocks.start), self.file.entry_offset(blocks.end)))
    }
}

/// Offsets into a mapping fit a word, or it could not have been mapped.
fn usizes(bytes: ByteRange) -> std::ops::Range<usize> {
    bytes.start() as usize..bytes.end() as usize
}

fn digest_at(map: &[u8], offset: u64) -> Digest {
    Digest(*map[offset as usize..].first_chunk().expect("the file's length was checked"))
}

fn damaged(path: &Path, error: FormatError) -> DiskError {
    DiskError::new(Code::ManifestDamaged, Operation::Open, path, error.reason).at(error.offset_bytes)
}

#[cfg(test)]
mod tests;
