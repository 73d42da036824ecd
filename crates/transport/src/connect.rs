//! The end that connects: one control connection, then the data connections, then a link.
//!
//! **Invariant**: a link is handed out with all of its connections or not at all.

use crate::error::{Layer, TransportError};
use crate::link::{Core, CoreOptions, RemoteLink};
use crate::setup::{Bare, Connection, after_handshake};
use crate::socket::SocketOptions;
use crate::throttle::Throttle;
use crate::tls::Tls;
use failback_model::limits::{IDLE_MAX, SETUP_MAX};
use failback_model::{Code, PeerIdentity};
use failback_wire::{Join, Message, Open, Welcome};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use webpki::KeyUsage;

/// To whom, and how.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// `HOST:PORT`.
    pub address: String,
    /// Who must be there.
    pub server: PeerIdentity,
    /// Certificates of this end.
    pub tls: Tls,
    /// Options of the sockets.
    pub socket: SocketOptions,
    /// Limits what this end sends.
    pub throttle: Throttle,
}

/// Opens a session. How many data connections it has is asked for by `open` and granted by the answer.
///
/// The answer is not judged here: whether its version, clock and geometry will do is the session's question.
pub async fn connect(options: &ConnectOptions, open: Open) -> Result<(Welcome, RemoteLink), TransportError> {
    let material = options.tls.material();
    let tls = material.client(&options.server).map_err(|error| {
        TransportError::new(Code::TlsFailed, Layer::Tls, &options.address, error.to_string())
    })?;
    let stream = dial(options).await?;
    let mut control = secure(stream, tls.clone()).await?;
    let wanted = open.data_connections;
    control.send(&Message::Open(Box::new(open))).await?;
    let welcome = match control.receive(IDLE_MAX, "an answer to the first frame").await? {
        Message::Welcome(welcome) if welcome.data_connections <= wanted => *welcome,
        Message::Welcome(_) => {
            return Err(control.unexpected("a welcome with no more connections than asked for"));
        }
        _ => return Err(control.unexpected("a welcome")),
    };
    let joined = join_all(options, &tls, control.remote, &welcome).await?;
    let (core, input) = Core::new(CoreOptions {
        peer: control.peer.clone(),
        chain: control.chain.clone(),
        usage: KeyUsage::server_auth(),
        tls: Some(options.tls.clone()),
        throttle: options.throttle.clone(),
        data_connections: welcome.data_connections,
        window_bytes: welcome.window_bytes,
    });
    for (index, connection) in joined {
        core.attach(connection.into_attachment(Some(index), None));
    }
    core.attach(control.into_attachment(None, None));
    Ok((welcome, RemoteLink::new(core, input)))
}

/// Connects to the first address that answers.
async fn dial(options: &ConnectOptions) -> Result<(TcpStream, SocketAddr), TransportError> {
    let address = &options.address;
    let failed = |layer, error: io::Error| TransportError::io(layer, address, error);
    let found = timeout(SETUP_MAX, lookup_host(address.as_str())).await;
    let found =
        found.map_err(|_| TransportError::timed_out(Layer::Address, address, "looking up the name"))?;
    let mut last =
        TransportError::new(Code::ConnectionLost, Layer::Address, address, "the name has no address");
    for remote in found.map_err(|error| failed(Layer::Address, error))? {
        match dial_one(&options.socket, remote).await {
            Ok(stream) => return Ok((stream, remote)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn dial_one(options: &SocketOptions, remote: SocketAddr) -> Result<TcpStream, TransportError> {
    let failed = |error: io::Error| TransportError::io(Layer::Tcp, remote, error);
    let socket = options.socket(remote).map_err(failed)?;
    match timeout(SETUP_MAX, socket.connect(remote)).await {
        Ok(connected) => {
            let stream = connected.map_err(failed)?;
            options.apply(&stream);
            Ok(stream)
        }
        Err(_) => Err(TransportError::timed_out(Layer::Tcp, remote, "nobody answers")),
    }
}

async fn secure(
    (stream, remote): (TcpStream, SocketAddr),
    config: Arc<ClientConfig>,
) -> Result<Connection, TransportError> {
    let (stream, rest) = Bare::new(stream, remote).part();
    // Nobody looks at it: it is not sent, and the peer is known by its identity.
    let name = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    match timeout(SETUP_MAX, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(mut stream)) => {
            let chain = after_handshake(stream.get_mut().1);
            rest.secured(stream, chain)
        }
        Ok(Err(error)) => Err(TransportError::io(Layer::Tls, remote, error)),
        Err(_) => Err(TransportError::timed_out(Layer::Tls, remote, "the TLS handshake")),
    }
}

/// Opens the data connections, all at once.
async fn join_all(
    options: &ConnectOptions,
    tls: &Arc<ClientConfig>,
    remote: SocketAddr,
    welcome: &Welcome,
) -> Result<Vec<(u16, Connection)>, TransportError> {
    let mut joining = JoinSet::new();
    for index in 0..welcome.data_connections {
        let (socket, tls) = (options.socket.clone(), tls.clone());
        let join = Join { version: welcome.version, token: welcome.token, index };
        joining.spawn(async move {
            let stream = dial_one(&socket, remote).await?;
            let mut connection = secure((stream, remote), tls).await?;
            connection.send(&Message::Join(join)).await?;
            match connection.receive(SETUP_MAX, "an answer to a join").await? {
                Message::Joined { index: joined } if joined == index => Ok((index, connection)),
                _ => Err(connection.unexpected("a confirmation of the join")),
            }
        });
    }
    let mut joined = Vec::new();
    while let Some(one) = joining.join_next().await {
        joined.push(one.unwrap_or_else(|_| {
            Err(TransportError::new(Code::Internal, Layer::Setup, remote, "a task of this end panicked"))
        })?);
    }
    Ok(joined)
}
