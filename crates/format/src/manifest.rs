//! The manifest file: a disk's block digests in order, sparse where the disk is zero. FORMATS.md has the byte tables.
//!
//! A header page, then 32 bytes a block, then, at the next multiple of 4096, 32 bytes a chunk of 1024 blocks.
//!
//! **Invariant**: the root depends on the disk's bytes, its length and the block size, and on nothing else; a zero
//! block has the zero entry and a chunk of zero entries the zero digest, so what was never written means zero.

use crate::error::FormatError;
use crate::field::{array, put, u32_le, u64_le};
use failback_model::limits::CHUNK_BLOCKS;
use failback_model::{BlockIndex, BlockSize, ByteRange, ChunkIndex, Digest, Layout, is_zero};

/// Version of the manifest's layout and of the rule for its root.
pub const MANIFEST_VERSION: u32 = 1;
/// Bytes of the header page.
pub const MANIFEST_HEADER_BYTES: usize = 4096;
/// Bytes of one entry: a whole digest.
pub const ENTRY_BYTES: u64 = 32;

const MAGIC: [u8; 8] = *b"FBMANIF\x01";
const VERSION_AT: usize = 8;
const BLOCK_SIZE_AT: usize = 12;
const SOURCE_LENGTH_AT: usize = 16;
const BLOCK_COUNT_AT: usize = 24;
const GENERATION_AT: usize = 32;
const FLAGS_AT: usize = 40;
const ROOT_AT: usize = 48;
const CHECKSUM_AT: usize = 80;
const USED_BYTES: usize = CHECKSUM_AT + 32;
const FLAG_SEALED: u32 = 1;
/// The chunk table starts at a multiple of this.
const TABLE_ALIGNMENT_BYTES: u64 = 4096;

/// What the header page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestHeader {
    /// The disk: its length and block size.
    pub layout: Layout,
    /// Generation of the sealed state; 0 before the first seal.
    pub generation: u64,
    /// The root of a sealed manifest. Without it, entries and chunk digests may be of different states.
    pub root: Option<Digest>,
}

impl ManifestHeader {
    /// The header page.
    pub fn encode(&self) -> [u8; MANIFEST_HEADER_BYTES] {
        let mut page = [0; MANIFEST_HEADER_BYTES];
        let flags = if self.root.is_some() { FLAG_SEALED } else { 0 };
        put(&mut page, 0, &MAGIC);
        put(&mut page, VERSION_AT, &MANIFEST_VERSION.to_le_bytes());
        put(&mut page, BLOCK_SIZE_AT, &(self.layout.block_size().bytes() as u32).to_le_bytes());
        put(&mut page, SOURCE_LENGTH_AT, &self.layout.length_bytes().to_le_bytes());
        put(&mut page, BLOCK_COUNT_AT, &self.layout.block_count().to_le_bytes());
        put(&mut page, GENERATION_AT, &self.generation.to_le_bytes());
        put(&mut page, FLAGS_AT, &flags.to_le_bytes());
        put(&mut page, ROOT_AT, &self.root.unwrap_or(Digest::ZERO).0);
        let checksum = blake3::hash(&page[..CHECKSUM_AT]);
        put(&mut page, CHECKSUM_AT, checksum.as_bytes());
        page
    }

    /// Reads the header page of a file of `file_bytes` bytes, which must be exactly as long as the header asks for.
    pub fn decode(page: &[u8], file_bytes: u64) -> Result<Self, FormatError> {
        let header = Self::decode_page(page)?;
        let wanted_bytes = ManifestLayout::new(header.layout).file_bytes();
        if file_bytes == wanted_bytes {
            return Ok(header);
        }
        let reason = format!("the file has {file_bytes} bytes, its header asks for {wanted_bytes}");
        Err(FormatError::new(0, reason))
    }

    /// Reads the header page alone. Every byte of it is checked.
    pub fn decode_page(page: &[u8]) -> Result<Self, FormatError> {
        let fault = |at: usize, reason: String| Err(FormatError::new(at as u64, reason));
        if page.len() != MANIFEST_HEADER_BYTES {
            return fault(page.len(), format!("the header page is cut off after {} bytes", page.len()));
        }
        if page[..VERSION_AT] != MAGIC {
            return fault(0, "this is not a manifest".into());
        }
        let version = u32_le(page, VERSION_AT);
        if version != MANIFEST_VERSION {
            return fault(VERSION_AT, format!("manifest version {version}, this program reads 1"));
        }
        if blake3::hash(&page[..CHECKSUM_AT]) != array::<32>(page, CHECKSUM_AT) {
            return fault(CHECKSUM_AT, "the header's checksum does not match it".into());
        }
        if !is_zero(&page[USED_BYTES..]) {
            return fault(USED_BYTES, "bytes behind the header are not zero".into());
        }
        Self::decode_fields(page)
    }

