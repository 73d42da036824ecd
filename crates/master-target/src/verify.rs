//! Proves a target: reads it from its medium and compares its root with the sealed state's.

use crate::config::{Disk, Machine};
use crate::site::Site;
use failback_blockio::UnitSource;
use failback_image::{Access, ImageSpec};
use failback_model::{Code, DiskId, Finding, MachineId};
use failback_pass::{Cancel, Progress};
use failback_service::event::Event;
use failback_service::registry::Lease;
use failback_service::report::finding_lines;
use failback_service::status::DiskStage;
use std::sync::Arc;

impl Site {
    /// Starts to prove disks of a machine; what comes of it is an event and stands in the status. Refused where one of
    /// them is at work or was never sealed.
    pub fn verify(&self, machine: &MachineId, only: Option<&DiskId>) -> Result<String, Finding> {
        let entry = self.registry().machine(machine)?;
        if let Some(disk) = only {
            self.registry().disk(machine, disk)?;
        }
        let chosen = |disk: &&Disk| only.is_none_or(|only| disk.id == *only);
        let leases: Vec<Lease<Machine>> = entry
            .disk
            .iter()
            .filter(chosen)
            .map(|disk| self.registry().lease(machine, &disk.id))
            .collect::<Result<_, _>>()?;
        if leases.is_empty() {
            return Err(Finding::error(Code::RequestInvalid, format!("machine {machine} has no disk")));
        }
        let count = leases.len();
        for lease in leases {
            let site = self.clone();
            let thread = std::thread::Builder::new().name(format!("verify {machine}/{}", lease.disk().id));
            let started = thread.spawn(move || site.prove_and_tell(&lease));
            started
                .map_err(|error| Finding::error(Code::Internal, format!("cannot start a thread: {error}")))?;
        }
        Ok(format!("{machine}: {count} disks are read back"))
    }

    fn prove_and_tell(&self, lease: &Lease<Machine>) {
        let (machine, disk) = (lease.machine(), lease.disk());
        let status = self.kit().board.disk(&machine.id, &disk.id);
        let before = status.status().stage;
        status.stage(DiskStage::Verifying);
        let proven = self.prove(machine, disk);
        match &proven {
            Ok(_) => status.stage(before),
            Err(finding) if finding.code == Code::Cancelled => status.stage(before),
            Err(finding) => status.failed(finding),
        }
        let (root, findings) = match proven {
            Ok(root) => (root, Vec::new()),
            Err(finding) => (String::new(), vec![finding]),
        };
        self.kit().events.publish(Event::Verified {
            machine: machine.id.to_string(),
            disk: disk.id.to_string(),
            root,
            findings: finding_lines(&findings),
        });
    }

    fn prove(&self, machine: &Machine, disk: &Disk) -> Result<String, Finding> {
        let store = self.stores().machine(&machine.id)?.disk(&disk.id).map_err(|error| error.to_finding())?;
        let state = store.state();
        let (Some(root), Some(layout), false) = (state.root, state.layout, state.in_pass) else {
            let evidence =
                format!("{}/{} has no sealed state that it could be compared with", machine.id, disk.id);
            return Err(Finding::error(Code::VerifyFailed, evidence).with_remedy(format!(
                "finish a pass first: 'failback reprotect {}' at the process server",
                machine.id
            )));
        };
        let image = failback_image::open(&ImageSpec::parse(&disk.path), Access::Read)
            .map_err(|error| error.to_finding())?;
        let cancel = Cancel::default();
        let (source, progress): (Arc<dyn UnitSource>, _) = (image, Arc::new(Progress::default()));
        let read = failback_pass::hash(source, layout.block_size(), self.threads(), None, &progress, &cancel);
        let found = read.map_err(|error| {
            error
                .findings()
                .into_iter()
                .next()
                .unwrap_or_else(|| Finding::error(Code::Internal, error.to_string()))
        })?;
        if found.root == root {
            return Ok(root.to_string());
        }
        let evidence = format!("{}: read back as {}, sealed as {root}", disk.path, found.root);
        Err(Finding::error(Code::VerifyFailed, evidence))
    }
}
