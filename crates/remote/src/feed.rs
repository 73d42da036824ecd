//! Change feeds: what may have changed since a state before.
//!
//! **Invariant**: a feed is a hint. Whoever uses it reads some of what it does not name, too.

use crate::azure;
use crate::extents::ExtentList;
use crate::nbd::{Bitmap, NbdUri};
use crate::open::OpenOptions;
use crate::spec::{BlobAddress, SourceSpec};
use failback_blockio::{ChangeFeed, DiskError};
use failback_model::{BlockRange, Code, Finding, Layout};
use std::path::PathBuf;
use std::str::FromStr;

/// What names the changes of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedSpec {
    /// `bitmap:NAME`: the dirty bitmap of an NBD export, `qemu:dirty-bitmap:NAME`.
    Bitmap(String),
    /// `extents:PATH`: a JSON list of extents.
    Extents(PathBuf),
    /// `diff:SNAPSHOT`: page-range diff of a page blob against an earlier snapshot of it, by its time, or by `@FILE` that holds
    /// its URL.
    Diff(String),
}

impl FromStr for FeedSpec {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("bitmap", name)) if !name.is_empty() => Ok(Self::Bitmap(name.into())),
            Some(("extents", path)) if !path.is_empty() => Ok(Self::Extents(path.into())),
            Some(("diff", base)) if base.contains("://") || base.contains('?') => Err(
                "diff: takes a snapshot's time, or @FILE that holds its URL: a URL here could show its signature",
            ),
            Some(("diff", base)) if !base.is_empty() => Ok(Self::Diff(base.into())),
            _ => Err("a feed is bitmap:NAME, extents:PATH or diff:SNAPSHOT"),
        }
    }
}

/// Opens what names the changes of a source.
pub fn open_feed(
    feed: &FeedSpec,
    source: &SourceSpec,
    options: &OpenOptions,
) -> Result<Box<dyn ChangeFeed>, Finding> {
    match (feed, source) {
        (FeedSpec::Bitmap(name), SourceSpec::Nbd(uri)) => {
            Ok(Box::new(Bitmap::open(&NbdUri::parse(uri)?, name)?))
        }
        (FeedSpec::Bitmap(_), _) => Err(unusable("a bitmap belongs to a source behind NBD")),
        (FeedSpec::Extents(path), _) => {
            let length_bytes = crate::open(source, options)?.geometry().length_bytes;
            Ok(Box::new(ExtentList::open(path, length_bytes)?))
        }
        (FeedSpec::Diff(base), SourceSpec::Blob(address)) => azure::open_diff(address, base, options),
        (FeedSpec::Diff(base), SourceSpec::Managed(disk)) if options.managed.is_some() => {
            azure::open_diff(&BlobAddress::Url(format!("azdisk:{disk}")), base, options)
        }
        (FeedSpec::Diff(_), _) => Err(unusable("a page-range diff belongs to a page blob")),
    }
}

fn unusable(why: &str) -> Finding {
    Finding::warning(Code::FeedUnusable, why)
}

/// Blocks that a feed names, ascending; neighbours are joined.
pub fn changed_blocks(feed: &dyn ChangeFeed, layout: Layout) -> Result<Vec<BlockRange>, DiskError> {
    let block_bytes = layout.block_size().bytes();
    let mut blocks: Vec<BlockRange> = Vec::new();
    let mut at = 0;
    while at < layout.length_bytes() {
        let Some(range) = feed.next_changed(at)? else { break };
        let end = range.end().min(layout.length_bytes());
        if range.start() >= end {
            break;
        }
        let (first, last) = (range.start().max(at) / block_bytes, end.div_ceil(block_bytes));
        match blocks.last_mut() {
            Some(before) if before.end.0 >= first => before.end.0 = before.end.0.max(last),
            _ => blocks.push(BlockRange::new(first, last)),
        }
        at = end;
    }
    Ok(blocks)
}
