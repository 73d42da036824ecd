//! Whose turn it is, at the sending end; and the sign of life of an end that compares for long without a word.

use super::{Phase, Sender};
use crate::error::SessionError;
use failback_model::limits::WORK_SIGN_INTERVAL;
use failback_wire::Message;
use std::time::Instant;

impl Sender {
    /// Tells the time, best after every event: an error with [`failback_model::Code::TimedOut`] where it has been the
    /// receiving end's turn for too long, however alive it is.
    pub fn watch(&mut self, now: Instant) -> Result<(), SessionError> {
        self.show_work(now);
        let is_others_turn = self.is_receivers_turn();
        self.stall.watch(now, is_others_turn)
    }

    /// Blocks that are equal, or zero at both ends, cost few messages or none: credit that returns early says that the
    /// comparison goes on.
    fn show_work(&mut self, now: Instant) {
        let shown_at = *self.shown_at.get_or_insert(now);
        if self.has_compared && now >= shown_at + WORK_SIGN_INTERVAL {
            self.return_credit();
            self.shown_at = Some(now);
        }
    }

    pub(super) fn return_credit(&mut self) {
        let blocks = std::mem::take(&mut self.consumed_digests);
        self.digest_credit += blocks;
        self.has_compared = false;
        self.transmit.push_back(Message::DigestCredit { blocks });
    }

    /// Nothing is left to do here until something comes. A target that is read anew says nothing for as long as that takes.
    fn is_receivers_turn(&self) -> bool {
        let is_all_durable = self.acknowledged_below == self.flight.messages();
        match self.phase {
            _ if self.is_stopping => !is_all_durable && self.flight.has_only_messages(),
            Phase::Greeting | Phase::Repairing => true,
            Phase::Sealing { .. } => !self.options.verify,
            Phase::Rooting | Phase::Done => false,
            Phase::Running => {
                let has_all_digests = self.announced_below == self.options.layout.block_count();
                let lacks_digests = !has_all_digests && self.compared_below == self.announced_below;
                self.flight.has_only_messages() || self.queues.awaits_page_digests() || lacks_digests
            }
        }
    }
}
