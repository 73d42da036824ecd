//! A client that speaks TLS with a good certificate, and then whatever a test wants.

use crate::site::{Site, open};
use failback_model::Code;
use failback_testkit::trusting_client;
use failback_transport::TlsFiles;
use failback_wire::{Frame, Message, Welcome};
use rustls_pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One connection.
pub(crate) struct Stranger(pub(crate) TlsStream<TcpStream>);

impl Stranger {
    /// With the certificate of a peer, or none.
    pub(crate) async fn connect(address: SocketAddr, files: Option<&TlsFiles>) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let config = trusting_client(files.map(|files| (files.cert.as_path(), files.key.as_path())));
        let connector = TlsConnector::from(Arc::new(config));
        Self(connector.connect(name, stream).await.expect("a handshake"))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("sent");
        self.0.flush().await.expect("sent");
    }

    pub(crate) async fn say(&mut self, message: &Message) {
        let frame = message.encode();
        self.send(frame.head()).await;
        self.send(frame.payload()).await;
    }

    /// The next message; `None` where the connection is closed or broken.
    pub(crate) async fn hear(&mut self) -> Option<Message> {
        let mut bytes = vec![0; failback_wire::HEADER_BYTES];
        self.0.read_exact(&mut bytes).await.ok()?;
        let header = failback_wire::Header::decode(bytes.first_chunk().expect("a header")).expect("a header");
        let at = bytes.len();
        bytes.resize(header.frame_bytes(), 0);
        self.0.read_exact(&mut bytes[at..]).await.ok()?;
        let (frame, _) = Frame::split_from(&bytes.into()).expect("a frame");
        Some(Message::decode(&frame).expect("a message"))
    }

    /// Reads until the connection is closed.
    pub(crate) async fn hear_out(&mut self) {
        let mut rest = vec![0; 4096];
        while let Ok(1..) = self.0.read(&mut rest).await {}
    }

    /// The code of a refusal that comes next.
    pub(crate) async fn refusal(&mut self) -> Code {
        match self.hear().await {
            Some(Message::Error { code, .. }) => {
                *Code::ALL.iter().find(|known| known.as_str() == code).expect("a code")
            }
            other => panic!("{other:?}"),
        }
    }

    /// A session that stands.
    pub(crate) async fn session(site: &Site, address: SocketAddr, data_connections: u16) -> (Self, Welcome) {
        let mut stranger = Self::connect(address, Some(&site.files(crate::site::CLIENT))).await;
        stranger.say(&Message::Open(Box::new(open(data_connections)))).await;
        match stranger.hear().await {
            Some(Message::Welcome(welcome)) => (stranger, *welcome),
            other => panic!("{other:?}"),
        }
    }
}
