//! A verb that is under way: on a thread of its own, with its line in the audit log, its place in the status, and an event
//! when it is over.

use crate::MasterTarget;
use crate::audit::Deed;
use crate::config::Machine;
use crate::foreign;
use crate::hold::hold_all;
use crate::pending::Live;
use crate::reception::Reception;
use crate::site::Site;
use failback_image::{Access, Image, ImageSpec};
use failback_model::{Code, ExitClass, Finding, Severity};
use failback_service::event::Event;
use failback_service::registry::Lease;
use failback_service::report::finding_lines;
use failback_service::status::DiskStage;
use failback_store::{DiskStore, Fingerprint, MachineStore, Phase, StoreError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::runtime::Handle;

/// What a verb does once all disks of its machine are held.
pub(crate) trait Work: Send + 'static {
    /// Its name.
    fn verb(&self) -> &'static str;

    /// Does it; what was done, and what is worth knowing.
    fn carry_out(&self, operation: &Operation, leases: &[Lease<Machine>]) -> Result<Outcome, Failed>;
}

/// What a verb came to.
pub(crate) struct Outcome {
    pub(crate) said: String,
    pub(crate) point: Option<u64>,
    pub(crate) findings: Vec<Finding>,
}

/// Why it did not.
pub(crate) struct Failed {
    pub(crate) findings: Vec<Finding>,
    /// Whether the disks may be changed by then.
    pub(crate) has_begun: bool,
}

impl From<Finding> for Failed {
    fn from(finding: Finding) -> Self {
        Self { findings: vec![finding], has_begun: false }
    }
}

/// A verb and what it works with.
pub(crate) struct Operation {
    pub(crate) site: Site,
    reception: Reception<Site>,
    runtime: Handle,
    pub(crate) machine: Machine,
    deed: Deed,
    pub(crate) live: Arc<Live>,
}

/// A disk that is open for writing.
pub(crate) struct OpenDisk {
    pub(crate) store: Arc<DiskStore>,
    pub(crate) image: Arc<dyn Image>,
}

impl Operation {
    /// Begins it, once its beginning is in the audit log.
    pub(crate) fn begin(
        daemon: &MasterTarget,
        machine: Machine,
        deed: Deed,
        work: Box<dyn Work>,
    ) -> Result<(), Finding> {
        let site = daemon.site.clone();
        site.audit().begins(&deed)?;
        let live = site.pending().begin(&machine.id, &deed).inspect_err(|finding| {
            site.audit().ended(&deed, &Err(finding_lines(std::slice::from_ref(finding))));
        })?;
        site.kit().events.publish(Event::OperationStarted {
            machine: deed.machine.clone(),
            job: deed.job.clone(),
            verb: deed.verb.into(),
            point: deed.point,
        });
        let (reception, runtime) = (daemon.reception(), daemon.runtime());
        let operation = Self { site, reception, runtime, machine, deed, live };
        let thread = std::thread::Builder::new().name(format!("{} {}", work.verb(), operation.machine.id));
        thread
            .spawn(move || operation.run(&*work))
            .map(drop)
            .map_err(|error| Finding::error(Code::Internal, format!("cannot start a thread: {error}")))
    }

    fn run(self, work: &dyn Work) {
        self.live.step("waits for its disks");
        let held = hold_all(&self.site, &self.reception, &self.runtime, &self.machine);
        let done = held.map_err(Failed::from).and_then(|leases| {
            self.stage(DiskStage::RollingBack);
            let done =
                catch_unwind(AssertUnwindSafe(|| work.carry_out(&self, &leases))).unwrap_or_else(|_| {
                    let finding = Finding::error(Code::Internal, "a thread panicked: see the daemon's log");
                    Err(Failed { findings: vec![finding], has_begun: true })
                });
            // Whoever hears of the end may do something with the disks.
            drop(leases);
            done
        });
        if let Ok(store) = self.store() {
            self.site.write_sidecars(&self.machine, &store);
        }
        match done {
            Ok(outcome) => self.done(&outcome),
            Err(failed) => self.failed(failed),
        }
    }

    fn done(&self, outcome: &Outcome) {
        if let Err(finding) = self.site.pending().end(&self.machine.id, false) {
            tracing::error!("{}: {}", self.machine.id, finding.evidence);
        }
        self.hand_over();
        self.site.audit().ended(&self.deed, &Ok(outcome.said.clone()));
        self.tell("done", outcome.point, outcome.said.clone(), &outcome.findings);
    }

    fn failed(&self, failed: Failed) {
        // What is mended by doing it again keeps sessions out until then.
        let is_retried =
            |finding: &Finding| matches!(finding.code.exit(), ExitClass::Interrupted | ExitClass::Signal);
        let is_to_be_finished = failed.has_begun && failed.findings.iter().any(is_retried);
        if let Err(finding) = self.site.pending().end(&self.machine.id, is_to_be_finished) {
            tracing::error!("{}: {}", self.machine.id, finding.evidence);
        }
        for disk in &self.machine.disk {
            let status = self.site.kit().board.disk(&self.machine.id, &disk.id);
            match failed.findings.first() {
                Some(finding) => status.failed(finding),
                None => status.stage(DiskStage::Failed),
            }
        }
        for finding in &failed.findings {
            self.site.close_failed(&self.machine.id, finding.code);
        }
        self.site.audit().ended(&self.deed, &Err(finding_lines(&failed.findings)));
        self.tell("failed", None, String::new(), &failed.findings);
    }

