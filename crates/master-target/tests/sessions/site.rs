//! Both sites in one process: a listener with one disk, and whoever sends to it.

use failback_image::{Access, CreateOptions, ImageSpec};
use failback_master_target::{Reception, Registry, Session, TargetDisk};
use failback_model::{
    BlockSize, Code, DiskId, Epoch, Finding, Generation, MachineId, PeerIdentity, PointClaim, PointLabel,
};
use failback_pass::{Cancel, PassError, PassOptions, Progress, Sealed};
use failback_pki::{Authority, Request, Validity};
use failback_process_server::{Delivery, Memory, Origin, SeenSource, Sent};
use failback_store::{DiskStore, MachineStore};
use failback_testkit::{GeneratedDisk, Mutation};
use failback_transport::{
    ConnectOptions, LinkHandle, ListenOptions, Listener, SocketOptions, Throttle, Tls, TlsFiles,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Longer than any test takes: a test that hangs says so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    folder: TempDir,
    runtime: Runtime,
    address: String,
    reception: Reception<OneDisk>,
    clients: Mutex<Authority>,
}

/// A registry of one disk, which only `sender` may write.
pub(crate) struct OneDisk {
    target: Mutex<PathBuf>,
    may_grow: AtomicBool,
    store: Arc<MachineStore>,
    machine: MachineId,
    disk: DiskId,
    pub(crate) seen: Mutex<Vec<Arc<Progress>>>,
    pub(crate) link: Mutex<Option<LinkHandle>>,
    pub(crate) refused: Mutex<Vec<Finding>>,
    /// What the last session's job accepted.
    pub(crate) accepted: Mutex<Option<Finding>>,
}

impl Registry for OneDisk {
    type Lease = ();

    fn admit(&self, peer: &PeerIdentity, machine: &MachineId, disk: &DiskId) -> Result<(), Finding> {
        if (machine, disk) != (&self.machine, &self.disk) {
            return Err(Finding::error(Code::UnknownDisk, format!("{machine} {disk}")));
        }
        if peer.name() != "sender" {
            return Err(Finding::error(Code::IdentityNotAllowed, peer.to_string()));
        }
        Ok(())
    }

    async fn lease(&self, _: &MachineId, disk: &DiskId) -> Result<(TargetDisk, ()), Finding> {
        let store = self.store.disk(disk).map_err(|error| error.to_finding())?;
        let target = TargetDisk {
            image: ImageSpec::parse(&*self.target.lock().expect("no test panics with it")),
            create: Some(CreateOptions::new(0)),
            grow: self.may_grow.load(Ordering::Relaxed),
            seeds: Vec::new(),
            machine: Arc::clone(&self.store),
            store,
            window_bytes: 8 << 20,
        };
        Ok((target, ()))
    }

    fn refused(&self, (): (), why: &Finding) {
        self.refused.lock().expect("no test panics with it").push(why.clone());
    }

    fn opened(&self, (): &(), session: &Session) {
        self.seen.lock().expect("no test panics with it").push(Arc::clone(&session.progress));
        *self.accepted.lock().expect("no test panics with it") = session.accepted.clone();
        *self.link.lock().expect("no test panics with it") = Some(session.link.clone());
    }

    fn ended(&self, (): (), _: &Session, _: &Result<Sealed, PassError>) {}
}

fn tls(authority: &mut Authority, identity: &str) -> Tls {
    let identity: PeerIdentity = identity.parse().expect("an identity");
    let files = match authority.overview().newest(&identity) {
        Some(_) => authority.bundle(&identity),
        None => authority.issue(&Request::new(identity, Validity::days(1))).expect("issued").files,
    };
    Tls::load(&TlsFiles { cert: files.cert, key: files.key, ca: files.ca, crl: Some(files.crl) })
        .expect("loads")
}

impl Site {
    /// A source of this length, and a target that is its base before some changes.
    pub(crate) fn new(length_bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let base = GeneratedDisk::new(3, length_bytes, 256 << 10).bytes();
        fs::write(folder.path().join("target.raw"), &base).expect("written");
        fs::write(folder.path().join("source.raw"), &base).expect("written");
        let mut authority =
            Authority::init(&folder.path().join("pki"), "test", Validity::days(2)).expect("an authority");
        let runtime = Runtime::new().expect("a runtime");
        let (machine, disk) = ("app01".parse().expect("an id"), "disk0".parse().expect("an id"));
        let store = MachineStore::open(&folder.path().join("state"), None, &machine).expect("a journal");
        let target = folder.path().join("target.raw");
        let registry = OneDisk {
            target: Mutex::new(target),
            may_grow: AtomicBool::new(false),
            store,
            machine,
            disk,
            seen: Mutex::default(),
            link: Mutex::default(),
            refused: Mutex::default(),
            accepted: Mutex::default(),
        };
        let reception = Reception::new(registry, 4, 2);
        let server = tls(&mut authority, "failback://master-target/site");
        let listener = runtime.block_on(async {
            Listener::bind("127.0.0.1:0".parse().expect("an address"), server, ListenOptions::default())
        });
        let listener = listener.expect("it listens");
        let address = listener.local_address().expect("an address").to_string();
        let host = Arc::new(reception.clone());
        runtime.spawn(async move { listener.run(host).await });
        let site = Self { folder, runtime, address, reception, clients: Mutex::new(authority) };
        site.mutate_source(1);
        site
    }

