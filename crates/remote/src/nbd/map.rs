//! What a metadata context says of an export, kept in a bounded way.
//!
//! **Invariant**: what is told is what the server said; what it did not speak of is asked for, never guessed.

use super::error::NbdError;
use super::pool::Pool;
use failback_model::ByteRange;
use failback_model::limits::{NBD_MAP_BYTES, NBD_MAPS_KEPT};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Runs of an export in a state that is looked for.
#[derive(Debug)]
pub(super) struct ExtentMap {
    is_wanted: fn(u32) -> bool,
    kept: Mutex<VecDeque<Window>>,
}

/// One answer of the server.
#[derive(Debug)]
struct Window {
    range: ByteRange,
    wanted: Vec<ByteRange>,
}

impl ExtentMap {
    /// Runs whose flags are wanted.
    pub(super) const fn new(is_wanted: fn(u32) -> bool) -> Self {
        Self { is_wanted, kept: Mutex::new(VecDeque::new()) }
    }

    /// First wanted run at or after `from_bytes`; it may go on behind its end.
    pub(super) fn next(&self, pool: &Pool, from_bytes: u64) -> Result<Option<ByteRange>, NbdError> {
        let length_bytes = pool.export().length_bytes;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = from_bytes;
        while at < length_bytes {
            let held = kept.iter().position(|window| window.range.start() <= at && at < window.range.end());
            let window = match held.and_then(|index| kept.remove(index)) {
                Some(window) => window,
                None => self.ask(pool, at)?,
            };
            let next = window.next(at);
            at = window.range.end();
            kept.push_back(window);
            if kept.len() > NBD_MAPS_KEPT {
                kept.pop_front();
            }
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }

    fn ask(&self, pool: &Pool, at: u64) -> Result<Window, NbdError> {
        let export = pool.export();
        let start = at - at % u64::from(export.min_block_bytes);
        let length = (export.length_bytes - start).min(NBD_MAP_BYTES);
        let extents = pool.with(|connection| connection.extents(start, length as u32))?;
        let (mut end, mut wanted) = (start, Vec::<ByteRange>::new());
        for (length, flags) in extents {
            // The last one may go on behind what was asked for, even behind the disk's end.
            let next = (end + u64::from(length)).min(export.length_bytes);
            let run = ByteRange::new(end, next);
            end = next;
            match wanted.last_mut() {
                _ if run.is_empty() || !(self.is_wanted)(flags) => {}
                Some(before) if before.end() == run.start() => {
                    *before = ByteRange::new(before.start(), run.end())
                }
                _ => wanted.push(run),
            }
        }
        Ok(Window { range: ByteRange::new(start, end), wanted })
    }
}

impl Window {
    fn next(&self, at: u64) -> Option<ByteRange> {
        let run = self.wanted.get(self.wanted.partition_point(|run| run.end() <= at))?;
        Some(ByteRange::new(run.start().max(at), run.end()))
    }
}
