//! A site with an authority, certificates for whoever is named, a listener that welcomes everybody, and frames.

use crossbeam_channel::{Receiver, Sender, unbounded};
use failback_model::{
    BlockRange, Code, Digest, DiskId, Epoch, Generation, JobId, MachineId, PeerIdentity, PointClaim,
    PointLabel, ProductVersion, SessionNumber, SessionToken,
};
use failback_pki::{Authority, Request, Selection, Validity};
use failback_transport::{
    ConnectOptions, Host, LinkAcceptor, LinkEnd, ListenOptions, Listener, Refusal, RemoteLink, SocketOptions,
    Throttle, Tls, TlsFiles, TransportError, connect,
};
use failback_wire::{Capabilities, Frame, Message, Open, Version, Welcome};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub(crate) const SERVER: &str = "failback://master-target/site";
pub(crate) const CLIENT: &str = "failback://process-server/azure";

pub(crate) fn identity(uri: &str) -> PeerIdentity {
    uri.parse().expect("an identity")
}

/// Folder with an authority.
pub(crate) struct Site {
    folder: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().expect("a folder") };
        let day = Duration::from_secs(24 * 3600);
        let validity = Validity::between(SystemTime::now() - day, SystemTime::now() + 3650 * day);
        drop(Authority::init(&site.pki(), "Test", validity).expect("an authority"));
        for peer in [SERVER, CLIENT] {
            site.issue(peer, Validity::days(30));
        }
        site
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.folder.path().join("pki")
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn authority(&self) -> Authority {
        Authority::open(&self.pki()).expect("an authority")
    }

    pub(crate) fn issue(&self, peer: &str, validity: Validity) {
        self.authority().issue(&Request::new(identity(peer), validity)).expect("issued");
    }

    pub(crate) fn revoke(&self, peer: &str) {
        self.authority().revoke(&Selection::Identity(identity(peer))).expect("revoked");
    }

    /// The files of a peer where the authority keeps them: a revocation is seen at the next reload.
    pub(crate) fn files(&self, peer: &str) -> TlsFiles {
        let files = self.authority().bundle(&identity(peer));
        TlsFiles { cert: files.cert, key: files.key, ca: files.ca, crl: Some(files.crl) }
    }

    pub(crate) fn tls(&self, peer: &str) -> Tls {
        Tls::load(&self.files(peer)).expect("certificates")
    }

    /// A listener that welcomes everybody.
    pub(crate) fn listen(&self) -> Server {
        Server::start(self.tls(SERVER), ListenOptions::default(), Welcoming::default())
    }

    pub(crate) fn options(&self, server: &Server) -> ConnectOptions {
        ConnectOptions {
            address: server.address.to_string(),
            server: identity(SERVER),
            tls: self.tls(CLIENT),
            socket: SocketOptions::default(),
            throttle: Throttle::unlimited(),
        }
    }

    /// A session of a client and a listener.
    pub(crate) async fn session(&self, server: &Server, data_connections: u16) -> (RemoteLink, RemoteLink) {
        let opened = connect(&self.options(server), open(data_connections)).await;
        let (welcome, client) = opened.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(welcome.data_connections, data_connections);
        (client, server.link().await)
    }
}

/// Welcomes everybody, or nobody.
#[derive(Clone, Default)]
pub(crate) struct Welcoming {
    pub(crate) refusal: Option<Refusal>,
    pub(crate) granted: Option<u16>,
}

struct Host1 {
    how: Welcoming,
    links: Sender<RemoteLink>,
}

impl Host for Host1 {
    async fn open(
        &self,
        _peer: PeerIdentity,
        _from: SocketAddr,
        open: Open,
    ) -> Result<(Welcome, LinkAcceptor), Refusal> {
        if let Some(refusal) = &self.how.refusal {
            return Err(refusal.clone());
        }
        let links = self.links.clone();
        let welcome = welcome(self.how.granted.unwrap_or(open.data_connections));
        Ok((welcome, Box::new(move |link| links.send(link).expect("the test waits"))))
    }
}

