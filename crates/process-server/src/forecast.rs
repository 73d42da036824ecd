//! What a pass of a disk would read and ship, from its hole map, its feed, what the target sealed last, and a sample.
//!
//! **Invariant**: nothing is written and nobody is connected to. Numbers that end in `estimate` are guesses; `at_most` are bounds.

use crate::lineage::{Base, Lineage};
use failback_blockio::{ChangeFeed, UnitSource};
use failback_engine::packed_bytes;
use failback_model::limits::{CHUNK_BLOCKS, FEED_CHECK_BYTES, FORECAST_BLOCKS};
use failback_model::{BlockIndex, BlockRange, Finding, Layout, block_digest, is_zero};
use failback_pass::{Compression, PassOptions};
use failback_remote::changed_blocks;
use failback_service::control::DiskForecast;
use failback_service::report::FindingLine;
use failback_store::{HeldDigests, SourceFolder};
use std::path::Path;

/// A block's frame, patch, request for page digests and credit, at most.
const BLOCK_OVERHEAD_BYTES: u64 = 320;
/// The level that a sample is compressed at.
const SAMPLE_LEVEL: i32 = 1;

/// What is looked at.
pub(crate) struct Look<'a> {
    pub(crate) source: &'a dyn UnitSource,
    pub(crate) layout: Layout,
    pub(crate) options: &'a PassOptions,
    pub(crate) folder: &'a Path,
    /// What names the changes since the base.
    pub(crate) feed: &'a Result<(Base, Box<dyn ChangeFeed>), Option<Finding>>,
    /// Generation that the target is known to have sealed.
    pub(crate) generation: Option<u64>,
}