    fn tell(&self, outcome: &str, point: Option<u64>, said: String, findings: &[Finding]) {
        self.site.kit().events.publish(Event::OperationEnded {
            machine: self.deed.machine.clone(),
            job: self.deed.job.clone(),
            verb: self.deed.verb.into(),
            point,
            outcome: outcome.into(),
            said,
            findings: finding_lines(findings),
        });
    }

    fn hand_over(&self) {
        for disk in &self.machine.disk {
            let status = self.site.kit().board.disk(&self.machine.id, &disk.id);
            match self.store().and_then(|store| store.disk(&disk.id).map_err(of_store)) {
                Ok(store) => status.handed_over(store.state().generation, store.state().root),
                Err(finding) => status.failed(&finding),
            }
        }
    }

    fn stage(&self, stage: DiskStage) {
        for disk in &self.machine.disk {
            self.site.kit().board.disk(&self.machine.id, &disk.id).stage(stage);
        }
    }

    /// The machine's journal.
    pub(crate) fn store(&self) -> Result<Arc<MachineStore>, Finding> {
        self.site.stores().machine(&self.machine.id)
    }

    /// Opens disks for writing.
    pub(crate) fn open(&self, leases: &[&Lease<Machine>]) -> Result<Vec<OpenDisk>, Finding> {
        let store = self.store()?;
        let open = |lease: &&Lease<Machine>| {
            let disk = lease.disk();
            let store = store.disk(&disk.id).map_err(|error| error.to_finding())?;
            let image = failback_image::open(&ImageSpec::parse(&disk.path), Access::Write);
            Ok(OpenDisk { store, image: image.map_err(|error| error.to_finding())? })
        };
        leases.iter().map(open).collect()
    }

    /// Whether something else wrote to them, as far as a look and a sample tell.
    pub(crate) fn recheck(&self, disks: &[OpenDisk]) -> Result<(), Failed> {
        self.live.step("looks whether something else wrote to its disks");
        let mut found = Vec::new();
        for disk in disks {
            let epoch = disk.store.state().epoch;
            let rechecked = disk.store.recheck(&*disk.image, epoch).map_err(of_store)?;
            if let Some(divergence) = rechecked.divergence {
                let evidence = format!("{}: {divergence}", disk.image.name().display());
                found.push(Finding::error(Code::Diverged, evidence).with_remedy(DIVERGED));
            }
        }
        if found.is_empty() { Ok(()) } else { Err(Failed { findings: found, has_begun: false }) }
    }

    /// Whether all of what was released is still there: a machine may have run on it. What a way back that was cut off left is
    /// no state that it could be compared with.
    pub(crate) fn require_unchanged<'a>(
        &self,
        disks: impl Iterator<Item = &'a OpenDisk>,
    ) -> Result<(), Failed> {
        let standing = self.store()?.standing();
        if standing.is_partial || !matches!(standing.phase, Phase::Released { .. } | Phase::Cancelled) {
            return Ok(());
        }
        self.live.step("reads its disks for what something else wrote");
        let findings: Vec<Finding> = disks.filter_map(|disk| foreign::unchanged(disk).err()).collect();
        if findings.is_empty() { Ok(()) } else { Err(Failed { findings, has_begun: false }) }
    }

    /// Goes back to a point; the newest one then.
    pub(crate) fn roll_back(&self, point: u64, disks: &[OpenDisk]) -> Result<u64, Failed> {
        self.live.step("restores what was overwritten");
        let stop = self.site.kit().stop.clone();
        let pairs: Vec<_> =
            disks.iter().map(|disk| (Arc::clone(&disk.store), Arc::clone(&disk.image))).collect();
        let rolled = self.store()?.roll_back(point, &pairs, &self.live.progress, &|| stop.is_cancelled());
        let closed = self.close(disks);
        let began = |finding| Failed { findings: vec![finding], has_begun: true };
        let rolled = rolled.map_err(|error| began(of_store(error)))?;
        closed.map_err(began)?;
        Ok(rolled.point)
    }

    /// Closes disks, and notes how they look, so that whoever else writes to them is noticed.
    pub(crate) fn close(&self, disks: &[OpenDisk]) -> Result<(), Finding> {
        let mut first = Ok(());
        for OpenDisk { store, image } in disks {
            let epoch = store.state().epoch;
            let closed = image.close().and_then(|()| Fingerprint::of_settled_image(&**image, epoch));
            let noted = closed
                .map_err(|error| error.to_finding())
                .and_then(|fingerprint| store.released(&fingerprint).map_err(of_store));
            first = first.and(noted);
        }
        first
    }

    /// Reads disks back from their media; all must be what was sealed.
    pub(crate) fn prove(&self, leases: &[&Lease<Machine>]) -> Result<(), Failed> {
        self.live.step("reads its disks back");
        let proven = self.site.prove_each(leases);
        let findings: Vec<Finding> = proven.into_iter().filter_map(Result::err).collect();
        if findings.is_empty() { Ok(()) } else { Err(Failed { findings, has_begun: true }) }
    }
}

/// What to do about a disk that something else wrote to, where a verb found that.
pub(crate) const DIVERGED: &str = "find out what used the disk (machine powered on without an overlay, file replaced) and keep a \
                                   copy of it if its writes matter; no way back is safe any more: bring it home anew with \
                                   'failback reprotect MACHINE --accept-divergence'";

/// A failure of the store as it is told.
pub(crate) fn of_store(error: StoreError) -> Finding {
    error.to_finding()
}

/// Warnings only.
pub(crate) fn as_warning(finding: Finding) -> Finding {
    Finding { severity: Severity::Warning, ..finding }
}
