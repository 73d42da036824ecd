//! Who may write which disk: what a session needs before it may write, and what it gives back when it ends.

use crate::Stores;
use crate::config::{Disk, Machine};
use crate::slots::{Slots, Turn};
use failback_model::{Code, DiskId, Finding, MachineId, PeerIdentity};
use failback_service::budget::Grant;
use failback_service::daemon::Kit;
use failback_service::event::Event;
use failback_service::registry::{Lease, Registry, Wanted};
use failback_service::report::FindingLine;
use failback_service::status::{DiskHandle, DiskStage};
use failback_transport::Refusal;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// What all sessions share.
pub struct Site {
    /// Events, status, memory, stop.
    pub kit: Kit,
    /// Machines and disks.
    pub registry: Registry<Machine>,
    /// Their journals.
    pub stores: Stores,
    slots: Slots,
    sessions: TaskTracker,
}

/// A session that may write. Everything it holds is free again when it is dropped.
pub struct Admission {
    lease: Lease<Machine>,
    /// Its disk's status; the session tells its stages and its end.
    pub status: Arc<DiskHandle>,
    grant: Grant,
    turn: Turn,
    _counted: TaskTrackerToken,
}

impl Admission {
    /// The machine's definition.
    pub fn machine(&self) -> &Machine {
        self.lease.machine()
    }

    /// The disk's definition.
    pub fn disk(&self) -> &Disk {
        self.lease.disk()
    }

    /// Memory that the pass may hold: the welcome's window.
    pub fn window_bytes(&self) -> u64 {
        self.grant.bytes()
    }

    /// Cancelled when the session shall end at its next durable group: the daemon stops, an operator stops the machine,
    /// or a newer session wants the disk.
    pub fn stop(&self) -> &CancellationToken {
        &self.turn.stop
    }
}

impl Site {
    /// A site without sessions.
    pub fn new(kit: Kit, registry: Registry<Machine>) -> Self {
        let stores = Stores::new(kit.state.join("machines"));
        Self { kit, registry, stores, slots: Slots::default(), sessions: TaskTracker::new() }
    }

    /// Lets a peer in to write a disk, once an older session of the disk has ended and there is memory.
    pub async fn admit(
        &self,
        peer: &PeerIdentity,
        machine: &MachineId,
        disk: &DiskId,
    ) -> Result<Admission, Finding> {
        self.check(peer, machine, disk)?;
        // Counted from here on: a drain waits for whoever is on the way in.
        let counted = self.sessions.token();
        if self.kit.stop.is_cancelled() {
            return Err(Finding::error(Code::Draining, "this master target is stopping"));
        }
        let turn = self.slots.take(&(machine.clone(), disk.clone()), self.kit.stop.child_token()).await?;
        let status = self.kit.board.disk(machine, disk);
        status.stage(DiskStage::Queued);
        let grant = tokio::select! {
            grant = self.kit.budget.acquire() => grant,
            () = turn.stop.cancelled() => {
                status.stopped();
                return Err(Finding::error(Code::StaleSession, format!("{machine}/{disk} was stopped while it waited")));
            }
        };
        let lease = self.registry.lease(machine, disk)?;
        status.stage(DiskStage::Planning);
        Ok(Admission { lease, status, grant, turn, _counted: counted })
    }

    /// Who may write what. A peer that no machine allows learns nothing of what there is.
    fn check(&self, peer: &PeerIdentity, machine: &MachineId, disk: &DiskId) -> Result<(), Finding> {
        let not_allowed = || {
            let evidence = format!("{peer} is not on the allow-list of {machine}");
            Finding::error(Code::IdentityNotAllowed, evidence)
        };
        let Ok(entry) = self.registry.machine(machine) else {
            let is_known = self.registry.machines().iter().any(|entry| entry.allow.contains(peer));
            let unknown = || Finding::error(Code::UnknownDisk, format!("there is no machine {machine}"));
            return Err(if is_known { unknown() } else { not_allowed() });
        };
        if !entry.allow.contains(peer) {
            return Err(not_allowed());
        }
        if !entry.disk.iter().any(|known| known.id == *disk) {
            return Err(Finding::error(Code::UnknownDisk, format!("machine {machine} has no disk {disk}")));
        }
        if self.registry.intent(machine).wanted == Wanted::Stopped {
            return Err(Finding::error(
                Code::MachineStopped,
                format!("{machine} is stopped at the master target"),
            ));
        }
        Ok(())
    }

    /// Counts and tells that a peer was sent away; gives what crosses the wire.
    pub fn refused(&self, peer: Option<&PeerIdentity>, why: &Finding) -> Refusal {
        self.kit.events.count(why.code);
        self.kit.events.publish(Event::PeerRefused {
            address: None,
            peer: peer.map(ToString::to_string),
            finding: FindingLine::from(why),
        });
        Refusal { code: why.code, message: why.evidence.clone() }
    }

    /// Asks a machine's sessions to end at their next durable group.
    pub fn stop(&self, machine: &MachineId) {
        self.slots.stop(machine);
    }

    /// Follows a change of the registry.
    pub fn settle(&self) {
        let registry = &self.registry;
        self.kit.board.retain(|machine, disk| registry.disk(machine, disk).is_ok());
        self.kit.budget.expect(registry.disk_count());
    }

    /// Opens every machine's journal, and shows what each disk's last sealed state is.
    pub fn recover(&self) {
        for machine in self.registry.machines() {
            let store = self.stores.machine(&machine.id);
            for disk in &machine.disk {
                let status = self.kit.board.disk(&machine.id, &disk.id);
                let known =
                    store.clone().and_then(|store| store.disk(&disk.id).map_err(|error| error.to_finding()));
                match known.map(|known| known.state()) {
                    Ok(state) if state.generation.0 > 0 => status.known(state.generation, state.root),
                    Ok(_) => {}
                    Err(finding) => status.failed(&finding),
                }
            }
        }
    }

    /// Returns once no session is left. None comes after the kit's stop.
    pub async fn drained(&self) {
        self.sessions.close();
        self.sessions.wait().await;
    }
}
