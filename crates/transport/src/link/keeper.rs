//! Watches a link: whether the other end is there, whether its certificate still holds, whether the end comes to an end.
//!
//! **Invariant**: no state of a link lasts longer than its limit without a sign of the other end.

use super::core::{Core, Phase, lock};
use crate::error::{Layer, TransportError};
use crate::tls::Tls;
use failback_model::Code;
use failback_model::limits::{GOODBYE_MAX, LINK_TICK, SETUP_MAX};
use rustls_pki_types::UnixTime;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Starts the keeper. It ends with the link.
pub(super) fn start(core: Arc<Core>) {
    tokio::spawn(async move {
        tokio::select! {
            error = keep(&core) => core.cut(error),
            _ = core.ended() => (),
        }
    });
}

/// Returns what went wrong.
async fn keep(core: &Core) -> TransportError {
    let mut phase = core.phase();
    let mut certificates = core.tls.as_ref().map(Tls::watch);
    // They may have changed since the handshake.
    certificates.iter_mut().for_each(watch::Receiver::mark_changed);
    let mut tick = interval(LINK_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    let mut closing_since = None;
    let mut heard_bytes = 0;
    loop {
        let reloaded = async {
            match &mut certificates {
                Some(certificates) => certificates.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tick.tick() => (),
            _ = phase.changed() => (),
            true = reloaded => if let Err(error) = check_certificate(core) {
                return error;
            },
        }
        let now = Instant::now();
        if matches!(*phase.borrow_and_update(), Phase::Closing) {
            let since = *closing_since.get_or_insert(now);
            if now >= since + GOODBYE_MAX {
                return TransportError::timed_out(Layer::Link, &core.peer, "the goodbye");
            }
        }
        if now >= started + SETUP_MAX && core.joined() < usize::from(core.data_connections) {
            return TransportError::timed_out(Layer::Link, &core.peer, "data connections that did not join");
        }
        let received = core.received_bytes();
        if let Err(error) = check_liveness(core, received != heard_bytes, now) {
            return error;
        }
        heard_bytes = received;
    }
}

fn check_liveness(core: &Core, has_heard: bool, now: Instant) -> Result<(), TransportError> {
    let now = now.into_std();
    let mut liveness = lock(&core.liveness);
    if has_heard {
        liveness.handle_received(now);
    }
    let checked = liveness.handle_time(now);
    drop(liveness);
    checked.map_err(|error| TransportError::new(error.code, Layer::Link, &core.peer, error.reason))?;
    core.transmit_liveness();
    Ok(())
}

/// Asks the certificates in force whether the other end is still trusted.
fn check_certificate(core: &Core) -> Result<(), TransportError> {
    let Some(tls) = &core.tls else { return Ok(()) };
    let still = tls.material().trust.still_holds(&core.chain, UnixTime::now(), core.usage);
    still.map_err(|error| {
        let reason = format!("the other end's certificate is no longer trusted: {error}");
        TransportError::new(Code::TlsFailed, Layer::Tls, &core.peer, reason)
    })
}
