//! One pass of one disk: open the source, connect, open the session, send.

use crate::comparison::Origin;
use crate::config::{Disk, Machine};
use crate::delivery::{Delivery, Memory};
use crate::forecast::Look;
use crate::lineage::{Base, Lineage};
use crate::managed::Managed;
use crate::seen::SeenSource;
use crate::template::Template;
use failback_blockio::ChangeFeed;
use failback_image::Image;
use failback_model::{Code, DiskId, Epoch, Finding, Generation, JobId, Layout, MachineId, PointClaim};
use failback_pass::{Cancel, Measure, PassError, PassOptions, Progress, Totals};
use failback_remote::{FeedSpec, OpenOptions, SourceSpec, Waits};
use failback_service::clock::offset_ms;
use failback_service::control::{DiskForecast, PassFlags};
use failback_service::status::{
    DiskHandle, DiskStage, LinkBytes, PassEnd, PassFacts, PassProbe, Predicted, Sealed,
};
use failback_transport::{ConnectOptions, LinkHandle, Throttle, Tls};
use failback_wire::Welcome;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Everything that one try of a pass needs. It is the disk's only one: the registry lends a disk once.
pub struct Attempt {
    /// The machine as it is defined now.
    pub machine: Machine,
    /// Where the states of managed disks are read.
    pub managed: Managed,
    /// The disk as it is defined now.
    pub disk: Disk,
    /// The job.
    pub job: JobId,
    /// Its number.
    pub epoch: Epoch,
    /// How the pass is carried out.
    pub flags: PassFlags,
    /// What it brings: the same for all disks of the machine in the job.
    pub claim: PointClaim,
    /// Memory that it may hold: the session's window.
    pub window_bytes: u64,
    /// Where it tells its stages, its connection and its counters. The end is told by the supervisor.
    pub status: Arc<DiskHandle>,
    /// Counts what happens; the supervisor sees by it whether a try got anywhere.
    pub progress: Arc<Progress>,
    /// Set when it shall stop at the next durable group and return [`failback_model::Code::Cancelled`].
    pub cancel: Cancel,
    /// Certificates.
    pub tls: Tls,
    /// The machine's bandwidth, shared by its disks.
    pub throttle: Throttle,
    /// Where connections live; `block_on` may be called, the attempt has a thread of its own.
    pub runtime: Handle,
    /// What earlier tries found out about the source.
    pub seen: SeenSource,
    /// Folder for what is known of this source; made by whoever writes there.
    pub state: PathBuf,
    /// Its snapshot in the cloud, where there is one.
    pub snapshot: Option<String>,
}

impl Attempt {
    /// Whose disk.
    pub fn machine_id(&self) -> &MachineId {
        &self.machine.id
    }

    /// Which disk.
    pub fn disk_id(&self) -> &DiskId {
        &self.disk.id
    }
}

/// Carries passes.
pub trait Runner: Send + Sync + 'static {
    /// Carries one pass; returns when it is sealed, stopped or broken off. Blocks its thread.
    fn run(&self, attempt: &Attempt) -> Result<Sealed, Finding>;
}

/// Carries passes over the network.
#[derive(Debug, Default)]
pub struct Network;

impl Runner for Network {
    fn run(&self, attempt: &Attempt) -> Result<Sealed, Finding> {
        attempt.status.stage(DiskStage::Planning);
        let delivery = delivery(attempt)?;
        foretell(attempt, &delivery);
        attempt.status.stage(DiskStage::Connecting);
        let sent = delivery.run(&attempt.runtime, |welcome, link| opened(attempt, &delivery, welcome, link));
        let sent = sent.map_err(|error| first(&error))?;
        let (verified, claim) = (attempt.flags.verify, attempt.claim.clone());
        Ok(Sealed { generation: sent.generation, root: sent.root, verified, claim })
    }
}

/// What a failed pass says first: the cause.
fn first(error: &PassError) -> Finding {
    let nothing = || Finding::error(Code::Internal, "a pass failed without a reason");
    error.findings().into_iter().next().unwrap_or_else(nothing)
}

