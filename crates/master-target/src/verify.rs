//! Proves a machine's targets: reads them from their media, compares roots with the sealed states', and signs a receipt
//! where all are right.
//!
//! **Invariant**: a receipt is signed only while every disk of the machine is held, so none was written between its
//! reading and the receipt.

use crate::config::{Disk, Machine};
use crate::receipts::Issued;
use crate::site::Site;
use failback_blockio::{ReadPath, UnitSource};
use failback_format::receipt::{ReceiptDisk, ReceiptRead};
use failback_image::{Access, Image, ImageSpec};
use failback_model::{Code, Digest, DiskId, Finding, JobId, Layout, MachineId};
use failback_pass::{Cancel, Progress};
use failback_service::clock::unix_ms;
use failback_service::event::Event;
use failback_service::registry::Lease;
use failback_service::report::finding_lines;
use failback_service::status::DiskStage;
use failback_store::{DiskState, Point, PointDisk};
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

impl Site {
    /// Starts to prove disks of a machine; what comes of it is an event and stands in the status. Refused where one of
    /// them is at work or was never sealed.
    pub fn verify(&self, job: &JobId, machine: &MachineId, only: Option<&DiskId>) -> Result<String, Finding> {
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
        let (site, job, machine, count) = (self.clone(), job.clone(), machine.clone(), leases.len());
        let is_whole = count == entry.disk.len();
        let said = format!("{machine}: {count} disks are read back");
        let thread = std::thread::Builder::new().name(format!("verify {machine}"));
        let started = thread.spawn(move || site.prove_all(&job, &machine, leases, is_whole));
        started.map_err(|error| no_thread(&error))?;
        Ok(said)
    }

    fn prove_all(&self, job: &JobId, machine: &MachineId, leases: Vec<Lease<Machine>>, is_whole: bool) {
        let disks: Vec<DiskId> = leases.iter().map(|lease| lease.disk().id.clone()).collect();
        let before = disks.iter().map(|disk| {
            let status = self.kit().board.disk(machine, disk);
            let stage = status.status().stage;
            status.stage(DiskStage::Verifying);
            stage
        });
        let before: Vec<DiskStage> = before.collect();
        let proven = self.prove_each(&leases.iter().collect::<Vec<_>>());
        let issued = self.issue(machine, &proven, is_whole);
        // Whoever hears of the end may do something with the disks.
        drop(leases);
        for ((disk, before), proven) in disks.iter().zip(before).zip(&proven) {
            self.tell(machine, disk, before, proven);
        }
        let (issued, findings) = match issued {
            Ok(Some(Issued { path, number, findings })) => (Some((path, number)), findings),
            Ok(None) => (None, Vec::new()),
            Err(finding) => (None, vec![finding]),
        };
        self.kit().events.publish(Event::MachineVerified {
            machine: machine.to_string(),
            job: job.to_string(),
            receipt: issued.as_ref().map(|(path, _)| path.display().to_string()),
            number: issued.map(|(_, number)| number),
            findings: finding_lines(&findings),
        });
    }

    /// All disks at once, each by a thread that waits for those that read it.
    pub(crate) fn prove_each(&self, leases: &[&Lease<Machine>]) -> Vec<Result<ReceiptDisk, Finding>> {
        std::thread::scope(|scope| {
            let begin = |lease: &&Lease<Machine>| {
                let thread = std::thread::Builder::new().name(format!("verify {}", lease.disk().id));
                let (machine, disk) = (lease.machine().clone(), lease.disk().clone());
                thread.spawn_scoped(scope, move || self.prove(&machine, &disk))
            };
            let begun: Vec<_> = leases.iter().map(begin).collect();
            let ended = begun.into_iter().map(|thread| match thread.map(ScopedJoinHandle::join) {
                Ok(Ok(proven)) => proven,
                Ok(Err(_panic)) => Err(Finding::error(Code::Internal, "a reading thread panicked")),
                Err(error) => Err(no_thread(&error)),
            });
            ended.collect()
        })
    }

    /// The receipt, where every disk of the machine is what was sealed.
    fn issue(
        &self,
        machine: &MachineId,
        proven: &[Result<ReceiptDisk, Finding>],
        is_whole: bool,
    ) -> Result<Option<Issued>, Finding> {
        let disks: Vec<ReceiptDisk> = proven.iter().cloned().collect::<Result<_, _>>()?;
        if !is_whole {
            return Ok(None);
        }
        let mut findings: Vec<Finding> =
            disks.iter().filter(|disk| disk.read == ReceiptRead::Cached).map(weak).collect();
        let issued = self.receipts().issue(machine, self.point_of(machine, &disks)?, disks)?;
        findings.extend(issued.findings);
        Ok(Some(Issued { findings, ..issued }))
    }

