//! What pages hold, put into the undo log before they change.
//!
//! Holes and zeros become runs without bytes. Bytes are compressed only while the log's medium is slower than that: elsewhere
//! it would take processors from the pass.
//!
//! **Invariant**: pages of one record are read after whoever changes them was asked to wait, and whatever they hold is in it.

use crate::journal::Position;
use crate::page_runs::bytes_of;
use crate::undo::UndoLog;
use failback_blockio::DiskError;
use failback_format::journal_record::{DiskSlot, OldPages, PageRun, Record, Undo, UndoPiece};
use failback_image::Image;
use failback_model::limits::{PAGE_BYTES, UNDO_BATCH_BYTES, UNDO_PIECE_MAX_BYTES};
use failback_model::{BlockIndex, BlockRange, Digest, Layout, is_zero};

/// Old bytes are compressed at this zstd level: the fastest that finds anything.
const UNDO_LEVEL: i32 = 1;
/// Pieces of one record.
const PIECES_MAX: usize = (UNDO_BATCH_BYTES / PAGE_BYTES) as usize;

/// The digests of some blocks, where they are known.
pub(crate) type KnownDigests<'a> = &'a dyn Fn(BlockRange) -> Result<Vec<Option<Digest>>, DiskError>;

/// Appends what these pages hold; up to where the log must be synced. `None` where there are none.
pub(crate) fn log_old_pages(
    undo: &UndoLog,
    disk: DiskSlot,
    group: u64,
    image: &dyn Image,
    layout: Layout,
    pages: &[PageRun],
    known: KnownDigests<'_>,
) -> Result<Option<Position>, DiskError> {
    let mut batch = Batch {
        undo,
        disk,
        group,
        layout,
        known,
        compressor: undo.is_slow().then(Compressor::new).transpose().unwrap_or_default(),
        pieces: Vec::new(),
        plain_bytes: 0,
        end: None,
    };
    let mut buffer = vec![0; UNDO_PIECE_MAX_BYTES];
    // Whole pages: what lies behind the pass's disk in its last one is the target's own.
    let length_bytes = image.geometry().length_bytes;
    let step = UNDO_PIECE_MAX_BYTES as u64 / PAGE_BYTES;
    for run in pages {
        let mut at = run.start;
        while at < run.end {
            let (data_start, data_end) = next_data_pages(image, at, run.end)?;
            batch.zeros(PageRun { start: at, end: data_start })?;
            let mut start = data_start;
            while start < data_end {
                let part = PageRun { start, end: (start + step).min(data_end) };
                let bytes = bytes_of(part, length_bytes);
                let buffer = &mut buffer[..bytes.length_bytes() as usize];
                image.read_at(bytes.start(), buffer)?;
                batch.contents(part, buffer)?;
                start = part.end;
            }
            at = data_end;
        }
    }
    batch.flush()?;
    Ok(batch.end)
}

/// The pages that may hold data, from a page on: start and end, both `until` where there are none.
fn next_data_pages(image: &dyn Image, from: u64, until: u64) -> Result<(u64, u64), DiskError> {
    let data = image.next_data(from * PAGE_BYTES)?;
    Ok(data.map_or((until, until), |data| {
        ((data.start() / PAGE_BYTES).clamp(from, until), data.end().div_ceil(PAGE_BYTES).min(until))
    }))
}

/// Makes old bytes shorter, where that saves something.
struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    fn new() -> std::io::Result<Self> {
        zstd::bulk::Compressor::new(UNDO_LEVEL).map(Self)
    }

    /// `None` where it would be about as long.
    fn shorten(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let packed = self.0.compress(plain).ok()?;
        (packed.len() < plain.len() / 8 * 7).then_some(packed)
    }
}

/// A record that grows.
struct Batch<'a> {
    undo: &'a UndoLog,
    disk: DiskSlot,
    group: u64,
    layout: Layout,
    known: KnownDigests<'a>,
    /// There while compressing is worth it.
    compressor: Option<Compressor>,
    pieces: Vec<UndoPiece>,
    plain_bytes: u64,
    end: Option<Position>,
}

