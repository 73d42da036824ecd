//! How a pass comes to know what its source holds: by what is remembered of the last sealed state and what a feed names, by what
//! an earlier try of the same state scanned, or by scanning.
//!
//! **Invariant**: any doubt scans, and says why. A feed is a hint: what the base holds where the source has nothing any more counts as
//! named, and of what is not named a part is read again in each cycle.

use crate::base_digests::BaseDigests;
use crate::lineage::{Base, Lineage};
use failback_blockio::{ChangeFeed, DiskError, UnitSource};
use failback_engine::read_digests;
use failback_model::limits::{BASE_COPIED_MAX_BLOCKS, FEED_CHECK_BYTES, SEGMENT_MAX_BYTES};
use failback_model::{BlockIndex, BlockRange, Code, Digest, Finding, Layout};
use failback_pass::{Cancel, PassError};
use failback_remote::changed_blocks;
use failback_service::report::FindingLine;
use failback_service::status::{Comparison, How};
use failback_store::{Fingerprint, HeldDigests, SourceFolder, SourceState, StoreError};
use std::path::Path;

/// Which state of a source a pass reads, and what names its changes.
pub struct Origin {
    /// What names the changes since the base, and which base that is; else why there is nothing, if there could be.
    pub feed: Result<(Base, Box<dyn ChangeFeed>), Option<Finding>>,
}

/// A source as a pass begins with it.
pub(crate) struct Start {
    /// What is known of it, and takes what is scanned.
    pub(crate) state: SourceState,
    /// The last sealed state with its digests, where nothing was scanned since.
    pub(crate) base: Option<(Base, BaseDigests)>,
    /// How it is known.
    pub(crate) comparison: Comparison,
    /// Where the check of unnamed blocks goes on in the next cycle.
    pub(crate) check_from: u64,
    /// Bytes read for that check.
    pub(crate) read_bytes: u64,
}

/// A source in its folder.
pub(crate) struct Looking<'a> {
    pub(crate) source: &'a dyn UnitSource,
    pub(crate) folder: &'a Path,
    pub(crate) fingerprint: &'a Fingerprint,
    pub(crate) layout: Layout,
    pub(crate) cancel: &'a Cancel,
}

