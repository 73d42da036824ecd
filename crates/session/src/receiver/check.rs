//! What the sending end names, against the disk's layout.

use crate::error::SessionError;
use failback_model::Layout;
use failback_wire::{Data, Encoding};

/// A list that ends before this block lies within the disk.
pub(super) fn end(layout: Layout, end: Option<u64>) -> Result<(), SessionError> {
    if end.is_some_and(|end| end > layout.block_count()) {
        return Err(SessionError::violation("a block past the disk's end"));
    }
    Ok(())
}

/// Blocks lie in the disk, pages in their blocks, and the content is exactly as long as its pages.
pub(super) fn data(layout: Layout, data: &Data) -> Result<(), SessionError> {
    end(layout, data.patches.last().map(|patch| patch.block.0.saturating_add(1)))?;
    let mut expected = 0;
    for patch in &data.patches {
        let pages = layout.pages_of(patch.block);
        if patch.data.end().max(patch.zero.end()) > pages {
            return Err(SessionError::violation(format!("block {} has no such page", patch.block.0)));
        }
        expected += patch.data.iter().map(|page| layout.page_bytes(patch.block, page).len()).sum::<usize>();
    }
    let content = match data.encoding {
        Encoding::Raw => data.payload.len(),
        Encoding::Zstd { content_bytes } => content_bytes as usize,
    };
    if content != expected {
        return Err(SessionError::violation(format!("{content} bytes for pages of {expected} bytes")));
    }
    Ok(())
}
