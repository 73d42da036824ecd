//! The payload of undo: what pages held before they changed.
//!
//! Layout: commit group (8), number of digests (4), number of pieces (4), block size of the digests (4), zeros (4); each digest: block (4), whether it is known (4),
//! digest (32); each piece: first page (8), pages (8), bytes of its contents as they are stored (4) and as they were (4);
//! then the contents, one behind the other. Pages are numbered from the disk's start; the disk's last page may be short.
//! No stored bytes: the pages were zero. Fewer stored than plain: one zstd frame.

use super::codec::Fields;
use crate::error::FormatError;
use failback_model::limits::{DISK_MAX_BLOCKS, DISK_MAX_BYTES, PAGE_BYTES, UNDO_PIECE_MAX_BYTES};
use failback_model::{BlockIndex, Digest};

const DIGEST_BYTES: usize = 40;
const PIECE_BYTES: usize = 24;
const PAGES_MAX: u64 = DISK_MAX_BYTES / PAGE_BYTES;

/// A run of pages of 4 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageRun {
    /// The first.
    pub start: u64,
    /// One past the last; above `start`.
    pub end: u64,
}

impl PageRun {
    /// How many pages.
    pub const fn count(self) -> u64 {
        self.end - self.start
    }
}

/// What a run of pages held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldPages {
    /// Zeros.
    Zero,
    /// These bytes, stored as they are or as one zstd frame of `plain_bytes`.
    Stored {
        /// The bytes as they are stored; not empty.
        bytes: Vec<u8>,
        /// How many they were; at most `UNDO_PIECE_MAX_BYTES`.
        plain_bytes: u32,
    },
}

/// A run of pages, and what it held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoPiece {
    /// Which pages.
    pub pages: PageRun,
    /// What they held.
    pub old: OldPages,
}

/// What pages held when a commit group touched them first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// The commit group that was open.
    pub group: u64,
    /// Size of the blocks that have these digests, bytes.
    pub block_bytes: u32,
    /// Digests that blocks of these pages had, where they were known. Ascend.
    pub digests: Vec<(BlockIndex, Option<Digest>)>,
    /// The pages; no two share one.
    pub pieces: Vec<UndoPiece>,
}

pub(super) fn encode(into: &mut Vec<u8>, undo: &Undo) {
    into.extend(undo.group.to_le_bytes());
    into.extend((undo.digests.len() as u32).to_le_bytes());
    into.extend((undo.pieces.len() as u32).to_le_bytes());
    into.extend(undo.block_bytes.to_le_bytes());
    into.extend([0; 4]);
    for (block, digest) in &undo.digests {
        into.extend((block.0 as u32).to_le_bytes());
        into.extend(u32::from(digest.is_some()).to_le_bytes());
        into.extend(digest.unwrap_or(Digest::ZERO).0);
    }
    for piece in &undo.pieces {
        let (stored, plain) = match &piece.old {
            OldPages::Zero => (0, 0),
            OldPages::Stored { bytes, plain_bytes } => (bytes.len() as u32, *plain_bytes),
        };
        into.extend(piece.pages.start.to_le_bytes());
        into.extend(piece.pages.count().to_le_bytes());
        into.extend(stored.to_le_bytes());
        into.extend(plain.to_le_bytes());
    }
    for piece in &undo.pieces {
        if let OldPages::Stored { bytes, .. } = &piece.old {
            into.extend(bytes);
        }
    }
}

pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Undo, FormatError> {
    let group = fields.u64()?;
    let (digest_count, piece_count) = (fields.u32()? as usize, fields.u32()? as usize);
    let (block_bytes, 0) = (fields.u32()?, fields.u32()?) else {
        return fields.fault("what must be zero is not");
    };
    if fields.left_bytes() / DIGEST_BYTES < digest_count || fields.left_bytes() / PIECE_BYTES < piece_count {
        return fields.fault("the record ends within its lists");
    }
    let mut digests: Vec<(BlockIndex, Option<Digest>)> = Vec::with_capacity(digest_count);
    for _ in 0..digest_count {
        let block = BlockIndex(u64::from(fields.u32()?));
        let digest = match (fields.u32()?, fields.digest()?) {
            (0, Digest::ZERO) => None,
            (1, digest) => Some(digest),
            _ => return fields.fault("a digest is known or it is not"),
        };
        if block.0 >= DISK_MAX_BLOCKS || digests.last().is_some_and(|(last, _)| *last >= block) {
            return fields.fault("the blocks of undo ascend");
        }
        digests.push((block, digest));
    }
    let mut pieces = Vec::with_capacity(piece_count);
    let mut stored_bytes = Vec::with_capacity(piece_count);
    for _ in 0..piece_count {
        let (start, count) = (fields.u64()?, fields.u64()?);
        let (stored, plain_bytes) = (fields.u32()?, fields.u32()?);
        let end = start.checked_add(count).filter(|end| *end <= PAGES_MAX && count > 0);
        let Some(end) = end else {
            return fields.fault(format!("{count} pages from {start} are no run of a disk"));
        };
        let fits = u64::from(plain_bytes) <= count * PAGE_BYTES
            && u64::from(plain_bytes) > (count - 1) * PAGE_BYTES
            && plain_bytes as usize <= UNDO_PIECE_MAX_BYTES
            && stored <= plain_bytes;
        if stored == 0 && plain_bytes != 0 || stored != 0 && !fits {
            return fields.fault(format!("{count} pages are not {plain_bytes} bytes, {stored} stored"));
        }
        stored_bytes.push(stored as usize);
        let old = match stored {
            0 => OldPages::Zero,
            _ => OldPages::Stored { bytes: Vec::new(), plain_bytes },
        };
        pieces.push(UndoPiece { pages: PageRun { start, end }, old });
    }
    for (piece, stored) in pieces.iter_mut().zip(stored_bytes) {
        if let OldPages::Stored { bytes, .. } = &mut piece.old {
            *bytes = fields.take(stored)?.to_vec();
        }
    }
    Ok(Undo { group, block_bytes, digests, pieces })
}
