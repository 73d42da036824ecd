//! One disk brought home once: open a session, send the pass, say goodbye.
//!
//! **Invariant**: a delivery that fails leaves nothing behind but what helps the next one: the finished part of the source's scan.
//! Whatever ends it is told as a finding with the code of its cause, so that whoever decides about the next try need not
//! know the layers below.

use crate::comparison::{Looking, Origin, Start};
use crate::lineage::{Base, Lineage};
use crate::seen::SeenSource;
use failback_blockio::{DiskError, UnitSource};
use failback_engine::{Known, TrustedDigests};
use failback_image::Image;
use failback_model::limits::GOODBYE_MAX;
use failback_model::{
    Code, Digest, DiskId, Epoch, Finding, Generation, JobId, Layout, MachineId, PointClaim, ProductVersion,
};
use failback_pass::{Cancel, Link, PassError, PassOptions, Progress, SendingEnd, guarded_end};
use failback_service::clock::unix_ms;
use failback_service::status::Comparison;
use failback_session::handshake::Opening;
use failback_store::{Fingerprint, SourceState};
use failback_transport::{ConnectOptions, LinkEnd, LinkHandle, RemoteLink, connect};
use failback_wire::{Capabilities, Message, Open, Version, Welcome};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;

/// A sealed state of the target whose digests are at hand, proven against its root.
#[derive(Clone)]
pub struct Agreed {
    /// Its root.
    pub root: Digest,
    /// The generation that the target gave it.
    pub generation: Generation,
    /// How its disk was cut.
    pub layout: Layout,
    /// Its digests.
    pub digests: Arc<dyn TrustedDigests>,
}

/// What is sent, to whom, and how.
pub struct Delivery {
    /// The disk; it must not change while it is sent.
    pub source: Arc<dyn Image>,
    /// Whose disk.
    pub machine: MachineId,
    /// Which disk.
    pub disk: DiskId,
    /// The job.
    pub job: JobId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Generation of the target's last state that is known to have come from this source; 0: none.
    pub generation: Generation,
    /// What the pass brings.
    pub claim: PointClaim,
    /// Bring an older state of the source on purpose.
    pub accept_older: bool,
    /// Scan and overwrite a target that something else wrote to since its last pass.
    pub accept_divergence: bool,
    /// Data connections beside the control connection.
    pub data_connections: u16,
    /// To whom.
    pub connect: ConnectOptions,
    /// How it is sent. Its window is a bound; the target may grant less.
    pub options: PassOptions,
    /// What is kept of the source from one pass to the next; `None`: nothing.
    pub memory: Option<Memory>,
    /// The state that the target was last sealed at, where the caller has its digests; else it is what the memory says.
    pub agreed: Option<Agreed>,
    /// What earlier tries found out about the source.
    pub seen: SeenSource,
    /// Counts what happens.
    pub progress: Arc<Progress>,
    /// Stops it.
    pub cancel: Cancel,
}

/// What is kept of a source.
pub struct Memory {
    /// Folder for its digests.
    pub folder: PathBuf,
    /// Which state of it is read, and what names its changes.
    pub origin: Origin,
    /// The source and its feed as the configuration names them.
    pub named: String,
    /// Whether a hook makes the source for each cycle.
    pub retaken: bool,
    /// Its snapshot in the cloud, where there is one.
    pub snapshot: Option<String>,
    /// Hears how the pass comes to know the source.
    pub hear: Box<dyn Fn(Comparison) + Send + Sync>,
}

/// What a finished delivery brought.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Root of both ends.
    pub root: Digest,
    /// Generation that the target gave it.
    pub generation: Generation,
    /// Length of the pass's disk, bytes.
    pub pass_bytes: u64,
    /// Blocks of it.
    pub blocks_total: u64,
}

