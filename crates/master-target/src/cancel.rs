//! Cancel: all disks of a machine become the original again, and the images that its jobs made are removed.
//!
//! **Invariant**: of a released machine all disks are read first, and nothing is written or removed where anything outside
//! the journal changed. Only images that a job made are ever removed.

use crate::config::Machine;
use crate::operation::{Failed, OpenDisk, Operation, Outcome, Work, of_store};
use failback_image::{Access, ImageSpec};
use failback_model::{Code, DiskId, Finding};
use failback_service::registry::Lease;
use failback_service::saved::{failed, sync_folder};
use failback_store::Phase;
use std::fs;
use std::io::ErrorKind;

/// Goes back to the original.
pub(crate) struct Cancelling {
    /// Disks whose images a job made.
    pub(crate) created: Vec<DiskId>,
    /// Whether there is a point 0.
    pub(crate) has_original: bool,
}

impl Work for Cancelling {
    fn verb(&self) -> &'static str {
        "cancel"
    }

    fn carry_out(&self, operation: &Operation, leases: &[Lease<Machine>]) -> Result<Outcome, Failed> {
        let (made, kept): (Vec<_>, Vec<_>) =
            leases.iter().partition(|lease| self.created.contains(&lease.disk().id));
        let store = operation.store()?;
        let there: Vec<_> = made.iter().copied().filter(|lease| is_there(lease)).collect();
        let disks = operation.open(&kept)?;
        let made_disks = operation.open(&there)?;
        operation.recheck(&disks)?;
        operation.recheck(&made_disks)?;
        operation.require_unchanged(disks.iter().chain(&made_disks))?;
        // A kill in mid-pass left no word of how the image looked: what lies there may be something else by now.
        let unknown = made_disks.iter().filter(|disk| !disk.store.is_left()).map(unknown).collect::<Vec<_>>();
        if !unknown.is_empty() {
            return Err(Failed { findings: unknown, has_begun: false });
        }
        let disks: Vec<OpenDisk> = disks.into_iter().chain(made_disks).collect();
        match self.has_original {
            true => drop(operation.roll_back(0, &disks)?),
            false => operation.close(&disks)?,
        }
        drop(disks);
        let began = |finding| Failed { findings: vec![finding], has_begun: true };
        operation.live.step("removes the images that were made");
        for lease in &there {
            remove(lease).map_err(began)?;
        }
        operation.prove(&kept)?;
        store.release(Phase::Cancelled).map_err(|error| began(of_store(error)))?;
        let (id, count) = (&operation.machine.id, kept.len());
        let mut said = format!("{id}: {count} disks are read back as the original, and are released");
        if !made.is_empty() {
            said += &format!("; {} images that its jobs made are removed", made.len());
        }
        let point = store.standing().at;
        Ok(Outcome { said, point, findings: Vec::new() })
    }
}

fn is_there(lease: &Lease<Machine>) -> bool {
    // Where that cannot be told, opening it says why.
    failback_image::exists(&ImageSpec::parse(&lease.disk().path)).unwrap_or(true)
}

fn unknown(disk: &OpenDisk) -> Finding {
    let name = disk.image.name().display();
    let evidence = format!(
        "{name}: a job made it and was killed; nothing tells whether what lies there is still that image"
    );
    let remedy = "let the pass go on for a moment and stop it ('failback stop'), or remove the image by hand; then cancel \
                  again";
    Finding::error(Code::Diverged, evidence).with_remedy(remedy)
}

/// Removes all files of an image that a job made.
fn remove(lease: &Lease<Machine>) -> Result<(), Finding> {
    let image = failback_image::open(&ImageSpec::parse(&lease.disk().path), Access::Read);
    let files = image.map_err(|error| error.to_finding())?.identity().files;
    // The one that names the others goes first: cut off behind it, nothing is left that passes for an image.
    for file in &files {
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", file, error)),
            _ => {}
        }
        sync_folder(file).map_err(|error| failed("remove", file, error))?;
    }
    Ok(())
}
