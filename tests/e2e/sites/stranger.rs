//! A process server that speaks TLS with a good certificate, and then whatever a test wants.

use super::{PATIENCE, Sites};
use failback_model::{
    Digest, DiskId, Epoch, Generation, JobId, MachineId, PeerIdentity, PointClaim, PointLabel, ProductVersion,
};
use failback_testkit::trusting_client;
use failback_wire::{Capabilities, Frame, HEADER_BYTES, Header, Message, Open, Version};
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A request for a disk, as a process server of this build would make it: one control connection and nothing else.
pub(crate) fn open(machine: &str, disk: &str, length_bytes: u64) -> Open {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Open {
        version_min: Version::OLDEST.number(),
        version_max: Version::CURRENT.number(),
        product: ProductVersion::CURRENT,
        clock_unix_ms: now.as_millis() as u64,
        machine: MachineId::new(machine).expect("an id"),
        disk: DiskId::new(disk).expect("an id"),
        length_bytes,
        content_end_bytes: length_bytes,
        sample: Vec::new(),
        block_bytes: 64 << 10,
        sector_bytes: 512,
        disk_mark: String::new(),
        generation: Generation(0),
        root: Digest::ZERO,
        epoch: Epoch(now.as_secs()),
        capabilities: Capabilities::OWN,
        data_connections: 0,
        verify: false,
        accept_older: false,
        accept_mismatch: true,
        accept_divergence: false,
        job: JobId::new("stranger").expect("an id"),
        claim: PointClaim::new(now.as_millis() as u64, PointLabel::CrashConsistent, ""),
    }
}

/// Its control connection.
pub(crate) struct Stranger(StreamOwned<ClientConnection, TcpStream>);

impl Stranger {
    /// Connects to the master target with the certificate of this identity.
    pub(crate) fn connect(sites: &Sites, identity: &str) -> Self {
        sites.tls(identity);
        let identity: PeerIdentity = identity.parse().expect("an identity");
        let files = sites.authority().bundle(&identity);
        let config = trusting_client(Some((&files.cert, &files.key)));
        let stream = TcpStream::connect(sites.at(9443)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        Self(StreamOwned::new(connection, stream))
    }

    /// The same with a session of a disk that stands.
    pub(crate) fn session(sites: &Sites, identity: &str, open: Open) -> Self {
        let mut stranger = Self::connect(sites, identity);
        stranger.say(&Message::Open(Box::new(open)));
        let answer = stranger.hear();
        assert!(matches!(answer, Some(Message::Welcome(_))), "{answer:?}");
        stranger
    }

    /// Bytes, whatever they mean. The other end may have hung up.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _sent = self.0.write_all(bytes).and_then(|()| self.0.flush());
    }

    pub(crate) fn say(&mut self, message: &Message) {
        let frame = message.encode();
        self.send(&[frame.head().as_ref(), frame.payload()].concat());
    }

    /// The next message; `None` where the connection has ended.
    pub(crate) fn hear(&mut self) -> Option<Message> {
        let mut bytes = vec![0; HEADER_BYTES];
        self.0.read_exact(&mut bytes).ok()?;
        let header = Header::decode(bytes.first_chunk().expect("a header")).expect("a header");
        bytes.resize(header.frame_bytes(), 0);
        self.0.read_exact(&mut bytes[HEADER_BYTES..]).ok()?;
        let (frame, _) = Frame::split_from(&bytes.into()).expect("a frame");
        Some(Message::decode(&frame).expect("a message"))
    }

    /// What is said from here on until one is found.
    #[track_caller]
    pub(crate) fn hear_until<T>(&mut self, what: &str, mut find: impl FnMut(&Message) -> Option<T>) -> T {
        let mut heard = std::iter::from_fn(|| self.hear());
        heard.find_map(|message| find(&message)).unwrap_or_else(|| panic!("{what}: the connection ended"))
    }
}
