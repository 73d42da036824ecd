//! A connection between TLS and its place in a link: one frame each way.
//!
//! **Invariant**: every step has a limit of time and of bytes; an end that is refused is told why, in the form that every
//! version understands.

use crate::error::{Layer, TransportError};
use crate::frames::{FrameReader, ReadError};
use crate::link::Attachment;
use crate::metered::{Meter, Metered};
use crate::socket::SocketChoice;
use crate::verify::identity_of;
use failback_model::limits::{SETUP_MAX, TLS_BUFFER_BYTES};
use failback_model::{Code, PeerIdentity};
use failback_wire::{Frame, Message};
use rustls::{ConnectionCommon, SideData};
use rustls_pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// A connection whose peer has shown its certificate.
pub(crate) struct Connection {
    pub(crate) peer: PeerIdentity,
    /// Its certificates, as presented.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    reader: FrameReader,
    output: Box<dyn AsyncWrite + Send + Unpin>,
    meter: Arc<Meter>,
    socket: SocketChoice,
    pub(crate) remote: SocketAddr,
}

/// A socket, and what is known of it before TLS takes it.
pub(crate) struct Bare {
    pub(crate) stream: Metered<TcpStream>,
    meter: Arc<Meter>,
    socket: SocketChoice,
    remote: SocketAddr,
}

impl Bare {
    pub(crate) fn new(stream: TcpStream, remote: SocketAddr) -> Self {
        let meter = Arc::new(Meter::default());
        let socket = SocketChoice::of(&stream);
        Self { stream: Metered::new(stream, meter.clone()), meter, socket, remote }
    }
}

/// What is kept of a socket while TLS has it.
pub(crate) struct Rest {
    meter: Arc<Meter>,
    socket: SocketChoice,
    remote: SocketAddr,
}

impl Bare {
    /// Parts the socket from what is known of it.
    pub(crate) fn part(self) -> (Metered<TcpStream>, Rest) {
        (self.stream, Rest { meter: self.meter, socket: self.socket, remote: self.remote })
    }
}

impl Rest {
    /// Takes over from a handshake that went well.
    pub(crate) fn secured(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        chain: Option<Vec<CertificateDer<'static>>>,
    ) -> Result<Connection, TransportError> {
        let chain = chain.unwrap_or_default();
        let leaf = chain.first().ok_or(rustls::Error::NoCertificatesPresented);
        let peer = leaf
            .and_then(|leaf| identity_of(leaf))
            .map_err(|error| TransportError::io(Layer::Tls, self.remote, io::Error::other(error)))?;
        let (input, output) = tokio::io::split(stream);
        Ok(Connection {
            peer,
            chain,
            reader: FrameReader::new(Box::new(input)),
            output: Box::new(output),
            meter: self.meter,
            socket: self.socket,
            remote: self.remote,
        })
    }
}

impl Connection {
    /// For messages about it.
    fn with(&self) -> String {
        format!("{} ({})", self.peer, self.remote)
    }

    /// Sends one message.
    pub(crate) async fn send(&mut self, message: &Message) -> Result<(), TransportError> {
        let frame = message.encode();
        let sent = timeout(SETUP_MAX, async {
            self.output.write_all(frame.head()).await?;
            self.output.write_all(frame.payload()).await?;
            self.output.flush().await
        });
        match sent.await {
            Ok(sent) => sent.map_err(|error| TransportError::io(Layer::Setup, self.with(), error)),
            Err(_) => Err(TransportError::timed_out(Layer::Setup, self.with(), "sending the first frame")),
        }
    }

    /// Waits for one message. What the other end refuses is an error with its code and its words.
    pub(crate) async fn receive(&mut self, limit: Duration, what: &str) -> Result<Message, TransportError> {
        let Ok(next) = timeout(limit, self.reader.next()).await else {
            return Err(TransportError::timed_out(Layer::Setup, self.with(), what));
        };
        let frame: Frame = match next {
            Ok(Some((_, frame))) => frame,
            Ok(None) => {
                let reason = format!("the other end closed the connection instead of {what}");
                return Err(TransportError::new(Code::ConnectionLost, Layer::Setup, self.with(), reason));
            }
            Err(ReadError::Io(error)) => return Err(TransportError::io(Layer::Setup, self.with(), error)),
            Err(error) => {
                return Err(TransportError::violation(Layer::Setup, self.with(), error.to_string()));
            }
        };
        match Message::decode(&frame) {
            Ok(Message::Error { code, message }) => {
                let known = Code::ALL.iter().find(|known| known.as_str() == code);
                let reason = match known {
                    Some(_) => format!("the other end refuses: {message}"),
                    None => format!("the other end refuses: {code} {message}"),
                };
                let code = known.copied().unwrap_or(Code::PeerFailed);
                let error = TransportError::new(code, Layer::Setup, self.with(), reason);
                Err(TransportError { is_refusal: true, ..error })
            }
            Ok(message) => Ok(message),
            Err(error) => Err(TransportError::violation(Layer::Setup, self.with(), error.to_string())),
        }
    }

    /// Says why this connection is not wanted, and closes it.
    pub(crate) async fn refuse(mut self, code: Code, message: &str) {
        let refusal = Message::Error { code: code.as_str().into(), message: message.into() };
        if self.send(&refusal).await.is_ok() {
            let farewell = async {
                let _closed = self.output.shutdown().await;
                // Whatever is still under way must be read: a socket closed over unread bytes takes the refusal back.
                while let Ok(Some(_)) = self.reader.next().await {}
            };
            let _late = timeout(SETUP_MAX, farewell).await;
        }
    }

    /// What was not expected.
    pub(crate) fn unexpected(&self, what: &str) -> TransportError {
        TransportError::violation(Layer::Setup, self.with(), format!("another message than {what}"))
    }

    /// Makes it part of a link.
    pub(crate) fn into_attachment(
        self,
        index: Option<u16>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Attachment {
        Attachment {
            index,
            reader: self.reader,
            output: self.output,
            meter: self.meter,
            socket: self.socket,
            remote: Some(self.remote),
            place,
        }
    }
}

/// What both kinds of TLS connections have after their handshake.
pub(crate) fn after_handshake<C, D>(connection: &mut C) -> Option<Vec<CertificateDer<'static>>>
where
    C: DerefMut<Target = ConnectionCommon<D>>,
    D: SideData,
{
    connection.set_buffer_limit(Some(TLS_BUFFER_BYTES));
    connection.peer_certificates().map(<[_]>::to_vec)
}
