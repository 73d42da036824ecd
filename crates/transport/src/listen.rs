//! The end that listens.
//!
//! A connection is *unknown* until its first frame was read, behind a good certificate. Of unknown ones there is a fixed
//! number, and the oldest makes room for the newest: a flood of silent connections costs a little memory and keeps nobody
//! out. Known ones are counted against a limit of their own, and one too many is told so.
//!
//! **Invariant**: what an unknown peer can make this end hold is bounded in bytes, in time and in number.

mod sessions;
mod unknown;

use self::sessions::{JoinError, Sessions};
use self::unknown::{Guard, Unknown};
use crate::error::{Layer, TransportError};
use crate::link::{Core, CoreOptions, RemoteLink};
use crate::setup::{Bare, Connection, after_handshake};
use crate::socket::SocketOptions;
use crate::throttle::Throttle;
use crate::tls::Tls;
use failback_model::limits::{ACCEPT_BACKLOG, CONNECTIONS_MAX, DATA_CONNECTIONS_MAX, RATE_CHECK, SETUP_MAX};
use failback_model::{Code, PeerIdentity, SessionToken};
use failback_wire::{Join, Message, Open, Welcome};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use webpki::KeyUsage;

/// Why a session is not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code; it crosses the wire.
    pub code: Code,
    /// In words; they cross the wire too.
    pub message: String,
}

/// Takes a session's link once the other end was welcomed.
pub type LinkAcceptor = Box<dyn FnOnce(RemoteLink) + Send>;

/// Decides who may open which session.
pub trait Host: Send + Sync + 'static {
    /// Answers the first frame of a peer whose certificate is good, and which calls from that address. The welcome's token is set by the listener, and its
    /// data connections are cut to what the listener allows.
    fn open(
        &self,
        peer: PeerIdentity,
        from: SocketAddr,
        open: Open,
    ) -> impl Future<Output = Result<(Welcome, LinkAcceptor), Refusal>> + Send;
}

/// Limits and options of a listener.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Most connections that are known, control and data together.
    pub connections_max: usize,
    /// Most data connections of one session.
    pub data_connections_max: u16,
    /// Options of the sockets.
    pub socket: SocketOptions,
    /// Limits what this end sends, all links together.
    pub throttle: Throttle,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            data_connections_max: DATA_CONNECTIONS_MAX as u16,
            socket: SocketOptions::default(),
            throttle: Throttle::unlimited(),
        }
    }
}

/// What a listener has seen. What fails is also told to whoever hosts it, code by code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenStats {
    /// Connections that are known now.
    pub known: usize,
    /// Connections that are not yet known now.
    pub unknown: usize,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections dropped so far to make room for newer unknown ones.
    pub displaced: u64,
    /// Connections that came to nothing so far, by code.
    pub failed: BTreeMap<&'static str, u64>,
}

/// A listening socket.
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    tls: Tls,
    options: ListenOptions,
    known: Arc<Semaphore>,
    unknown: Unknown,
    sessions: Sessions,
    counters: Mutex<Counters>,
}

#[derive(Default)]
struct Counters {
    accepted: u64,
    failed: BTreeMap<&'static str, u64>,
}

impl Listener {
    /// Listens on an address.
    pub fn bind(address: SocketAddr, tls: Tls, options: ListenOptions) -> Result<Self, TransportError> {
        let failed = |error| TransportError::io(Layer::Address, address, error);
        let socket = options.socket.socket(address).map_err(failed)?;
        // A restart must not wait for connections of the life before.
        socket.set_reuseaddr(true).map_err(failed)?;
        socket.bind(address).map_err(failed)?;
        let socket = socket.listen(ACCEPT_BACKLOG).map_err(failed)?;
        let known = Arc::new(Semaphore::new(options.connections_max));
        let shared = Shared {
            tls,
            options,
            known,
            unknown: Unknown::default(),
            sessions: Sessions::default(),
            counters: Mutex::default(),
        };
        Ok(Self { socket, shared: Arc::new(shared) })
    }

    /// The address that it listens on.
    pub fn local_address(&self) -> Result<SocketAddr, TransportError> {
        self.socket.local_addr().map_err(|error| TransportError::io(Layer::Address, "listener", error))
    }

    /// What it has seen.
    pub fn stats(&self) -> ListenStats {
        let counters = self.shared.counters();
        ListenStats {
            known: self.shared.options.connections_max - self.shared.known.available_permits(),
            unknown: self.shared.unknown.count(),
            accepted: counters.accepted,
            displaced: self.shared.unknown.displaced(),
            failed: counters.failed.clone(),
        }
    }

