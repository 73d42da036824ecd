//! Transmission: requests under way on one connection, and their replies.
//!
//! **Invariant**: data goes from the stream straight to its place in the caller's buffer, which counts as read only where
//! every byte of it came exactly once, be it as data or as a hole. After an error of the stream or of the protocol the
//! connection is not used again.

use super::covered::Covered;
use super::error::NbdError;
use super::negotiate::Export;
use super::wire::{self, chunk, command, read_all, read_array, read_bounded, take, words};
use failback_model::limits::{NBD_EXTENTS_MAX, NBD_IN_FLIGHT_MAX, NBD_TEXT_MAX_BYTES};
use std::io::{self, Read, Write};

/// A run of an export that has one state: its length in bytes and the flags of its context.
pub type Extent = (u32, u32);

/// An entered export on one connection.
#[derive(Debug)]
pub struct Transmission<S> {
    stream: S,
    export: Export,
    next_cookie: u64,
}

/// The head of a reply, or of one chunk of it.
struct Head {
    is_simple: bool,
    is_done: bool,
    kind: u16,
    error: u32,
    cookie: u64,
    length: usize,
}

/// One call's requests.
struct Reading<'a> {
    offset_bytes: u64,
    buffer: &'a mut [u8],
    step: usize,
    first_cookie: u64,
    pieces: Vec<Covered>,
    is_done: Vec<bool>,
    failed: Option<NbdError>,
}

impl<S: Read + Write> Transmission<S> {
    /// Begins where [`super::enter`] ended.
    pub fn new(stream: S, export: Export) -> Self {
        Self { stream, export, next_cookie: 1 }
    }

    /// What the server said.
    pub fn export(&self) -> &Export {
        &self.export
    }

    #[cfg(test)]
    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    /// Fills `buffer` from `offset_bytes`; both ends lie on multiples of the smallest block, within the export.
    pub fn read(&mut self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), NbdError> {
        let step = self.export.request_bytes as usize;
        let count = buffer.len().div_ceil(step);
        let mut reading = Reading {
            offset_bytes,
            buffer,
            step,
            first_cookie: self.next_cookie,
            pieces: Vec::with_capacity(count),
            is_done: vec![false; count],
            failed: None,
        };
        self.next_cookie += count as u64;
        let mut done = 0;
        while done < count {
            self.ask(&mut reading, count, done)?;
            if reading.pieces.len() == done {
                break;
            }
            done += usize::from(self.take_reply(&mut reading)?);
        }
        reading.failed.map_or(Ok(()), Err)
    }

    /// Sends requests until the window is full; none after one that failed.
    fn ask(&mut self, reading: &mut Reading<'_>, count: usize, done: usize) -> Result<(), NbdError> {
        let mut bytes = Vec::new();
        while reading.failed.is_none()
            && reading.pieces.len() < count
            && reading.pieces.len() - done < NBD_IN_FLIGHT_MAX
        {
            let index = reading.pieces.len();
            let (start, length) = reading.piece(index);
            let offset = reading.offset_bytes + start as u64;
            bytes.extend(request(command::READ, reading.first_cookie + index as u64, offset, length as u32));
            reading.pieces.push(Covered::new(length));
        }
        if bytes.is_empty() { Ok(()) } else { self.send(&bytes) }
    }

