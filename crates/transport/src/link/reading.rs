//! What comes over one connection.
//!
//! **Invariant**: a frame that has no place on its connection ends the link; frames of the link itself never reach the
//! pass.

use super::core::{Core, Counted};
use crate::error::{Layer, TransportError};
use crate::frames::{FrameReader, ReadError};
use crossbeam_channel::Sender;
use failback_model::Code;
use failback_model::limits::GOODBYE_MAX;
use failback_wire::{Class, Frame, Message};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Starts the reader. Its share of the listener's room is given back when it and the writer are done.
pub(super) fn start(
    core: Arc<Core>,
    reader: FrameReader,
    counted: Arc<Counted>,
    input: Sender<Frame>,
    place: Arc<Option<OwnedSemaphorePermit>>,
) {
    tokio::spawn(async move {
        let read = async {
            match counted.is_control() {
                true => read_control(&core, reader, &counted, &input).await,
                false => read_data(&core, reader, &counted, &input).await,
            }
        };
        let result = tokio::select! {
            result = read => result,
            _ = core.ended() => Ok(()),
        };
        // Before the step: once the link has ended, its input has.
        drop(input);
        match result {
            Ok(()) => core.step(|progress| progress.readers -= 1),
            Err(error) => core.cut(error),
        }
        drop(place);
    });
}

/// Until the goodbye.
async fn read_control(
    core: &Core,
    mut reader: FrameReader,
    counted: &Counted,
    input: &Sender<Frame>,
) -> Result<(), TransportError> {
    loop {
        let next = reader.next().await.map_err(|error| broken(core, error))?;
        let Some((class, frame)) = next else {
            return Err(core.lost("the other end closed the connection without a goodbye"));
        };
        counted.received_frames.fetch_add(1, Ordering::Relaxed);
        match class {
            Class::Link => {
                let message = Message::decode(&frame).map_err(|error| broken(core, error.into()))?;
                core.handle_link_message(&message)?;
                if message == Message::Bye {
                    core.heard_bye();
                    core.close();
                    return Ok(());
                }
                core.transmit_liveness();
            }
            Class::Bulk if core.data_connections > 0 => {
                return Err(misplaced(core, "bulk on the control connection"));
            }
            Class::Ordered | Class::Urgent | Class::Bulk => hand_over(input, frame),
        }
    }
}

/// Until the other end closes its half: in an orderly end, a goodbye on the control connection follows.
async fn read_data(
    core: &Core,
    mut reader: FrameReader,
    counted: &Counted,
    input: &Sender<Frame>,
) -> Result<(), TransportError> {
    while let Some((class, frame)) = reader.next().await.map_err(|error| broken(core, error))? {
        counted.received_frames.fetch_add(1, Ordering::Relaxed);
        if class != Class::Bulk {
            return Err(misplaced(core, "a frame of control on a data connection"));
        }
        hand_over(input, frame);
    }
    let mut progress = core.progress.subscribe();
    match timeout(GOODBYE_MAX, progress.wait_for(|progress| progress.heard_bye)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(core.lost("the other end closed a data connection without a goodbye")),
    }
}

/// A pass that is gone has dropped the link too, and the goodbye is on its way.
fn hand_over(input: &Sender<Frame>, frame: Frame) {
    let _gone = input.send(frame);
}

fn misplaced(core: &Core, what: &str) -> TransportError {
    TransportError::violation(Layer::Link, &core.peer, what)
}

fn broken(core: &Core, error: ReadError) -> TransportError {
    match error {
        ReadError::Io(error) => TransportError::io(Layer::Link, &core.peer, error),
        ReadError::Truncated => core.lost("the connection was closed in the middle of a frame"),
        ReadError::Stalled => TransportError::new(Code::TimedOut, Layer::Link, &core.peer, error.to_string()),
        ReadError::Wire(_) | ReadError::UnknownKind(_) => {
            TransportError::violation(Layer::Link, &core.peer, error.to_string())
        }
    }
}
