//! Credit: how much of one class of messages may be under way.

use failback_model::limits::PAGE_BYTES;
use failback_wire::{Data, Encoding};

/// Credit of a message that carries no pages.
pub(crate) const SMALL_MESSAGE_BYTES: u64 = PAGE_BYTES;

/// Credit of a message that carries pages: both ends count the same. What it decompresses to counts, since that is what
/// the other end holds: a window of small payloads may not become a heap of large contents.
pub(crate) fn charge_bytes(data: &Data) -> u64 {
    let content_bytes = match data.encoding {
        Encoding::Raw => 0,
        Encoding::Zstd { content_bytes } => u64::from(content_bytes),
    };
    (data.payload.len() as u64).max(content_bytes).max(SMALL_MESSAGE_BYTES)
}

/// Credit of a message that offers blocks: those that are found are held until they are written, so each counts whole.
pub(crate) fn offer_charge_bytes(offers: usize, block_bytes: u64) -> u64 {
    (offers as u64).saturating_mul(block_bytes).max(SMALL_MESSAGE_BYTES)
}

/// A budget that is taken before sending and given back when the other end is done. The unit is the class's own.
#[derive(Debug)]
pub(crate) struct Credit {
    window: u64,
    used: u64,
}

impl Credit {
    pub(crate) fn new(window: u64) -> Self {
        Self { window, used: 0 }
    }

    /// Whether `amount` may be taken. One taker larger than the window may go alone, so that nothing starves.
    pub(crate) fn allows(&self, amount: u64) -> bool {
        self.used == 0 || self.used.saturating_add(amount) <= self.window
    }

    /// How many takers of `amount` each may take theirs; one where nothing is taken.
    pub(crate) fn room(&self, amount: u64) -> u64 {
        (self.window.saturating_sub(self.used) / amount).max(u64::from(self.used == 0))
    }

    pub(crate) fn take(&mut self, amount: u64) {
        self.used += amount;
    }

    /// What returns was taken: the caller keeps account of each taker, so that no peer can return more.
    pub(crate) fn give_back(&mut self, amount: u64) {
        self.used = self.used.checked_sub(amount).expect("no more credit returns than was taken");
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.used == 0
    }
}
