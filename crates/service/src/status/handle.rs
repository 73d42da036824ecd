//! One disk's live status, written by whoever carries its pass and read by everyone else.
//!
//! Each call tells the status, the event stream and the error counts at once, so that they cannot differ.

use super::kept::{Kept, KeptSeal};
use super::{Comparison, DiskStage, DiskStatus, LinkStatus, Live, Predicted};
use crate::clock::{ms_of, unix_ms};
use crate::event::{Event, Events};
use crate::report::FindingLine;
use failback_model::limits::CLOCK_SKEW_NOTICED;
use failback_model::{
    Digest, DiskId, Epoch, Finding, Generation, MachineId, PointClaim, SessionNumber, Severity,
};
use failback_transport::LinkHandle;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Reads a running pass's counters. Called about once a second, from one thread at a time.
pub trait Probe: Send {
    /// What the counters say now.
    fn observe(&mut self, now: Instant) -> Live;
}

/// What is known of a pass when its session is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassFacts {
    /// Number of the session.
    pub session: SessionNumber,
    /// Number of the job.
    pub epoch: Epoch,
    /// Whether the target was made for it.
    pub is_new: bool,
    /// Whether it goes on with an earlier pass's work.
    pub resumed: bool,
    /// Memory it may hold.
    pub window_bytes: u64,
    /// What was found of the target and accepted for this job.
    pub accepted: Option<Finding>,
}

/// A sealed state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its number.
    pub generation: Generation,
    /// Its root.
    pub root: Digest,
    /// Whether the target was read back from its medium.
    pub verified: bool,
    /// What its process server says of it.
    pub claim: PointClaim,
}

/// A disk's status. Shared by reference; every call is short.
pub struct DiskHandle {
    machine: MachineId,
    disk: DiskId,
    events: Arc<Events>,
    kept: Arc<Kept>,
    state: Mutex<State>,
}

struct State {
    status: DiskStatus,
    probe: Option<Box<dyn Probe>>,
    /// The connection that the status tells of.
    link: Option<LinkHandle>,
    started: Option<Instant>,
    /// The target's generation, once the target or a seal has told it to this run of the daemon.
    told: Option<Generation>,
    /// Counters of earlier passes: metrics only ever grow.
    earlier: BTreeMap<String, u64>,
}

impl DiskHandle {
    pub(super) fn new(machine: MachineId, disk: DiskId, events: Arc<Events>, kept: Arc<Kept>) -> Self {
        let seal = kept.disk(&machine, &disk).seal;
        let status = DiskStatus {
            id: disk.to_string(),
            stage_since_unix_ms: unix_ms(),
            generation: seal.as_ref().map(|seal| seal.generation),
            sealed_unix_ms: seal.as_ref().map(|seal| seal.sealed_unix_ms),
            point_label: seal.as_ref().and_then(|seal| seal.point_label.clone()),
            point_reason: seal.as_ref().and_then(|seal| seal.point_reason.clone()),
            source_unix_ms: seal.as_ref().and_then(|seal| seal.source_unix_ms),
            root: seal.map(|seal| seal.root),
            ..DiskStatus::default()
        };
        let state =
            State { status, probe: None, link: None, started: None, told: None, earlier: BTreeMap::new() };
        Self { machine, disk, events, kept, state: Mutex::new(state) }
    }

    /// Says where the disk stands.
    pub fn stage(&self, stage: DiskStage) {
        self.state().enter(stage);
    }

    /// The state that the target has sealed, known from its journal or from the handshake.
    pub fn known(&self, generation: Generation, root: Option<Digest>) {
        let mut state = self.state();
        if state.status.generation != Some(generation.0) {
            let status = &mut state.status;
            (status.sealed_unix_ms, status.source_unix_ms) = (None, None);
            (status.point_label, status.point_reason) = (None, None);
        }
        state.told = Some(generation);
        state.status.generation = Some(generation.0);
        state.status.root = root.map(|root| root.to_string());
    }

    /// The target's generation, where this run of the daemon was told.
    pub fn told_generation(&self) -> Option<Generation> {
        self.state().told
    }

    /// A connection is made. Tries that failed before it are forgotten.
    pub fn connected(&self, link: LinkStatus) {
        if link.clock_offset_ms.unsigned_abs() >= CLOCK_SKEW_NOTICED.as_millis() as u64 {
            let (peer, clock_offset_ms) = (&link.peer, link.clock_offset_ms);
            tracing::warn!(
                peer,
                clock_offset_ms,
                "the peer's clock differs from this host's: set both by NTP"
            );
        }
        let mut state = self.state();
        state.status.failed_tries = 0;
        state.status.next_try_unix_ms = None;
        state.status.error = None;
        state.status.link = Some(link.clone());
        drop(state);
        self.events.publish(Event::Connected { machine: self.machine(), disk: self.disk(), link });
    }

    /// The same by the connection itself, which every later look asks what it has become. Its peer's clock was so many
    /// milliseconds ahead.
    pub fn connected_by(&self, link: &LinkHandle, clock_offset_ms: i64) {
        self.connected(LinkStatus::of(link, clock_offset_ms));
        self.state().link = Some(link.clone());
    }