/// Waits for what a source needs end with the attempt, and its status tells of them.
fn waits(attempt: &Attempt) -> Waits {
    let (cancel, status) = (attempt.cancel.clone(), Arc::clone(&attempt.status));
    Waits {
        stop: Some(Arc::new(move || cancel.is_cancelled())),
        heard: Some(Arc::new(move |why| status.paused(why))),
    }
}

fn delivery(attempt: &Attempt) -> Result<Delivery, Finding> {
    let (machine, disk) = (&attempt.machine, &attempt.disk);
    let snapshot = attempt.snapshot.as_ref();
    let (managed, cycle) = (&attempt.managed, attempt.claim.cycle);
    let (source, feed) =
        source_of((machine, disk), managed, &attempt.state, cycle, snapshot, waits(attempt))?;
    let status = Arc::clone(&attempt.status);
    let memory = Memory {
        folder: attempt.state.clone(),
        origin: Origin { feed },
        named: disk.named(),
        retaken: !machine.snapshot.is_empty(),
        snapshot: attempt.snapshot.clone(),
        hear: Box::new(move |comparison| status.compared(comparison)),
    };
    Ok(Delivery {
        source,
        machine: machine.id.clone(),
        disk: disk.id.clone(),
        job: attempt.job.clone(),
        epoch: attempt.epoch,
        generation: attempt.status.told_generation().unwrap_or(Generation(0)),
        claim: attempt.claim.clone(),
        accept_older: attempt.flags.accept_older,
        accept_divergence: attempt.flags.accept_divergence,
        data_connections: machine.data_connections,
        connect: ConnectOptions {
            address: machine.target.clone(),
            server: machine.target_identity.clone(),
            tls: attempt.tls.clone(),
            socket: machine.socket_options(),
            throttle: attempt.throttle.clone(),
        },
        options: PassOptions {
            verify: attempt.flags.verify,
            accept_mismatch: attempt.flags.accept_mismatch,
            ..disk.options(attempt.window_bytes)
        },
        memory: Some(memory),
        agreed: None,
        seen: attempt.seen.clone(),
        progress: Arc::clone(&attempt.progress),
        cancel: attempt.cancel.clone(),
    })
}

/// A feed with the base that it starts from, or why there is none, if there could be.
type Feed = Result<(Base, Box<dyn ChangeFeed>), Option<Finding>>;

/// A disk's source in a cycle, and what names its changes.
pub(crate) fn source_of(
    (machine, disk): (&Machine, &Disk),
    managed: &Managed,
    state: &Path,
    cycle: u64,
    snapshot: Option<&String>,
    waits: Waits,
) -> Result<(Arc<dyn Image>, Feed), Finding> {
    let base = Lineage::of(state).map(|lineage| lineage.base);
    let template = Template { cycle, base: base.as_ref().map(|base| base.cycle) };
    let spec = SourceSpec::parse(template.expand(&disk.source))?;
    let is_managed = matches!(spec, SourceSpec::Managed(_));
    let state_read = match snapshot.filter(|_| is_managed) {
        Some(snapshot) => {
            let base = base.as_ref().and_then(|base| base.snapshot.as_deref());
            Some(managed.read(machine, snapshot, base)?)
        }
        None => None,
    };
    let options = OpenOptions {
        renew: disk.renew.clone(),
        snapshot: snapshot.filter(|_| !is_managed).cloned(),
        managed: state_read,
        waits,
        ..disk.threads.map_or_else(OpenOptions::default, |connections| OpenOptions {
            connections,
            ..OpenOptions::default()
        })
    };
    let source = failback_remote::open(&spec, &options)?;
    Ok((source, feed_of(disk, base, template, &spec, &options)))
}

