//! Puts back what pages held: an interval of undo, from its newest segment to its oldest.
//!
//! Of a page's records the oldest counts, and it comes last. Within a segment the oldest is picked first and written alone,
//! in the disk's order. **Invariant**: memory holds one segment, whatever the interval has; a block is trusted again
//! only with the digest of what was read back from it.

use crate::block_set::{BlockSet, united};
use crate::checkpoint::create_draft;
use crate::digest_file::DigestFile;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::medium::Medium;
use crate::page_runs::{PageRuns, bytes_of};
use crate::rollback::RollbackProgress;
use crate::segment::digests_name;
use crate::segment_reader::Next;
use crate::sink::JournaledSink;
use crate::undo::UndoLog;
use failback_blockio::DiskError;
use failback_engine::{Sink as _, read_digests};
use failback_format::journal_record::{DiskSlot, OldPages, PageRun, Record, Undo, UndoPiece};
use failback_image::Image;
use failback_model::limits::{CHUNK_BLOCKS, GROUP_MAX_BYTES, PAGE_BYTES, UNDO_BATCH_BYTES};
use failback_model::{BlockIndex, BlockRange, ByteRange, Code, Digest, Generation, Layout};
use std::collections::HashMap;
use std::sync::Arc;

/// A disk that is put back.
pub(crate) struct RestoredDisk {
    pub(crate) disk: Arc<Disk>,
    pub(crate) image: Arc<dyn Image>,
    pub(crate) sink: JournaledSink,
    pub(crate) layout: Layout,
    /// Blocks that were written.
    touched: BlockSet,
    /// What they must come to, where no root tells.
    expected: Option<Expected>,
    uncommitted_bytes: u64,
}

/// Digests that blocks had, as undo says; in a file that goes with the next recovery.
struct Expected {
    digests: DigestFile,
    known: BlockSet,
}

/// Stops where its caller asks for it.
pub(crate) struct Watch<'a> {
    pub(crate) progress: &'a RollbackProgress,
    pub(crate) is_stopped: &'a dyn Fn() -> bool,
}

impl Watch<'_> {
    fn check(&self) -> Result<(), StoreError> {
        if (self.is_stopped)() { Err(StoreError::Stopped) } else { Ok(()) }
    }
}

impl RestoredDisk {
    /// `has_root` says that a root will tell whether all is right.
    pub(crate) fn new(
        disk: Arc<Disk>,
        image: Arc<dyn Image>,
        sink: JournaledSink,
        layout: Layout,
        has_root: bool,
    ) -> Result<Self, DiskError> {
        let count = layout.block_count();
        let expected = match has_root {
            true => None,
            false => Some(Expected::create(disk.journal.medium(), &disk, layout)?),
        };
        let (touched, uncommitted_bytes) = (BlockSet::empty(count), 0);
        Ok(Self { disk, image, sink, layout, touched, expected, uncommitted_bytes })
    }

    /// Puts the oldest contents back that a segment has of each page.
    fn put_back(&mut self, undos: &[Undo], watch: &Watch<'_>) -> Result<(), StoreError> {
        let mut seen = PageRuns::default();
        let mut parts: Vec<(PageRun, &UndoPiece)> = Vec::new();
        let end = self.image.geometry().length_bytes.div_ceil(PAGE_BYTES);
        for piece in undos.iter().flat_map(|undo| &undo.pieces) {
            // A disk that was made shorter since has no place for them.
            let pages = PageRun { end: piece.pages.end.min(end), ..piece.pages };
            if pages.start < pages.end {
                parts.extend(seen.insert(pages).into_iter().map(|pages| (pages, piece)));
            }
        }
        parts.sort_unstable_by_key(|(pages, _)| pages.start);
        let mut at = 0;
        while at < parts.len() {
            let (mut bytes, mut end) = (0, at);
            while end < parts.len() && (end == at || bytes + cost(parts[end]) <= UNDO_BATCH_BYTES) {
                bytes += cost(parts[end]);
                end += 1;
            }
            self.write(&parts[at..end], watch)?;
            at = end;
        }
        if let Some(expected) = &mut self.expected {
            expected.learn(undos, self.layout)?;
        }
        Ok(())
    }