    /// Takes one reply or chunk; says whether a request is answered by it.
    fn take_reply(&mut self, reading: &mut Reading<'_>) -> Result<bool, NbdError> {
        let head = self.head()?;
        let index =
            head.cookie.checked_sub(reading.first_cookie).and_then(|index| usize::try_from(index).ok());
        let index = index
            .filter(|index| *index < reading.pieces.len() && !reading.is_done[*index])
            .ok_or_else(|| NbdError::broken("a reply answers no request"))?;
        let (start, length) = reading.piece(index);
        match (head.is_simple, head.kind) {
            (true, _) if head.error != 0 => reading.fail(answered(head.error, &[])?),
            (true, _) => {
                reading.pieces[index].add(0, length)?;
                read_all(&mut self.stream, &mut reading.buffer[start..start + length])?;
            }
            (false, chunk::OFFSET_DATA) => {
                let bytes = head.length.checked_sub(8).ok_or_else(too_short)?;
                let (at, end) =
                    reading.place(index, u64::from_be_bytes(read_array(&mut self.stream)?), bytes)?;
                read_all(&mut self.stream, &mut reading.buffer[at..end])?;
            }
            (false, chunk::OFFSET_HOLE) => {
                if head.length != 12 {
                    return Err(too_short());
                }
                let offset = u64::from_be_bytes(read_array(&mut self.stream)?);
                let bytes = u32::from_be_bytes(read_array(&mut self.stream)?);
                let (at, end) = reading.place(index, offset, bytes as usize)?;
                reading.buffer[at..end].fill(0);
            }
            _ => {
                if let Some(error) = self.other_chunk(&head)? {
                    reading.fail(error);
                }
            }
        }
        if head.is_done {
            reading.is_done[index] = true;
            if reading.failed.is_none() && !reading.pieces[index].is_whole() {
                return Err(NbdError::broken("a reply ended before all of its data came"));
            }
        }
        Ok(head.is_done)
    }

    /// States of the export from `offset_bytes` on in the context that was asked for, for at most `length_bytes`.
    pub fn extents(&mut self, offset_bytes: u64, length_bytes: u32) -> Result<Vec<Extent>, NbdError> {
        let id = self.export.context.ok_or_else(|| NbdError::broken("there is no context"))?;
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.send(&request(command::BLOCK_STATUS, cookie, offset_bytes, length_bytes))?;
        let (mut found, mut failed) = (None, None);
        loop {
            let head = self.head()?;
            if head.cookie != cookie {
                return Err(NbdError::broken("a reply answers no request"));
            }
            match (head.is_simple, head.kind) {
                (true, _) if head.error != 0 => failed = Some(answered(head.error, &[])?),
                (true, _) => return Err(NbdError::broken("a reply about extents has none")),
                (false, chunk::BLOCK_STATUS) if found.is_none() => {
                    found = Some(self.status_chunk(&head, id)?)
                }
                (false, chunk::BLOCK_STATUS) => return Err(NbdError::broken("extents came twice")),
                _ => failed = self.other_chunk(&head)?.or(failed),
            }
            if head.is_done {
                break;
            }
        }
        match (found, failed) {
            (_, Some(error)) => Err(error),
            (Some(found), None) => Ok(found),
            (None, None) => Err(NbdError::broken("a reply about extents has none")),
        }
    }

    /// Says goodbye.
    pub fn disconnect(&mut self) {
        // Whoever closes a connection need not be heard.
        let _told = self.send(&request(command::DISCONNECT, 0, 0, 0));
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), NbdError> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    fn head(&mut self) -> Result<Head, NbdError> {
        let bytes: [u8; 16] = read_array(&mut self.stream)?;
        let mut rest = bytes.as_slice();
        let magic = u32::from_be_bytes(take(&mut rest)?);
        match magic {
            wire::SIMPLE_REPLY => {
                let error = u32::from_be_bytes(take(&mut rest)?);
                let cookie = u64::from_be_bytes(take(&mut rest)?);
                Ok(Head { is_simple: true, is_done: true, kind: 0, error, cookie, length: 0 })
            }
            wire::STRUCTURED_REPLY if self.export.is_structured => {
                let flags = u16::from_be_bytes(take(&mut rest)?);
                let kind = u16::from_be_bytes(take(&mut rest)?);
                let cookie = u64::from_be_bytes(take(&mut rest)?);
                let length = u32::from_be_bytes(read_array(&mut self.stream)?) as usize;
                let is_done = flags & chunk::DONE != 0;
                Ok(Head { is_simple: false, is_done, kind, error: 0, cookie, length })
            }
            _ => Err(NbdError::broken("a reply begins wrong")),
        }
    }

