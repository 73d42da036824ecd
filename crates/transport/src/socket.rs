//! Options of a connection's socket: what is asked for, and what the system made of it.
//!
//! **Invariant**: an option that this host does not have never costs the connection; the choice that is shown was read
//! back from the socket.

use failback_model::limits::{
    IDLE_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, PING_IDLE, SOCKET_BUFFER_MAX_BYTES,
};
use rustix::net::sockopt;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketOptions {
    /// Congestion control, such as `bbr`; the system's own where nothing is said.
    pub congestion: Option<String>,
    /// Send buffer; where nothing is said the kernel fits it to the path.
    pub send_buffer_bytes: Option<usize>,
    /// Receive buffer; where nothing is said the kernel fits it to the path.
    pub receive_buffer_bytes: Option<usize>,
}

impl SocketOptions {
    /// Buffers for a link of known speed and round trip: twice what is under way on each of its connections.
    pub fn for_link(self, bytes_per_second: u64, round_trip: Duration, connections: usize) -> Self {
        let under_way = u128::from(bytes_per_second) * round_trip.as_millis() / 1000;
        let each = 2 * under_way / connections.max(1) as u128;
        let bytes = Some(each.clamp(64 << 10, SOCKET_BUFFER_MAX_BYTES as u128) as usize);
        Self { send_buffer_bytes: bytes, receive_buffer_bytes: bytes, ..self }
    }

    /// A socket for an address. Buffers must be set before it connects or listens: they decide the window's scale.
    pub(crate) fn socket(&self, address: SocketAddr) -> std::io::Result<TcpSocket> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(bytes) = self.send_buffer_bytes {
            socket.set_send_buffer_size(bytes.min(SOCKET_BUFFER_MAX_BYTES) as u32)?;
        }
        if let Some(bytes) = self.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes.min(SOCKET_BUFFER_MAX_BYTES) as u32)?;
        }
        self.set_congestion(&socket);
        Ok(socket)
    }

    fn set_congestion(&self, socket: impl AsFd) {
        if let Some(name) = &self.congestion
            && let Err(error) = sockopt::set_tcp_congestion(&socket, name)
        {
            tracing::warn!(congestion = name, %error, "this host does not have that congestion control");
        }
    }

    /// Options of a connection that stands.
    pub(crate) fn apply(&self, stream: &TcpStream) {
        self.set_congestion(stream);
        let set = sockopt::set_tcp_nodelay(stream, true)
            .and_then(|()| sockopt::set_socket_keepalive(stream, true))
            .and_then(|()| sockopt::set_tcp_keepidle(stream, PING_IDLE))
            .and_then(|()| sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL))
            .and_then(|()| sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES))
            // Bytes that nobody acknowledges for that long: the path is gone.
            .and_then(|()| sockopt::set_tcp_user_timeout(stream, IDLE_MAX.as_millis() as u32));
        if let Err(error) = set {
            tracing::debug!(%error, "a socket option was refused");
        }
    }
}

/// What a connection's socket has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketChoice {
    /// Congestion control.
    pub congestion: String,
    /// Send buffer as the kernel counts it, its own overhead included.
    pub send_buffer_bytes: usize,
    /// Receive buffer as the kernel counts it, its own overhead included.
    pub receive_buffer_bytes: usize,
    /// Whether small segments leave at once.
    pub is_nodelay: bool,
    /// Whether the kernel asks a silent peer.
    pub is_keepalive: bool,
}

impl SocketChoice {
    /// Reads a socket back; what cannot be read is left empty.
    pub(crate) fn of(stream: &TcpStream) -> Self {
        Self {
            congestion: sockopt::tcp_congestion(stream).unwrap_or_default(),
            send_buffer_bytes: sockopt::socket_send_buffer_size(stream).unwrap_or_default(),
            receive_buffer_bytes: sockopt::socket_recv_buffer_size(stream).unwrap_or_default(),
            is_nodelay: sockopt::tcp_nodelay(stream).unwrap_or_default(),
            is_keepalive: sockopt::socket_keepalive(stream).unwrap_or_default(),
        }
    }
}
