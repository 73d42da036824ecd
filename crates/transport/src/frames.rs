//! Frames off a stream of bytes.
//!
//! A frame gets memory of its own, of its exact size, into which it is read straight: what is held for a peer is what
//! is counted, and it goes when the last user of the frame lets go.
//!
//! **Invariant**: a header is checked against its limit, and room for the frame taken from the budget, before the frame
//! is allocated; a frame that has begun must go on: an end that trickles is cut off.

use crate::pool::{Buffer, Pool};
use bytes::Bytes;
use failback_model::limits::{
    FRAME_OVERHEAD_BYTES, FRAME_PROGRESS_MIN_BYTES, FRAME_READ_BYTES, IDLE_MAX, SETUP_FRAME_MAX_BYTES,
};
use failback_wire::{Class, Frame, HEADER_BYTES, Header, WireError};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// The reading half of a connection.
pub(crate) type Input = Box<dyn AsyncRead + Send + Unpin>;

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a frame that cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error("a frame of unknown kind {0}")]
    UnknownKind(u8),
    #[error("the connection was closed in the middle of a frame")]
    Truncated,
    #[error("a frame came too slowly")]
    Stalled,
}

/// Memory that frames of a link may take until their users let go of them, by class. Ordered and urgent frames have
/// their own: a full budget of bulk never keeps a ping waiting.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    bulk: Arc<Semaphore>,
    control: Arc<Semaphore>,
}

impl Budget {
    pub(crate) fn new(bulk_bytes: usize, control_bytes: usize) -> Self {
        let semaphore = |bytes: usize| Arc::new(Semaphore::new(bytes.min(u32::MAX as usize)));
        Self { bulk: semaphore(bulk_bytes), control: semaphore(control_bytes) }
    }

    /// Waits for room. The semaphores are never closed.
    async fn take(&self, class: Class, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let from = if class == Class::Bulk { &self.bulk } else { &self.control };
        from.clone().acquire_many_owned((bytes + FRAME_OVERHEAD_BYTES) as u32).await.ok()
    }
}

/// A frame's memory with its share of the budget.
struct Charged {
    buffer: Buffer,
    _share: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref()
    }
}

/// Reads frames.
pub(crate) struct FrameReader {
    input: Input,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    limit_bytes: usize,
    budget: Option<Budget>,
    pool: Pool,
}

impl FrameReader {
    /// For the small frames of a peer that is not known yet.
    pub(crate) fn new(input: Input) -> Self {
        let buffer = vec![0; FRAME_READ_BYTES].into();
        Self {
            input,
            buffer,
            start: 0,
            end: 0,
            limit_bytes: SETUP_FRAME_MAX_BYTES,
            budget: None,
            pool: Pool::default(),
        }
    }

    /// From here on for a peer that is known: larger frames, within a budget, in the memory of its link.
    pub(crate) fn open_up(&mut self, limit_bytes: usize, budget: Budget, pool: Pool) {
        self.limit_bytes = limit_bytes;
        self.budget = Some(budget);
        self.pool = pool;
    }

    /// The next frame; `None` where the stream ends between two.
    pub(crate) async fn next(&mut self) -> Result<Option<(Class, Frame)>, ReadError> {
        if self.start == self.end {
            (self.start, self.end) = (0, self.input.read(&mut self.buffer).await?);
            if self.end == 0 {
                return Ok(None);
            }
        }
        let mut pace = Pace::new();
        let header = self.header(&mut pace).await?;
        let class = header.class().ok_or(ReadError::UnknownKind(header.kind))?;
        let total = header.frame_bytes();
        if total > self.limit_bytes {
            return Err(WireError { kind: failback_wire::ErrorKind::TooLarge, field: "frame" }.into());
        }
        let share = match &self.budget {
            Some(budget) => budget.take(class, total).await,
            None => None,
        };
        let mut buffer = self.pool.take(total);
        let bytes = buffer.as_mut_slice();
        let held = total.min(self.end - self.start);
        bytes[..held].copy_from_slice(&self.buffer[self.start..self.start + held]);
        self.start += held;
        let mut filled = held;
        // The wait for room was ours, not the peer's.
        pace.restart();
        while filled < total {
            filled += pace.read(&mut self.input, &mut bytes[filled..]).await?;
        }
        let bytes = Bytes::from_owner(Charged { buffer, _share: share });
        Ok(Some((class, Frame::split_from(&bytes)?.0)))
    }

    async fn header(&mut self, pace: &mut Pace) -> Result<Header, ReadError> {
        loop {
            if let Some(bytes) = self.buffer[self.start..self.end].first_chunk::<HEADER_BYTES>() {
                return Ok(Header::decode(bytes)?);
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.end += pace.read(&mut self.input, &mut self.buffer[self.end..]).await?;
        }
    }
}

/// Holds a frame that has begun to a least pace.
struct Pace {
    deadline: Instant,
    since_bytes: usize,
}

impl Pace {
    fn new() -> Self {
        Self { deadline: Instant::now() + IDLE_MAX, since_bytes: 0 }
    }

    fn restart(&mut self) {
        *self = Self::new();
    }

    async fn read(&mut self, input: &mut Input, into: &mut [u8]) -> Result<usize, ReadError> {
        let count = timeout_at(self.deadline, input.read(into)).await.map_err(|_| ReadError::Stalled)??;
        if count == 0 {
            return Err(ReadError::Truncated);
        }
        self.since_bytes += count;
        if self.since_bytes >= FRAME_PROGRESS_MIN_BYTES {
            self.restart();
        }
        Ok(count)
    }
}
