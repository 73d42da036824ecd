//! Which numbered messages may come in, and which are dealt with.
//!
//! **Invariant**: each number is admitted once, no further than the sending end may number ahead, and what is in hand
//! stays within the sending end's credit, whatever the sending end does.

use crate::credit::SMALL_MESSAGE_BYTES;
use crate::error::SessionError;
use crate::sequence::SequenceSet;
use failback_model::limits::{REFERENCE_WINDOW_BLOCKS, UNACKNOWLEDGED_MAX_MESSAGES};
use std::collections::HashMap;

/// What a message takes of its credit while it is in hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Charge {
    pub(super) bytes: u64,
    pub(super) offers: usize,
}

impl Charge {
    pub(super) const SMALL: Self = Self { bytes: SMALL_MESSAGE_BYTES, offers: 0 };
}

/// Messages in hand and those applied.
#[derive(Debug)]
pub(super) struct Admission {
    window_bytes: u64,
    in_hand: HashMap<u64, Charge>,
    bytes: u64,
    offers: usize,
    applied: SequenceSet,
    admitted_below: u64,
    sealed_below: Option<u64>,
}

impl Admission {
    /// A single block may be larger than the sending end's window.
    pub(super) fn new(window_bytes: u64, block_bytes: u64) -> Self {
        Self {
            window_bytes: window_bytes.max(block_bytes),
            in_hand: HashMap::new(),
            bytes: 0,
            offers: 0,
            applied: SequenceSet::default(),
            admitted_below: 0,
            sealed_below: None,
        }
    }

    /// Lets a message in.
    pub(super) fn admit(&mut self, sequence: u64, charge: Charge) -> Result<(), SessionError> {
        let is_reachable =
            sequence < self.end_of_reach() && self.sealed_below.is_none_or(|end| sequence < end);
        if !is_reachable || self.applied.contains(sequence) || self.in_hand.contains_key(&sequence) {
            return Err(SessionError::violation(format!("message {sequence} came twice or out of reach")));
        }
        let (bytes, offers) = (self.bytes + charge.bytes, self.offers + charge.offers);
        if bytes > self.window_bytes || offers > REFERENCE_WINDOW_BLOCKS {
            return Err(SessionError::violation(format!("message {sequence} came without credit")));
        }
        (self.bytes, self.offers) = (bytes, offers);
        self.in_hand.insert(sequence, charge);
        self.admitted_below = self.admitted_below.max(sequence + 1);
        Ok(())
    }

    /// A message is dealt with.
    pub(super) fn finish(&mut self, sequence: u64) {
        let charge = self.in_hand.remove(&sequence).expect("work answers once");
        self.bytes -= charge.bytes;
        self.offers -= charge.offers;
        self.applied.insert(sequence);
    }

    /// There will be so many messages, until the seal is answered.
    pub(super) fn seal(&mut self, messages: u64) -> Result<(), SessionError> {
        let is_possible = (self.admitted_below..=self.end_of_reach()).contains(&messages);
        if !is_possible || self.sealed_below.replace(messages).is_some() {
            return Err(SessionError::violation("a seal of other messages, or while the first is open"));
        }
        Ok(())
    }

    /// Whether all messages of the seal are dealt with: none beyond it is let in, so none is in hand then.
    pub(super) fn is_complete(&self) -> bool {
        self.sealed_below == Some(self.applied.below())
    }

    /// The seal was answered: more messages may follow.
    pub(super) fn unseal(&mut self) {
        self.sealed_below = None;
    }

    /// All messages below this are dealt with.
    pub(super) fn applied_below(&self) -> u64 {
        self.applied.below()
    }

    /// Whether no message is in hand.
    pub(super) fn is_idle(&self) -> bool {
        self.in_hand.is_empty()
    }

    fn end_of_reach(&self) -> u64 {
        self.applied.below().saturating_add(UNACKNOWLEDGED_MAX_MESSAGES as u64)
    }
}
