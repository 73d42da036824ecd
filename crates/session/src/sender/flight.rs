//! What is under way: jobs that were started, and numbered messages that the other end has not written yet.
//!
//! **Invariant**: the credit in use is exactly that of the open jobs and the unwritten messages, and no message is
//! numbered further than [`UNACKNOWLEDGED_MAX_MESSAGES`] beyond the oldest unwritten one.

use super::reach::{Place, Reach};
use super::work::Job;
use crate::credit::{Credit, SMALL_MESSAGE_BYTES, charge_bytes, offer_charge_bytes};
use crate::error::SessionError;
use failback_model::limits::{OFFER_MAX_BYTES, REFERENCE_WINDOW_BLOCKS, UNACKNOWLEDGED_MAX_MESSAGES};
use failback_model::{BlockIndex, BlockRange, Difference};
use failback_wire::Data;
use std::collections::{BTreeMap, HashMap};

/// What a numbered message holds until it is written.
#[derive(Debug)]
enum Outstanding {
    Pages { credit_bytes: u64, blocks: Vec<BlockIndex>, is_refined: bool, place: Place },
    Zeros(Vec<BlockRange>),
    Offers { credit_bytes: u64, offers: Vec<Difference> },
}

impl Outstanding {
    /// Blocks that it changes.
    fn blocks(&self) -> u64 {
        match self {
            Self::Pages { blocks, .. } => blocks.len() as u64,
            Self::Zeros(ranges) => ranges.iter().map(|range| range.count()).sum(),
            Self::Offers { offers, .. } => offers.len() as u64,
        }
    }
}

/// What a job has reserved.
#[derive(Debug)]
struct Reservation {
    credit_bytes: u64,
    blocks: usize,
    is_refined: bool,
    place: Place,
}

/// What a job was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished {
    pub(super) blocks: usize,
    is_refined: bool,
    place: Place,
}

/// Blocks of a message that the other end did not write.
#[derive(Debug)]
pub(super) enum Missing {
    /// They did not verify.
    Failed(Vec<BlockIndex>),
    /// No seed holds them.
    NotInSeeds(Vec<Difference>),
}

/// Jobs, messages and their credit.
#[derive(Debug)]
pub(super) struct Flight {
    credit: Credit,
    jobs: HashMap<Job, Reservation>,
    job_blocks: usize,
    next_job: u64,
    unwritten: BTreeMap<u64, Outstanding>,
    offered_blocks: usize,
    /// Blocks that were refined, in jobs and in messages.
    refined_blocks: usize,
    next_sequence: u64,
    reach: Reach,
    keeps_reach: bool,
}

impl Flight {
    pub(super) fn new(window_bytes: u64) -> Self {
        Self {
            credit: Credit::new(window_bytes),
            jobs: HashMap::new(),
            job_blocks: 0,
            next_job: 0,
            unwritten: BTreeMap::new(),
            offered_blocks: 0,
            refined_blocks: 0,
            next_sequence: 0,
            reach: Reach::default(),
            keeps_reach: false,
        }
    }

    /// From now on no job runs further ahead of the oldest than a target that is written once can bear.
    pub(super) fn keep_reach(&mut self) {
        self.keeps_reach = true;
    }

    /// Numbered messages so far.
    pub(super) fn messages(&self) -> u64 {
        self.next_sequence
    }

    /// Whether all that is under way is the other end's to deal with.
    pub(super) fn has_only_messages(&self) -> bool {
        self.jobs.is_empty() && !self.unwritten.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        let is_empty = self.jobs.is_empty() && self.unwritten.is_empty();
        debug_assert!(!is_empty || self.credit.is_idle(), "all credit is back when nothing is under way");
        is_empty
    }

    /// Credit that jobs and messages hold.
    pub(super) fn credit_used_bytes(&self) -> u64 {
        self.credit.used()
    }

    /// Blocks whose page digests were used and whose pages are not written yet.
    pub(super) fn refined_blocks(&self) -> usize {
        self.refined_blocks
    }

