//! What a page blob holds: pages of 512 bytes, of which each is written or cleared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

const PAGE: u64 = 512;
const CHUNK: u64 = 64 << 10;
const PAGES: usize = (CHUNK / PAGE) as usize;

/// Contents of a page blob; a clone shares what both have.
#[derive(Clone)]
pub struct BlobDisk {
    length_bytes: u64,
    chunks: BTreeMap<u64, Arc<Chunk>>,
}

#[derive(Clone)]
struct Chunk {
    bytes: Vec<u8>,
    is_written: [bool; PAGES],
}

impl fmt::Debug for BlobDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobDisk({} bytes)", self.length_bytes)
    }
}

impl BlobDisk {
    /// A blob of cleared pages.
    pub fn new(length_bytes: u64) -> Self {
        assert!(length_bytes.is_multiple_of(PAGE), "a page blob holds whole pages");
        Self { length_bytes, chunks: BTreeMap::new() }
    }

    /// Length in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Writes whole pages.
    pub fn write(&mut self, offset_bytes: u64, bytes: &[u8]) {
        let end = offset_bytes + bytes.len() as u64;
        assert!(end <= self.length_bytes && offset_bytes.is_multiple_of(PAGE) && end.is_multiple_of(PAGE));
        for (number, page) in bytes.chunks(PAGE as usize).enumerate() {
            let at = offset_bytes + number as u64 * PAGE;
            let chunk = self.chunks.entry(at / CHUNK).or_insert_with(|| {
                Arc::new(Chunk { bytes: vec![0; CHUNK as usize], is_written: [false; PAGES] })
            });
            let (chunk, within) = (Arc::make_mut(chunk), (at % CHUNK) as usize);
            chunk.bytes[within..within + page.len()].copy_from_slice(page);
            chunk.is_written[within / PAGE as usize] = true;
        }
    }

    /// Clears whole pages.
    pub fn clear(&mut self, range: Range<u64>) {
        for at in range.step_by(PAGE as usize) {
            let Some(chunk) = self.chunks.get_mut(&(at / CHUNK)) else { continue };
            let (chunk, within) = (Arc::make_mut(chunk), (at % CHUNK) as usize);
            chunk.bytes[within..within + PAGE as usize].fill(0);
            chunk.is_written[within / PAGE as usize] = false;
        }
    }

    /// Bytes of a range; what was cleared is zero.
    pub fn read(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut at = range.start;
        while at < range.end {
            let (within, end) = (at % CHUNK, range.end.min((at / CHUNK + 1) * CHUNK));
            if let Some(chunk) = self.chunks.get(&(at / CHUNK)) {
                let part = &chunk.bytes[within as usize..][..(end - at) as usize];
                bytes[(at - range.start) as usize..][..part.len()].copy_from_slice(part);
            }
            at = end;
        }
        bytes
    }

    /// Runs of written pages.
    pub fn pages(&self) -> Vec<Range<u64>> {
        self.diff(&Self::new(self.length_bytes)).0
    }

    /// Runs of pages that were written since `base`, and of those that were cleared.
    pub fn diff(&self, base: &Self) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
        let (mut written, mut cleared) = (Vec::new(), Vec::new());
        let numbers: BTreeSet<u64> = self.chunks.keys().chain(base.chunks.keys()).copied().collect();
        for number in numbers {
            let (new, old) = (self.chunks.get(&number), base.chunks.get(&number));
            if let (Some(new), Some(old)) = (new, old)
                && Arc::ptr_eq(new, old)
            {
                continue;
            }
            for page in 0..PAGES {
                let at = number * CHUNK + page as u64 * PAGE;
                let of = |chunk: Option<&Arc<Chunk>>| {
                    let chunk = chunk.filter(|chunk| chunk.is_written[page])?;
                    Some(chunk.bytes[page * PAGE as usize..][..PAGE as usize].to_vec())
                };
                match (of(new), of(old)) {
                    (Some(new), old) if old.as_ref() != Some(&new) => push(&mut written, at),
                    (None, Some(_)) => push(&mut cleared, at),
                    _ => {}
                }
            }
        }
        (written, cleared)
    }
}

/// Adds a page to runs in order.
fn push(runs: &mut Vec<Range<u64>>, at: u64) {
    match runs.last_mut() {
        Some(run) if run.end == at => run.end += PAGE,
        _ => runs.push(at..at + PAGE),
    }
}