impl Delivery {
    /// Carries it out on this thread; connections live on `runtime`. `opened` hears of the session once it stands.
    pub fn run(
        &self,
        runtime: &Handle,
        opened: impl FnOnce(&Welcome, &LinkHandle),
    ) -> Result<Sent, PassError> {
        let open = self.request()?;
        let (welcome, link) = self.connect(runtime, open)?;
        let handle = link.handle();
        opened(&welcome, &handle);
        let sent = guarded_end(|| self.send(&welcome, &link));
        drop(link);
        let ended = runtime.block_on(async { tokio::time::timeout(GOODBYE_MAX * 2, handle.ended()).await });
        match (sent, ended) {
            (Ok(sent), _) => Ok(sent),
            // The pass only knows that the other end is gone; the link knows why. What that end said of itself is better.
            (Err(PassError::PeerGone), Ok(LinkEnd::Cut(why))) => Err(PassError::Failed(why.to_finding())),
            (Err(error), _) => Err(error),
        }
    }

    fn request(&self) -> Result<Open, PassError> {
        let geometry = self.source.geometry();
        let facts = self.seen.facts(&*self.source, self.fingerprint()?)?;
        Ok(Open {
            version_min: Version::OLDEST.number(),
            version_max: Version::CURRENT.number(),
            product: ProductVersion::CURRENT,
            clock_unix_ms: unix_ms(),
            machine: self.machine.clone(),
            disk: self.disk.clone(),
            length_bytes: geometry.length_bytes,
            content_end_bytes: facts.content_end_bytes,
            block_bytes: self.options.block_size.bytes() as u32,
            sector_bytes: geometry.sector_size.bytes() as u32,
            disk_mark: facts.disk_mark.clone(),
            generation: self.generation,
            root: Digest::ZERO,
            epoch: self.epoch,
            capabilities: Capabilities::OWN,
            data_connections: self.data_connections,
            verify: self.options.verify,
            accept_older: self.accept_older,
            accept_mismatch: self.options.accept_mismatch,
            accept_divergence: self.accept_divergence,
            job: self.job.clone(),
            claim: self.claim.clone(),
            sample: facts.sample.clone(),
        })
    }

    /// Opens the session, or gives up when asked to.
    fn connect(&self, runtime: &Handle, open: Open) -> Result<(Welcome, RemoteLink), PassError> {
        let mut opening = Opening::new(open.clone(), Instant::now());
        // The transport carries the request itself.
        opening.poll_transmit();
        let opened = runtime.block_on(async {
            tokio::select! {
                opened = connect(&self.connect, open) => Some(opened),
                () = cancelled(&self.cancel) => None,
            }
        });
        let (welcome, link) =
            opened.ok_or(PassError::Cancelled)?.map_err(|error| PassError::Failed(error.to_finding()))?;
        let welcome = opening
            .handle_message(Message::Welcome(Box::new(welcome)), unix_ms())
            .map_err(|error| PassError::Failed(Finding::error(error.code, error.reason)))?;
        Ok((welcome, link))
    }

    fn send(&self, welcome: &Welcome, link: &RemoteLink) -> Result<Sent, PassError> {
        let layout = Layout::new(welcome.pass_bytes, self.options.block_size)
            .map_err(|error| PassError::Failed(Finding::error(Code::ProtocolViolation, error.to_string())))?;
        let start = self.memory.as_ref().map(|memory| self.start(memory, layout)).transpose()?;
        let (state, known, base, check_from): (_, Option<Known>, _, _) = match start {
            Some(start) => {
                let known = start.state.trusted().map_err(stored)?.into();
                // Where the target is at the base, its digests are at hand and need not come.
                let base = start.base.filter(|(base, _)| base.is_at(welcome.generation, welcome.root));
                let base = base.map(|(_, digests)| Arc::new(digests) as Arc<dyn TrustedDigests>);
                let base = base.or_else(|| self.base(welcome, layout));
                (Some(Arc::new(start.state)), Some(known), base, start.check_from)
            }
            None => (None, None, self.base(welcome, layout), 0),
        };
        let known_blocks: u64 = known.iter().flat_map(|known| &known.ranges).map(|range| range.count()).sum();
        let options = PassOptions {
            window_bytes: self.options.window_bytes.min(welcome.window_bytes),
            ..self.options.clone()
        };
        let end = SendingEnd {
            source: Arc::clone(&self.source) as Arc<dyn UnitSource>,
            layout,
            options: &options,
            ships_everything: welcome.is_new && !welcome.has_seeds,
            expects_changes: !welcome.has_seeds && known_blocks > layout.block_count() / 2,
            base,
            scan_log: state.clone().map(|state| state as _),
            progress: Arc::clone(&self.progress),
            cancel: self.cancel.clone(),
        };
        let (sender, queue, waiting) = (link.sender(), link.sender(), link.sender());
        let way = Link::new(move |frame| sender.send(frame), link.input().clone())
            .with_queue(move || queue.queued_bytes())
            .with_discard(move || waiting.discard_bulk());
        let root = end.run(way, known).inspect_err(|error| {
            if let (PassError::Disk(error), Some(memory), Some(state)) = (error, &self.memory, &state)
                && error.code == Code::ChangedMeanwhile
            {
                // A digest that was remembered is not that of the bytes: none of them is believed any longer.
                self.disown(memory, state);
            }
        })?;
        let generation = welcome.generation.next();
        let sent =
            Sent { root, generation, pass_bytes: welcome.pass_bytes, blocks_total: layout.block_count() };
        if let (Some(memory), Some(state)) = (&self.memory, &state)
            && let Err(finding) = self.sealed(memory, state, &sent, check_from)
        {
            // The seal stands; the next cycle costs more.
            tracing::warn!("{}/{}: {}", self.machine, self.disk, finding.evidence);
        }
        Ok(sent)
    }

