//! A disk's digests in its manifest file (FORMATS.md, "Manifest"), read and written in place.
//!
//! The journal says which entries count; the file alone says nothing unless it is sealed. **Invariant**: a sealed file
//! is unsealed, durably, before an entry changes; holes stay holes where zeros are set.

use crate::block_set::BlockSet;
use crate::checkpoint::create_draft;
use crate::medium::Medium;
use crate::segment::digests_name;
use failback_blockio::{Device, DiskError, Operation, Zeroing};
use failback_format::FormatError;
use failback_format::manifest::{
    ENTRY_BYTES, MANIFEST_HEADER_BYTES, ManifestHeader, ManifestLayout, RootHasher, chunk_digest,
};
use failback_model::limits::CHUNK_BLOCKS;
use failback_model::{BlockIndex, BlockRange, ByteRange, ChunkIndex, Code, Digest, DiskId, Layout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Zeros shorter than this are written where there is data; longer ones give their space back.
const PUNCH_MIN_BYTES: u64 = 64 << 10;
/// Entries of one chunk that are this many runs or more are put into it and written as one piece.
const PATCH_MIN_RUNS: usize = 4;

/// An open manifest file. Entries are read by any thread, and set by one at a time: whoever holds the journal.
#[derive(Debug)]
pub(crate) struct DigestFile {
    device: Arc<dyn Device>,
    file: ManifestLayout,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    header: ManifestHeader,
    /// Chunks whose digest in the chunk table is not that of their entries.
    stale: BlockSet,
    /// Whether anything may be written that is not durable.
    is_dirty: bool,
}

impl DigestFile {
    /// An all-zero manifest for a disk, in the place of an older one; its name is durable, too.
    pub(crate) fn create(medium: &dyn Medium, disk: &DiskId, layout: Layout) -> Result<Self, DiskError> {
        let name = digests_name(disk);
        let (draft, device) = create_draft(medium, &name)?;
        Self::blank(device, layout)?.sync()?;
        medium.rename(&draft, &name)?;
        medium.sync_names()?;
        Self::open(medium.open(&name)?)
    }

    /// Makes an empty file an all-zero manifest; not durable yet.
    pub(crate) fn blank(device: Arc<dyn Device>, layout: Layout) -> Result<Self, DiskError> {
        let file = ManifestLayout::new(layout);
        let header = ManifestHeader { layout, generation: 0, root: None };
        device.set_length(file.file_bytes())?;
        device.write_at(0, &header.encode())?;
        let state = State { header, stale: BlockSet::empty(layout.chunk_count()), is_dirty: true };
        Ok(Self { device, file, state: Mutex::new(state) })
    }

    /// An existing file: header and length are checked, and the root of a sealed one over its chunk table.
    pub(crate) fn open(device: Arc<dyn Device>) -> Result<Self, DiskError> {
        let length_bytes = device.length_bytes();
        let mut page = vec![0; length_bytes.min(MANIFEST_HEADER_BYTES as u64) as usize];
        device.read_at(0, &mut page)?;
        let header = ManifestHeader::decode(&page, length_bytes).map_err(|error| damaged(&*device, error))?;
        let file = ManifestLayout::new(header.layout);
        let mut stale = BlockSet::empty(header.layout.chunk_count());
        match header.root {
            None => stale.insert(stale.all()),
            Some(root) if root == table_root(&*device, file)? => {}
            Some(_) => {
                let reason = "the chunk table does not give the header's root";
                return Err(damaged(&*device, FormatError::new(file.chunk_table_offset(), reason)));
            }
        }
        // A process that was killed may have left changes in the kernel's cache.
        let state = State { header, stale, is_dirty: true };
        Ok(Self { device, file, state: Mutex::new(state) })
    }

    pub(crate) fn layout(&self) -> Layout {
        self.file.disk()
    }

    /// The root, where the file is sealed.
    pub(crate) fn root(&self) -> Option<Digest> {
        self.lock().header.root
    }

    /// Digests of some blocks. Panics past the last block.
    pub(crate) fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError> {
        let mut bytes = vec![0; (blocks.count() * ENTRY_BYTES) as usize];
        self.device.read_at(self.entry_bytes(blocks).start(), &mut bytes)?;
        Ok(bytes.as_chunks().0.iter().map(|digest| Digest(*digest)).collect())
    }

    /// Whether it holds these digests, or zeros where there are none; where it cannot be read, it does not. Panics past the
    /// last block.
    pub(crate) fn holds(&self, blocks: BlockRange, digests: Option<&[Digest]>) -> bool {
        match digests {
            Some(digests) => self.digests(blocks).is_ok_and(|held| held == digests),
            None => self.next_data(blocks.start).is_ok_and(|data| data.is_none_or(|data| data >= blocks.end)),
        }
    }

    /// The first block at or behind `from` whose entry is no hole.
    pub(crate) fn next_data(&self, from: BlockIndex) -> Result<Option<BlockIndex>, DiskError> {
        let entries = self.entry_bytes(self.layout().blocks());
        let at = self.file.entry_offset(from);
        let data = self.device.next_data(at)?.and_then(|data| data.intersection(entries));
        Ok(data.map(|data| BlockIndex((data.start() - entries.start()) / ENTRY_BYTES)))
    }

    /// Sets the digests of blocks from `first`. Panics past the last block.
    pub(crate) fn set_run(&self, first: BlockIndex, digests: &[Digest]) -> Result<(), DiskError> {
        let blocks = BlockRange::new(first.0, first.0 + digests.len() as u64);
        if digests.iter().all(Digest::is_zero) {
            return self.set_zeros(blocks);
        }
        // What cannot be read is written: that is how a medium mends it.
        if self.holds(blocks, Some(digests)) { Ok(()) } else { self.write_run(blocks, digests) }
    }

    fn write_run(&self, blocks: BlockRange, digests: &[Digest]) -> Result<(), DiskError> {
        let mut state = self.lock();
        self.touch(&mut state, blocks)?;
        self.device.write_at(self.entry_bytes(blocks).start(), &bytes_of(digests))
    }

    /// Sets single entries, which ascend.
    pub(crate) fn set(&self, entries: &[(BlockIndex, Digest)]) -> Result<(), DiskError> {
        for chunk in entries.chunk_by(|(a, _), (b, _)| a.0 / CHUNK_BLOCKS == b.0 / CHUNK_BLOCKS) {
            let runs = || chunk.chunk_by(|(block, _), (next, _)| block.0 + 1 == next.0);
            let (first, last) = (chunk[0].0, chunk[chunk.len() - 1].0);
            if runs().count() >= PATCH_MIN_RUNS
                && let Ok(held) = self.digests(BlockRange::new(first.0, last.0 + 1))
            {
                let mut digests = held.clone();
                for (block, digest) in chunk {
                    digests[(block.0 - first.0) as usize] = *digest;
                }
                if digests != held {
                    self.write_run(BlockRange::new(first.0, last.0 + 1), &digests)?;
                }
                continue;
            }
            for run in runs() {
                let digests: Vec<Digest> = run.iter().map(|(_, digest)| *digest).collect();
                self.set_run(run[0].0, &digests)?;
            }
        }
        Ok(())
    }

    /// Says that these blocks are zero, in time by what was not. Panics past the last block.
    pub(crate) fn set_zeros(&self, blocks: BlockRange) -> Result<(), DiskError> {
        let mut state = self.lock();
        let entries = self.entry_bytes(blocks);
        let mut at = entries.start();
        while let Some(data) = self.device.next_data(at)?.and_then(|data| data.intersection(entries)) {
            self.touch(&mut state, blocks)?;
            if data.length_bytes() < PUNCH_MIN_BYTES {
                self.device.write_at(data.start(), &vec![0; data.length_bytes() as usize])?;
            } else {
                self.device.zero(data, Zeroing::Punch)?;
            }
            at = data.end();
        }
        Ok(())
    }

    /// Computes what the chunk table lacks and the root; durable after: entries and table first, then the header that
    /// vouches for them.
    pub(crate) fn seal(&self, generation: u64) -> Result<Digest, DiskError> {
        let mut state = self.lock();
        state.is_dirty = true;
        for run in state.stale.runs() {
            for chunk in run.iter().map(|index| ChunkIndex(index.0)) {
                let digest = self.computed_digest(chunk)?;
                if self.table_digest(chunk)? != digest {
                    self.device.write_at(self.file.chunk_digest_offset(chunk), &digest.0)?;
                }
            }
        }
        let root = table_root(&*self.device, self.file)?;
        self.device.sync()?;
        state.stale.clear();
        let header = ManifestHeader { generation, root: Some(root), ..state.header };
        self.write_header(&mut state, header)?;
        Ok(root)
    }

    /// Whether a chunk's entries give the digest in the chunk table.
    pub(crate) fn is_chunk_intact(&self, chunk: ChunkIndex) -> Result<bool, DiskError> {
        Ok(self.computed_digest(chunk)? == self.table_digest(chunk)?)
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        let mut state = self.lock();
        if state.is_dirty {
            self.device.sync()?;
            state.is_dirty = false;
        }
        Ok(())
    }

    /// Makes ready for other entries.
    fn touch(&self, state: &mut State, blocks: BlockRange) -> Result<(), DiskError> {
        if state.header.root.is_some() {
            let header = ManifestHeader { root: None, ..state.header };
            self.write_header(state, header)?;
        }
        state.is_dirty = true;
        let chunks = BlockRange::new(blocks.start.0 / CHUNK_BLOCKS, blocks.end.0.div_ceil(CHUNK_BLOCKS));
        state.stale.insert(chunks);
        Ok(())
    }

    fn write_header(&self, state: &mut State, header: ManifestHeader) -> Result<(), DiskError> {
        self.device.write_at(0, &header.encode())?;
        state.header = header;
        self.device.sync()
    }

    fn computed_digest(&self, chunk: ChunkIndex) -> Result<Digest, DiskError> {
        let entries = self.file.chunk_entries(chunk);
        let is_hole =
            self.device.next_data(entries.start())?.is_none_or(|data| data.start() >= entries.end());
        if is_hole {
            return Ok(Digest::ZERO);
        }
        let mut bytes = vec![0; entries.length_bytes() as usize];
        self.device.read_at(entries.start(), &mut bytes)?;
        Ok(chunk_digest(&bytes))
    }

    fn table_digest(&self, chunk: ChunkIndex) -> Result<Digest, DiskError> {
        let mut digest = Digest::ZERO;
        self.device.read_at(self.file.chunk_digest_offset(chunk), &mut digest.0)?;
        Ok(digest)
    }

    fn entry_bytes(&self, blocks: BlockRange) -> ByteRange {
        assert!(blocks.end.0 <= self.layout().block_count(), "entries are those of the disk's blocks");
        ByteRange::new(self.file.entry_offset(blocks.start), self.file.entry_offset(blocks.end))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The root that a file's chunk table gives, read in runs of data.
fn table_root(device: &dyn Device, file: ManifestLayout) -> Result<Digest, DiskError> {
    const STEP_BYTES: u64 = 64 << 10;
    let table = ByteRange::new(file.chunk_table_offset(), file.file_bytes());
    let mut hasher = RootHasher::new(file.disk());
    let mut bytes = vec![0; STEP_BYTES as usize];
    let mut at = table.start();
    while at < table.end() {
        let data = device.next_data(at)?.and_then(|data| data.intersection(table));
        let start = data.map_or(table.end(), ByteRange::start);
        // Runs of data need not start at an entry.
        let start = at + (start - at) / ENTRY_BYTES * ENTRY_BYTES;
        hasher.update_zeros((start - at) / ENTRY_BYTES);
        let step = &mut bytes[..STEP_BYTES.min(table.end() - start) as usize];
        device.read_at(start, step)?;
        step.as_chunks().0.iter().for_each(|digest| hasher.update(Digest(*digest)));
        at = start + step.len() as u64;
    }
    Ok(hasher.finish())
}

fn bytes_of(digests: &[Digest]) -> Vec<u8> {
    digests.iter().flat_map(|digest| digest.0).collect()
}

fn damaged(device: &dyn Device, error: FormatError) -> DiskError {
    DiskError::new(Code::ManifestDamaged, Operation::Open, device.path(), error.reason).at(error.offset_bytes)
}
