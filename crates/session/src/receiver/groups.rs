//! The open commit group, and the one that is being made durable.
//!
//! **Invariant**: a number is acknowledged only when every message up to it was applied before a commit began that has
//! ended since. So no list of messages is kept: the prefix that was applied when a commit began says it all. And there are
//! two groups at most: while one is being made durable and the next is full, nothing more is written.

use failback_model::limits::{GROUP_MAX_AGE, GROUP_MAX_BYTES, UNACKNOWLEDGED_MAX_MESSAGES};
use std::time::Instant;

/// Groups of one pass.
#[derive(Debug, Default)]
pub(super) struct Groups {
    messages: usize,
    bytes: u64,
    /// Whether the scan went on: what it found is worth keeping too.
    has_scanned: bool,
    opened_at: Option<Instant>,
    is_due: bool,
    /// All messages below this were applied when the commit under way began.
    committing_below: Option<u64>,
    durable_below: u64,
}

impl Groups {
    /// A message was applied that changed so many bytes.
    pub(super) fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The scan handed over a run.
    pub(super) fn add_scanned(&mut self) {
        self.has_scanned = true;
    }

    /// Tells the time: a group is as old as the first moment at which it was seen open.
    pub(super) fn handle_time(&mut self, now: Instant) {
        if !self.is_empty() {
            let opened_at = *self.opened_at.get_or_insert(now);
            self.is_due |= now >= opened_at + GROUP_MAX_AGE;
        }
    }

    /// When the open group is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.opened_at.filter(|_| !self.is_due).map(|opened_at| opened_at + GROUP_MAX_AGE)
    }

    /// Closes the open group if it is full, old, or `is_last`; all messages below `applied_below` are applied. One commit
    /// at a time.
    pub(super) fn close(&mut self, applied_below: u64, is_last: bool) -> bool {
        let is_wanted = !self.is_empty() && (self.is_full() || self.is_due || is_last);
        if self.is_committing() || !is_wanted {
            return false;
        }
        self.clear();
        self.committing_below = Some(applied_below);
        true
    }

    /// The commit under way is durable: the new end of what is acknowledged, where it moved.
    pub(super) fn finish(&mut self) -> Option<u64> {
        let below = self.committing_below.take()?;
        (below > self.durable_below).then(|| {
            self.durable_below = below;
            below
        })
    }

    /// A seal makes everything durable that was applied.
    pub(super) fn clear(&mut self) {
        (self.messages, self.bytes, self.has_scanned) = (0, 0, false);
        (self.opened_at, self.is_due) = (None, false);
    }

    /// A seal made all messages below this durable.
    pub(super) fn seal(&mut self, below: u64) {
        self.durable_below = self.durable_below.max(below);
    }

    /// Whether a commit is under way.
    pub(super) fn is_committing(&self) -> bool {
        self.committing_below.is_some()
    }

    /// Whether nothing more may be written before the commit under way has ended.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_committing() && self.is_full()
    }

    /// Whether everything that was applied and scanned is durable.
    pub(super) fn is_clean(&self) -> bool {
        self.is_empty() && !self.is_committing()
    }

    fn is_empty(&self) -> bool {
        self.messages == 0 && !self.has_scanned
    }

    fn is_full(&self) -> bool {
        self.bytes >= GROUP_MAX_BYTES || self.messages >= UNACKNOWLEDGED_MAX_MESSAGES
    }
}
