//! What leaves over one connection.
//!
//! Frames are gathered into one vectored write, so that TLS records are full and payloads are copied by the cipher only.
//!
//! **Invariant**: `Bye` leaves after every data connection's last byte.

use super::core::{Core, Counted, lock};
use crate::error::{Layer, TransportError};
use crate::outbox::{Lane, Ready};
use failback_model::limits::{LINK_TICK, WRITE_BATCH_BYTES};
use failback_wire::Frame;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// Starts the writer.
pub(super) fn start(
    core: Arc<Core>,
    mut output: Output,
    counted: Arc<Counted>,
    place: Arc<Option<OwnedSemaphorePermit>>,
) {
    tokio::spawn(async move {
        let is_control = counted.is_control();
        let write = async {
            write_frames(&core, &mut output, &counted).await?;
            if is_control {
                say_bye(&core, &mut output).await?;
            }
            output.shutdown().await
        };
        let result = tokio::select! {
            result = write => result,
            _ = core.ended() => return drop(place),
        };
        match result {
            Ok(()) if is_control => core.step(|progress| progress.said_bye = true),
            Ok(()) => core.step(|progress| progress.data_writers -= 1),
            Err(error) => give_up(&core, is_control, error).await,
        }
        // Keeps the connection open until the other end is done too.
        core.ended().await;
        drop((output, place));
    });
}

/// The other end takes nothing more. What it sent before that, its reason or its goodbye, may still lie unread: the
/// readers find out. Only if they do not is the link cut for this.
async fn give_up(core: &Core, is_control: bool, error: io::Error) {
    if timeout(LINK_TICK, core.ended()).await.is_ok() {
        return;
    }
    if core.progress.borrow().heard_bye {
        core.step(|progress| match is_control {
            true => progress.said_bye = true,
            false => progress.data_writers -= 1,
        });
    } else {
        core.cut(TransportError::io(Layer::Link, &core.peer, error));
    }
}

async fn write_frames(core: &Core, output: &mut Output, counted: &Counted) -> io::Result<()> {
    let lane = match counted.is_control() {
        true => Lane::Control { takes_bulk: core.data_connections == 0 },
        false => Lane::Data,
    };
    let mut batch: Vec<Frame> = Vec::new();
    loop {
        let mut ready = core.outbox.ready(lane).await;
        match ready {
            Ready::Drained => return output.flush().await,
            Ready::Control => (),
            Ready::Bulk => tokio::select! {
                biased;
                () = core.outbox.control_ready(), if lane != Lane::Data => ready = Ready::Control,
                () = core.throttle.ready() => (),
                // Nobody waits for the throttle with nothing to send.
                () = core.outbox.bulk_gone() => continue,
            },
        }
        let bytes = core.outbox.take(ready, core.throttle.batch_bytes(WRITE_BATCH_BYTES), &mut batch);
        core.throttle.charge(bytes);
        write_all(output, &batch).await?;
        counted.sent_frames.fetch_add(batch.len() as u64, Ordering::Relaxed);
        batch.clear();
        output.flush().await?;
    }
}

/// Writes frames one behind the other.
async fn write_all(output: &mut Output, frames: &[Frame]) -> io::Result<()> {
    let parts = frames.iter().flat_map(|frame| [frame.head(), frame.payload()]);
    let mut slices: Vec<IoSlice<'_>> =
        parts.filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
    let mut slices = slices.as_mut_slice();
    while !slices.is_empty() {
        match output.write_vectored(slices).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => IoSlice::advance_slices(&mut slices, count),
        }
    }
    Ok(())
}

async fn say_bye(core: &Core, output: &mut Output) -> io::Result<()> {
    let mut progress = core.progress.subscribe();
    // The sender is the link's own.
    let _sent = progress.wait_for(|progress| progress.data_writers == 0).await;
    drop(_sent);
    let bye = lock(&core.liveness).goodbye(Instant::now().into_std()).encode();
    output.write_all(bye.head()).await
}
