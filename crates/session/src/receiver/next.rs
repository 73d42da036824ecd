//! What the receiving end does next.

use super::Receiver;
use super::work::ReceiverWork;

impl Receiver {
    pub(super) fn next_commit(&mut self) -> Option<ReceiverWork> {
        let is_last = self.is_stopping && self.admission.is_idle();
        self.groups.close(self.admission.applied_below(), is_last).then_some(ReceiverWork::Commit)
    }

    pub(super) fn next_to_apply(&mut self) -> Option<ReceiverWork> {
        if self.groups.is_blocked() { None } else { self.to_apply.pop_front() }
    }

    pub(super) fn next_seal(&mut self) -> Option<ReceiverWork> {
        let is_due = !self.is_stopping && self.admission.is_complete();
        if self.is_sealing || self.groups.is_committing() || !is_due {
            return None;
        }
        self.is_sealing = true;
        self.groups.clear();
        Some(ReceiverWork::Seal { verify: self.verify })
    }

    /// The next chunks to offer, once those before have gone out.
    pub(super) fn next_chunks(&mut self) -> Option<ReceiverWork> {
        let may_offer = !self.is_stopping && self.ordered.is_empty();
        let chunks = if may_offer { self.repair.next() } else { None };
        chunks.map(|chunks| ReceiverWork::ChunkDigests { chunks })
    }
}
