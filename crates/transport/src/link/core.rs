//! What the tasks of a link share.
//!
//! **Invariant**: a link's phase only goes forward: open, closing, ended; the first reason of an end is the one that stays.

use super::{ConnectionStats, LinkEnd, LinkStats};
use crate::error::{Layer, TransportError};
use crate::frames::{Budget, FrameReader};
use crate::metered::Meter;
use crate::outbox::Outbox;
use crate::pool::Pool;
use crate::socket::SocketChoice;
use crate::throttle::Throttle;
use crate::tls::Tls;
use crossbeam_channel::{Receiver, Sender, unbounded};
use failback_model::limits::{
    CONTROL_INPUT_MAX_BYTES, FRAME_MAX_BYTES, INPUT_SLACK_BYTES, WINDOW_DEFAULT_BYTES,
};
use failback_model::{Code, PeerIdentity};
use failback_session::liveness::Liveness;
use failback_wire::{Frame, Message};
use rustls_pki_types::CertificateDer;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncWrite;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use webpki::KeyUsage;

/// Where a link stands.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Frames go both ways.
    Open,
    /// This end has nothing more to say than what waits.
    Closing,
    /// Over.
    Ended(LinkEnd),
}

/// What of the end has happened.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) readers: usize,
    /// Writers of data connections.
    pub(super) data_writers: usize,
    pub(super) said_bye: bool,
    pub(super) heard_bye: bool,
}

/// What a link is made of.
pub(crate) struct CoreOptions {
    pub(crate) peer: PeerIdentity,
    /// The other end's certificates, as presented.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// What they were accepted for.
    pub(crate) usage: KeyUsage,
    /// `None` in tests without TLS.
    pub(crate) tls: Option<Tls>,
    pub(crate) throttle: Throttle,
    pub(crate) data_connections: u16,
    /// Most bulk under way, bytes.
    pub(crate) window_bytes: u64,
}

/// One connection, ready to be part of a link.
pub(crate) struct Attachment {
    /// `None`: control.
    pub(crate) index: Option<u16>,
    pub(crate) reader: FrameReader,
    pub(crate) output: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) socket: SocketChoice,
    pub(crate) remote: Option<SocketAddr>,
    /// Its place among the listener's connections.
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

/// What is counted of a connection.
#[derive(Debug)]
pub(super) struct Counted {
    index: Option<u16>,
    remote: Option<SocketAddr>,
    socket: SocketChoice,
    meter: Arc<Meter>,
    pub(super) sent_frames: AtomicU64,
    pub(super) received_frames: AtomicU64,
}

impl Counted {
    pub(super) fn is_control(&self) -> bool {
        self.index.is_none()
    }
}

