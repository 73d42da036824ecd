//! What joins the two ends of a pass: frames out, frames in. In one process it is a pair of channels; between daemons a
//! network connection stands behind it. Both carry encoded frames, so that what is counted and decoded is what crosses a
//! wire; payloads are shared, never copied.
//!
//! **Invariant**: sending never blocks. A link has no bound of its own: the sessions' credit is the bound.

use crate::api::PassError;
use crossbeam_channel::{Receiver, Sender, unbounded};
use failback_model::limits::ERROR_TEXT_MAX_BYTES;
use failback_model::{Code, Finding};
use failback_wire::{Frame, Message, WireError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Says how many bytes wait to go out.
pub(crate) type Pressure = Arc<dyn Fn() -> u64 + Send + Sync>;

/// One end's way to the other.
pub struct Link {
    output: Box<dyn Fn(Frame) -> bool + Send>,
    pub(crate) input: Receiver<Frame>,
    pressure: Option<Pressure>,
    discard: Option<Box<dyn Fn() + Send>>,
    /// Whether the other end has counters of its own.
    is_remote: bool,
}

impl Link {
    /// A link that hands frames to `output`, which must not block and says `false` once the other end is gone, and takes
    /// them from `input`, whose sender is dropped then.
    pub fn new(output: impl Fn(Frame) -> bool + Send + 'static, input: Receiver<Frame>) -> Self {
        Self { output: Box::new(output), input, pressure: None, discard: None, is_remote: true }
    }

    /// Tells how many bytes wait to go out, which automatic compression follows.
    pub fn with_queue(self, queued_bytes: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { pressure: Some(Arc::new(queued_bytes)), ..self }
    }

    /// Tells how to give up what waits to go out, for an end that stops before a slow link has taken it.
    pub fn with_discard(self, discard: impl Fn() + Send + 'static) -> Self {
        Self { discard: Some(Box::new(discard)), ..self }
    }

    /// Whether something waits to go out.
    pub(crate) fn is_waiting(&self) -> bool {
        self.pressure.as_ref().is_some_and(|pressure| pressure() > 0)
    }

    /// Gives up contents that wait to go out; `false` where that is not possible.
    pub(crate) fn discard(&self) -> bool {
        self.discard.as_ref().map(|discard| discard()).is_some()
    }

    /// Counts what came, unless the end that sent it did.
    pub(crate) fn count_received(&self, frame: &Frame, encoded_bytes: &AtomicU64) {
        if self.is_remote {
            encoded_bytes.fetch_add(frame.encoded_bytes(), Ordering::Relaxed);
        }
    }

    /// How much waits to go out; `None` where nothing ever does.
    pub(crate) fn pressure(&self) -> Option<Pressure> {
        self.pressure.clone()
    }

    /// Two ends that hear each other, within this process.
    pub fn pair() -> (Self, Self) {
        let (to_left, left) = unbounded();
        let (to_right, right) = unbounded();
        let into = |channel: Sender<Frame>| move |frame| channel.send(frame).is_ok();
        let within = |link| Self { is_remote: false, ..link };
        (within(Self::new(into(to_right), left)), within(Self::new(into(to_left), right)))
    }

    /// Says why this end stops, unless it is the other one that did.
    pub(crate) fn tell(&self, finding: Option<Finding>) {
        let Some(finding) = finding else { return };
        if finding.code != Code::PeerFailed {
            let end = finding.evidence.floor_char_boundary(ERROR_TEXT_MAX_BYTES);
            let message = finding.evidence[..end].to_owned();
            // One that is gone needs no reason.
            let _ = (self.output)(Message::Error { code: finding.code.as_str().into(), message }.encode());
        }
    }

    /// Encodes and sends; counts what crosses. An error where the other end is gone.
    pub(crate) fn send(&self, message: &Message, encoded_bytes: &AtomicU64) -> Result<(), PassError> {
        let frame = message.encode();
        encoded_bytes.fetch_add(frame.encoded_bytes(), Ordering::Relaxed);
        if (self.output)(frame) { Ok(()) } else { Err(PassError::PeerGone) }
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