    /// How the source's digests come to be known in the pass that begins.
    pub fn compared(&self, comparison: Comparison) {
        let (machine, disk) = (self.machine(), self.disk());
        let event = Event::SourceCompared { machine, disk, comparison: comparison.clone() };
        self.state().status.comparison = Some(Box::new(comparison));
        self.events.publish(event);
    }

    /// What the pass is expected to cost.
    pub fn predicted(&self, predicted: Predicted) {
        self.state().status.predicted = Some(Box::new(predicted));
    }

    /// Whether that was said of this cycle.
    pub fn is_predicted(&self, epoch: Epoch, cycle: u64) -> bool {
        let state = self.state();
        state.status.predicted.as_ref().is_some_and(|was| (was.epoch, was.cycle) == (epoch.0, cycle))
    }

    /// A pass begins; `probe` reads its counters until it ends.
    pub fn started(&self, facts: PassFacts, probe: Box<dyn Probe>) {
        let strategy = self.strategy(&facts);
        let mut state = self.state();
        state.end_probe();
        state.status.session = Some(facts.session.0);
        state.status.epoch = Some(facts.epoch.0);
        state.status.strategy = Some(strategy.into());
        state.status.resumed = facts.resumed;
        state.status.window_bytes = Some(facts.window_bytes);
        state.status.pass = None;
        state.status.error = None;
        state.probe = Some(probe);
        state.started = Some(Instant::now());
        state.enter(DiskStage::Replicating);
        drop(state);
        self.events.publish(Event::PassStarted {
            machine: self.machine(),
            disk: self.disk(),
            session: facts.session.0,
            epoch: facts.epoch.0,
            strategy: strategy.into(),
            resumed: facts.resumed,
            window_bytes: facts.window_bytes,
            findings: facts.accepted.iter().map(FindingLine::from).collect(),
        });
    }