/// What a pass would cost.
pub(crate) fn predict(
    source: &dyn Image,
    options: &PassOptions,
    state: &Path,
    feed: &Feed,
    generation: Option<u64>,
) -> Result<DiskForecast, Finding> {
    let layout = Layout::new(source.geometry().length_bytes, options.block_size)
        .map_err(|error| Finding::error(Code::ImageSizeUnsupported, error.to_string()))?;
    Look { source, layout, options, folder: state, feed, generation }.forecast()
}

/// Says once in a cycle what the pass is expected to cost. That it cannot be told stops no pass.
fn foretell(attempt: &Attempt, delivery: &Delivery) {
    let (status, cycle) = (&attempt.status, attempt.claim.cycle);
    let Some(memory) = delivery.memory.as_ref().filter(|_| !status.is_predicted(attempt.epoch, cycle)) else {
        return;
    };
    let generation = status.status().generation;
    let feed = &memory.origin.feed;
    match predict(&*delivery.source, &delivery.options, &attempt.state, feed, generation) {
        Ok(forecast) => status.predicted(Predicted {
            epoch: attempt.epoch.0,
            cycle,
            read_bytes: forecast.read_bytes,
            ship_estimate_bytes: forecast.ship_estimate_bytes,
            ship_at_most_bytes: forecast.ship_at_most_bytes,
        }),
        Err(finding) => tracing::debug!("{}: no prediction: {}", attempt.disk.id, finding.evidence),
    }
}

/// What names the changes since the base: as it is configured, else by the snapshots themselves.
fn feed_of(
    disk: &Disk,
    base: Option<Base>,
    template: Template,
    spec: &SourceSpec,
    options: &OpenOptions,
) -> Result<(Base, Box<dyn ChangeFeed>), Option<Finding>> {
    // The first cycle has nothing to start from, which is no fault.
    let base = base.ok_or(None)?;
    if base.named != disk.named() {
        let evidence = "the last sealed state is of another source or feed than is configured now";
        return Err(Some(Finding::warning(Code::FeedUnusable, evidence)));
    }
    let feed = match (&disk.feed, &base.snapshot) {
        (Some(feed), _) => {
            let reason = |reason: &str| Some(Finding::warning(Code::FeedUnusable, reason));
            template.expand(feed).parse().map_err(reason)?
        }
        (None, Some(snapshot)) => FeedSpec::Diff(snapshot.clone()),
        (None, None) => return Err(None),
    };
    let unusable = |finding: Finding| {
        Some(Finding::warning(Code::FeedUnusable, finding.evidence).with_remedy(finding.remedy))
    };
    failback_remote::open_feed(&feed, spec, options).map(|feed| (base, feed)).map_err(unusable)
}

/// What was found of the target and accepted for the job, as far as its end says; it knows what differed.
pub fn accepted(welcome: &Welcome) -> Option<Finding> {
    let evidence =
        "accepted for this job: all of the target is scanned; the master target says what differed";
    welcome.is_divergence_accepted.then(|| Finding::warning(Code::Diverged, evidence))
}

/// Tells the status of a session that stands.
fn opened(attempt: &Attempt, delivery: &Delivery, welcome: &Welcome, link: &LinkHandle) {
    attempt.status.known(welcome.generation, Some(welcome.root).filter(|root| !root.is_zero()));
    attempt.status.connected_by(link, offset_ms(welcome.clock_unix_ms));
    let window_bytes = delivery.options.window_bytes.min(welcome.window_bytes);
    let facts = PassFacts {
        session: welcome.session,
        epoch: attempt.epoch,
        is_new: welcome.is_new,
        resumed: welcome.is_resumed,
        accepted: accepted(welcome),
        window_bytes,
    };
    let totals = Totals {
        measure: Measure::Settled { block_bytes: delivery.options.block_size.bytes() },
        disk_bytes: welcome.pass_bytes,
        threads: delivery.options.threads,
        ..Totals::default()
    };
    let (progress, look) = (Arc::clone(&delivery.progress), LinkBytes::of(link));
    let probe = PassProbe::new(PassEnd::Sending, totals, progress, window_bytes, look);
    attempt.status.started(facts, Box::new(probe));
}
