//! Whether a pass still moves while this end waits for the other one.
//!
//! An end that answers pings is there, and may still never do what is its turn: its medium hangs, its process is stopped
//! half-way, or it means no good. The pass ends then, so that what it holds, a disk and its share of memory, is free for
//! others; whatever was durable stays, and the next session goes on.
//!
//! **Invariant**: only time counts in which it was the other end's turn without a break.

use crate::error::SessionError;
use failback_model::Code;
use failback_model::limits::STALL_MAX;
use std::time::Instant;

/// Since when it has been the other end's turn, as far as time was told.
#[derive(Debug, Default)]
pub(crate) struct Stall(Option<Instant>);

impl Stall {
    /// Something happened: a message came, or a piece of this end's own work is done.
    pub(crate) fn moved(&mut self) {
        self.0 = None;
    }

    /// Tells the time; an error with [`Code::TimedOut`] where the other end has let its turn pass.
    pub(crate) fn watch(&mut self, now: Instant, is_others_turn: bool) -> Result<(), SessionError> {
        if !is_others_turn {
            self.moved();
            return Ok(());
        }
        if now < *self.0.get_or_insert(now) + STALL_MAX {
            return Ok(());
        }
        let reason =
            format!("the other end is there, but its pass has not moved for {} s", STALL_MAX.as_secs());
        Err(SessionError { code: Code::TimedOut, reason })
    }
}