    /// A target that was made stays a new one until it is sealed: for its job, and for whoever goes on with it.
    fn strategy(&self, facts: &PassFacts) -> &'static str {
        let made_epoch = self.kept.disk(&self.machine, &self.disk).made_epoch;
        let is_made = |epoch| epoch == facts.epoch.0 || facts.resumed;
        if facts.is_new {
            self.kept.change(&self.machine, &self.disk, |disk| disk.made_epoch = Some(facts.epoch.0));
        }
        if facts.is_new || made_epoch.is_some_and(is_made) {
            "alternate-location"
        } else {
            "original-location"
        }
    }

    /// The pass ended well.
    pub fn sealed(&self, sealed: &Sealed) {
        let sealed_unix_ms = unix_ms();
        let claim = &sealed.claim;
        let point_label = claim.label.to_string();
        let point_reason = Some(claim.reason.clone()).filter(|reason| !reason.is_empty());
        self.kept.change(&self.machine, &self.disk, |disk| {
            disk.seal = Some(KeptSeal {
                generation: sealed.generation.0,
                root: sealed.root.to_string(),
                sealed_unix_ms,
                point_label: Some(point_label.clone()),
                point_reason: point_reason.clone(),
                source_unix_ms: Some(claim.source_unix_ms),
            });
            disk.made_epoch = None;
        });
        let mut state = self.state();
        state.end(DiskStage::Sealed);
        state.status.error = None;
        state.told = Some(sealed.generation);
        state.status.generation = Some(sealed.generation.0);
        state.status.root = Some(sealed.root.to_string());
        state.status.sealed_unix_ms = Some(sealed_unix_ms);
        state.status.point_label = Some(point_label.clone());
        state.status.point_reason = point_reason.clone();
        state.status.source_unix_ms = Some(claim.source_unix_ms);
        let elapsed_seconds = state.elapsed_seconds();
        let counters = state.status.pass.as_ref().map(|pass| pass.counters.clone()).unwrap_or_default();
        drop(state);
        self.events.publish(Event::PassSealed {
            machine: self.machine(),
            disk: self.disk(),
            generation: sealed.generation.0,
            root: sealed.root.to_string(),
            verified: sealed.verified,
            point_label: Some(point_label),
            point_reason,
            source_unix_ms: Some(claim.source_unix_ms),
            elapsed_seconds,
            counters,
        });
    }

    /// A try failed, and the next one comes after `wait`.
    pub fn retrying(&self, why: &Finding, failed_tries: u32, wait: Duration) {
        let next_try_unix_ms = ms_of(SystemTime::now() + wait);
        let line = self.interrupted(why);
        let mut state = self.state();
        state.end(DiskStage::Retrying);
        state.status.error = Some(line.clone());
        state.status.failed_tries = failed_tries;
        state.status.next_try_unix_ms = Some(next_try_unix_ms);
        drop(state);
        self.events.publish(Event::PassInterrupted {
            machine: self.machine(),
            disk: self.disk(),
            finding: line,
            failed_tries,
            next_try_unix_ms: Some(next_try_unix_ms),
        });
    }

    /// The pass waits for what somebody has to bring, such as a new signature of its source; `None`: no more. It does not end.
    pub fn paused(&self, why: Option<&Finding>) {
        let line = why.map(FindingLine::from);
        self.state().status.error = line.clone();
        if let Some(finding) = line {
            self.events.publish(Event::PassInterrupted {
                machine: self.machine(),
                disk: self.disk(),
                finding,
                failed_tries: 0,
                next_try_unix_ms: None,
            });
        }
    }

    /// The session broke off; the other end makes the next try.
    pub fn waiting(&self, why: &Finding) {
        let line = self.interrupted(why);
        let mut state = self.state();
        state.end(DiskStage::Waiting);
        state.status.error = Some(line.clone());
        drop(state);
        self.events.publish(Event::PassInterrupted {
            machine: self.machine(),
            disk: self.disk(),
            finding: line,
            failed_tries: 0,
            next_try_unix_ms: None,
        });
    }

    /// A session was refused before anything changed, and whoever listens has counted it. [`DiskStage::Failed`]: an operator
    /// is needed; else the other end makes the next try.
    pub fn refused(&self, why: &Finding, stage: DiskStage) {
        let (machine, disk, finding) = (self.machine(), self.disk(), FindingLine::from(why));
        let mut state = self.state();
        state.end(stage);
        state.status.error = Some(finding.clone());
        drop(state);
        self.events.publish(match stage {
            DiskStage::Failed => Event::PassFailed { machine, disk, finding },
            _ => Event::PassInterrupted { machine, disk, finding, failed_tries: 0, next_try_unix_ms: None },
        });
    }

    /// Counts an error; that the other end stopped in good order is none, and only worth knowing.
    fn interrupted(&self, why: &Finding) -> FindingLine {
        if why.code.is_orderly_stop() {
            return FindingLine::from(&Finding { severity: Severity::Info, ..why.clone() });
        }
        self.events.count(why.code);
        FindingLine::from(why)
    }

    /// The pass failed for a reason that does not go away by itself.
    pub fn failed(&self, why: &Finding) {
        let mut state = self.state();
        state.end(DiskStage::Failed);
        state.status.error = Some(FindingLine::from(why));
        drop(state);
        self.events.count(why.code);
        self.events.publish(Event::PassFailed {
            machine: self.machine(),
            disk: self.disk(),
            finding: FindingLine::from(why),
        });
    }

    /// The pass stopped on request, or its peer said goodbye: what was acknowledged is durable.
    pub fn stopped(&self) {
        let mut state = self.state();
        let was_active = state.status.stage.is_active();
        state.end(DiskStage::Stopped);
        drop(state);
        if was_active {
            self.events.publish(Event::PassStopped { machine: self.machine(), disk: self.disk() });
        }
    }

    /// It was brought to this state and handed over: no pass writes to it until a new job does.
    pub fn handed_over(&self, generation: Generation, root: Option<Digest>) {
        let mut state = self.state();
        state.end(DiskStage::Released);
        state.status.error = None;
        drop(state);
        self.known(generation, root);
    }

    /// Where it stands now.
    pub fn status(&self) -> DiskStatus {
        let state = self.state();
        let mut status = state.status.clone();
        if let (Some(told), Some(link)) = (&mut status.link, &state.link) {
            told.renew(link);
        }
        status
    }

    /// Counters of all passes since the daemon started.
    pub fn totals(&self) -> BTreeMap<String, u64> {
        let state = self.state();
        let mut totals = state.earlier.clone();
        if let (Some(pass), Some(_)) = (&state.status.pass, &state.probe) {
            add(&mut totals, &pass.counters);
        }
        totals
    }

    /// Looks at the pass's counters.
    pub(super) fn observe(&self, now: Instant) {
        let mut state = self.state();
        if let Some(probe) = &mut state.probe {
            state.status.pass = Some(probe.observe(now));
        }
    }

    fn machine(&self) -> String {
        self.machine.to_string()
    }

    fn disk(&self) -> String {
        self.disk.to_string()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, stage: DiskStage) {
        if self.status.stage != stage {
            self.status.stage = stage;
            self.status.stage_since_unix_ms = unix_ms();
        }
    }

    /// Takes leave of a pass, whatever became of it.
    fn end(&mut self, stage: DiskStage) {
        self.end_probe();
        self.status.link = None;
        self.link = None;
        self.status.next_try_unix_ms = None;
        self.status.window_bytes = None;
        self.enter(stage);
    }

    /// A last look at the counters; what is over has neither rates nor time left.
    fn end_probe(&mut self) {
        let Some(mut probe) = self.probe.take() else { return };
        let last = probe.observe(Instant::now());
        add(&mut self.earlier, &last.counters);
        self.status.pass =
            Some(Live { rates: BTreeMap::new(), left_seconds: None, credit_used_bytes: 0, ..last });
    }

    fn elapsed_seconds(&self) -> f64 {
        self.started.map_or(0.0, |started| started.elapsed().as_secs_f64())
    }
}

fn add(totals: &mut BTreeMap<String, u64>, counters: &BTreeMap<String, u64>) {
    for (name, value) in counters {
        *totals.entry(name.clone()).or_default() += value;
    }
}