    /// The digests of the state that the target says it is in, where the caller has them.
    fn base(&self, welcome: &Welcome, layout: Layout) -> Option<Arc<dyn TrustedDigests>> {
        let is_in = |agreed: &&Agreed| {
            let is_same = (agreed.root, agreed.generation) == (welcome.root, welcome.generation);
            is_same && !welcome.root.is_zero() && agreed.layout == layout
        };
        self.agreed.as_ref().filter(is_in).map(|agreed| Arc::clone(&agreed.digests))
    }

    /// Finds out what of the source need not be scanned, and tells.
    fn start(&self, memory: &Memory, layout: Layout) -> Result<Start, PassError> {
        let fingerprint = self.fingerprint()?;
        let looking = Looking {
            source: &*self.source,
            folder: &memory.folder,
            fingerprint: &fingerprint,
            layout,
            cancel: &self.cancel,
        };
        let start = looking.start(&memory.origin)?;
        Progress::add(&self.progress.bytes_read_source, start.read_bytes);
        (memory.hear)(start.comparison.clone());
        Ok(start)
    }

    /// What vouches for the source's bytes.
    fn fingerprint(&self) -> Result<Fingerprint, DiskError> {
        let retaken = self.memory.as_ref().is_some_and(|memory| memory.retaken);
        Fingerprint::of_source(&*self.source, self.epoch, self.claim.cycle, retaken)
    }

    /// Gives up what is remembered of the source.
    fn disown(&self, memory: &Memory, state: &SourceState) {
        let given_up = self
            .fingerprint()
            .map_err(|error| error.to_finding())
            .and_then(|fingerprint| state.forget(&fingerprint).map_err(|error| error.to_finding()))
            .and_then(|()| Lineage::remove(&memory.folder));
        if let Err(finding) = given_up {
            tracing::warn!("{}/{}: {}", self.machine, self.disk, finding.evidence);
        }
    }

    /// The target sealed what was sent: the next cycle's feed starts from there.
    fn sealed(
        &self,
        memory: &Memory,
        state: &SourceState,
        sent: &Sent,
        check_from: u64,
    ) -> Result<(), Finding> {
        state.sync().map_err(|error| error.to_finding())?;
        let base = Base {
            epoch: self.epoch.0,
            cycle: self.claim.cycle,
            generation: sent.generation.0,
            root: sent.root.to_string(),
            pass_bytes: sent.pass_bytes,
            block_bytes: self.options.block_size.bytes(),
            named: memory.named.clone(),
            snapshot: memory.snapshot.clone(),
        };
        Lineage::sealed(base, check_from).keep(&memory.folder)
    }
}

fn stored(error: failback_store::StoreError) -> PassError {
    PassError::Failed(error.to_finding())
}

/// Returns once a pass was asked to stop. A flag has no waker, so it is looked at.
async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(CANCEL_TICK).await;
    }
}

const CANCEL_TICK: std::time::Duration = std::time::Duration::from_millis(50);