impl Look<'_> {
    /// Predicts. Reads the sample only: 16 MiB at most of a disk with blocks of 64 KiB.
    pub(crate) fn forecast(&self) -> Result<DiskForecast, Finding> {
        let read = |error: failback_blockio::DiskError| error.to_finding();
        let lineage = Lineage::of(self.folder);
        let (named, scanned_why, finding) = match self.named(lineage.as_ref()) {
            Ok(named) => (Some(named), "its feed names blocks in them".to_owned(), None),
            Err(Some(why)) => (None, format!("no feed: {}", why.evidence), Some(why)),
            Err(None) if lineage.is_some() => (None, "no feed names what changed".into(), None),
            Err(None) => (None, "nothing of it is known: no state of it was sealed".into(), None),
        };
        let due = self.due(named.as_deref()).map_err(read)?;
        let digests = self.digests(lineage.as_ref());
        let sample = self.sample(&due, digests.as_ref(), named.is_some())?;
        let read_bytes = self.bytes(&due);
        let trusted_bytes = named.as_ref().map_or(0, |_| FEED_CHECK_BYTES);
        let changed_percent = sample.changed_percent(named.is_some());
        let is_new = self.generation.unwrap_or_default() == 0;
        let changed_bytes = match (changed_percent, is_new) {
            (_, true) => Some(read_bytes),
            (Some(percent), false) => Some(read_bytes / 100 * percent),
            (None, false) => None,
        };
        let blocks = |bytes: u64| bytes.div_ceil(self.layout.block_size().bytes());
        let overhead = |bytes: u64| blocks(bytes) * BLOCK_OVERHEAD_BYTES + 1024;
        let ship = |bytes: u64| {
            let packed = u128::from(bytes) * u128::from(sample.packed_percent()) / 100;
            packed as u64 + overhead(bytes)
        };
        let target = match (self.generation, &lineage) {
            (Some(generation), Some(lineage)) if lineage.base.generation == generation => {
                format!("generation {generation}, sealed from cycle {} of this source", lineage.base.cycle)
            }
            (Some(generation), _) if generation > 0 => {
                format!("generation {generation}; what it holds it says itself")
            }
            _ => "no state of this source is known there".into(),
        };
        let chunks = self.chunks(&due).map_err(read)?;
        Ok(DiskForecast {
            length_bytes: self.layout.length_bytes(),
            target,
            chunks_trusted: if named.is_some() { chunks.rest } else { 0 },
            chunks_scanned: chunks.due,
            chunks_absent: chunks.absent,
            trusted_why: named.is_some().then(|| {
                "their digests are those of the sealed state, and the feed does not name them".into()
            }),
            scanned_why,
            read_bytes: read_bytes + trusted_bytes.min(self.layout.length_bytes().saturating_sub(read_bytes)),
            sampled_blocks: sample.blocks,
            sampled_changed_percent: sample.changed_percent(false),
            sampled_packed_percent: sample.packed_percent(),
            ship_estimate_bytes: changed_bytes.map(ship),
            ship_at_most_bytes: read_bytes + overhead(self.layout.length_bytes()),
            undo_estimate_bytes: if is_new { Some(0) } else { changed_bytes },
            undo_at_most_bytes: if is_new { 0 } else { self.layout.length_bytes() },
            findings: finding.iter().map(FindingLine::from).collect(),
            ..DiskForecast::default()
        })
    }

    /// Blocks that the feed and those before it name since the base; else why there is no such thing.
    fn named(&self, lineage: Option<&Lineage>) -> Result<Vec<BlockRange>, Option<Finding>> {
        let (base, feed) = self.feed.as_ref().map_err(Clone::clone)?;
        let mut lineage = lineage.filter(|lineage| lineage.base == *base).ok_or(None)?.clone();
        if !base.is_cut_as(self.layout) {
            return Err(None);
        }
        let named = changed_blocks(&**feed, self.layout).map_err(|error| Some(error.to_finding()))?;
        lineage.name(&named);
        Ok(lineage.named())
    }

    /// Digests of the sealed state, where nobody works with them.
    fn digests(&self, lineage: Option<&Lineage>) -> Option<HeldDigests> {
        let is_base = lineage.is_some_and(|lineage| lineage.base.is_cut_as(self.layout));
        let folder = is_base.then(|| SourceFolder::open(self.folder).ok()).flatten()?;
        Some(folder.digests())
    }

    /// Runs of blocks with data that are read.
    fn due(&self, named: Option<&[BlockRange]>) -> Result<Vec<BlockRange>, failback_blockio::DiskError> {
        let whole = [BlockRange::new(0, self.layout.block_count())];
        let mut due: Vec<BlockRange> = Vec::new();
        for run in named.unwrap_or(&whole) {
            let bytes = self.layout.bytes_of(*run);
            let mut at = bytes.start();
            while at < bytes.end() {
                let Some(data) = self.source.next_data(at)?.and_then(|data| data.intersection(bytes)) else {
                    break;
                };
                let blocks = self.layout.blocks_covering(data);
                match due.last_mut() {
                    Some(last) if last.end >= blocks.start => last.end = last.end.max(blocks.end),
                    _ => due.push(blocks),
                }
                at = data.end().max(at + 1);
            }
        }
        Ok(due)
    }

    fn bytes(&self, runs: &[BlockRange]) -> u64 {
        runs.iter().map(|run| self.layout.bytes_of(*run).length_bytes()).sum()
    }

    fn chunks(&self, due: &[BlockRange]) -> Result<Chunks, failback_blockio::DiskError> {
        let mut chunks = Chunks::default();
        let total = self.layout.block_count().div_ceil(CHUNK_BLOCKS);
        let (mut next, mut data) = (0, None);
        for chunk in 0..total {
            let (first, end) = (chunk * CHUNK_BLOCKS, (chunk + 1) * CHUNK_BLOCKS);
            while due.get(next).is_some_and(|run| run.end.0 <= first) {
                next += 1;
            }
            let bytes = self.layout.bytes_of(BlockRange::new(first, end.min(self.layout.block_count())));
            // Asked once for each stretch without data.
            if data.is_none_or(|at| at < bytes.start()) {
                data = Some(self.source.next_data(bytes.start())?.map_or(u64::MAX, |run| run.start()));
            }
            if due.get(next).is_some_and(|run| run.start.0 < end) {
                chunks.due += 1;
            } else if data.is_some_and(|at| at < bytes.end()) {
                chunks.rest += 1;
            } else {
                chunks.absent += 1;
            }
        }
        Ok(chunks)
    }

    /// Reads blocks spread evenly over what is due.
    fn sample(
        &self,
        due: &[BlockRange],
        digests: Option<&HeldDigests>,
        is_named: bool,
    ) -> Result<Sample, Finding> {
        let total: u64 = due.iter().map(|run| run.count()).sum();
        let count = total.min(FORECAST_BLOCKS);
        let mut sample = Sample::default();
        let (mut before, mut runs) = (0, due.iter().copied().peekable());
        for number in 0..count {
            // The middle of each of so many equal parts.
            let wanted = (u128::from(total) * u128::from(2 * number + 1) / u128::from(2 * count)) as u64;
            while let Some(run) = runs.peek()
                && before + run.count() <= wanted
            {
                before += run.count();
                runs.next();
            }
            let Some(run) = runs.peek() else { break };
            let block = BlockIndex(run.start.0 + (wanted - before));
            let bytes = self.layout.block_bytes(block);
            let mut content = vec![0; bytes.length_bytes() as usize];
            self.source.read_at(bytes.start(), &mut content).map_err(|error| error.to_finding())?;
            sample.blocks += 1;
            if let Some(digests) = digests {
                let held = digests.digests(BlockRange::new(block.0, block.0 + 1));
                let held = held.map_err(|error| error.to_finding())?;
                sample.compared += 1;
                if held.first() == Some(&block_digest(&content)) {
                    // Of what a feed names nothing is left out because it is as it was.
                    if !is_named {
                        continue;
                    }
                } else {
                    sample.changed += 1;
                }
            }
            sample.plain_bytes += content.len() as u64;
            sample.packed_bytes += match (is_zero(&content), self.options.compression) {
                (true, _) => 0,
                (false, Compression::Off) => content.len() as u64,
                (false, _) => packed_bytes(&content, SAMPLE_LEVEL) as u64,
            };
        }
        Ok(sample)
    }
}

#[derive(Default)]
struct Chunks {
    due: u64,
    rest: u64,
    absent: u64,
}

#[derive(Default)]
struct Sample {
    blocks: u64,
    compared: u64,
    changed: u64,
    plain_bytes: u64,
    packed_bytes: u64,
}

impl Sample {
    /// Share of blocks that are not as they were sealed; what a feed names counts as changed where nothing tells.
    fn changed_percent(&self, is_named: bool) -> Option<u64> {
        let compared = (self.changed * 100).checked_div(self.compared);
        compared.or(is_named.then_some(100))
    }

    fn packed_percent(&self) -> u64 {
        (self.packed_bytes * 100)
            .div_ceil(self.plain_bytes.max(1))
            .min(100)
            .max(u64::from(self.plain_bytes == 0) * 100)
    }
}
