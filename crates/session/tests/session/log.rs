//! What the sending end of a session has sent, and what of it the other end has not answered for.

use failback_model::{BlockIndex, Layout};
use failback_wire::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Contents of one session.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Blocks that were sent, but for those that the other end did not take.
    pub(crate) sent: BTreeSet<BlockIndex>,
    /// Blocks of messages that were not answered yet, and the bytes of their pages.
    unwritten: BTreeMap<u64, (Vec<BlockIndex>, u64)>,
}

impl Log {
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn sent(&mut self, layout: Layout, message: &Message) {
        let Message::Data(data) = message else { return };
        let pages = data.patches.iter().flat_map(|patch| patch.data.iter().map(|page| (patch.block, page)));
        let bytes = pages.map(|(block, page)| layout.page_bytes(block, page).len() as u64).sum();
        let blocks: Vec<_> = data.patches.iter().map(|patch| patch.block).collect();
        self.sent.extend(&blocks);
        self.unwritten.insert(data.sequence, (blocks, bytes));
    }

    pub(crate) fn received(&mut self, message: &Message) {
        let Message::Written { sequence, missing } = message else { return };
        self.unwritten.remove(sequence);
        missing.iter().for_each(|block| _ = self.sent.remove(block));
    }

    /// Blocks under way.
    pub(crate) fn under_way(&self) -> BTreeSet<BlockIndex> {
        self.unwritten.values().flat_map(|(blocks, _)| blocks).copied().collect()
    }

    /// Bytes of pages under way.
    pub(crate) fn under_way_bytes(&self) -> u64 {
        self.unwritten.values().map(|(_, bytes)| bytes).sum()
    }
}
