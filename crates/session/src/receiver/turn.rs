//! Whose turn it is, at the receiving end.

use super::Receiver;
use crate::error::SessionError;
use std::time::Instant;

impl Receiver {
    /// Tells the time, best after every event: an error with [`failback_model::Code::TimedOut`] where it has been the
    /// sending end's turn for too long, however alive it is.
    pub fn watch(&mut self, now: Instant) -> Result<(), SessionError> {
        let is_others_turn = self.is_senders_turn();
        self.stall.watch(now, is_others_turn)
    }

    /// Nothing is left to do here until something comes.
    fn is_senders_turn(&self) -> bool {
        let is_over = self.is_stopping || self.is_sealed;
        let is_scanning = self.wants_digests() && self.scanned_below < self.options.layout.block_count();
        let is_writing = !self.admission.is_idle() || self.groups.is_committing() || self.is_sealing;
        let is_idle = !is_over && !is_scanning && !is_writing && self.work.is_empty();
        is_idle && !self.requests.is_answering()
    }
}
