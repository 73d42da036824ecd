//! Changing one value of a descriptor and no other byte.

use super::{Descriptor, DescriptorError, NewExtent, SECTOR_BYTES, parse};
use std::ops::Range;

/// Digits of `ddb.longContentID` that repeat the content id.
const SHORT_ID_DIGITS: usize = 8;

impl Descriptor {
    /// The same with another content id, in `CID` and in the last digits of `ddb.longContentID`.
    pub fn with_content_id(&self, content_id: u32) -> Result<Self, DescriptorError> {
        self.with_content_id_of(content_id, SHORT_ID_DIGITS)
    }

    fn with_content_id_of(&self, content_id: u32, least_digits: usize) -> Result<Self, DescriptorError> {
        let digits = format!("{content_id:08x}").into_bytes();
        let short = format!("{content_id:0least_digits$x}").into_bytes();
        let mut edits = vec![(self.content_id_at.clone(), short)];
        if let Some(at) = self.ddb_at("longContentID")
            && at.len() >= SHORT_ID_DIGITS
            && self.bytes[at.clone()].iter().all(u8::is_ascii_hexdigit)
        {
            edits.push((at.end - SHORT_ID_DIGITS..at.end, digits));
        }
        Self::parse(&replaced(&self.bytes, edits))
    }

    /// The same for an embedded descriptor: its bytes keep their number, what the text gains is taken from the NULs
    /// behind it. An id of as many digits as the old one moves no other byte, so that a torn write breaks no line.
    pub fn with_content_id_in_place(&self, content_id: u32) -> Result<Self, DescriptorError> {
        let digits = self.content_id_digits().min(SHORT_ID_DIGITS);
        let fits = u64::from(content_id) >> (4 * digits) == 0;
        let edited = self.with_content_id_of(content_id, if fits { digits } else { SHORT_ID_DIGITS })?;
        let (needed, room) = (parse::text_length(&edited.bytes), self.bytes.len());
        if needed > room {
            return Err(DescriptorError::NoRoom { needed, room });
        }
        let mut bytes = edited.bytes;
        bytes.resize(room, 0);
        Self::parse(&bytes)
    }

    /// Digits of the content id as the descriptor writes it; some writers leave zeros in front out.
    pub fn content_id_digits(&self) -> usize {
        self.content_id_at.len()
    }

    /// The same with its last extent made `last_bytes` long and `added` behind it; the cylinders follow.
    pub fn grown(&self, last_bytes: u64, added: &[NewExtent]) -> Result<Self, DescriptorError> {
        let last = self.extents.last().ok_or(DescriptorError::Edit("a disk without extents cannot grow"))?;
        let sectors = (last_bytes / SECTOR_BYTES).to_string().into_bytes();
        let mut edits = vec![(last.sectors_at.clone(), sectors)];
        if !added.is_empty() {
            let line = &self.bytes[last.line_at.clone()];
            let end: &[u8] = if line.ends_with(b"\r\n") { b"\r\n" } else { b"\n" };
            let mut lines = Vec::new();
            if !line.ends_with(b"\n") {
                lines.extend_from_slice(end);
            }
            for extent in added {
                lines.extend_from_slice(extent.line().as_bytes());
                lines.extend_from_slice(end);
            }
            edits.push((last.line_at.end..last.line_at.end, lines));
        }
        let length_bytes = added
            .iter()
            .map(|extent| extent.length_bytes)
            .try_fold(last.disk.start(), u64::checked_add)
            .and_then(|bytes| bytes.checked_add(last_bytes))
            .ok_or(DescriptorError::LengthOverflow)?;
        edits.extend(self.cylinders_edit(length_bytes));
        Self::parse(&replaced(&self.bytes, edits))
    }

    fn cylinders_edit(&self, length_bytes: u64) -> Option<(Range<usize>, Vec<u8>)> {
        let number = |key| std::str::from_utf8(self.ddb(key)?).ok()?.parse::<u64>().ok();
        let (heads, sectors) = (number("geometry.heads")?, number("geometry.sectors")?);
        let cylinder_bytes =
            heads.checked_mul(sectors)?.checked_mul(SECTOR_BYTES).filter(|&bytes| bytes > 0)?;
        let old = number("geometry.cylinders")?;
        // Where cylinders did not describe the length before (IDE's limit, a foreign value), they are left alone.
        (old == self.length_bytes / cylinder_bytes).then(|| {
            let at = self.ddb_at("geometry.cylinders").unwrap_or_default();
            (at, (length_bytes / cylinder_bytes).to_string().into_bytes())
        })
    }
}

/// `bytes` with each range replaced; ranges do not overlap.
fn replaced(bytes: &[u8], mut edits: Vec<(Range<usize>, Vec<u8>)>) -> Vec<u8> {
    edits.sort_by_key(|(at, _)| at.start);
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let mut copied = 0;
    for (at, text) in edits {
        out.extend_from_slice(&bytes[copied..at.start]);
        out.extend_from_slice(&text);
        copied = at.end;
    }
    out.extend_from_slice(&bytes[copied..]);
    out
}
