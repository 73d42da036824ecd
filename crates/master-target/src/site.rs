//! The site's disks: who may write which, what a session holds while it does, and what the status says of it.

use crate::audit::Audit;
use crate::config::{Machine, Retention};
use crate::pending::Pending;
use crate::reception::{Registry as Sessions, Session};
use crate::seed_scope::OtherScopes;
use crate::target::TargetDisk;
use crate::{Receipts, Stores};
use failback_image::ImageSpec;
use failback_model::{Code, DiskId, ExitClass, Finding, Generation, MachineId, PeerIdentity};
use failback_pass::{Measure, PassError, Sealed as SealedPass, Totals};
use failback_pki::ReceiptKey;
use failback_service::budget::Grant;
use failback_service::daemon::Kit;
use failback_service::event::Event;
use failback_service::registry::{Lease, Registry, Wanted};
use failback_service::report::FindingLine;
use failback_service::status::{DiskHandle, DiskStage, LinkBytes, PassEnd, PassFacts, PassProbe, Sealed};
use failback_store::Phase;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What all sessions share; clones share it.
#[derive(Clone)]
pub struct Site(Arc<Shared>);

struct Shared {
    kit: Kit,
    registry: Registry<Machine>,
    stores: Stores,
    receipts: Receipts,
    pending: Pending,
    audit: Audit,
    retention: Retention,
    /// What could not be done for a machine at its last seal.
    notes: Mutex<BTreeMap<MachineId, Vec<Finding>>>,
    threads: usize,
}

/// How a site works, as it is configured.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// Reader threads of each pass.
    pub threads: usize,
    /// Folder of the undo logs; `None`: each beside its machine's journal.
    pub journal_dir: Option<PathBuf>,
    /// How long recovery points stay.
    pub retention: Retention,
}

/// What a session holds of its disk: free again when it is dropped.
pub struct DiskLease {
    status: Arc<DiskHandle>,
    grant: Grant,
    lease: Lease<Machine>,
}

impl Site {
    /// A site without sessions.
    pub fn new(
        kit: Kit,
        registry: Registry<Machine>,
        receipt_key: ReceiptKey,
        options: SiteOptions,
    ) -> Result<Self, Finding> {
        let SiteOptions { threads, journal_dir, retention } = options;
        let stores = Stores::new(kit.state.join("machines"), journal_dir)?;
        let receipts = Receipts::new(kit.state.join("receipts"), receipt_key, kit.about.version);
        let pending = Pending::open(kit.state.join("operations.json"))?;
        let audit = Audit::new(kit.state.join("audit.log"));
        let notes = Mutex::default();
        let shared = Shared { kit, registry, stores, receipts, pending, audit, retention, notes, threads };
        Ok(Self(Arc::new(shared)))
    }

    /// Events, status, memory, stop.
    pub fn kit(&self) -> &Kit {
        &self.0.kit
    }

    /// Machines and disks.
    pub fn registry(&self) -> &Registry<Machine> {
        &self.0.registry
    }

    /// Their journals.
    pub fn stores(&self) -> &Stores {
        &self.0.stores
    }

    /// What was proved of them.
    pub fn receipts(&self) -> &Receipts {
        &self.0.receipts
    }

    /// Verbs that are under way.
    pub(crate) fn pending(&self) -> &Pending {
        &self.0.pending
    }

    /// Who did what.
    pub(crate) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// How long points stay.
    pub(crate) fn retention(&self) -> &Retention {
        &self.0.retention
    }

    /// Keeps for the status what could not be done for a machine.
    pub(crate) fn note(&self, machine: &MachineId, findings: Vec<Finding>) {
        for finding in &findings {
            self.kit().events.count(finding.code);
            tracing::warn!("{machine}: {}", finding.evidence);
        }
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(machine.clone(), findings);
    }

    /// What could not be done for it.
    pub(crate) fn noted(&self, machine: &MachineId) -> Vec<Finding> {
        let notes = self.0.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.get(machine).cloned().unwrap_or_default()
    }

    /// Reader threads of a pass.
    pub fn threads(&self) -> usize {
        self.0.threads
    }