    fn status_chunk(&mut self, head: &Head, id: u32) -> Result<Vec<Extent>, NbdError> {
        let bytes = read_bounded(&mut self.stream, head.length, 4 + 8 * NBD_EXTENTS_MAX)?;
        let mut rest = bytes.as_slice();
        if u32::from_be_bytes(take(&mut rest)?) != id {
            return Err(NbdError::broken("extents of a context that was not asked for"));
        }
        let (pairs, rest) = rest.as_chunks::<8>();
        if pairs.is_empty() || !rest.is_empty() {
            return Err(too_short());
        }
        let word = |bytes: &[u8]| bytes.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let extents: Vec<_> = pairs.iter().map(|pair| (word(&pair[..4]), word(&pair[4..]))).collect();
        if extents.iter().any(|(length, _)| *length == 0) {
            return Err(NbdError::broken("an extent is empty"));
        }
        Ok(extents)
    }

    /// A chunk without data: the end of a reply, or an error of the server.
    fn other_chunk(&mut self, head: &Head) -> Result<Option<NbdError>, NbdError> {
        let bytes = read_bounded(&mut self.stream, head.length, NBD_TEXT_MAX_BYTES + 14)?;
        let mut rest = bytes.as_slice();
        match head.kind {
            chunk::NONE if rest.is_empty() && head.is_done => Ok(None),
            chunk::ERROR | chunk::ERROR_OFFSET => {
                let error = u32::from_be_bytes(take(&mut rest)?);
                let length = u16::from_be_bytes(take(&mut rest)?) as usize;
                let said = rest.get(..length).ok_or_else(too_short)?;
                answered(error, said).map(Some)
            }
            // An error of a kind that is newer than this client: its code stands in the same place.
            kind if kind & 1 << 15 != 0 => answered(u32::from_be_bytes(take(&mut rest)?), &[]).map(Some),
            kind => Err(NbdError::broken(format!("a chunk of the kind {kind} has no place here"))),
        }
    }
}

impl Reading<'_> {
    /// Where a request's data lies in the buffer, and how much it is.
    fn piece(&self, index: usize) -> (usize, usize) {
        let start = index * self.step;
        (start, self.step.min(self.buffer.len() - start))
    }

    /// Where a chunk's data belongs in the buffer.
    fn place(&mut self, index: usize, offset_bytes: u64, length: usize) -> Result<(usize, usize), NbdError> {
        let (start, _) = self.piece(index);
        let outside = || NbdError::broken("data came that was not asked for");
        let from = offset_bytes.checked_sub(self.offset_bytes + start as u64).ok_or_else(outside)?;
        let from = usize::try_from(from).map_err(|_| outside())?;
        self.pieces[index].add(from, length)?;
        Ok((start + from, start + from + length))
    }

    fn fail(&mut self, error: NbdError) {
        self.failed.get_or_insert(error);
    }
}

fn request(command: u16, cookie: u64, offset_bytes: u64, length_bytes: u32) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&wire::REQUEST.to_be_bytes());
    bytes[6..8].copy_from_slice(&command.to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
    bytes[16..24].copy_from_slice(&offset_bytes.to_be_bytes());
    bytes[24..].copy_from_slice(&length_bytes.to_be_bytes());
    bytes
}

fn too_short() -> NbdError {
    NbdError::broken("a chunk has a length that it cannot have")
}

/// An error that a server sent; one that stops is lost.
fn answered(error: u32, said: &[u8]) -> Result<NbdError, NbdError> {
    if error == 0 {
        return Err(NbdError::broken("an error has no number"));
    }
    if error == wire::ESHUTDOWN {
        return Err(NbdError::Lost(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the server is shutting down",
        )));
    }
    let system = io::Error::from_raw_os_error(i32::try_from(error).unwrap_or(i32::MAX));
    let said = words(said);
    Ok(NbdError::Answered(if said.is_empty() {
        system
    } else {
        io::Error::new(system.kind(), format!("{said} ({system})"))
    }))
}
