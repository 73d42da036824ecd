//! The in-memory pipe between the two ends of a pass in one process. It carries encoded frames, so that what is
//! counted and decoded is what would cross a wire; payloads are shared, never copied.
//!
//! The pipe itself has no bound: the sessions' credit is the bound.

use crate::api::PassError;
use crossbeam_channel::{Receiver, Sender, unbounded};
use failback_blockio::{DiskError, Operation};
use failback_model::{Code, Finding};
use failback_wire::{Frame, Message, WireError};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// One end of the pipe.
#[derive(Debug)]
pub(crate) struct PipeEnd {
    output: Sender<Frame>,
    pub(crate) input: Receiver<Frame>,
}

/// Two ends that hear each other.
pub(crate) fn pipe() -> (PipeEnd, PipeEnd) {
    let (to_left, left) = unbounded();
    let (to_right, right) = unbounded();
    (PipeEnd { output: to_right, input: left }, PipeEnd { output: to_left, input: right })
}

impl PipeEnd {
    /// Encodes and sends; counts what would cross a wire. An error where the other end is gone.
    pub(crate) fn send(&self, message: &Message, encoded_bytes: &AtomicU64) -> Result<(), PassError> {
        let frame = message.encode();
        encoded_bytes.fetch_add(frame.encoded_bytes(), Ordering::Relaxed);
        self.output.send(frame).map_err(|_| peer_gone())
    }
}

/// Decodes a frame that came.
pub(crate) fn decode(frame: &Frame) -> Result<Message, PassError> {
    Message::decode(frame).map_err(|error: WireError| {
        PassError::Failed(Finding::error(
            Code::ProtocolViolation,
            format!("a frame that cannot be read: {error}"),
        ))
    })
}

/// The other end stopped; its own error says why.
pub(crate) fn peer_gone() -> PassError {
    PassError::Failed(Finding::error(Code::PeerFailed, "the other end stopped"))
}

/// Answers with an error where the thread that holds it panics, so that whoever waits for the answer does not wait for
/// ever.
pub(crate) struct PanicGuard<'a, T, E: From<DiskError>>(pub(crate) &'a Sender<Result<T, E>>);

impl<T, E: From<DiskError>> Drop for PanicGuard<'_, T, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            let name = Path::new(thread.name().unwrap_or("a thread"));
            let error =
                DiskError::new(Code::Internal, Operation::Read, name, "this thread panicked, see above");
            // A loop that is gone needs no answer.
            let _ = self.0.send(Err(error.into()));
        }
    }
}
