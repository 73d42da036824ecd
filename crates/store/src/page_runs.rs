//! A set of pages, in memory of its runs.

use failback_format::journal_record::PageRun;
use failback_model::ByteRange;
use failback_model::limits::PAGE_BYTES;
use std::collections::BTreeMap;

/// Some pages of a disk: runs by their start. No two touch.
#[derive(Debug, Default)]
pub(crate) struct PageRuns(BTreeMap<u64, u64>);

impl PageRuns {
    /// Adds pages; those of them that were not in it, in order.
    pub(crate) fn insert(&mut self, pages: PageRun) -> Vec<PageRun> {
        let mut joined = pages;
        if let Some((&start, &end)) = self.0.range(..pages.start).next_back()
            && end >= pages.start
        {
            joined.start = start;
        }
        let mut fresh = Vec::new();
        let mut at = pages.start;
        for (start, end) in self.0.extract_if(joined.start..=pages.end, |_, _| true) {
            if at < start {
                fresh.push(PageRun { start: at, end: start.min(pages.end) });
            }
            at = at.max(end);
            joined.end = joined.end.max(end);
        }
        if at < pages.end {
            fresh.push(PageRun { start: at, end: pages.end });
        }
        fresh.retain(|run| run.start < run.end);
        self.0.insert(joined.start, joined.end);
        fresh
    }

    /// Takes all pages out.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The pages that these bytes touch; ascend and do not touch each other.
pub(crate) fn pages_covering(bytes: &[ByteRange]) -> Vec<PageRun> {
    let mut pages = PageRuns::default();
    for range in bytes.iter().filter(|range| !range.is_empty()) {
        pages.insert(PageRun { start: range.start() / PAGE_BYTES, end: range.end().div_ceil(PAGE_BYTES) });
    }
    pages.0.into_iter().map(|(start, end)| PageRun { start, end }).collect()
}

/// Bytes of pages of a disk of this length: its last page may be short.
pub(crate) fn bytes_of(pages: PageRun, length_bytes: u64) -> ByteRange {
    ByteRange::new(pages.start * PAGE_BYTES, (pages.end * PAGE_BYTES).min(length_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_testkit::Random;
    use std::collections::BTreeSet;

    #[test]
    fn it_is_a_set() {
        let mut random = Random::new(7);
        for _ in 0..200 {
            let (mut runs, mut model) = (PageRuns::default(), BTreeSet::new());
            for _ in 0..30 {
                let start = random.below(60);
                let end = start + 1 + random.below(12);
                let fresh: Vec<u64> = runs
                    .insert(PageRun { start, end })
                    .into_iter()
                    .flat_map(|run| run.start..run.end)
                    .collect();
                let expected: Vec<u64> = (start..end).filter(|page| !model.contains(page)).collect();
                model.extend(start..end);
                assert_eq!(fresh, expected);
                let held: Vec<u64> = runs.0.iter().flat_map(|(start, end)| *start..*end).collect();
                assert!(held.iter().eq(&model));
                let touch =
                    runs.0.iter().zip(runs.0.iter().skip(1)).any(|((_, end), (start, _))| end >= start);
                assert!(!touch, "{runs:?}");
            }
        }
    }
}