    pub(crate) fn registry(&self) -> &OneDisk {
        self.reception.registry()
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.folder.path().join("source.raw")
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.folder.path().join("target.raw")
    }

    /// Rewrites one page in twenty.
    pub(crate) fn mutate_source(&self, seed: u64) {
        let mut bytes = fs::read(self.source()).expect("read");
        Mutation { seed, permille: 50 }.apply(&mut bytes);
        fs::write(self.source(), bytes).expect("written");
    }

    pub(crate) fn remove_target(&self) {
        fs::remove_file(self.target()).expect("removed");
    }

    pub(crate) fn shorten_target(&self, by: u64) {
        let file = fs::File::options().write(true).open(self.target()).expect("opened");
        let length = file.metadata().expect("looked at").len();
        file.set_len(length - by).expect("shortened");
    }

    pub(crate) fn attempt(&self, epoch: u64) -> Delivery {
        self.attempt_as("sender", epoch)
    }

    pub(crate) fn attempt_as(&self, name: &str, epoch: u64) -> Delivery {
        let identity = format!("failback://process-server/{name}");
        let tls = tls(&mut self.clients.lock().expect("no test panics with it"), &identity);
        let source = failback_image::open(&ImageSpec::parse(self.source()), Access::Read).expect("opened");
        Delivery {
            source,
            machine: "app01".parse().expect("an id"),
            disk: "disk0".parse().expect("an id"),
            job: "job-1".parse().expect("an id"),
            epoch: Epoch(epoch),
            generation: Generation(0),
            claim: PointClaim::new(0, PointLabel::CrashConsistent, ""),
            accept_older: false,
            accept_divergence: false,
            data_connections: 2,
            connect: ConnectOptions {
                address: self.address.clone(),
                server: "failback://master-target/site".parse().expect("an identity"),
                tls,
                socket: SocketOptions::default(),
                throttle: Throttle::unlimited(),
            },
            options: PassOptions { threads: 2, block_size: BlockSize::DEFAULT, ..PassOptions::default() },
            memory: Some(Memory {
                folder: self.folder.path().join("scan"),
                origin: Origin { feed: Err(None) },
                named: "source".into(),
                retaken: false,
                snapshot: None,
                hear: Box::new(|_| {}),
            }),
            agreed: None,
            seen: SeenSource::default(),
            progress: Arc::default(),
            cancel: Cancel::default(),
        }
    }

    pub(crate) fn run(&self, attempt: &Delivery) -> Result<Sent, PassError> {
        attempt.run(self.runtime.handle(), |_, _| ())
    }

    pub(crate) fn send(&self, epoch: u64) -> (Result<Sent, PassError>, Arc<Progress>) {
        let attempt = self.attempt(epoch);
        (self.run(&attempt), Arc::clone(&attempt.progress))
    }

    /// Sends another image or device.
    pub(crate) fn send_from(&self, source: &Path, epoch: u64) -> Result<Sent, PassError> {
        let source = failback_image::open(&ImageSpec::parse(source), Access::Read).expect("opened");
        self.run(&Delivery { source, ..self.attempt(epoch) })
    }

    /// Takes another image or device as the target.
    pub(crate) fn write_to(&self, target: &Path) {
        *self.registry().target.lock().expect("no test panics with it") = target.into();
    }

    /// Extends a target that is shorter than the source.
    pub(crate) fn allow_growth(&self) {
        self.registry().may_grow.store(true, Ordering::Relaxed);
    }

    /// Waits until no pass runs at the target.
    pub(crate) fn settle(&self) {
        let attempt = self.attempt(0);
        let stop = self.reception.stop(&attempt.machine, &attempt.disk);
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, stop).await }).expect("it ends");
    }

    /// Where the target lies: a file or a device.
    pub(crate) fn target_path(&self) -> PathBuf {
        self.registry().target.lock().expect("no test panics with it").clone()
    }

    /// What the journal knows of the disk.
    pub(crate) fn store(&self) -> Arc<DiskStore> {
        self.registry().store.disk(&self.registry().disk).expect("a disk")
    }

    pub(crate) fn handle(&self) -> &tokio::runtime::Handle {
        self.runtime.handle()
    }

    /// A counter of the last pass at the target.
    pub(crate) fn last(&self, counter: fn(&Progress) -> &AtomicU64) -> u64 {
        let seen = self.registry().seen.lock().expect("no test panics with it");
        Progress::get(counter(seen.last().expect("a pass ran")))
    }

    /// Bytes that the last pass read of the target, and that it wrote.
    pub(crate) fn target_reads(&self) -> (u64, u64) {
        let seen = self.registry().seen.lock().expect("no test panics with it");
        let last = seen.last().expect("a pass ran");
        (Progress::get(&last.bytes_read_target), Progress::get(&last.bytes_written))
    }

    pub(crate) fn assert_same(&self) {
        self.settle();
        assert!(same(&self.source(), &self.target()), "the target is not the source");
    }
}

fn same(a: &Path, b: &Path) -> bool {
    fs::read(a).expect("read") == fs::read(b).expect("read")
}
