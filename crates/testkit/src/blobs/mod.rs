//! A service of page blobs like Azure's, for what the emulator cannot do: true diffs, faults, a bounded rate.
//!
//! It speaks HTTP/1.1 by hand, a thread a connection, so that it can also break off in the middle of a body.
//! Made after what is publicly known of the REST interface; the reference was not at hand, and it was never compared with the
//! real service.

mod answer;
mod disk;
mod wire;

pub use disk::BlobDisk;

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What goes wrong with a read of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobFault {
    /// Refused with this status, and `Retry-After` in seconds.
    Busy(u16, Option<u64>),
    /// Refused for good with this status and code of the service; and how to be let in (`WWW-Authenticate`).
    Refused(u16, &'static str, Option<&'static str>),
    /// The connection ends in the middle of the body.
    Cut,
    /// A byte of the body is wrong, its checksum is that of the right ones.
    Damage,
    /// From now on the signature is refused.
    Expire,
    /// From now on the blob is another version of itself.
    Change,
    /// Nothing goes wrong.
    None,
}

/// The service; it ends with its process.
#[derive(Debug, Clone)]
pub struct BlobServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    requests: AtomicU64,
    data_bytes: AtomicU64,
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<String, Blob>,
    faults: VecDeque<BlobFault>,
    /// Ranges that one answer lists.
    results_max: usize,
    /// What diffs leave out.
    lies: Vec<Range<u64>>,
    bytes_per_second: Option<u64>,
    latency: Duration,
    token: Option<String>,
    clock: u64,
}

#[derive(Debug)]
struct Blob {
    disk: BlobDisk,
    etag: u64,
    snapshots: BTreeMap<String, Snapshot>,
    signature: u64,
    /// When what was sent last is through, at the bounded rate.
    busy_until: Option<Instant>,
}

#[derive(Debug)]
struct Snapshot {
    disk: BlobDisk,
    etag: u64,
    is_marked: bool,
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn blob(&mut self, name: &str) -> &mut Blob {
        self.blobs.get_mut(name).expect("such a blob")
    }
}

impl BlobServer {
    /// Starts it on a free port of this host.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        shared.lock().results_max = 10_000;
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                // A client that breaks off ends its thread.
                std::thread::spawn(move || drop(wire::serve(&shared, &stream)));
            }
        });
        Self { address, shared }
    }

    /// Adds a blob, or puts another in its place; its URL with a signature.
    pub fn add(&self, name: &str, disk: BlobDisk) -> String {
        let mut state = self.shared.lock();
        let etag = state.tick();
        let blob = Blob { disk, etag, snapshots: BTreeMap::new(), signature: 1, busy_until: None };
        state.blobs.insert(name.to_owned(), blob);
        drop(state);
        self.url(name)
    }

    /// The blob's URL with a signature that is in force.
    pub fn url(&self, name: &str) -> String {
        let signature = self.shared.lock().blob(name).signature;
        self.url_signed(name, &format!("S{signature}"))
    }

    fn url_signed(&self, name: &str, signature: &str) -> String {
        let address = self.address;
        format!("http://{address}/account/disks/{name}?sv=2020-10-02&se=2099-01-01T00:00:00Z&sig={signature}")
    }

    /// Refuses the signature in force; a URL with the next one comes back.
    pub fn expire(&self, name: &str) -> String {
        self.shared.lock().blob(name).signature += 1;
        self.url(name)
    }

    /// The URL whose signature is the next one: refused until the one in force has expired.
    pub fn next_url(&self, name: &str) -> String {
        let signature = self.shared.lock().blob(name).signature + 1;
        self.url_signed(name, &format!("S{signature}"))
    }

    /// Changes a blob, which makes it another version.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut BlobDisk)) {
        let mut state = self.shared.lock();
        let etag = state.tick();
        let blob = state.blob(name);
        change(&mut blob.disk);
        blob.etag = etag;
    }

    /// Makes a snapshot; its time.
    pub fn snapshot(&self, name: &str) -> String {
        self.shared.lock().snapshot(name, false)
    }

    /// The times of a blob's snapshots.
    pub fn snapshots(&self, name: &str) -> Vec<String> {
        self.shared.lock().blob(name).snapshots.keys().cloned().collect()
    }

    /// The next reads of data go wrong, one after the other.
    pub fn fail(&self, faults: impl IntoIterator<Item = BlobFault>) {
        self.shared.lock().faults.extend(faults);
    }

    /// Forgets faults that did not come to pass.
    pub fn heal(&self) {
        self.shared.lock().faults.clear();
    }

    /// Lists at most so many ranges in one answer.
    pub fn list_at_most(&self, results_max: usize) {
        self.shared.lock().results_max = results_max;
    }

    /// Diffs leave out these bytes.
    pub fn lie_about(&self, range: Range<u64>) {
        self.shared.lock().lies.push(range);
    }

    /// Sends of each blob no more than this in a second.
    pub fn limit(&self, bytes_per_second: Option<u64>) {
        self.shared.lock().bytes_per_second = bytes_per_second;
    }

    /// Waits so long before it answers a read.
    pub fn delay(&self, latency: Duration) {
        self.shared.lock().latency = latency;
    }

    /// Lets in only by this token.
    pub fn require_token(&self, token: &str) {
        self.shared.lock().token = Some(token.to_owned());
    }

    /// Requests that came.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Bytes of blobs that were sent.
    pub fn data_bytes(&self) -> u64 {
        self.shared.data_bytes.load(Ordering::Relaxed)
    }

    /// Most reads that were under way at once.
    pub fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn snapshot(&mut self, name: &str, is_marked: bool) -> String {
        let tick = self.tick();
        let time = format!("2026-01-01T00:00:00.{tick:07}Z");
        let blob = self.blob(name);
        let snapshot = Snapshot { disk: blob.disk.clone(), etag: blob.etag, is_marked };
        blob.snapshots.insert(time.clone(), snapshot);
        time
    }
}
