//! Receives sessions: who may write which disk, the one session that may, and its pass from welcome to seal.
//!
//! **Invariant**: a disk has one reception at a time. A newer one ends the older, waits until nothing of it is under way,
//! and only then opens the image; an older epoch never gets that far. Whatever ends a pass, what was applied is committed
//! and the image is closed before the disk is free again.

use crate::Stores;
use crate::opening::{begin, check_epoch, said};
use crate::target::{Target, TargetDisk};
use failback_model::limits::GOODBYE_MAX;
use failback_model::{
    Code, DiskId, Epoch, Finding, Generation, Layout, MachineId, PeerIdentity, PointClaim, ProductVersion,
    SessionNumber, SessionToken,
};
use failback_pass::{
    Cancel, Link, PassError, PassOptions, Progress, ReceivingEnd, Sealed, guarded_end, index_seeds,
};
use failback_service::clock::{offset_ms, unix_ms};
use failback_session::handshake::{Accepting, AcceptingOptions};
use failback_store::Fingerprint;
use failback_transport::{Host, LinkAcceptor, LinkEnd, LinkHandle, Refusal, RemoteLink};
use failback_wire::{Capabilities, Message, Open, Welcome};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// Where a daemon keeps its disks, and who hears what happens to them.
pub trait Registry: Send + Sync + 'static {
    /// Held while a session of the disk is open: its definition, its share of memory.
    type Lease: Send + 'static;

    /// Whether a disk is here, and whether this peer may write it. Refusals: unknown disk, identity not allowed.
    fn admit(&self, peer: &PeerIdentity, machine: &MachineId, disk: &DiskId) -> Result<(), Finding>;

    /// Takes the disk for one session, with memory for it.
    fn lease(
        &self,
        machine: &MachineId,
        disk: &DiskId,
    ) -> impl Future<Output = Result<(TargetDisk, Self::Lease), Finding>> + Send;

    /// The disk was looked at, and no session of it begins; nothing of it changed. The listener counts it.
    fn refused(&self, lease: Self::Lease, why: &Finding);

    /// A session stands and its pass begins.
    fn opened(&self, lease: &Self::Lease, session: &Session);

    /// The pass is over: sealed, or not and why. The disk is given back before anybody hears of it.
    fn ended(&self, lease: Self::Lease, session: &Session, outcome: &Result<Sealed, PassError>);
}

/// A session as a registry hears of it.
pub struct Session {
    /// Its number.
    pub number: SessionNumber,
    /// The job's epoch.
    pub epoch: Epoch,
    /// Generation of the target's last sealed state.
    pub generation: Generation,
    /// The pass's disk.
    pub layout: Layout,
    /// Where the source's contents end, as its process server says.
    pub content_end_bytes: u64,
    /// The target was made for this session.
    pub is_new: bool,
    /// It goes on from a pass that was cut.
    pub is_resumed: bool,
    /// What was found of the target and accepted for this job.
    pub accepted: Option<Finding>,
    /// Bytes that may be under way.
    pub window_bytes: u64,
    /// Whether the target is read anew before it is sealed.
    pub verify: bool,
    /// What its process server says of the state that it brings.
    pub claim: PointClaim,
    /// How far the sending end's clock is ahead of this one, milliseconds.
    pub clock_offset_ms: i64,
    /// The connections.
    pub link: LinkHandle,
    /// Counts what happens.
    pub progress: Arc<Progress>,
}

/// The pass that runs on a disk.
struct Running {
    cancel: Cancel,
    /// Its job's.
    epoch: Epoch,
    /// `true` once it is over.
    over: watch::Receiver<bool>,
    /// Its connections, once they stand.
    link: Option<LinkHandle>,
}

type DiskName = (MachineId, DiskId);

/// Answers sessions for a registry's disks. A clone is the same.
pub struct Reception<R: Registry>(Arc<Shared<R>>);

impl<R: Registry> Clone for Reception<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<R: Registry> {
    registry: R,
    data_connections: u16,
    threads: usize,
    running: Mutex<HashMap<DiskName, Running>>,
    /// Turns: two sessions for one disk come one after the other.
    turns: Mutex<HashMap<DiskName, Arc<tokio::sync::Mutex<()>>>>,
}