    /// Tells that a peer was sent away; the listener counts it with all that came to nothing.
    pub fn refused(&self, peer: &PeerIdentity, address: SocketAddr, why: &Finding) {
        self.kit().events.publish(Event::PeerRefused {
            address: Some(address.to_string()),
            peer: Some(peer.to_string()),
            finding: FindingLine::from(why),
        });
    }

    /// Follows a change of the registry.
    pub fn settle(&self) {
        let registry = self.registry();
        self.kit().board.retain(|machine, disk| registry.disk(machine, disk).is_ok());
        self.kit().budget.expect(registry.disk_count());
    }

    /// Opens every machine's journal, and shows what each disk's last sealed state is.
    pub fn recover(&self) {
        for machine in self.registry().machines() {
            let store = self.stores().machine(&machine.id);
            for disk in &machine.disk {
                let status = self.kit().board.disk(&machine.id, &disk.id);
                let known =
                    store.clone().and_then(|store| store.disk(&disk.id).map_err(|error| error.to_finding()));
                match known.map(|known| known.state()) {
                    Ok(state) if state.generation > Generation(0) => {
                        status.known(state.generation, state.root)
                    }
                    Ok(_) => {}
                    Err(finding) => status.failed(&finding),
                }
            }
            if let Ok(store) = store {
                // A daemon that ended between the last seal and its point.
                self.sealed(&machine.id);
                let is_released = matches!(
                    store.standing().phase,
                    Phase::Released { .. } | Phase::Cancelled | Phase::Committed
                );
                for disk in machine.disk.iter().filter(|_| is_released) {
                    self.kit().board.disk(&machine.id, &disk.id).stage(DiskStage::Released);
                }
            }
        }
    }

    /// Closes a machine's journal that failed, once no session of the machine is under way: one that latched refuses
    /// everything until it is opened anew.
    pub(crate) fn close_failed(&self, machine: &MachineId, why: Code) {
        if Stores::is_failure(why) {
            self.stores().close(machine, || !self.registry().leases(machine).is_empty());
        }
    }

    fn target(&self, lease: &Lease<Machine>, window_bytes: u64) -> Result<TargetDisk, Finding> {
        let (machine, disk) = (lease.machine(), lease.disk());
        let journal = self.stores().machine(&machine.id)?;
        let store = journal.disk(&disk.id).map_err(|error| error.to_finding())?;
        let registered = self.registry().machines();
        let scopes = (!disk.seeds.is_empty()).then(|| OtherScopes::of(&registered, machine, disk));
        let is_allowed = |seed: &&String| scopes.as_ref().is_none_or(|scopes| scopes.allow(seed));
        let (seeds, others): (Vec<_>, Vec<_>) = disk.seeds.iter().partition(is_allowed);
        for other in others {
            tracing::warn!("{}/{}: {other} is a disk of another seed_scope and no seed", machine.id, disk.id);
        }
        Ok(TargetDisk {
            image: ImageSpec::parse(&disk.path),
            create: disk.create.then(|| disk.create_options()),
            grow: disk.grow,
            seeds: seeds.into_iter().map(ImageSpec::parse).collect(),
            machine: journal,
            store,
            window_bytes,
        })
    }
}

impl Sessions for Site {
    type Lease = DiskLease;

    /// A peer that no machine allows learns nothing of what there is.
    fn admit(&self, peer: &PeerIdentity, machine: &MachineId, disk: &DiskId) -> Result<(), Finding> {
        if self.kit().stop.is_cancelled() {
            return Err(Finding::error(Code::Draining, "this master target is stopping"));
        }
        let not_allowed = || {
            let evidence = format!("{peer} is not on the allow-list of {machine}");
            Finding::error(Code::IdentityNotAllowed, evidence)
        };
        let Ok(entry) = self.registry().machine(machine) else {
            let is_known = self.registry().machines().iter().any(|entry| entry.allow.contains(peer));
            let unknown = || Finding::error(Code::UnknownDisk, format!("there is no machine {machine}"));
            return Err(if is_known { unknown() } else { not_allowed() });
        };
        if !entry.allow.contains(peer) {
            return Err(not_allowed());
        }
        if !entry.disk.iter().any(|known| known.id == *disk) {
            return Err(Finding::error(Code::UnknownDisk, format!("machine {machine} has no disk {disk}")));
        }
        if self.registry().intent(machine).wanted == Wanted::Stopped {
            let evidence = format!("{machine} is stopped at the master target");
            return Err(Finding::error(Code::MachineStopped, evidence));
        }
        self.pending().bars(machine).map_or(Ok(()), Err)?;
        self.has_room(machine)
    }

