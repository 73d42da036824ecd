//! Reading a payload field by field.
//!
//! **Invariant**: a count is believed only as far as the payload is long, so nothing is allocated that it does not hold.

use crate::error::FormatError;
use crate::field::{array, u32_le, u64_le};
use failback_model::limits::{DISK_MAX_BLOCKS, POINT_REASON_MAX_BYTES};
use failback_model::{BlockIndex, BlockRange, BlockSize, Digest, Layout, PointClaim, PointLabel};

const DIGEST_BYTES: usize = 32;
/// Bytes of a range: first block and number of blocks.
pub(super) const RANGE_BYTES: usize = 16;

/// What is left of a payload.
pub(super) struct Fields<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { payload, at: 0 }
    }

    /// An error at the field that comes next.
    pub(super) fn fault<T>(&self, reason: impl Into<String>) -> Result<T, FormatError> {
        Err(FormatError::new(self.at as u64, reason))
    }

    pub(super) fn left_bytes(&self) -> usize {
        self.payload.len() - self.at
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        if self.left_bytes() < length {
            return self.fault("the record ends within a field");
        }
        self.at += length;
        Ok(&self.payload[self.at - length..self.at])
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32_le(self.take(4)?, 0))
    }

    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64_le(self.take(8)?, 0))
    }

    pub(super) fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(array(self.take(2)?, 0)))
    }

    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.take(1)?[0])
    }

    /// What a sending end said of a state.
    pub(super) fn claim(&mut self) -> Result<PointClaim, FormatError> {
        let source_unix_ms = self.u64()?;
        let number = self.u8()?;
        let Some(label) = PointLabel::of_number(number) else {
            return self.fault(format!("unknown label {number} of a point"));
        };
        let cycle = self.u64()?;
        let length = usize::from(self.u16()?);
        if length > POINT_REASON_MAX_BYTES {
            return self.fault(format!("no reason has {length} bytes"));
        }
        let reason = std::str::from_utf8(self.take(length)?);
        match reason {
            Ok(reason) => Ok(PointClaim { source_unix_ms, label, reason: reason.into(), cycle }),
            Err(_) => self.fault("what must be text is none"),
        }
    }

    pub(super) fn digest(&mut self) -> Result<Digest, FormatError> {
        Ok(Digest(array(self.take(DIGEST_BYTES)?, 0)))
    }

    /// The rest as text.
    pub(super) fn text(&mut self) -> Result<&'a str, FormatError> {
        let rest = self.take(self.left_bytes())?;
        std::str::from_utf8(rest).or_else(|_| self.fault("what must be text is none"))
    }

    /// The digests of `count` blocks.
    pub(super) fn digests(
        &mut self,
        count: u64,
    ) -> Result<impl Iterator<Item = Digest> + use<'a>, FormatError> {
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(DIGEST_BYTES));
        let bytes = self.take(length.unwrap_or(usize::MAX))?;
        Ok(bytes.as_chunks().0.iter().map(|digest| Digest(*digest)))
    }

    /// A run of blocks that is not empty and starts at or behind `from`.
    pub(super) fn range(&mut self, from: BlockIndex) -> Result<BlockRange, FormatError> {
        let before = self.at as u64;
        let (start, count) = (self.u64()?, self.u64()?);
        let end = start.checked_add(count).filter(|&end| end <= DISK_MAX_BLOCKS && count > 0);
        match end {
            Some(end) if start >= from.0 => Ok(BlockRange::new(start, end)),
            _ => Err(FormatError::new(
                before,
                format!("{count} blocks from {start} are no run behind {}", from.0),
            )),
        }
    }

    /// `count` runs of blocks that ascend.
    pub(super) fn ranges(&mut self, count: usize) -> Result<Vec<BlockRange>, FormatError> {
        if self.left_bytes() / RANGE_BYTES < count {
            return self.fault("the record ends within its ranges");
        }
        let mut ranges = Vec::with_capacity(count);
        let mut from = BlockIndex(0);
        for _ in 0..count {
            let range = self.range(from)?;
            from = range.end;
            ranges.push(range);
        }
        Ok(ranges)
    }

    /// A disk's length and block size; a block size of 0 says that there is none yet.
    pub(super) fn layout(&mut self) -> Result<Option<Layout>, FormatError> {
        let before = self.at as u64;
        let (length_bytes, block_bytes) = (self.u64()?, self.u32()?);
        if block_bytes == 0 && length_bytes == 0 {
            return Ok(None);
        }
        let layout = BlockSize::new(u64::from(block_bytes)).and_then(|size| Layout::new(length_bytes, size));
        layout.map(Some).map_err(|error| FormatError::new(before, error.to_string()))
    }

    pub(super) fn finish(self) -> Result<(), FormatError> {
        if self.left_bytes() == 0 { Ok(()) } else { self.fault("the record is longer than its contents") }
    }
}

pub(super) fn put_range(into: &mut Vec<u8>, range: BlockRange) {
    into.extend(range.start.0.to_le_bytes());
    into.extend(range.count().to_le_bytes());
}

/// A reason that is too long is cut where a character ends.
pub(super) fn put_claim(into: &mut Vec<u8>, claim: &PointClaim) {
    let reason = &claim.reason[..claim.reason.floor_char_boundary(POINT_REASON_MAX_BYTES)];
    into.extend(claim.source_unix_ms.to_le_bytes());
    into.push(claim.label.number());
    into.extend(claim.cycle.to_le_bytes());
    into.extend((reason.len() as u16).to_le_bytes());
    into.extend(reason.as_bytes());
}

pub(super) fn put_layout(into: &mut Vec<u8>, layout: Option<Layout>) {
    let (length_bytes, block_bytes) =
        layout.map_or((0, 0), |layout| (layout.length_bytes(), layout.block_size().bytes() as u32));
    into.extend(length_bytes.to_le_bytes());
    into.extend(block_bytes.to_le_bytes());
}