impl<R: Registry> Reception<R> {
    /// For a registry's disks; passes read with so many threads each.
    pub fn new(registry: R, data_connections: u16, threads: usize) -> Self {
        let (running, turns) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { registry, data_connections, threads, running, turns }))
    }

    /// The registry.
    pub fn registry(&self) -> &R {
        &self.0.registry
    }

    /// Asks every pass to commit what it took in and to stop, and waits for that, and until the other ends heard why.
    pub async fn drain(&self) {
        let running: Vec<_> = {
            let running = lock(&self.0.running);
            running.iter().map(|(name, running)| (name.clone(), running.link.clone())).collect()
        };
        let reason = Finding::error(Code::Draining, "the master target is stopping");
        for (name, _) in &running {
            self.ask_to_end(name, &reason);
        }
        for (name, _) in &running {
            self.end_running(name, &reason).await;
        }
        for link in running.into_iter().filter_map(|(_, link)| link) {
            // One that does not answer is not waited for.
            let _ = tokio::time::timeout(GOODBYE_MAX, link.ended()).await;
        }
    }

    /// Stops the pass of one disk, if there is one, and waits until it is over.
    pub async fn stop(&self, machine: &MachineId, disk: &DiskId) {
        let reason = Finding::error(Code::MachineStopped, "the master target's operator stopped the machine");
        self.end_running(&(machine.clone(), disk.clone()), &reason).await;
    }

    /// Asks a disk's pass to end, if there is one; tells when it is over.
    fn ask_to_end(&self, name: &DiskName, reason: &Finding) -> Option<watch::Receiver<bool>> {
        let running = lock(&self.0.running);
        let running = running.get(name)?;
        running.cancel.cancel_because(reason.clone());
        Some(running.over.clone())
    }

    async fn end_running(&self, name: &DiskName, reason: &Finding) {
        if let Some(mut over) = self.ask_to_end(name, reason) {
            // The sender is dropped when the pass is over, however it ended.
            let _ = over.wait_for(|is_over| *is_over).await;
        }
    }

    fn turn(&self, name: &DiskName) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.0.turns).entry(name.clone()).or_default())
    }

    async fn accept(&self, peer: PeerIdentity, open: Open) -> Result<(Welcome, LinkAcceptor), Finding> {
        let options = AcceptingOptions {
            product: ProductVersion::CURRENT,
            capabilities: Capabilities::OWN,
            data_connections: self.0.data_connections,
        };
        let mut accepting = Accepting::new(options, Instant::now());
        let clock_offset_ms = offset_ms(open.clock_unix_ms);
        let request = accepting.handle_message(Message::Open(Box::new(open)), unix_ms()).map_err(said)?;
        let open = request.open;
        self.0.registry.admit(&peer, &open.machine, &open.disk)?;
        let name = (open.machine.clone(), open.disk.clone());
        let _turn = self.turn(&name).lock_owned().await;
        let running = lock(&self.0.running).get(&name).map(|running| running.epoch);
        running.map_or(Ok(()), |running| check_epoch(&open, running))?;
        let reason = format!("a newer session of disk {} took over", open.disk);
        self.end_running(&name, &Finding::error(Code::StaleSession, reason)).await;
        let (disk, lease) = self.0.registry.lease(&open.machine, &open.disk).await?;
        let (cancel, verify, epoch) = (Cancel::default(), open.verify, open.epoch);
        let (content_end_bytes, claim) = (open.content_end_bytes, open.claim.clone());
        let begun = begin(disk, open, request.layout.block_size(), &mut accepting).await;
        let (target, layout, number) = match begun {
            Ok(begun) => begun,
            Err(finding) => {
                self.0.registry.refused(lease, &finding);
                return Err(finding);
            }
        };
        // The listener sets the token.
        let welcome = accepting.handle_session(number, SessionToken([0; 16]), unix_ms());
        let reception = self.clone();
        let (over, is_over) = watch::channel(false);
        let entry = Running { cancel: cancel.clone(), epoch, over: is_over, link: None };
        lock(&self.0.running).insert(name.clone(), entry);
        let admitted = Admitted {
            reception,
            name,
            over,
            cancel,
            target: Some(target),
            layout,
            number,
            epoch,
            clock_offset_ms,
            verify,
            claim,
            content_end_bytes,
            lease: Some(lease),
        };
        Ok((welcome, Box::new(move |link| admitted.start(link))))
    }
}

/// A session that was welcomed; dropped before its link comes, it frees the disk.
struct Admitted<R: Registry> {
    reception: Reception<R>,
    name: DiskName,
    over: watch::Sender<bool>,
    cancel: Cancel,
    target: Option<Target>,
    layout: Layout,
    number: SessionNumber,
    epoch: Epoch,
    clock_offset_ms: i64,
    verify: bool,
    claim: PointClaim,
    content_end_bytes: u64,
    lease: Option<R::Lease>,
}