impl Looking<'_> {
    /// Finds out what need not be scanned.
    pub(crate) fn start(&self, origin: &Origin) -> Result<Start, PassError> {
        let folder = SourceFolder::open(self.folder).map_err(stored)?;
        let lineage = Lineage::of(self.folder);
        let check_from = lineage.as_ref().map_or(0, |lineage| lineage.check_from);
        if folder.holds(self.fingerprint, self.layout) {
            let state = folder.state(self.fingerprint, self.layout).map_err(stored)?;
            let known = state.trusted().map_err(stored)?;
            let how = if known.ranges.is_empty() { How::Scan } else { How::Resumed };
            let comparison = Comparison { how, ..scanned(None) };
            return match lineage.filter(|lineage| !lineage.is_checked) {
                // The try before was cut off in its check.
                Some(lineage) => self.checked(state, lineage, comparison, None),
                None => Ok(Start { state, base: None, comparison, check_from, read_bytes: 0 }),
            };
        }
        match self.named(origin, lineage, &folder) {
            Ok((lineage, digests)) => self.follow(lineage, digests, folder),
            Err(why) => {
                Lineage::remove(self.folder).map_err(PassError::Failed)?;
                let state = folder.state(self.fingerprint, self.layout).map_err(stored)?;
                Ok(Start { state, base: None, comparison: scanned(why), check_from: 0, read_bytes: 0 })
            }
        }
    }

    /// The lineage with what the feed names; the base's digests where no feed was asked since. Else why a scan is due.
    fn named(
        &self,
        origin: &Origin,
        lineage: Option<Lineage>,
        folder: &SourceFolder,
    ) -> Result<(Lineage, Option<HeldDigests>), Option<Finding>> {
        let (base, feed) = origin.feed.as_ref().map_err(Clone::clone)?;
        let doubt = |why: String| Some(Finding::warning(Code::FeedUnusable, why));
        let mut lineage = lineage.ok_or_else(|| doubt("no state of the source was sealed before".into()))?;
        if lineage.base != *base {
            return Err(doubt(format!(
                "the feed starts from cycle {}, which was not sealed last",
                base.cycle
            )));
        }
        if base.block_bytes != self.layout.block_size().bytes() {
            return Err(doubt("the disk is cut into blocks of another size now".into()));
        }
        if base.pass_bytes != self.layout.length_bytes() {
            let (was, is) = (base.pass_bytes, self.layout.length_bytes());
            return Err(doubt(format!("the disk was resized from {was} to {is} bytes")));
        }
        let failed = |error: DiskError| doubt(error.to_finding().evidence);
        let mut named = changed_blocks(&**feed, self.layout).map_err(failed)?;
        let digests = folder.digests();
        named.extend(cleared(self.source, &digests, self.layout).map_err(failed)?);
        let digests = lineage.is_fresh().then_some(digests);
        lineage.name(&named);
        Ok((lineage, digests))
    }

    fn follow(
        &self,
        lineage: Lineage,
        digests: Option<HeldDigests>,
        folder: SourceFolder,
    ) -> Result<Start, PassError> {
        lineage.keep(self.folder).map_err(PassError::Failed)?;
        let named = lineage.named();
        let named_blocks: u64 = named.iter().map(|run| run.count()).sum();
        let digests = digests.filter(|_| named_blocks <= BASE_COPIED_MAX_BLOCKS);
        let copied = digests.map(|digests| BaseDigests::copy(digests, &named)).transpose()?;
        let state = folder.follow(self.fingerprint, self.layout, &named).map_err(stored)?;
        let named_bytes = named.iter().map(|blocks| self.layout.bytes_of(*blocks).length_bytes()).sum();
        let comparison = Comparison {
            how: How::Feed,
            base_cycle: Some(lineage.base.cycle),
            named_bytes: Some(named_bytes),
            ..scanned(None)
        };
        let base = copied.map(|digests| (lineage.base.clone(), digests));
        self.checked(state, lineage, comparison, base)
    }

    /// Looks whether what is trusted is what lies there; where it is not, nothing is trusted any longer.
    fn checked(
        &self,
        state: SourceState,
        mut lineage: Lineage,
        comparison: Comparison,
        base: Option<(Base, BaseDigests)>,
    ) -> Result<Start, PassError> {
        let known = state.trusted().map_err(stored)?;
        let checked = self.check(&known.digests, &known.ranges, lineage.check_from)?;
        let read_bytes = checked.read_bytes;
        if let Some(block) = checked.differs {
            // Whoever is killed in between finds nothing that is trusted.
            state.forget(self.fingerprint).map_err(stored)?;
            Lineage::remove(self.folder).map_err(PassError::Failed)?;
            let at = self.layout.block_bytes(block).start();
            let evidence = format!(
                "{} changed at byte {at}, which its feed does not name",
                self.source.name().display()
            );
            let comparison = scanned(Some(Finding::warning(Code::FeedLied, evidence)));
            return Ok(Start { state, base: None, comparison, check_from: 0, read_bytes });
        }
        (lineage.is_checked, lineage.check_from) = (true, checked.next_bytes);
        lineage.keep(self.folder).map_err(PassError::Failed)?;
        let comparison = Comparison { checked_bytes: read_bytes, ..comparison };
        Ok(Start { state, base, comparison, check_from: checked.next_bytes, read_bytes })
    }

    /// Reads some of what is trusted again, going on from `from_bytes`, around the disk once at most.
    fn check(
        &self,
        digests: &HeldDigests,
        trusted: &[BlockRange],
        from_bytes: u64,
    ) -> Result<Checked, PassError> {
        let block_bytes = self.layout.block_size().bytes();
        let most = (SEGMENT_MAX_BYTES / block_bytes).max(1);
        let from = (from_bytes / block_bytes).min(self.layout.block_count());
        let mut checked = Checked { differs: None, next_bytes: 0, read_bytes: 0 };
        let behind = BlockRange::new(from, self.layout.block_count());
        for part in [behind, BlockRange::new(0, from)] {
            for range in trusted.iter().filter_map(|range| common(*range, part)) {
                let mut at = range.start.0;
                while let Some(next) = self.next_content(digests, at)?.filter(|next| *next < range.end.0) {
                    if checked.read_bytes >= FEED_CHECK_BYTES {
                        checked.next_bytes = next * block_bytes;
                        return Ok(checked);
                    }
                    if self.cancel.is_cancelled() {
                        return Err(PassError::Cancelled);
                    }
                    let blocks = BlockRange::new(next, range.end.0.min(next + most));
                    let (now, read_bytes) = read_digests(self.source, self.layout, blocks)?;
                    checked.read_bytes += read_bytes;
                    let held = digests.digests(blocks)?;
                    if let Some(at) = now.iter().zip(&held).position(|(now, held)| now != held) {
                        checked.differs = Some(BlockIndex(next + at as u64));
                        return Ok(checked);
                    }
                    at = blocks.end.0;
                }
            }
        }
        Ok(checked)
    }

    /// The next block that holds something, or did.
    fn next_content(&self, digests: &HeldDigests, from: u64) -> Result<Option<u64>, PassError> {
        if from >= self.layout.block_count() {
            return Ok(None);
        }
        let block_bytes = self.layout.block_size().bytes();
        let now = self.source.next_data(from * block_bytes)?.map(|data| data.start() / block_bytes);
        let held = digests.next_data(BlockIndex(from))?.map(|block| block.0);
        let next = now.into_iter().chain(held).min();
        Ok(next.map(|next| next.max(from)))
    }
}