    /// Takes credit for the most that a job of so many blocks can pack.
    pub(super) fn reserve(&mut self, blocks: usize, block_bytes: u64, is_refined: bool) -> Option<Job> {
        let credit_bytes = blocks as u64 * block_bytes;
        // In the worst case each block becomes a message of its own.
        if !self.credit.allows(credit_bytes) || !self.has_numbers(blocks) {
            return None;
        }
        if self.keeps_reach && !self.reach.allows(blocks, block_bytes) {
            return None;
        }
        self.credit.take(credit_bytes);
        let place = self.reach.advance(blocks, block_bytes);
        let job = Job(self.next_job);
        self.next_job += 1;
        self.jobs.insert(job, Reservation { credit_bytes, blocks, is_refined, place });
        self.job_blocks += blocks;
        self.refined_blocks += if is_refined { blocks } else { 0 };
        Some(job)
    }

    /// A job is done: its credit returns, for its messages to take.
    pub(super) fn finish(&mut self, job: Job) -> Finished {
        let Reservation { credit_bytes, blocks, is_refined, place } =
            self.jobs.remove(&job).expect("a job answers once");
        self.reach.release(place);
        self.credit.give_back(credit_bytes);
        self.job_blocks -= blocks;
        self.refined_blocks -= if is_refined { blocks } else { 0 };
        Finished { blocks, is_refined, place }
    }

    /// Numbers a message of pages, within what its job had reserved.
    pub(super) fn number_pages(&mut self, data: &Data, of: Finished) -> u64 {
        let Finished { is_refined, place, .. } = of;
        let credit_bytes = charge_bytes(data);
        let blocks: Vec<_> = data.patches.iter().map(|patch| patch.block).collect();
        self.refined_blocks += if is_refined { blocks.len() } else { 0 };
        self.reach.hold(place);
        self.number(credit_bytes, Outstanding::Pages { credit_bytes, blocks, is_refined, place })
    }

    /// Whether a message without pages may go.
    pub(super) fn may_send_small(&self) -> bool {
        self.credit.allows(SMALL_MESSAGE_BYTES) && self.has_numbers(1)
    }

    pub(super) fn number_zeros(&mut self, ranges: Vec<BlockRange>) -> u64 {
        self.number(SMALL_MESSAGE_BYTES, Outstanding::Zeros(ranges))
    }

    /// How many blocks the next message may offer.
    pub(super) fn offer_room(&self, block_bytes: u64) -> usize {
        let blocks = REFERENCE_WINDOW_BLOCKS.saturating_sub(self.offered_blocks);
        let bytes = self.credit.room(block_bytes).min(OFFER_MAX_BYTES / block_bytes);
        if self.has_numbers(1) { blocks.min(bytes as usize) } else { 0 }
    }

    pub(super) fn number_offers(&mut self, offers: Vec<Difference>, block_bytes: u64) -> u64 {
        self.offered_blocks += offers.len();
        let credit_bytes = offer_charge_bytes(offers.len(), block_bytes);
        self.number(credit_bytes, Outstanding::Offers { credit_bytes, offers })
    }

    /// The other end has dealt with a message, but for these blocks, which ascend; how many blocks it held, and what became
    /// of those that are missing.
    pub(super) fn take_written(
        &mut self,
        sequence: u64,
        missing: Vec<BlockIndex>,
    ) -> Result<(u64, Missing), SessionError> {
        let Some(message) = self.unwritten.remove(&sequence) else {
            let reason = format!("message {sequence} was written twice or never sent");
            return Err(SessionError::violation(reason));
        };
        let foreign =
            || SessionError::violation(format!("message {sequence} misses a block it does not hold"));
        let held_blocks = message.blocks();
        let missing = match message {
            Outstanding::Pages { credit_bytes, blocks, is_refined, place } => {
                self.reach.release(place);
                self.credit.give_back(credit_bytes);
                self.refined_blocks -= if is_refined { blocks.len() } else { 0 };
                let is_held = missing.iter().all(|block| blocks.binary_search(block).is_ok());
                is_held.then_some(Missing::Failed(missing)).ok_or_else(foreign)
            }
            Outstanding::Zeros(ranges) => {
                self.credit.give_back(SMALL_MESSAGE_BYTES);
                let is_held = missing.iter().all(|&block| {
                    let next = ranges.partition_point(|range| range.end <= block);
                    ranges.get(next).is_some_and(|range| range.start <= block)
                });
                is_held.then_some(Missing::Failed(missing)).ok_or_else(foreign)
            }
            Outstanding::Offers { credit_bytes, mut offers } => {
                self.credit.give_back(credit_bytes);
                self.offered_blocks -= offers.len();
                offers.retain(|offer| missing.binary_search(&offer.block).is_ok());
                (offers.len() == missing.len()).then_some(Missing::NotInSeeds(offers)).ok_or_else(foreign)
            }
        };
        Ok((held_blocks, missing?))
    }

