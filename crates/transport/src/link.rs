//! A session's connections as one link: what the pass sends goes out, what comes is handed to the pass.
//!
//! Each connection has a reader and a writer task; one keeper task watches the clock, the certificates and the end. The
//! end has two shapes. *Goodbye*: what waits is sent, every connection's sending half is closed, `Bye` goes last, and
//! the same is awaited from the other end. *Cut*: anything else; every task stops, and the sockets close.
//!
//! **Invariant**: the input ends exactly when nothing more can come: frames that came before a goodbye are all in it. A
//! link that has ended holds no socket and no task.

mod core;
mod keeper;
mod reading;
mod writing;

pub(crate) use self::core::{Attachment, Core, CoreOptions};

use crate::error::TransportError;
use crate::socket::SocketChoice;
use crate::throttle::Throttle;
use crossbeam_channel::Receiver;
use failback_model::PeerIdentity;
use failback_wire::Frame;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How a link ended.
#[derive(Debug, Clone)]
pub enum LinkEnd {
    /// Both ends said goodbye.
    Goodbye,
    /// It was cut, and why.
    Cut(TransportError),
}

/// One connection of a link, for status.
#[derive(Debug, Clone)]
pub struct ConnectionStats {
    /// `None`: the control connection; else which data connection.
    pub index: Option<u16>,
    /// The other end's address, where there is one.
    pub remote: Option<SocketAddr>,
    /// Options of its socket.
    pub socket: SocketChoice,
    /// Bytes that left, TLS records included.
    pub sent_bytes: u64,
    /// Bytes that came, TLS records included.
    pub received_bytes: u64,
    /// Frames that left.
    pub sent_frames: u64,
    /// Frames that came.
    pub received_frames: u64,
}

/// A link, for status.
#[derive(Debug, Clone)]
pub struct LinkStats {
    /// Its connections, the control connection first.
    pub connections: Vec<ConnectionStats>,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
    /// Round trip of the last ping; above the network's own while the link is busy.
    pub round_trip: Option<Duration>,
}

/// Puts frames on a link. A clone is the same.
#[derive(Clone)]
pub struct LinkSender(Arc<Core>);

impl LinkSender {
    /// Queues a frame and never waits: the session's credit bounds the queue. `false` once the link is closing.
    pub fn send(&self, frame: Frame) -> bool {
        self.0.outbox.push(frame)
    }

    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self) -> u64 {
        self.0.outbox.bytes()
    }

    /// Gives up contents that wait to be sent; what the link has begun to write still goes out whole.
    pub fn discard_bulk(&self) {
        self.0.outbox.discard_bulk();
    }
}

/// Looks at a link and ends it. A clone is the same, and does not keep the link open.
#[derive(Clone)]
pub struct LinkHandle(Arc<Core>);

impl LinkHandle {
    /// Who is at the other end.
    pub fn peer(&self) -> &PeerIdentity {
        &self.0.peer
    }

    /// What crossed so far.
    pub fn stats(&self) -> LinkStats {
        self.0.stats()
    }

    /// The throttle of what this end sends.
    pub fn throttle(&self) -> &Throttle {
        &self.0.throttle
    }

    /// Says goodbye once what waits is sent; cuts the link if that takes too long.
    pub fn close(&self) {
        self.0.close();
    }

    /// Waits for the end.
    pub async fn ended(&self) -> LinkEnd {
        self.0.ended().await
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<LinkEnd> {
        self.0.end()
    }
}

/// One end of a session's link. Dropping it says goodbye.
pub struct RemoteLink {
    core: Arc<Core>,
    input: Receiver<Frame>,
}

impl RemoteLink {
    pub(crate) fn new(core: Arc<Core>, input: Receiver<Frame>) -> Self {
        Self { core, input }
    }

    /// For what is to be sent.
    pub fn sender(&self) -> LinkSender {
        LinkSender(self.core.clone())
    }

    /// What comes. It ends when the link does.
    pub fn input(&self) -> &Receiver<Frame> {
        &self.input
    }

    /// For status and for the end.
    pub fn handle(&self) -> LinkHandle {
        LinkHandle(self.core.clone())
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &PeerIdentity {
        &self.core.peer
    }
}

impl Drop for RemoteLink {
    fn drop(&mut self) {
        self.core.close();
    }
}