impl Batch<'_> {
    fn zeros(&mut self, pages: PageRun) -> Result<(), DiskError> {
        if pages.start < pages.end {
            // They take no bytes of the log, and memory of whoever reads it, more where thinning cuts them.
            let counted_pages = pages.count().div_ceil(PIECES_MAX as u64);
            self.push(UndoPiece { pages, old: OldPages::Zero }, counted_pages * PAGE_BYTES)?;
        }
        Ok(())
    }

    /// Pages as they were read: runs of zeros are told from others.
    fn contents(&mut self, pages: PageRun, bytes: &[u8]) -> Result<(), DiskError> {
        let all: Vec<&[u8]> = bytes.chunks(PAGE_BYTES as usize).collect();
        let mut page = pages.start;
        for run in all.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let pages = PageRun { start: page, end: page + run.len() as u64 };
            page = pages.end;
            if is_zero(run[0]) {
                self.zeros(pages)?;
            } else {
                let plain = run.concat();
                let plain_bytes = plain.len() as u32;
                let shorter = self.compressor.as_mut().and_then(|compressor| compressor.shorten(&plain));
                let old = OldPages::Stored { bytes: shorter.unwrap_or(plain), plain_bytes };
                self.push(UndoPiece { pages, old }, u64::from(plain_bytes))?;
            }
        }
        Ok(())
    }

    fn push(&mut self, piece: UndoPiece, plain_bytes: u64) -> Result<(), DiskError> {
        if self.plain_bytes + plain_bytes > UNDO_BATCH_BYTES || self.pieces.len() >= PIECES_MAX {
            self.flush()?;
        }
        self.pieces.push(piece);
        self.plain_bytes += plain_bytes;
        Ok(())
    }

    /// Appends the record, with the digests of the blocks of which it holds bytes.
    fn flush(&mut self) -> Result<(), DiskError> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let pieces = std::mem::take(&mut self.pieces);
        let mut digests: Vec<(BlockIndex, Option<Digest>)> = Vec::new();
        for piece in pieces.iter().filter(|piece| piece.old != OldPages::Zero) {
            if piece.pages.start * PAGE_BYTES >= self.layout.length_bytes() {
                break;
            }
            let mut blocks = self.layout.blocks_covering(bytes_of(piece.pages, self.layout.length_bytes()));
            if let Some((last, _)) = digests.last() {
                blocks.start = blocks.start.max(BlockIndex(last.0 + 1));
            }
            if blocks.start < blocks.end {
                let known = (self.known)(blocks)?;
                digests.extend((blocks.start.0..blocks.end.0).map(BlockIndex).zip(known));
            }
        }
        let plain_bytes = std::mem::take(&mut self.plain_bytes);
        let record = Record::Undo(Undo {
            group: self.group,
            block_bytes: self.layout.block_size().bytes() as u32,
            digests,
            pieces,
        });
        self.end = Some(self.undo.append(self.disk, &record, plain_bytes)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::plain;
    use failback_testkit::Random;

    #[test]
    fn what_was_made_shorter_comes_back() {
        let mut compressor = Compressor::new().expect("it is made");
        let text = b"what a page held ".repeat(1000);
        let bytes = compressor.shorten(&text).expect("it is shorter");
        let plain_bytes = text.len() as u32;
        let piece = |bytes, plain_bytes| UndoPiece {
            pages: PageRun { start: 0, end: 5 },
            old: OldPages::Stored { bytes, plain_bytes },
        };
        assert_eq!(plain(&piece(bytes.clone(), plain_bytes)).expect("sound").as_deref(), Some(&text[..]));
        assert!(plain(&piece(bytes[1..].to_vec(), plain_bytes)).is_err());
        assert!(plain(&piece(bytes, plain_bytes + 1)).is_err());
        let mut noise = vec![0; 16 << 10];
        Random::new(1).fill(&mut noise);
        assert_eq!(compressor.shorten(&noise), None);
    }
}