/// A listener that runs.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) listener: Arc<Listener>,
    links: Receiver<RemoteLink>,
    run: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(tls: Tls, options: ListenOptions, how: Welcoming) -> Self {
        let listener =
            Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), tls, options).expect("a listener");
        let (sender, links) = unbounded();
        let listener = Arc::new(listener);
        let running = listener.clone();
        let host = Arc::new(Host1 { how, links: sender });
        let run = tokio::spawn(async move { running.run(host).await });
        Self { address: listener.local_address().expect("an address"), listener, links, run }
    }

    /// The next link that was welcomed.
    pub(crate) async fn link(&self) -> RemoteLink {
        let links = self.links.clone();
        let waiting = tokio::task::spawn_blocking(move || links.recv_timeout(Duration::from_secs(10)));
        waiting.await.expect("no panic").expect("a link")
    }

    /// How many connections came to nothing with a code.
    pub(crate) fn failed(&self, code: Code) -> u64 {
        self.listener.stats().failed.get(code.as_str()).copied().unwrap_or(0)
    }

    /// Waits until so many connections came to nothing with a code.
    pub(crate) async fn wait_failed(&self, code: Code, count: u64) {
        wait_until(|| self.failed(code) >= count, || format!("{:?}", self.listener.stats())).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run.abort();
    }
}

/// Waits for what other tasks bring about.
pub(crate) async fn wait_until(done: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let waiting = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), waiting).await.is_err() {
        panic!("never came about: {}", otherwise());
    }
}

pub(crate) fn open(data_connections: u16) -> Open {
    Open {
        version_min: Version::CURRENT.number(),
        version_max: Version::CURRENT.number(),
        product: ProductVersion::CURRENT,
        clock_unix_ms: 0,
        machine: MachineId::new("m").expect("an id"),
        disk: DiskId::new("d").expect("an id"),
        length_bytes: 1 << 30,
        content_end_bytes: 0,
        sector_bytes: 512,
        disk_mark: String::new(),
        block_bytes: 64 << 10,
        generation: Generation(0),
        root: Digest::ZERO,
        epoch: Epoch(1),
        capabilities: Capabilities::OWN,
        data_connections,
        verify: false,
        accept_older: false,
        accept_mismatch: false,
        accept_divergence: false,
        job: JobId::new("j").expect("an id"),
        claim: PointClaim::new(0, PointLabel::CrashConsistent, ""),
        sample: Vec::new(),
    }
}

pub(crate) fn welcome(data_connections: u16) -> Welcome {
    Welcome {
        version: Version::CURRENT,
        product: ProductVersion::CURRENT,
        clock_unix_ms: 0,
        capabilities: Capabilities::OWN,
        token: SessionToken([0; 16]),
        session: SessionNumber(1),
        data_connections,
        length_bytes: 1 << 30,
        pass_bytes: 1 << 30,
        generation: Generation(0),
        root: Digest::ZERO,
        is_new: true,
        has_seeds: false,
        is_resumed: false,
        is_divergence_accepted: false,
        window_bytes: 64 << 20,
    }
}

/// A frame that keeps its order.
pub(crate) fn ordered(number: u64) -> Frame {
    Message::DigestCredit { blocks: number }.encode()
}

/// A frame that any connection may carry.
pub(crate) fn bulk(number: u64) -> Frame {
    Message::Zero { sequence: number, ranges: vec![BlockRange::new(0, 1)] }.encode()
}

/// A large frame that any connection may carry.
pub(crate) fn data(sequence: u64, payload: bytes::Bytes) -> Frame {
    let encoding = failback_wire::Encoding::Raw;
    Message::Data(failback_wire::Data { sequence, patches: Vec::new(), encoding, payload }).encode()
}

/// Everything that comes until the link ends.
pub(crate) async fn all(link: &RemoteLink) -> Vec<Frame> {
    let input = link.input().clone();
    tokio::task::spawn_blocking(move || input.iter().collect()).await.expect("no panic")
}

/// The next so many frames.
pub(crate) async fn some(link: &RemoteLink, count: usize) -> Vec<Frame> {
    let input = link.input().clone();
    let taking = tokio::task::spawn_blocking(move || input.iter().take(count).collect());
    tokio::time::timeout(Duration::from_secs(20), taking).await.expect("in time").expect("no panic")
}

pub(crate) fn decoded(frames: &[Frame]) -> Vec<Message> {
    frames.iter().map(|frame| Message::decode(frame).expect("a message")).collect()
}

/// How a link ended that was cut.
pub(crate) fn cut(end: LinkEnd) -> TransportError {
    match end {
        LinkEnd::Cut(error) => error,
        LinkEnd::Goodbye => panic!("a goodbye"),
    }
}

pub(crate) fn refused(result: Result<(Welcome, RemoteLink), TransportError>) -> TransportError {
    match result {
        Ok(_) => panic!("welcomed"),
        Err(error) => error,
    }
}
