//! A link over TLS on the loopback, both ends on this machine: frames of 256 KiB one way, as bulk of a pass.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, Sender, unbounded};
use failback_model::{
    Digest, DiskId, Epoch, Generation, JobId, MachineId, PeerIdentity, PointClaim, PointLabel,
    ProductVersion, SessionNumber, SessionToken,
};
use failback_pki::{Authority, Request, Validity};
use failback_transport::{
    ConnectOptions, Host, LinkAcceptor, ListenOptions, Listener, Refusal, RemoteLink, SocketOptions,
    Throttle, Tls, TlsFiles, connect,
};
use failback_wire::{Capabilities, Data, Encoding, Message, Open, Version, Welcome};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Runtime;

const FRAME_BYTES: usize = 256 << 10;
/// Bytes of one iteration, and what may be under way: a pass's window.
const ROUND_BYTES: u64 = 256 << 20;
const WINDOW_BYTES: u64 = 64 << 20;

struct Welcoming(Sender<RemoteLink>);

impl Host for Welcoming {
    async fn open(
        &self,
        _peer: PeerIdentity,
        _from: SocketAddr,
        open: Open,
    ) -> Result<(Welcome, LinkAcceptor), Refusal> {
        let links = self.0.clone();
        let welcome = Welcome {
            version: Version::CURRENT,
            product: ProductVersion::CURRENT,
            clock_unix_ms: 0,
            capabilities: Capabilities::OWN,
            token: SessionToken([0; 16]),
            session: SessionNumber(1),
            data_connections: open.data_connections,
            length_bytes: open.length_bytes,
            pass_bytes: open.length_bytes,
            generation: Generation(0),
            root: Digest::ZERO,
            is_new: true,
            has_seeds: false,
            is_resumed: false,
            is_divergence_accepted: false,
            window_bytes: WINDOW_BYTES,
        };
        Ok((welcome, Box::new(move |link| drop(links.send(link)))))
    }
}

fn open(data_connections: u16) -> Open {
    Open {
        version_min: Version::CURRENT.number(),
        version_max: Version::CURRENT.number(),
        product: ProductVersion::CURRENT,
        clock_unix_ms: 0,
        machine: MachineId::new("m").expect("an id"),
        disk: DiskId::new("d").expect("an id"),
        length_bytes: 1 << 40,
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

fn tls(authority: &mut Authority, uri: &str) -> Tls {
    let identity: PeerIdentity = uri.parse().expect("an identity");
    let files = authority.issue(&Request::new(identity, Validity::days(1))).expect("issued").files;
    Tls::load(&TlsFiles { cert: files.cert, key: files.key, ca: files.ca, crl: Some(files.crl) })
        .expect("certificates")
}

/// Each end on a runtime of its own, as in two daemons.
struct Ends {
    _runtimes: (Runtime, Runtime),
    client: RemoteLink,
    target: RemoteLink,
}

fn ends(data_connections: u16) -> Ends {
    let home = tempfile::tempdir().expect("a folder");
    let mut authority =
        Authority::init(&home.path().join("pki"), "Bench", Validity::days(2)).expect("an authority");
    let server_tls = tls(&mut authority, "failback://master-target/site");
    let client_tls = tls(&mut authority, "failback://process-server/azure");
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    };
    let (here, there) = (runtime(), runtime());
    let (sender, links): (_, Receiver<RemoteLink>) = unbounded();
    let address = there.block_on(async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, server_tls, ListenOptions::default()).expect("a listener");
        let address = listener.local_address().expect("an address");
        tokio::spawn(async move { listener.run(Arc::new(Welcoming(sender))).await });
        address
    });
    let options = ConnectOptions {
        address: address.to_string(),
        server: "failback://master-target/site".parse().expect("an identity"),
        tls: client_tls,
        socket: SocketOptions::default(),
        throttle: Throttle::unlimited(),
    };
    let (_, client) = here.block_on(connect(&options, open(data_connections))).expect("welcomed");
    let target = links.recv().expect("a link");
    Ends { _runtimes: (here, there), client, target }
}

/// Sends a round, never more than a window ahead of what came.
fn round(ends: &Ends, payload: &Bytes) {
    let frames = ROUND_BYTES / FRAME_BYTES as u64;
    let window = WINDOW_BYTES / FRAME_BYTES as u64;
    let sender = ends.client.sender();
    let (mut sent, mut came) = (0, 0);
    while came < frames {
        while sent < frames && sent - came < window {
            let data = Data {
                sequence: sent,
                patches: Vec::new(),
                encoding: Encoding::Raw,
                payload: payload.clone(),
            };
            assert!(sender.send(Message::Data(data).encode()));
            sent += 1;
        }
        let frame = ends.target.input().recv().expect("a frame");
        assert_eq!(frame.payload().len(), FRAME_BYTES);
        came += 1;
    }
}

fn link(c: &mut Criterion) {
    let payload = Bytes::from((0..FRAME_BYTES).map(|i| (i * 7) as u8).collect::<Vec<_>>());
    let mut group = c.benchmark_group("link");
    group.throughput(Throughput::Bytes(ROUND_BYTES)).sample_size(10);
    for data_connections in [1, 4] {
        let ends = ends(data_connections);
        group.bench_function(format!("tls_{data_connections}"), |b| b.iter(|| round(&ends, &payload)));
    }
    group.finish();
}

criterion_group!(benches, link);
criterion_main!(benches);
