//! What something else wrote to a released disk: all of it is read and compared with what was sealed, block by block.
//!
//! A machine that was powered on without an overlay changes its disk's times and many blocks; a way back would mix its
//! writes with the original's bytes. So it is looked for in full before anything is written, and what is found is listed.

use crate::operation::{OpenDisk, of_store};
use failback_engine::read_digests;
use failback_image::Image;
use failback_model::limits::FOREIGN_RANGES_MAX;
use failback_model::{BlockIndex, BlockRange, Code, Digest, Finding, Layout};
use failback_store::HeldDigests;
use std::fmt::Write as _;

/// Runs of blocks that are not what was sealed.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    ranges: Vec<BlockRange>,
    blocks: u64,
}

impl Foreign {
    fn add(&mut self, block: BlockIndex) {
        self.blocks += 1;
        let is_full = self.ranges.len() >= FOREIGN_RANGES_MAX;
        match self.ranges.last_mut() {
            Some(last) if last.end == block => last.end.0 += 1,
            // It is counted; the list is long enough for anybody.
            _ if is_full => {}
            _ => self.ranges.push(BlockRange::new(block.0, block.0 + 1)),
        }
    }

    /// What is said of the disk, where anything was found.
    fn finding(&self, name: &str, layout: Layout) -> Option<Finding> {
        if self.blocks == 0 {
            return None;
        }
        let of = layout.block_count();
        let mut text = format!("{name}: {} of {of} blocks are not what was sealed, bytes", self.blocks);
        for (at, range) in self.ranges.iter().enumerate() {
            let bytes = layout.bytes_of(*range);
            let _ = write!(text, "{} {} to {}", if at == 0 { "" } else { "," }, bytes.start(), bytes.end());
        }
        let listed: u64 = self.ranges.iter().map(|range| range.count()).sum();
        if listed < self.blocks {
            let _ = write!(text, ", and {} blocks more", self.blocks - listed);
        }
        Some(Finding::error(Code::Diverged, text).with_remedy(
            "something used the disk, such as the machine without an overlay: keep a copy of it if its writes matter, then \
             bring it home anew with 'failback reprotect MACHINE --accept-divergence'",
        ))
    }
}

/// Reads the whole disk and compares it with these digests.
fn look(image: &dyn Image, layout: Layout, sealed: &HeldDigests) -> Result<Foreign, Finding> {
    let mut foreign = Foreign::default();
    for chunk in (0..layout.chunk_count()).map(failback_model::ChunkIndex) {
        let blocks = layout.chunk_blocks(chunk);
        let expected = sealed.digests(blocks).map_err(|error| error.to_finding())?;
        let is_hole = |digests: &[Digest]| digests.iter().all(|digest| *digest == Digest::ZERO);
        let bytes = layout.bytes_of(blocks);
        let next = image.next_data(bytes.start()).map_err(|error| error.to_finding())?;
        if is_hole(&expected) && next.is_none_or(|data| data.start() >= bytes.end()) {
            continue;
        }
        let (found, _) = read_digests(image, layout, blocks).map_err(|error| error.to_finding())?;
        for (block, pair) in blocks.iter().zip(found.iter().zip(&expected)) {
            if pair.0 != pair.1 {
                foreign.add(block);
            }
        }
    }
    Ok(foreign)
}

/// Fails where the disk is not, in full, what was sealed.
pub(crate) fn unchanged(disk: &OpenDisk) -> Result<(), Finding> {
    let state = disk.store.state();
    let name = disk.image.name().display().to_string();
    let Some(layout) = state.layout.filter(|_| !state.in_pass) else {
        let evidence = format!("{name}: what is there is no sealed state that it could be compared with");
        return Err(Finding::error(Code::Diverged, evidence));
    };
    let trusted = disk.store.trusted().map_err(of_store)?;
    let known: u64 = trusted.ranges.iter().map(|range| range.count()).sum();
    if known != layout.block_count() {
        let evidence =
            format!("{name}: {known} of {} blocks are known, too few to tell", layout.block_count());
        return Err(Finding::error(Code::Diverged, evidence));
    }
    disk.image.drop_cached();
    let foreign = look(&*disk.image, layout, &trusted.digests)?;
    foreign.finding(&name, layout).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::BlockSize;

    #[test]
    fn the_list_is_bounded_and_counts_everything() {
        let layout = Layout::new(1 << 30, BlockSize::DEFAULT).expect("a layout");
        assert!(Foreign::default().finding("x.raw", layout).is_none());
        let mut foreign = Foreign::default();
        [3, 4, 9].into_iter().for_each(|block| foreign.add(BlockIndex(block)));
        let finding = foreign.finding("x.raw", layout).expect("something was found");
        assert_eq!(
            finding.evidence,
            "x.raw: 3 of 16384 blocks are not what was sealed, bytes 196608 to 327680, 589824 to 655360"
        );
        (0..100).for_each(|at| foreign.add(BlockIndex(1000 + 2 * at)));
        let finding = foreign.finding("x.raw", layout).expect("something was found");
        assert!(finding.evidence.starts_with("x.raw: 103 of"), "{}", finding.evidence);
        assert!(finding.evidence.ends_with(", and 86 blocks more"), "{}", finding.evidence);
    }
}
