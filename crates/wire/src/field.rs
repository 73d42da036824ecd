//! Fields of a body: varints (LEB128) for numbers, deltas for ascending lists.
//!
//! **Invariant**: each value has one encoding, and every count is checked against a limit before it is believed.

use crate::error::{ErrorKind, WireError};
use crate::frame::Frame;
use bytes::Bytes;
use failback_model::limits::{BATCH_MAX_BLOCKS, ERROR_TEXT_MAX_BYTES};
use failback_model::{BlockIndex, BlockRange, Digest};

pub(crate) type Result<T> = std::result::Result<T, WireError>;

/// A field with a value that it must not have.
pub(crate) const fn bad(field: &'static str) -> WireError {
    WireError::new(ErrorKind::BadValue, field)
}

/// Appends fields to a body.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn number(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    /// A text, cut where it is longer than one may be.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        let end =
            (0..=text.len().min(ERROR_TEXT_MAX_BYTES)).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        self.number(end as u64).bytes(&text.as_bytes()[..end])
    }

    /// A count, then the first number, then the distance of each from the one before, less one.
    pub(crate) fn ascending(&mut self, numbers: impl ExactSizeIterator<Item = u64>) -> &mut Self {
        assert!(numbers.len() <= BATCH_MAX_BLOCKS, "a list of {} numbers", numbers.len());
        self.number(numbers.len() as u64);
        let mut next = 0;
        for number in numbers {
            self.step(number, &mut next);
        }
        self
    }

    /// A number of an ascending list whose smallest allowed value is `next`. Panics below it, in every build: the other
    /// end would read another number.
    pub(crate) fn step(&mut self, number: u64, next: &mut u64) -> &mut Self {
        self.number(number.checked_sub(*next).expect("a list ascends"));
        *next = number + 1;
        self
    }

    /// A range of a list of ranges that do not touch.
    pub(crate) fn range(&mut self, range: BlockRange, next: &mut u64) -> &mut Self {
        self.step(range.start.0, next);
        *next = range.end.0 + 1;
        self.number(range.count().checked_sub(1).expect("a range of a list is not empty"))
    }

    pub(crate) fn frame(&self, kind: u8, payload: Bytes) -> Frame {
        Frame::new(kind, &self.0, payload)
    }
}

/// Takes fields off a body.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self, field: &'static str) -> Result<u8> {
        let (&byte, rest) = self.0.split_first().ok_or(WireError::new(ErrorKind::Truncated, field))?;
        self.0 = rest;
        Ok(byte)
    }

    pub(crate) fn number(&mut self, field: &'static str) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(field)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 || byte == 0 && shift > 0 {
                return Err(bad(field));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(bad(field))
    }

    pub(crate) fn at_most(&mut self, limit: usize, field: &'static str) -> Result<usize> {
        match usize::try_from(self.number(field)?) {
            Ok(value) if value <= limit => Ok(value),
            _ => Err(WireError::new(ErrorKind::TooLarge, field)),
        }
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool> {
        match self.byte(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(bad(field)),
        }
    }

    pub(crate) fn slice(&mut self, count: usize, field: &'static str) -> Result<&[u8]> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(WireError::new(ErrorKind::Truncated, field))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn digest(&mut self, field: &'static str) -> Result<Digest> {
        let bytes = self.slice(32, field)?;
        Ok(Digest(bytes.try_into().map_err(|_| bad(field))?))
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<String> {
        self.text_of(ERROR_TEXT_MAX_BYTES, field).map(str::to_owned)
    }

    /// A text of at most `limit` bytes.
    pub(crate) fn text_of(&mut self, limit: usize, field: &'static str) -> Result<&str> {
        let count = self.at_most(limit, field)?;
        str::from_utf8(self.slice(count, field)?).map_err(|_| bad(field))
    }

    /// The next number of an ascending list whose smallest allowed value is `next`.
    pub(crate) fn step(&mut self, next: &mut u64, field: &'static str) -> Result<u64> {
        let value = next.checked_add(self.number(field)?).ok_or(bad(field))?;
        *next = value.checked_add(1).ok_or(bad(field))?;
        Ok(value)
    }

    pub(crate) fn ascending<T>(
        &mut self,
        limit: usize,
        field: &'static str,
        make: impl Fn(u64) -> T,
    ) -> Result<Vec<T>> {
        let count = self.at_most(limit, field)?;
        let mut next = 0;
        (0..count).map(|_| self.step(&mut next, field).map(&make)).collect()
    }

    pub(crate) fn blocks(&mut self, field: &'static str) -> Result<Vec<BlockIndex>> {
        self.ascending(BATCH_MAX_BLOCKS, field, BlockIndex)
    }

    pub(crate) fn range(&mut self, next: &mut u64, field: &'static str) -> Result<BlockRange> {
        let start = next.checked_add(self.number(field)?).ok_or(bad(field))?;
        let end = self.number(field)?.checked_add(1).and_then(|count| start.checked_add(count));
        let end = end.ok_or(bad(field))?;
        *next = end.checked_add(1).ok_or(bad(field))?;
        Ok(BlockRange::new(start, end))
    }
}