impl<R: Registry> Drop for Admitted<R> {
    fn drop(&mut self) {
        // The image and the lease are free before the next session hears that this one is over.
        self.target.take();
        self.lease.take();
        lock(&self.reception.0.running).remove(&self.name);
        let _ = self.over.send(true);
    }
}

impl<R: Registry> Admitted<R> {
    /// Runs the pass on a thread of its own.
    fn start(self, link: RemoteLink) {
        let name = format!("pass-{}", self.name.1);
        let thread = std::thread::Builder::new().name(name.clone());
        if let Err(error) = thread.spawn(move || self.carry(link)) {
            // The session is dropped, and with it the link: the other end tries again.
            tracing::error!("{name}: no thread for the pass: {error}");
        }
    }

    fn carry(mut self, link: RemoteLink) {
        let progress = Arc::new(Progress::default());
        let handle = link.handle();
        let target = self.target.take().expect("an image is held until the pass is over");
        Progress::add(&progress.bytes_rechecked_target, target.rechecked_bytes);
        let session = Session {
            number: self.number,
            epoch: self.epoch,
            generation: target.generation(),
            layout: self.layout,
            content_end_bytes: self.content_end_bytes,
            is_new: target.is_new,
            is_resumed: target.is_resumed(),
            accepted: target.accepted.clone(),
            window_bytes: target.window_bytes,
            verify: self.verify,
            claim: self.claim.clone(),
            clock_offset_ms: self.clock_offset_ms,
            link: handle.clone(),
            progress: Arc::clone(&progress),
        };
        if let Some(running) = lock(&self.reception.0.running).get_mut(&self.name) {
            running.link = Some(handle.clone());
        }
        let lease = self.lease.take().expect("a lease is held until the pass is over");
        self.reception.registry().opened(&lease, &session);
        let received = guarded_end(|| self.receive(&target, &link, &progress));
        let received = finish(&target, self.epoch, received);
        drop(link);
        // Whoever hears of the end may open the image.
        drop(target);
        let outcome = match (received, handle.end()) {
            // The pass only knows that the other end is gone; the link knows why. What that end said of itself is better.
            (Err(PassError::PeerGone), Some(LinkEnd::Cut(why))) => Err(PassError::Failed(why.to_finding())),
            (outcome, _) => outcome,
        };
        self.reception.registry().ended(lease, &session, &outcome);
    }

    fn receive(
        &self,
        target: &Target,
        link: &RemoteLink,
        progress: &Arc<Progress>,
    ) -> Result<Sealed, PassError> {
        let options = PassOptions {
            block_size: self.layout.block_size(),
            threads: self.reception.0.threads,
            window_bytes: target.window_bytes,
            seeds: target.seeds.clone(),
            ..PassOptions::default()
        };
        let seeds = index_seeds(&options, progress, &self.cancel)?;
        let known = target.known().map_err(PassError::Failed)?;
        let end = ReceivingEnd {
            image: Arc::clone(&target.image),
            sink: target.sink(self.number, self.claim.clone()),
            layout: self.layout,
            is_new: target.is_new,
            is_at_seal: target.told_root().is_some(),
            seeds,
            options: &options,
            progress: Arc::clone(progress),
            cancel: self.cancel.clone(),
        };
        let sender = link.sender();
        end.run(Link::new(move |frame| sender.send(frame), link.input().clone()), Some(known))
    }
}

/// Closes the image and notes how it looks, so that whoever else writes to it is noticed.
fn finish(target: &Target, epoch: Epoch, received: Result<Sealed, PassError>) -> Result<Sealed, PassError> {
    let closed = target.image.close().map_err(PassError::from).and_then(|()| {
        let fingerprint = Fingerprint::of_settled_image(&*target.image, epoch)?;
        target.store.released(&fingerprint).map_err(|error| PassError::Failed(error.to_finding()))
    });
    match (received, closed) {
        (Ok(sealed), Ok(())) => Ok(sealed),
        // A journal that failed concerns more than this pass.
        (Err(error), Err(journal)) if is_of_journal(&journal) && !is_of_journal(&error) => Err(journal),
        // What failed first is the cause.
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
    }
}

fn is_of_journal(error: &PassError) -> bool {
    error.findings().first().is_some_and(|finding| Stores::is_failure(finding.code))
}

impl<R: Registry> Host for Reception<R> {
    async fn open(
        &self,
        peer: PeerIdentity,
        _from: SocketAddr,
        open: Open,
    ) -> Result<(Welcome, LinkAcceptor), Refusal> {
        let refused = |finding: Finding| Refusal { code: finding.code, message: finding.evidence };
        self.accept(peer, open).await.map_err(refused)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
