//! Numbers and small reads of the NBD protocol (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>).
//!
//! **Invariant**: nothing that a server sends is allocated for before its length was held against a named limit.

use super::error::NbdError;
use failback_model::limits::NBD_REPLY_MAX;
use std::io::{ErrorKind, Read};
use std::time::Instant;

pub(super) const GREETING: u64 = u64::from_be_bytes(*b"NBDMAGIC");
pub(super) const OPTION: u64 = u64::from_be_bytes(*b"IHAVEOPT");
pub(super) const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
pub(super) const REQUEST: u32 = 0x2560_9513;
pub(super) const SIMPLE_REPLY: u32 = 0x6744_6698;
pub(super) const STRUCTURED_REPLY: u32 = 0x668e_33ef;

/// Handshake flags, of both ends.
pub(super) const FIXED_NEWSTYLE: u16 = 1;
pub(super) const NO_ZEROES: u16 = 2;

pub(super) mod option {
    pub(in super::super) const ABORT: u32 = 2;
    pub(in super::super) const LIST: u32 = 3;
    pub(in super::super) const STARTTLS: u32 = 5;
    pub(in super::super) const GO: u32 = 7;
    pub(in super::super) const STRUCTURED_REPLY: u32 = 8;
    pub(in super::super) const LIST_META_CONTEXT: u32 = 9;
    pub(in super::super) const SET_META_CONTEXT: u32 = 10;
}

pub(super) mod reply {
    pub(in super::super) const ACK: u32 = 1;
    pub(in super::super) const SERVER: u32 = 2;
    pub(in super::super) const INFO: u32 = 3;
    pub(in super::super) const META_CONTEXT: u32 = 4;
    pub(in super::super) const IS_ERROR: u32 = 1 << 31;
    pub(in super::super) const UNSUPPORTED: u32 = IS_ERROR + 1;
    pub(in super::super) const POLICY: u32 = IS_ERROR + 2;
    pub(in super::super) const PLATFORM: u32 = IS_ERROR + 4;
    pub(in super::super) const TLS_REQUIRED: u32 = IS_ERROR + 5;
    pub(in super::super) const UNKNOWN: u32 = IS_ERROR + 6;
    pub(in super::super) const SHUTDOWN: u32 = IS_ERROR + 7;
}

pub(super) mod info {
    pub(in super::super) const EXPORT: u16 = 0;
    pub(in super::super) const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags.
pub(super) mod flag {
    pub(in super::super) const MULTI_CONN: u16 = 1 << 8;
}

pub(super) mod command {
    pub(in super::super) const READ: u16 = 0;
    pub(in super::super) const DISCONNECT: u16 = 2;
    pub(in super::super) const BLOCK_STATUS: u16 = 7;
}

pub(super) mod chunk {
    pub(in super::super) const DONE: u16 = 1;
    pub(in super::super) const NONE: u16 = 0;
    pub(in super::super) const OFFSET_DATA: u16 = 1;
    pub(in super::super) const OFFSET_HOLE: u16 = 2;
    pub(in super::super) const BLOCK_STATUS: u16 = 5;
    pub(in super::super) const ERROR: u16 = 32769;
    pub(in super::super) const ERROR_OFFSET: u16 = 32770;
}

/// The error that a server sends before it stops.
pub(super) const ESHUTDOWN: u32 = 108;

/// Reads one fixed number of bytes.
pub(super) fn read_array<const N: usize>(stream: &mut impl Read) -> Result<[u8; N], NbdError> {
    let mut bytes = [0; N];
    read_all(stream, &mut bytes)?;
    Ok(bytes)
}

/// Fills `buffer`; a server that sends it drop by drop is given up.
pub(super) fn read_all(stream: &mut impl Read, mut buffer: &mut [u8]) -> Result<(), NbdError> {
    let mut begun = None;
    while !buffer.is_empty() {
        match stream.read(buffer) {
            Ok(0) => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(count) if count == buffer.len() => return Ok(()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                if begun.get_or_insert_with(Instant::now).elapsed() > NBD_REPLY_MAX {
                    return Err(std::io::Error::from(ErrorKind::TimedOut).into());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads `length` bytes of which there may be `most`.
pub(super) fn read_bounded(stream: &mut impl Read, length: usize, most: usize) -> Result<Vec<u8>, NbdError> {
    if length > most {
        return Err(NbdError::broken(format!(
            "the server sends {length} bytes where at most {most} are possible"
        )));
    }
    let mut bytes = vec![0; length];
    read_all(stream, &mut bytes)?;
    Ok(bytes)
}

/// Takes `N` bytes off the front.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], NbdError> {
    let (head, rest) =
        bytes.split_first_chunk().ok_or_else(|| NbdError::broken("a reply of the server is too short"))?;
    *bytes = rest;
    Ok(*head)
}

/// A server's words as they can be shown.
pub(super) fn words(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 200;
    String::from_utf8_lossy(bytes)
        .chars()
        .take(SHOWN_MAX)
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}