    /// Fields of a page whose checksum is right: they may still be wrong, since anyone can compute a checksum.
    fn decode_fields(page: &[u8]) -> Result<Self, FormatError> {
        let block_size = BlockSize::new(u64::from(u32_le(page, BLOCK_SIZE_AT)))
            .map_err(|error| FormatError::new(BLOCK_SIZE_AT as u64, error.to_string()))?;
        let layout = Layout::new(u64_le(page, SOURCE_LENGTH_AT), block_size)
            .map_err(|error| FormatError::new(SOURCE_LENGTH_AT as u64, error.to_string()))?;
        let count = u64_le(page, BLOCK_COUNT_AT);
        if count != layout.block_count() {
            let reason = format!("{count} blocks, but the length makes {}", layout.block_count());
            return Err(FormatError::new(BLOCK_COUNT_AT as u64, reason));
        }
        // Flags and the reserved word behind them, read as one number.
        let flags = u64_le(page, FLAGS_AT);
        let root = Digest(array(page, ROOT_AT));
        let root = match flags {
            0 if root.is_zero() => None,
            0 => return Err(FormatError::new(ROOT_AT as u64, "an unsealed manifest has a root")),
            1 => Some(root),
            _ => return Err(FormatError::new(FLAGS_AT as u64, format!("unknown flags {flags:#x}"))),
        };
        Ok(Self { layout, generation: u64_le(page, GENERATION_AT), root })
    }
}

/// Where in the file entries and chunk digests lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestLayout {
    layout: Layout,
}

impl ManifestLayout {
    /// The file of a disk of this layout. A disk has at most 2^32 blocks, so no offset overflows.
    pub const fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// The disk's own layout.
    pub const fn disk(self) -> Layout {
        self.layout
    }

    /// Length of the file.
    pub const fn file_bytes(self) -> u64 {
        self.chunk_table_offset() + self.layout.chunk_count() * ENTRY_BYTES
    }

    /// Where a block's entry lies, in bytes.
    pub const fn entry_offset(self, block: BlockIndex) -> u64 {
        MANIFEST_HEADER_BYTES as u64 + block.0 * ENTRY_BYTES
    }

    /// Where a chunk's entries lie. Panics if there is no such chunk.
    pub const fn chunk_entries(self, chunk: ChunkIndex) -> ByteRange {
        let blocks = self.layout.chunk_blocks(chunk);
        ByteRange::new(self.entry_offset(blocks.start), self.entry_offset(blocks.end))
    }

    /// Where the table of chunk digests starts, in bytes.
    pub const fn chunk_table_offset(self) -> u64 {
        self.entry_offset(BlockIndex(self.layout.block_count())).next_multiple_of(TABLE_ALIGNMENT_BYTES)
    }

    /// Where a chunk's digest lies, in bytes.
    pub const fn chunk_digest_offset(self, chunk: ChunkIndex) -> u64 {
        self.chunk_table_offset() + chunk.0 * ENTRY_BYTES
    }
}

/// Digest of a chunk from the bytes of its entries; zero where all are.
pub fn chunk_digest(entries: &[u8]) -> Digest {
    debug_assert!(entries.len() as u64 <= CHUNK_BLOCKS * ENTRY_BYTES, "a chunk has at most 1024 entries");
    if is_zero(entries) { Digest::ZERO } else { Digest(*blake3::hash(entries).as_bytes()) }
}

/// Computes the root from the chunk digests in order.
#[derive(Debug, Clone)]
pub struct RootHasher(blake3::Hasher);

impl RootHasher {
    /// Before the first chunk.
    pub fn new(layout: Layout) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&MANIFEST_VERSION.to_le_bytes());
        hasher.update(&layout.length_bytes().to_le_bytes());
        hasher.update(&(layout.block_size().bytes() as u32).to_le_bytes());
        Self(hasher)
    }

    /// Takes the next chunk's digest.
    pub fn update(&mut self, chunk: Digest) {
        self.0.update(&chunk.0);
    }

    /// Takes the digests of the next `count` chunks, all of them zero.
    pub fn update_zeros(&mut self, count: u64) {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut left_bytes = count * ENTRY_BYTES;
        while left_bytes > 0 {
            let step_bytes = left_bytes.min(ZEROS.len() as u64);
            self.0.update(&ZEROS[..step_bytes as usize]);
            left_bytes -= step_bytes;
        }
    }

    /// The root, once every chunk's digest was taken.
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests;