/// What the tasks of a link share.
pub(crate) struct Core {
    pub(crate) outbox: Outbox,
    pub(crate) peer: PeerIdentity,
    pub(crate) throttle: Throttle,
    pub(super) tls: Option<Tls>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) usage: KeyUsage,
    pub(super) data_connections: u16,
    input: Mutex<Option<Sender<Frame>>>,
    budget: Budget,
    pool: Pool,
    phase: watch::Sender<Phase>,
    pub(super) progress: watch::Sender<Progress>,
    connections: Mutex<Vec<Arc<Counted>>>,
    pub(super) liveness: Mutex<Liveness>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section of a link is a single step: a panic elsewhere leaves nothing torn.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    /// A link without connections yet; and where its frames come out.
    pub(crate) fn new(options: CoreOptions) -> (Arc<Self>, Receiver<Frame>) {
        let (sender, receiver) = unbounded();
        let window = usize::try_from(options.window_bytes.max(WINDOW_DEFAULT_BYTES)).unwrap_or(usize::MAX);
        let core = Self {
            outbox: Outbox::default(),
            peer: options.peer,
            throttle: options.throttle,
            tls: options.tls,
            chain: options.chain,
            usage: options.usage,
            data_connections: options.data_connections,
            input: Mutex::new(Some(sender)),
            budget: Budget::new(window.saturating_add(INPUT_SLACK_BYTES), CONTROL_INPUT_MAX_BYTES),
            pool: Pool::default(),
            phase: watch::Sender::new(Phase::Open),
            progress: watch::Sender::new(Progress::default()),
            connections: Mutex::new(Vec::new()),
            liveness: Mutex::new(Liveness::new(Instant::now().into_std())),
        };
        (Arc::new(core), receiver)
    }

    /// Makes a connection part of the link and starts its tasks; the control connection's keeper too.
    pub(crate) fn attach(self: &Arc<Self>, mut connection: Attachment) {
        connection.reader.open_up(FRAME_MAX_BYTES, self.budget.clone(), self.pool.clone());
        connection.meter.open_up();
        let counted = Arc::new(Counted {
            index: connection.index,
            remote: connection.remote,
            socket: connection.socket,
            meter: connection.meter,
            sent_frames: AtomicU64::new(0),
            received_frames: AtomicU64::new(0),
        });
        let is_control = connection.index.is_none();
        let Some(input) = lock(&self.input).clone() else { return };
        lock(&self.connections).push(counted.clone());
        self.progress.send_modify(|progress| {
            progress.readers += 1;
            progress.data_writers += usize::from(!is_control);
        });
        let place = Arc::new(connection.place);
        super::reading::start(self.clone(), connection.reader, counted.clone(), input, place.clone());
        super::writing::start(self.clone(), connection.output, counted, place);
        if is_control {
            super::keeper::start(self.clone());
        }
    }

    /// Data connections that have joined.
    pub(super) fn joined(&self) -> usize {
        lock(&self.connections).iter().filter(|connection| connection.index.is_some()).count()
    }

    /// Nothing more is sent than what waits.
    pub(crate) fn close(&self) {
        self.outbox.close();
        self.phase.send_if_modified(|phase| {
            let is_open = matches!(phase, Phase::Open);
            if is_open {
                *phase = Phase::Closing;
            }
            is_open
        });
    }

    /// Ends the link at once.
    pub(crate) fn cut(&self, why: TransportError) {
        self.finish(LinkEnd::Cut(why));
    }

    pub(super) fn finish(&self, end: LinkEnd) {
        self.outbox.close();
        let is_first = self.phase.send_if_modified(|phase| {
            let is_first = !matches!(phase, Phase::Ended(_));
            if is_first {
                *phase = Phase::Ended(end.clone());
            }
            is_first
        });
        lock(&self.input).take();
        if is_first && let LinkEnd::Cut(error) = &end {
            tracing::warn!(peer = %self.peer, code = error.code.as_str(), %error, "link ended");
        }
    }

    /// The other end will start nothing new: no connection joins from here on.
    pub(super) fn heard_bye(&self) {
        lock(&self.input).take();
        self.step(|progress| progress.heard_bye = true);
    }

    /// Notes a step of the end; with the last one the link has ended.
    pub(super) fn step(&self, note: impl FnOnce(&mut Progress)) {
        let mut is_over = false;
        self.progress.send_modify(|progress| {
            note(progress);
            is_over = progress.said_bye
                && progress.heard_bye
                && progress.readers == 0
                && progress.data_writers == 0;
        });
        if is_over {
            self.finish(LinkEnd::Goodbye);
        }
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// How it ended, if it has.
    pub(crate) fn end(&self) -> Option<LinkEnd> {
        match &*self.phase.borrow() {
            Phase::Ended(end) => Some(end.clone()),
            _ => None,
        }
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> LinkEnd {
        let mut phase = self.phase();
        let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
        match ended.as_deref() {
            Ok(Phase::Ended(end)) => end.clone(),
            // The sender lives as long as this call's borrow.
            _ => LinkEnd::Cut(self.lost("the link is gone")),
        }
    }

    /// Lets the machine send its question or answer, if it has one.
    pub(super) fn transmit_liveness(&self) {
        let message = lock(&self.liveness).poll_transmit();
        if let Some(message) = message {
            self.outbox.push(message.encode());
        }
    }

    /// Hands a message of the link itself to the machine.
    pub(super) fn handle_link_message(&self, message: &Message) -> Result<(), TransportError> {
        let now = Instant::now().into_std();
        let mut liveness = lock(&self.liveness);
        let handled = liveness.handle_message(message, now);
        drop(liveness);
        handled.map_err(|error| TransportError::new(error.code, Layer::Link, &self.peer, error.reason))
    }

    pub(super) fn lost(&self, why: &str) -> TransportError {
        TransportError::new(Code::ConnectionLost, Layer::Link, &self.peer, why)
    }

    /// Bytes that came over all connections.
    pub(super) fn received_bytes(&self) -> u64 {
        lock(&self.connections).iter().map(|connection| connection.meter.received_bytes()).sum()
    }

    pub(crate) fn stats(&self) -> LinkStats {
        let connections = lock(&self.connections);
        let mut connections: Vec<ConnectionStats> = connections
            .iter()
            .map(|connection| ConnectionStats {
                index: connection.index,
                remote: connection.remote,
                socket: connection.socket.clone(),
                sent_bytes: connection.meter.sent_bytes(),
                received_bytes: connection.meter.received_bytes(),
                sent_frames: connection.sent_frames.load(Ordering::Relaxed),
                received_frames: connection.received_frames.load(Ordering::Relaxed),
            })
            .collect();
        connections.sort_by_key(|connection| connection.index);
        LinkStats {
            connections,
            queued_bytes: self.outbox.bytes(),
            round_trip: lock(&self.liveness).round_trip(),
        }
    }
}
