//! `sync --journal DIR`: what a one-shot pass overwrites is kept, and what it finds out survives a kill.
//!
//! The folder is a machine's store with one disk. **Invariant**: a target that something else wrote to since its last pass
//! is told before anything is written, and accepted only with the states that it led back to.

use failback_blockio::DiskError;
use failback_image::Image;
use failback_model::{Code, DiskId, Epoch, Finding, Layout, MachineId, PointClaim, Severity};
use failback_pass::PassError;
use failback_service::clock::unix_ms;
use failback_store::{DiskStore, Fingerprint, MachineStore, StoreError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names of machine and disk in a folder that has one of each.
const ONLY: &str = "sync";

/// A journal that is open.
pub(crate) struct Protection {
    pub(crate) folder: PathBuf,
    pub(crate) store: Arc<MachineStore>,
    pub(crate) disk: Arc<DiskStore>,
}

impl Protection {
    /// Opens the journal in a folder, making it if need be.
    pub(crate) fn open(folder: &Path) -> Result<Self, Finding> {
        let opened = || {
            let machine = MachineId::new(ONLY).expect("it is an id");
            let store = MachineStore::open(folder, Some(&folder.join("undo")), &machine)?;
            let disk = store.disk(&DiskId::new(ONLY).expect("it is an id"))?;
            Ok(Self { folder: folder.into(), store, disk })
        };
        opened().map_err(|error: StoreError| error.to_finding())
    }

    /// What shows that something else wrote to the target; accepted, it ends what the journal leads back to.
    pub(crate) fn check(&self, image: &dyn Image, accepts: bool) -> Result<Option<Finding>, Finding> {
        let failed = |error: StoreError| error.to_finding();
        let looked = self.disk.recheck(image, self.disk.state().epoch).map_err(failed)?;
        let Some(what) = looked.divergence else { return Ok(None) };
        let finding = Finding::error(Code::Diverged, format!("{}: {what}", image.name().display()));
        if !accepts {
            let remedy = "find out what used the disk; 'sync --accept-divergence' scans it and overwrites what was \
                          written, and gives up the states that the journal leads back to";
            return Ok(Some(finding.with_remedy(remedy)));
        }
        self.store.end_history().map_err(failed)?;
        self.disk.forget().map_err(failed)?;
        Ok(Some(Finding { severity: Severity::Warning, ..finding }))
    }

    /// Begins the session of a pass: where it writes to and what need not be scanned. A pass that was cut off goes on.
    pub(crate) fn begin(
        &self,
        image: &Arc<dyn Image>,
        layout: Layout,
        is_new: bool,
        claim: PointClaim,
    ) -> Result<(Arc<dyn failback_engine::Sink>, Option<failback_engine::Known>), PassError> {
        let state = self.disk.state();
        let epoch = match state.in_pass && !is_new {
            true => state.epoch,
            false => Epoch((state.epoch.0 + 1).max(unix_ms() / 1000)),
        };
        let fingerprint = Fingerprint::of_image(&**image, epoch)?;
        let number = self.disk.open_session(epoch, layout, is_new, &fingerprint).map_err(stored)?;
        let sink = self.disk.sink(Arc::clone(image), number, claim);
        let known = self.disk.trusted().map_err(stored)?;
        Ok((sink, Some(known.into())))
    }

    /// Notes how the closed image looks, and the point where the pass sealed one: its number.
    pub(crate) fn ended(&self, image: &dyn Image) -> Result<Option<u64>, Finding> {
        let noted = || -> Result<Option<u64>, StoreError> {
            let state = self.disk.state();
            if state.layout.is_none() {
                return Ok(None);
            }
            self.disk.released(&Fingerprint::of_settled_image(image, state.epoch)?)?;
            let point = self.store.record_point(&[self.disk.id().clone()])?;
            Ok(point.map(|point| point.number))
        };
        noted().map_err(|error| error.to_finding())
    }
}

fn stored(error: StoreError) -> PassError {
    match error {
        StoreError::Disk(error) => DiskError::into(error),
        other => PassError::Failed(other.to_finding()),
    }
}
