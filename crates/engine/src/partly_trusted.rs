//! A disk of which some blocks' digests are known: what a journal remembers is not scanned again.
//!
//! **Invariant**: as for every digest source, runs come in disk order, touch each other and cover the disk.

use crate::digest_source::{DigestRun, DigestSource, ScanEnd};
use crate::read::read_digests;
use crate::scan::Scan;
use failback_blockio::DiskError;
use failback_model::limits::CHUNK_BLOCKS;
use failback_model::{BlockRange, Digest};
use std::ops::ControlFlow;
use std::time::Instant;

/// Runs of unknown blocks up to this long are read by the delivering thread: starting reader threads costs more.
const SHORT_RUN_BLOCKS: u64 = 64;

/// Digests that are known and need no reading.
pub trait TrustedDigests: Send {
    /// The digests of blocks that are trusted. Where they cannot be read, the blocks are scanned.
    fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError>;
}

/// What is known of a disk before it is scanned.
pub struct Known {
    /// The digests.
    pub digests: Box<dyn TrustedDigests>,
    /// Of which blocks: ascending, not overlapping.
    pub ranges: Vec<BlockRange>,
}

/// Remembers what a scan found, so that it need not be found twice.
pub trait ScanLog: Send + Sync {
    /// A finished run of a scan: these digests (`None`: zeros) are what the disk holds.
    fn scanned(&self, blocks: BlockRange, digests: Option<&[Digest]>) -> Result<(), DiskError>;
}

/// A source of digests that scans only what is not known.
pub struct PartlyTrusted {
    /// What need not be scanned.
    pub known: Known,
    /// How the others are read; its own range is the whole that is delivered.
    pub scan: Scan,
}

impl DigestSource for PartlyTrusted {
    fn deliver(&mut self, deliver: &mut dyn FnMut(DigestRun) -> ControlFlow<()>) -> Result<(), ScanEnd> {
        let whole = self.scan.blocks;
        let mut at = whole.start.0;
        let ranges = std::mem::take(&mut self.known.ranges);
        for range in ranges {
            let (start, end) = (range.start.0.clamp(at, whole.end.0), range.end.0.min(whole.end.0));
            if start >= end {
                continue;
            }
            self.scan_run(BlockRange::new(at, start), deliver)?;
            self.known_run(BlockRange::new(start, end), deliver)?;
            at = end;
        }
        self.scan_run(BlockRange::new(at, whole.end.0), deliver)
    }
}

impl PartlyTrusted {
    fn known_run(
        &self,
        blocks: BlockRange,
        deliver: &mut dyn FnMut(DigestRun) -> ControlFlow<()>,
    ) -> Result<(), ScanEnd> {
        let mut at = blocks.start.0;
        while at < blocks.end.0 {
            // Cut at chunks, so that no run is above what one message holds.
            let end = ((at / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS).min(blocks.end.0);
            let part = BlockRange::new(at, end);
            match self.known.digests.digests(part) {
                Ok(digests) => hand_over(part, digests, deliver)?,
                Err(_) => self.scan_run(part, deliver)?,
            }
            at = end;
        }
        Ok(())
    }

    fn scan_run(
        &self,
        blocks: BlockRange,
        deliver: &mut dyn FnMut(DigestRun) -> ControlFlow<()>,
    ) -> Result<(), ScanEnd> {
        if blocks.is_empty() {
            return Ok(());
        }
        if blocks.count() > SHORT_RUN_BLOCKS || self.scan.keep.is_some() {
            return Scan { blocks, ..self.scan.clone() }.deliver(deliver);
        }
        let started = Instant::now();
        let (digests, bytes_read) = read_digests(&*self.scan.source, self.scan.layout, blocks)?;
        (self.scan.meter)(bytes_read, started.elapsed());
        hand_over(blocks, digests, deliver)
    }
}

fn hand_over(
    blocks: BlockRange,
    digests: Vec<Digest>,
    deliver: &mut dyn FnMut(DigestRun) -> ControlFlow<()>,
) -> Result<(), ScanEnd> {
    let run = if digests.iter().all(Digest::is_zero) {
        DigestRun::zeros(blocks)
    } else {
        DigestRun { blocks, digests: Some(digests), kept: Vec::new() }
    };
    if deliver(run).is_continue() { Ok(()) } else { Err(ScanEnd::Stopped) }
}
