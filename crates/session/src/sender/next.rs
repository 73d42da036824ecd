//! What the sending end does next: each queue's turn, as credit allows.

use super::work::SenderWork;
use super::{Phase, Sender};
use failback_model::limits::PACK_MAX_BYTES;
use failback_wire::{Message, Offer};

impl Sender {
    pub(super) fn next_zeros(&mut self) -> Option<Message> {
        if !self.flight.may_send_small() {
            return None;
        }
        let ranges = self.queues.take_zeros();
        (!ranges.is_empty())
            .then(|| Message::Zero { sequence: self.flight.number_zeros(ranges.clone()), ranges })
    }

    pub(super) fn next_offers(&mut self) -> Option<Message> {
        let block_bytes = self.options.layout.block_size().bytes();
        let taken = self.queues.take_offers(self.flight.offer_room(block_bytes));
        let offers: Vec<_> =
            taken.iter().map(|offer| Offer { block: offer.block, digest: offer.digest }).collect();
        (!offers.is_empty())
            .then(|| Message::References { sequence: self.flight.number_offers(taken, block_bytes), offers })
    }

    pub(super) fn next_page_request(&mut self) -> Option<Message> {
        let blocks = self.queues.take_page_request(self.flight.refined_blocks());
        (!blocks.is_empty()).then_some(Message::PageDigestRequest { blocks })
    }

    pub(super) fn next_patch(&mut self) -> Option<SenderWork> {
        let layout = self.options.layout;
        let count = self.queues.next_refined_blocks()?.min(self.window_blocks());
        let job = self.flight.reserve(count, layout.block_size().bytes(), true)?;
        let (blocks, digests) = self.queues.take_refined(layout, count)?;
        Some(SenderWork::Patch { job, blocks, digests })
    }

    pub(super) fn next_ship(&mut self) -> Option<SenderWork> {
        let block_bytes = self.options.layout.block_size().bytes();
        let most = self.window_blocks().min(PACK_MAX_BYTES / block_bytes as usize);
        let count = self.queues.whole_blocks(most);
        if count == 0 {
            return None;
        }
        let job = self.flight.reserve(count, block_bytes, false)?;
        Some(SenderWork::Ship { job, blocks: self.queues.take_whole(count) })
    }

    /// Blocks that the window holds; one at least, so that no block is too large to travel.
    fn window_blocks(&self) -> usize {
        let blocks = self.options.window_bytes / self.options.layout.block_size().bytes();
        usize::try_from(blocks).unwrap_or(usize::MAX).max(1)
    }

    pub(super) fn next_seal(&mut self) -> Option<SenderWork> {
        let is_compared =
            self.phase == Phase::Running && self.compared_below == self.options.layout.block_count();
        if !is_compared || !self.queues.is_empty() || !self.flight.is_empty() || !self.transmit.is_empty() {
            return None;
        }
        self.phase = Phase::Rooting;
        Some(SenderWork::Seal)
    }
}