    async fn lease(&self, machine: &MachineId, disk: &DiskId) -> Result<(TargetDisk, DiskLease), Finding> {
        let status = self.kit().board.disk(machine, disk);
        status.stage(DiskStage::Queued);
        let grant = tokio::select! {
            grant = self.kit().budget.acquire() => grant,
            () = self.kit().stop.cancelled() => {
                status.stopped();
                return Err(Finding::error(Code::Draining, "this master target is stopping"));
            }
        };
        let leased = self.registry().lease(machine, disk).and_then(|lease| {
            status.stage(DiskStage::Planning);
            Ok((self.target(&lease, grant.bytes())?, lease))
        });
        let (target, lease) = leased.inspect_err(|finding| status.failed(finding))?;
        Ok((target, DiskLease { status, grant, lease }))
    }

    fn refused(&self, lease: DiskLease, why: &Finding) {
        let status = Arc::clone(&lease.status);
        drop(lease);
        let is_tried_again = goes_away(why.code)
            // The process server tries again by itself; a job that is over says nothing about the disk.
            || matches!(why.code, Code::InUse | Code::OpenFailed | Code::SourceOlder);
        status.refused(why, if is_tried_again { DiskStage::Waiting } else { DiskStage::Failed });
    }

    fn opened(&self, lease: &DiskLease, session: &Session) {
        let status = &lease.status;
        status.connected_by(&session.link, session.clock_offset_ms);
        let facts = PassFacts {
            session: session.number,
            epoch: session.epoch,
            is_new: session.is_new,
            resumed: session.is_resumed,
            accepted: session.accepted.clone(),
            window_bytes: session.window_bytes.min(lease.grant.bytes()),
        };
        let length_bytes = session.layout.length_bytes();
        // A new disk is written from front to back: how far is known. What an old one will be sent is not.
        let (measure, disk_bytes) = match session.is_new {
            true => (Measure::Received, session.content_end_bytes.min(length_bytes)),
            false => (Measure::Scanned, length_bytes),
        };
        let totals = Totals {
            measure,
            disk_bytes,
            verify_bytes: if session.verify { length_bytes } else { 0 },
            threads: self.threads(),
            ..Totals::default()
        };
        let (progress, look) = (Arc::clone(&session.progress), LinkBytes::of(&session.link));
        let probe = PassProbe::new(PassEnd::Receiving, totals, progress, facts.window_bytes, look);
        status.started(facts, Box::new(probe));
    }

    fn ended(&self, lease: DiskLease, session: &Session, outcome: &Result<SealedPass, PassError>) {
        // Whoever hears of the end may release the disk.
        let (status, machine) = (Arc::clone(&lease.status), lease.lease.machine().id.clone());
        if outcome.is_ok() {
            self.sealed(&machine);
        }
        drop(lease);
        let finding = match outcome {
            Ok(sealed) => {
                let generation = Generation(sealed.generation);
                let (verified, claim) = (session.verify, session.claim.clone());
                return status.sealed(&Sealed { generation, root: sealed.root, verified, claim });
            }
            Err(PassError::Cancelled) => return status.stopped(),
            Err(error) => error.findings().into_iter().next(),
        };
        let finding =
            finding.unwrap_or_else(|| Finding::error(Code::Internal, "a pass failed without a reason"));
        self.close_failed(&machine, finding.code);
        if goes_away(finding.code) { status.waiting(&finding) } else { status.failed(&finding) }
    }
}

/// What goes away by itself, or by what the other end's operator does, goes away by the next session.
fn goes_away(code: Code) -> bool {
    code == Code::TlsFailed || code.is_orderly_stop() || code.exit() == ExitClass::Interrupted
}