    fn write(&mut self, parts: &[(PageRun, &UndoPiece)], watch: &Watch<'_>) -> Result<(), StoreError> {
        let length_bytes = self.image.geometry().length_bytes;
        let changes: Vec<ByteRange> = parts.iter().map(|(pages, _)| bytes_of(*pages, length_bytes)).collect();
        // What lies behind the end of the disk that was sealed is of no block.
        let sealed = self.layout.bytes_of(self.layout.blocks());
        let within = changes.iter().filter_map(|bytes| bytes.intersection(sealed));
        let blocks = within.map(|bytes| self.layout.blocks_covering(bytes));
        let blocks = united(blocks.collect());
        self.sink.begin(&blocks, &changes)?;
        let mut joined = Joined::default();
        for (pages, piece) in parts {
            match plain(piece)? {
                None => {
                    joined.write(&self.sink)?;
                    self.sink.zero(bytes_of(*pages, length_bytes))?;
                }
                Some(old) => {
                    let from = ((pages.start - piece.pages.start) * PAGE_BYTES) as usize;
                    let range = bytes_of(*pages, length_bytes);
                    // The last page may have been short, before the disk was extended.
                    let until = old.len().min(from + range.length_bytes() as usize);
                    let part = old.get(from..until).ok_or_else(|| {
                        StoreError::UndoDamaged("a piece of undo is shorter than its pages".into())
                    })?;
                    joined.add(&self.sink, range.start(), part)?;
                }
            }
        }
        joined.write(&self.sink)?;
        blocks.iter().for_each(|blocks| self.touched.insert(*blocks));
        let written: u64 = changes.iter().map(|bytes| bytes.length_bytes()).sum();
        watch.progress.restored(written);
        self.commit_after(written)
    }

    /// Commits where enough was written since the last time.
    fn commit_after(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.uncommitted_bytes += bytes;
        if self.uncommitted_bytes >= GROUP_MAX_BYTES {
            self.sink.commit()?;
            self.uncommitted_bytes = 0;
        }
        Ok(())
    }

    /// Reads back what was written, and what is not known of the rest, so that all of the disk is known. Where more ranges are
    /// known than a checkpoint keeps, the journal gives some up meanwhile: those are few by the end, and read again.
    pub(crate) fn finish(&mut self, watch: &Watch<'_>) -> Result<(), StoreError> {
        while !self.touched.is_empty()
            || !self.disk.journal.read(self.disk.slot, |state| state.trusted.is_full())
        {
            for step in steps(self.layout) {
                self.read_back(step, watch)?;
            }
            self.sink.commit()?;
            self.touched.clear();
        }
        Ok(())
    }

    fn read_back(&mut self, within: BlockRange, watch: &Watch<'_>) -> Result<(), StoreError> {
        let mut runs = self.disk.journal.read(self.disk.slot, |state| state.trusted.gaps_in(within));
        runs.extend(self.touched.runs_in(within));
        for blocks in united(runs) {
            watch.check()?;
            let (digests, bytes) = read_digests(&*self.image, self.layout, blocks)?;
            watch.progress.read_back(bytes);
            if let Some(expected) = &self.expected {
                expected.compare(&self.disk, blocks, &digests)?;
            }
            let entries: Vec<(BlockIndex, Digest)> =
                (blocks.start.0..blocks.end.0).map(BlockIndex).zip(digests).collect();
            self.sink.applied(&entries, &[])?;
            // Holes are not read, and named all the same.
            self.commit_after(blocks.count() * PAGE_BYTES)?;
        }
        Ok(())
    }

    /// Seals what was put back. An error where it is not what this root says.
    pub(crate) fn seal(&self, root: Option<Digest>) -> Result<(Generation, Digest), StoreError> {
        self.sink.seal_restored(root)
    }
}

/// What a part takes in a batch.
fn cost((pages, piece): (PageRun, &UndoPiece)) -> u64 {
    if piece.old == OldPages::Zero { PAGE_BYTES } else { pages.count() * PAGE_BYTES }
}

/// All blocks, in runs so short that what is said of each fits memory.
fn steps(layout: Layout) -> impl Iterator<Item = BlockRange> {
    let starts = (0..layout.block_count()).step_by(CHUNK_BLOCKS as usize);
    starts.map(move |start| BlockRange::new(start, (start + CHUNK_BLOCKS).min(layout.block_count())))
}

/// What a piece held; `None`: zeros.
pub(crate) fn plain(piece: &UndoPiece) -> Result<Option<std::borrow::Cow<'_, [u8]>>, StoreError> {
    match &piece.old {
        OldPages::Zero => Ok(None),
        OldPages::Stored { bytes, plain_bytes } if bytes.len() == *plain_bytes as usize => {
            Ok(Some(bytes.as_slice().into()))
        }
        OldPages::Stored { bytes, plain_bytes } => {
            let plain = zstd::bulk::decompress(bytes, *plain_bytes as usize);
            let plain = plain.ok().filter(|plain| plain.len() == *plain_bytes as usize);
            let plain = plain.ok_or_else(|| StoreError::UndoDamaged("undo does not decompress".into()))?;
            Ok(Some(plain.into()))
        }
    }
}