    /// The point that the disks are at, where the newest one is exactly what was read.
    fn point_of(&self, machine: &MachineId, disks: &[ReceiptDisk]) -> Result<Option<u64>, Finding> {
        let points = self.stores().machine(machine)?.points();
        let is_it = |point: &&Point| {
            point.disks.len() == disks.len()
                && disks.iter().all(|disk| {
                    let is_held = |held: &PointDisk| {
                        held.disk == disk.id
                            && held.generation.0 == disk.generation
                            && held.root == Some(disk.root)
                    };
                    point.disks.iter().any(is_held)
                })
        };
        Ok(points.last().filter(is_it).map(|point| point.number))
    }

    fn tell(
        &self,
        machine: &MachineId,
        disk: &DiskId,
        before: DiskStage,
        proven: &Result<ReceiptDisk, Finding>,
    ) {
        let status = self.kit().board.disk(machine, disk);
        match proven {
            Ok(_) => status.stage(before),
            Err(finding) => status.failed(finding),
        }
        self.kit().events.publish(Event::Verified {
            machine: machine.to_string(),
            disk: disk.to_string(),
            root: proven.as_ref().map_or_else(|_| String::new(), |proven| proven.root.to_string()),
            findings: finding_lines(proven.as_ref().err().map_or(&[], std::slice::from_ref)),
        });
    }

    fn prove(&self, machine: &Machine, disk: &Disk) -> Result<ReceiptDisk, Finding> {
        let store = self.stores().machine(&machine.id)?.disk(&disk.id).map_err(|error| error.to_finding())?;
        let state = store.state();
        let (root, layout) = sealed(&state).ok_or_else(|| {
            let evidence =
                format!("{}/{} has no sealed state that it could be compared with", machine.id, disk.id);
            Finding::error(Code::VerifyFailed, evidence).with_remedy(format!(
                "finish a pass first: 'failback reprotect {}' at the process server",
                machine.id
            ))
        })?;
        let image = failback_image::open(&ImageSpec::parse(&disk.path), Access::Read)
            .map_err(|error| error.to_finding())?;
        let (image_bytes, format) = (image.geometry().length_bytes, image.identity().format);
        let differs = |what: String| Finding::error(Code::VerifyFailed, format!("{}: {what}", disk.path));
        if image_bytes < layout.length_bytes() {
            let sealed_bytes = layout.length_bytes();
            return Err(differs(format!("it has {image_bytes} bytes, and {sealed_bytes} were sealed")));
        }
        let (started_unix_ms, read) = (unix_ms(), image.drop_cached());
        let (found, bytes_read) = self.root_of(image, layout)?;
        if found != root {
            // What the journal vouches for is not what lies there: the next pass reads all of it anew.
            store.forget().map_err(|error| error.to_finding())?;
            let remedy = format!(
                "'failback reprotect {}' at the process server reads the disk anew and writes what differs",
                machine.id
            );
            return Err(differs(format!("read back as {found}, sealed as {root}")).with_remedy(remedy));
        }
        Ok(ReceiptDisk {
            id: disk.id.clone(),
            image: disk.path.clone(),
            format: format.as_str().into(),
            image_bytes,
            length_bytes: layout.length_bytes(),
            block_size_bytes: layout.block_size().bytes(),
            generation: state.generation.0,
            epoch: state.epoch.0,
            root,
            bytes_read,
            read: match read {
                ReadPath::Direct => ReceiptRead::Direct,
                ReadPath::CacheDropped => ReceiptRead::CacheDropped,
                ReadPath::Cached => ReceiptRead::Cached,
            },
            started_unix_ms,
            finished_unix_ms: unix_ms(),
        })
    }

    /// Root of what an image holds as far as the layout goes, and how much was read for it.
    fn root_of(&self, image: Arc<dyn Image>, layout: Layout) -> Result<(Digest, u64), Finding> {
        let (source, progress): (Arc<dyn UnitSource>, _) = (image, Arc::new(Progress::default()));
        let read = failback_pass::hash(source, layout, self.threads(), None, &progress, &Cancel::default());
        let found = read.map_err(|error| {
            let first = error.findings().into_iter().next();
            first.unwrap_or_else(|| Finding::error(Code::Internal, error.to_string()))
        })?;
        Ok((found.root, Progress::get(&progress.bytes_read_source)))
    }
}

/// What a disk's last pass sealed, where nothing was written since.
fn sealed(state: &DiskState) -> Option<(Digest, Layout)> {
    state.root.zip(state.layout).filter(|_| !state.in_pass)
}

fn no_thread(error: &std::io::Error) -> Finding {
    Finding::error(Code::Internal, format!("cannot start a thread: {error}"))
}

/// What a receipt cannot say of a disk.
fn weak(disk: &ReceiptDisk) -> Finding {
    let evidence = format!("{} was read through a cache that its file system would not drop", disk.id);
    let remedy = "keep targets on a file system that reads past its cache (O_DIRECT), or on a device";
    Finding::warning(Code::ReceiptWeak, evidence).with_remedy(remedy).about(&disk.image)
}