    fn number(&mut self, credit_bytes: u64, message: Outstanding) -> u64 {
        self.credit.take(credit_bytes);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.unwritten.insert(sequence, message);
        sequence
    }

    /// Whether so many more messages stay within reach of the oldest unwritten one.
    fn has_numbers(&self, messages: usize) -> bool {
        let oldest = self.unwritten.first_key_value().map_or(self.next_sequence, |(&sequence, _)| sequence);
        let reach = self.next_sequence - oldest + (self.job_blocks + messages) as u64;
        reach <= UNACKNOWLEDGED_MAX_MESSAGES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use failback_model::limits::{STREAM_GRAIN_BYTES, STREAM_WINDOW_BYTES};
    use failback_model::{Digest, PageSet};
    use failback_wire::{BlockPatch, Encoding};

    #[test]
    fn one_slow_message_holds_the_numbers_back() {
        let mut flight = Flight::new(u64::MAX);
        let oldest = flight.number_zeros(vec![BlockRange::new(0, 1)]);
        let mut sent = 1;
        while flight.may_send_small() {
            let sequence = flight.number_zeros(vec![BlockRange::new(0, 1)]);
            flight.take_written(sequence, Vec::new()).expect("it was sent");
            sent += 1;
        }
        assert_eq!(sent, UNACKNOWLEDGED_MAX_MESSAGES);
        assert!(flight.reserve(1, 1, false).is_none());
        flight.take_written(oldest, Vec::new()).expect("it was sent");
        assert!(flight.may_send_small() && flight.is_empty());
        let job = flight.reserve(UNACKNOWLEDGED_MAX_MESSAGES, 1, false).expect("nothing is under way");
        assert!(!flight.may_send_small(), "a job's blocks may all become messages");
        flight.finish(job);
        assert!(flight.may_send_small());
    }

    #[test]
    fn a_new_target_never_waits_for_a_block_that_is_far_behind() {
        let data = |block: u64| {
            let patch = BlockPatch {
                block: BlockIndex(block),
                digest: Digest::ZERO,
                data: PageSet::EMPTY,
                zero: PageSet::EMPTY,
            };
            Data { sequence: 0, patches: vec![patch], encoding: Encoding::Raw, payload: Bytes::new() }
        };
        for block_bytes in [16 << 10, 64 << 10, 1 << 20] {
            for is_packed in [false, true] {
                let mut flight = Flight::new(64 << 20);
                flight.keep_reach();
                let oldest = flight.reserve(1, block_bytes, false).expect("nothing is under way");
                // The oldest is still being packed, or was sent and is not written.
                let late = is_packed.then(|| {
                    let of = flight.finish(oldest);
                    flight.number_pages(&data(0), of)
                });
                let mut block = 1;
                while let Some(job) = flight.reserve(1, block_bytes, false) {
                    let of = flight.finish(job);
                    let sequence = flight.number_pages(&data(block), of);
                    flight.take_written(sequence, Vec::new()).expect("it was sent");
                    block += 1;
                    assert!(block < 1 << 20, "jobs run away from the oldest");
                }
                let held_bytes = block * block_bytes.max(STREAM_GRAIN_BYTES);
                assert_eq!(held_bytes, STREAM_WINDOW_BYTES, "{block} blocks of {block_bytes}");
                match late {
                    Some(sequence) => _ = flight.take_written(sequence, Vec::new()).expect("it was sent"),
                    None => _ = flight.finish(oldest),
                }
                assert!(flight.is_empty() && flight.reserve(1, block_bytes, false).is_some());
            }
        }
    }

    #[test]
    fn only_blocks_of_the_message_can_be_missing() {
        let missing = |blocks: &[u64]| blocks.iter().map(|&block| BlockIndex(block)).collect::<Vec<_>>();
        let mut flight = Flight::new(1 << 20);
        for (blocks, is_held) in [
            (&[2, 4][..], true),
            (&[9], true),
            (&[1], false),
            (&[5], false),
            (&[8], false),
            (&[2, 10], false),
        ] {
            let ranges = vec![BlockRange::new(2, 5), BlockRange::new(9, 10)];
            let sequence = flight.number_zeros(ranges);
            assert_eq!(flight.take_written(sequence, missing(blocks)).is_ok(), is_held, "{blocks:?}");
        }
        assert!(flight.is_empty());
    }
}
