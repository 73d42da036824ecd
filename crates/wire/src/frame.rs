//! A frame: header, body, payload.

use crate::error::{ErrorKind, WireError};
use crate::kind::Class;
use bytes::Bytes;
use failback_model::limits::FRAME_MAX_BYTES;

/// Bytes of a frame's header: kind u8, zero u8, zero u16, body length u32, payload length u32; little endian.
pub const HEADER_BYTES: usize = 12;

/// A frame's header, decoded and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which message.
    pub kind: u8,
    /// Length of the body.
    pub body_bytes: u32,
    /// Length of the payload behind it.
    pub payload_bytes: u32,
}

impl Header {
    /// Decodes the first 12 bytes of a frame. Checks the frame's length against its limit, so that a reader may
    /// then allocate it.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, WireError> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let header = Self { kind: bytes[0], body_bytes: word(4), payload_bytes: word(8) };
        if bytes[1..4] != [0; 3] {
            return Err(WireError::new(ErrorKind::BadValue, "reserved header bytes"));
        }
        let total = HEADER_BYTES as u64 + u64::from(header.body_bytes) + u64::from(header.payload_bytes);
        if total > FRAME_MAX_BYTES as u64 {
            return Err(WireError::new(ErrorKind::TooLarge, "frame"));
        }
        Ok(header)
    }

    /// Bytes of the frame, this header included.
    pub const fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize + self.payload_bytes as usize
    }

    /// How its frame travels; `None` where no message has this kind.
    pub const fn class(&self) -> Option<Class> {
        Class::of(self.kind)
    }

    fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.kind;
        bytes[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes
    }
}

/// A message as it crosses: what was encoded, and the payload beside it.
#[derive(Debug, Clone)]
pub struct Frame {
    head: Bytes,
    payload: Bytes,
}

impl Frame {
    /// Puts a header before a body. Panics where the frame is above its limit: a bug of whoever built the message.
    pub(crate) fn new(kind: u8, body: &[u8], payload: Bytes) -> Self {
        let total = HEADER_BYTES + body.len() + payload.len();
        assert!(total <= FRAME_MAX_BYTES, "a frame of kind {kind} has {total} bytes");
        let header = Header { kind, body_bytes: body.len() as u32, payload_bytes: payload.len() as u32 };
        let mut head = Vec::with_capacity(HEADER_BYTES + body.len());
        head.extend_from_slice(&header.encode());
        head.extend_from_slice(body);
        Self { head: head.into(), payload }
    }

    /// Cuts a frame off contiguous bytes, as they come from a socket or a file; returns what follows it.
    pub fn split_from(bytes: &Bytes) -> Result<(Self, Bytes), WireError> {
        let truncated = WireError::new(ErrorKind::Truncated, "frame");
        let header = Header::decode(bytes.first_chunk().ok_or(truncated)?)?;
        let head_bytes = HEADER_BYTES + header.body_bytes as usize;
        let total = header.frame_bytes();
        if bytes.len() < total {
            return Err(truncated);
        }
        let frame = Self { head: bytes.slice(..head_bytes), payload: bytes.slice(head_bytes..total) };
        Ok((frame, bytes.slice(total..)))
    }

    /// Joins what was read apart: header and body, and the payload. Neither is copied.
    pub fn from_parts(head: Bytes, payload: Bytes) -> Result<Self, WireError> {
        let truncated = WireError::new(ErrorKind::Truncated, "frame");
        let header = Header::decode(head.first_chunk().ok_or(truncated)?)?;
        let (body, rest) = (header.body_bytes as usize, header.payload_bytes as usize);
        if head.len() == HEADER_BYTES + body && payload.len() == rest {
            Ok(Self { head, payload })
        } else {
            Err(truncated)
        }
    }

    /// Header and body.
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// Payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// How it travels; `None` where no message has this kind.
    pub fn class(&self) -> Option<Class> {
        Class::of(self.kind())
    }

    /// Whether it takes the control connection: everything but [`Class::Bulk`].
    pub fn is_ordered(&self) -> bool {
        self.class() != Some(Class::Bulk)
    }

    /// Bytes that cross the wire.
    pub fn encoded_bytes(&self) -> u64 {
        (self.head.len() + self.payload.len()) as u64
    }

    pub(crate) fn kind(&self) -> u8 {
        self.head[0]
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.head[HEADER_BYTES..]
    }
}
