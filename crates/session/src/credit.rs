//! Credit: how much of one class of messages may be under way.

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

    pub(crate) fn take(&mut self, amount: u64) {
        self.used += amount;
    }

    pub(crate) fn give_back(&mut self, amount: u64) {
        self.used = self.used.checked_sub(amount).expect("no more credit returns than was taken");
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.used == 0
    }
}