/// Writes that follow each other, as one.
#[derive(Default)]
struct Joined {
    start: u64,
    bytes: Vec<u8>,
}

impl Joined {
    fn add(&mut self, sink: &JournaledSink, start: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if start != self.start + self.bytes.len() as u64 {
            self.write(sink)?;
            self.start = start;
        }
        self.bytes.extend(bytes);
        Ok(())
    }

    fn write(&mut self, sink: &JournaledSink) -> Result<(), DiskError> {
        if !self.bytes.is_empty() {
            sink.write(self.start, &self.bytes)?;
        }
        self.start += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

impl Expected {
    fn create(medium: &dyn Medium, disk: &Disk, layout: Layout) -> Result<Self, DiskError> {
        let (_, device) = create_draft(medium, &format!("restored-{}", digests_name(&disk.id)))?;
        let digests = DigestFile::blank(device, layout)?;
        Ok(Self { digests, known: BlockSet::empty(layout.block_count()) })
    }

    /// What the oldest record says that touches a block: nothing, where it names no digest.
    fn learn(&mut self, undos: &[Undo], layout: Layout) -> Result<(), StoreError> {
        for undo in undos.iter().rev() {
            let end = layout.length_bytes();
            for piece in undo.pieces.iter().filter(|piece| piece.pages.start * PAGE_BYTES < end) {
                self.known.remove(layout.blocks_covering(bytes_of(piece.pages, end)));
            }
            if u64::from(undo.block_bytes) != layout.block_size().bytes() {
                continue;
            }
            for (block, digest) in undo.digests.iter().filter(|(block, _)| block.0 < layout.block_count()) {
                if let Some(digest) = digest {
                    self.digests.set_run(*block, &[*digest])?;
                    self.known.insert(BlockRange::new(block.0, block.0 + 1));
                }
            }
        }
        Ok(())
    }

    fn compare(&self, disk: &Disk, blocks: BlockRange, found: &[Digest]) -> Result<(), StoreError> {
        for run in self.known.runs_in(blocks) {
            let at = (run.start.0 - blocks.start.0) as usize;
            let found = &found[at..at + run.count() as usize];
            let differs =
                self.digests.digests(run)?.iter().zip(found).position(|(held, found)| held != found);
            if let Some(at) = differs {
                let block = run.start.0 + at as u64;
                return Err(StoreError::UndoDamaged(format!(
                    "disk {}: block {block} was put back and is not what it was",
                    disk.id
                )));
            }
        }
        Ok(())
    }
}

/// Puts an interval back on all disks at once. Disks that are not named keep what they have; whether the interval has any of
/// them.
pub(crate) fn restore_interval(
    undo: &UndoLog,
    from: u64,
    to: u64,
    disks: &mut [RestoredDisk],
    watch: &Watch<'_>,
) -> Result<bool, StoreError> {
    let mut has_others = false;
    for number in undo.segments(from, to).into_iter().rev() {
        watch.check()?;
        let mut held: HashMap<DiskSlot, Vec<Undo>> = HashMap::new();
        for (slot, undo) in records_of(undo, number)? {
            held.entry(slot).or_default().push(undo);
        }
        for disk in disks.iter_mut() {
            if let Some(undos) = held.remove(&disk.disk.slot) {
                disk.put_back(&undos, watch)?;
            }
        }
        has_others |= !held.is_empty();
    }
    Ok(has_others)
}

/// All records of a closed segment, the oldest first.
pub(crate) fn records_of(undo: &UndoLog, number: u64) -> Result<Vec<(DiskSlot, Undo)>, StoreError> {
    let damaged = |error: DiskError| match error.code {
        Code::JournalDamaged => StoreError::UndoDamaged(error.to_string()),
        _ => error.into(),
    };
    let mut reader = undo.read(number).map_err(damaged)?;
    let mut records = Vec::new();
    loop {
        match reader.next().map_err(damaged)? {
            Next::Record { disk, record: Record::Undo(undo), .. } => records.push((disk, undo)),
            Next::Record { at_bytes, .. } => {
                return Err(damaged(reader.damage(at_bytes, "it is no record of undo")));
            }
            Next::End { torn_bytes: 0 } => return Ok(records),
            Next::End { torn_bytes } => {
                let reason = format!(
                    "segment {number} of undo was closed, and its last {torn_bytes} bytes are damaged"
                );
                return Err(StoreError::UndoDamaged(reason));
            }
        }
    }
}