struct Checked {
    differs: Option<BlockIndex>,
    next_bytes: u64,
    read_bytes: u64,
}

fn scanned(why: Option<Finding>) -> Comparison {
    let finding = why.as_ref().map(FindingLine::from);
    Comparison { how: How::Scan, base_cycle: None, named_bytes: None, checked_bytes: 0, finding }
}

/// Blocks that the base holds something in, and that lie in a hole now: no feed need name them.
fn cleared(
    source: &dyn UnitSource,
    base: &HeldDigests,
    layout: Layout,
) -> Result<Vec<BlockRange>, DiskError> {
    let (block_bytes, end_bytes) = (layout.block_size().bytes(), layout.length_bytes());
    let mut cleared: Vec<BlockRange> = Vec::new();
    let mut at = 0;
    while at < end_bytes {
        let data = source.next_data(at)?.filter(|data| data.start() < end_bytes);
        // A block is cleared where the hole covers all of it; the last one may be short.
        let stop = data.map_or(layout.block_count(), |data| data.start() / block_bytes);
        let mut block = at.div_ceil(block_bytes);
        while let Some(held) = base.next_data(BlockIndex(block))?.filter(|held| held.0 < stop) {
            let one = BlockRange::new(held.0, held.0 + 1);
            // The file tells holes of its own, which are not as fine as blocks.
            let is_zero = base.digests(one)?.iter().all(Digest::is_zero);
            match cleared.last_mut() {
                _ if is_zero => {}
                Some(last) if last.end.0 == held.0 => last.end.0 += 1,
                _ => cleared.push(one),
            }
            block = held.0 + 1;
            if block >= stop {
                break;
            }
        }
        let Some(data) = data else { break };
        at = data.end();
    }
    Ok(cleared)
}

fn common(a: BlockRange, b: BlockRange) -> Option<BlockRange> {
    let (start, end) = (a.start.0.max(b.start.0), a.end.0.min(b.end.0));
    (start < end).then(|| BlockRange::new(start, end))
}

fn stored(error: StoreError) -> PassError {
    PassError::Failed(error.to_finding())
}

#[cfg(test)]
mod tests;
