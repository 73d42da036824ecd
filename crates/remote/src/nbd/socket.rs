//! The connection's socket, with a bound on every wait.
//!
//! **Invariant**: no call on it blocks for longer than the bound that is set.

use super::error::NbdError;
use super::uri::Transport;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A socket.
#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connected socket.
#[derive(Debug)]
pub(super) struct Socket {
    kind: Kind,
    /// While it is set up: when that must be done.
    until: Option<Instant>,
}

/// What NBD is spoken through.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Socket {
    /// Connects; every further call must end by `until`, too.
    pub(super) fn connect(transport: &Transport, until: Instant) -> Result<Self, NbdError> {
        let kind = match transport {
            Transport::Unix(path) => {
                connect_unix(path, left(until).map_err(NbdError::Unreachable)?).map(Kind::Unix)
            }
            Transport::Tcp { host, port } => connect_tcp(host, *port, until).map(Kind::Tcp),
        };
        Ok(Self { kind: kind.map_err(NbdError::Unreachable)?, until: Some(until) })
    }

    /// From now on each call has its own bound.
    pub(super) fn set_up(&mut self, silence: Duration) -> io::Result<()> {
        self.until = None;
        self.set_timeouts(silence)
    }

    fn set_timeouts(&self, bound: Duration) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(socket) => {
                socket.set_read_timeout(Some(bound))?;
                socket.set_write_timeout(Some(bound))
            }
            Kind::Unix(socket) => {
                socket.set_read_timeout(Some(bound))?;
                socket.set_write_timeout(Some(bound))
            }
        }
    }

    fn before_call(&self) -> io::Result<()> {
        self.until.map_or(Ok(()), |until| self.set_timeouts(left(until)?))
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.before_call()?;
        match &mut self.kind {
            Kind::Tcp(socket) => socket.read(buffer),
            Kind::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.before_call()?;
        match &mut self.kind {
            Kind::Tcp(socket) => socket.write(bytes),
            Kind::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    pub(super) fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn connect_tcp(host: &str, port: u16, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(until)?) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A server whose queue is full makes `connect` wait: the bound on sending is one on that, too.
fn connect_unix(path: &Path, bound: Duration) -> io::Result<UnixStream> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(bound))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}