    /// Accepts until it is dropped. Links that stand outlive it.
    pub async fn run(&self, host: Arc<impl Host>) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, remote)) => {
                        self.shared.counters().accepted += 1;
                        let (shared, host) = (self.shared.clone(), host.clone());
                        let (guard, admit) = self.shared.unknown.enter();
                        admit.set(tasks.spawn(async move {
                            if let Err(error) = shared.serve(stream, remote, guard, &*host).await {
                                shared.note(&error);
                            }
                        }));
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: those of others come back.
                        tracing::warn!(%error, "cannot accept");
                        sleep(RATE_CHECK).await;
                    }
                },
                Some(_) = tasks.join_next() => (),
            }
        }
    }
}

impl Shared {
    fn counters(&self) -> std::sync::MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, error: &TransportError) {
        *self.counters().failed.entry(error.code.as_str()).or_default() += 1;
        let (code, layer) = (error.code.as_str(), error.layer.as_str());
        // Whoever scans ports must not fill the log.
        match error.is_of_a_stranger() {
            true => tracing::debug!(code, layer, %error, "connection refused"),
            false => tracing::warn!(code, layer, %error, "connection refused"),
        }
    }

    async fn serve(
        self: &Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        guard: Guard,
        host: &impl Host,
    ) -> Result<(), TransportError> {
        self.options.socket.apply(&stream);
        let mut connection = self.secure(stream, remote).await?;
        let first = connection.receive(SETUP_MAX, "the first frame").await?;
        guard.leave();
        let Ok(place) = self.known.clone().try_acquire_owned() else {
            let reason = format!("this listener has its {} connections", self.options.connections_max);
            return Err(refuse(connection, Code::TooManyConnections, reason).await);
        };
        match first {
            Message::Open(open) => self.open(connection, place, *open, host).await,
            Message::Join(join) => self.join(connection, place, &join).await,
            _ => {
                let error = connection.unexpected("one that opens or joins a session");
                connection.refuse(error.code, &error.reason).await;
                Err(error)
            }
        }
    }

    async fn secure(&self, stream: TcpStream, remote: SocketAddr) -> Result<Connection, TransportError> {
        let config = self.tls.material().server.clone();
        let (stream, rest) = Bare::new(stream, remote).part();
        match timeout(SETUP_MAX, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(mut stream)) => {
                let chain = after_handshake(stream.get_mut().1);
                rest.secured(stream, chain)
            }
            Ok(Err(error)) => Err(TransportError::io(Layer::Tls, remote, error)),
            Err(_) => Err(TransportError::timed_out(Layer::Tls, remote, "the TLS handshake")),
        }
    }

    async fn open(
        self: &Arc<Self>,
        mut connection: Connection,
        place: OwnedSemaphorePermit,
        open: Open,
        host: &impl Host,
    ) -> Result<(), TransportError> {
        let most = open.data_connections.min(self.options.data_connections_max);
        let (mut welcome, acceptor) = match host.open(connection.peer.clone(), connection.remote, open).await
        {
            Ok(opened) => opened,
            Err(Refusal { code, message }) => return Err(refuse(connection, code, message).await),
        };
        let random = self.tls.material().random();
        welcome.token = SessionToken(random.map_err(|error| {
            TransportError::new(Code::Internal, Layer::Setup, connection.remote, error.to_string())
        })?);
        welcome.data_connections = welcome.data_connections.min(most);
        let (core, input) = Core::new(CoreOptions {
            peer: connection.peer.clone(),
            chain: connection.chain.clone(),
            usage: KeyUsage::client_auth(),
            tls: Some(self.tls.clone()),
            throttle: self.options.throttle.clone(),
            data_connections: welcome.data_connections,
            window_bytes: welcome.window_bytes,
        });
        let link = RemoteLink::new(core.clone(), input);
        self.sessions.expect(&core, &welcome, connection.chain.first());
        let (shared, token, ended) = (self.clone(), welcome.token, core.clone());
        tokio::spawn(async move {
            ended.ended().await;
            shared.sessions.forget(&token);
        });
        let welcomed = connection.send(&Message::Welcome(Box::new(welcome))).await;
        welcomed.inspect_err(|error| core.cut(error.clone()))?;
        core.attach(connection.into_attachment(None, Some(place)));
        acceptor(link);
        Ok(())
    }

    async fn join(
        &self,
        mut connection: Connection,
        place: OwnedSemaphorePermit,
        join: &Join,
    ) -> Result<(), TransportError> {
        let core = match self.sessions.join(join, connection.chain.first()) {
            Ok(core) => core,
            Err(JoinError { code, message }) => return Err(refuse(connection, code, message.into()).await),
        };
        let joined = connection.send(&Message::Joined { index: join.index }).await;
        joined.inspect_err(|error| core.cut(error.clone()))?;
        core.attach(connection.into_attachment(Some(join.index), Some(place)));
        Ok(())
    }
}

async fn refuse(connection: Connection, code: Code, message: String) -> TransportError {
    let with = format!("{} ({})", connection.peer, connection.remote);
    connection.refuse(code, &message).await;
    TransportError::new(code, Layer::Setup, with, message)
}
