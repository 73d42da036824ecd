//! How far ahead of the oldest unwritten block of a new target others may be sent.
//!
//! A target that is written once, from front to back, holds what is ahead of its turn in memory, and has to let it out at
//! some point. Credit alone bounds what is unwritten, not how far the rest may run ahead of one late block.
//!
//! **Invariant**: from the oldest job that is not written to the newest, jobs take at most [`STREAM_WINDOW_BYTES`] of such
//! a target's memory, except for one job alone. On a new target, jobs are started in disk order.

use failback_model::limits::{STREAM_GRAIN_BYTES, STREAM_WINDOW_BYTES};
use std::collections::BTreeMap;

/// The place of a job in the order of all jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

/// Places of what is under way.
#[derive(Debug, Default)]
pub(super) struct Reach {
    next: u64,
    /// Jobs and messages that hold each place.
    held: BTreeMap<Place, usize>,
}

impl Reach {
    /// Whether a job of so many blocks stays within reach of the oldest.
    pub(super) fn allows(&self, blocks: usize, block_bytes: u64) -> bool {
        let oldest = self.held.first_key_value().map(|(place, _)| place.0);
        oldest.is_none_or(|oldest| self.next + length(blocks, block_bytes) - oldest <= STREAM_WINDOW_BYTES)
    }

    /// The place of a new job, held once.
    pub(super) fn advance(&mut self, blocks: usize, block_bytes: u64) -> Place {
        let place = Place(self.next);
        self.next += length(blocks, block_bytes);
        self.hold(place);
        place
    }

    /// One more holds the place.
    pub(super) fn hold(&mut self, place: Place) {
        *self.held.entry(place).or_default() += 1;
    }

    /// One of those that hold the place is done.
    pub(super) fn release(&mut self, place: Place) {
        let count = self.held.get_mut(&place).expect("what is released was held");
        *count -= 1;
        if *count == 0 {
            self.held.remove(&place);
        }
    }
}

/// What a job takes of the target's memory at most: a small block occupies a whole grain.
fn length(blocks: usize, block_bytes: u64) -> u64 {
    blocks as u64 * block_bytes.max(STREAM_GRAIN_BYTES)
}
