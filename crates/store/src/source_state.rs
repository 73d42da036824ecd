//! What the sending end has scanned of its source, so that a process server that was killed goes on from there.

use crate::disk::DiskStore;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::machine::MachineStore;
use crate::trusted::TrustedState;
use failback_blockio::DiskError;
use failback_engine::ScanLog;
use failback_model::{BlockRange, Digest, DiskId, Epoch, Layout, MachineId};
use std::path::Path;
use std::sync::Arc;

/// The name of machine and disk in a journal that has one of each.
const SOURCE: &str = "source";

/// The finished part of a source's scan. The source is immutable while it is the one that the fingerprint names.
#[derive(Debug)]
pub struct SourceState(Arc<DiskStore>);

impl SourceState {
    /// Opens a folder, making it if need be. What it holds of a source with another fingerprint or layout is discarded.
    pub fn open(path: &Path, fingerprint: &Fingerprint, layout: Layout) -> Result<Self, StoreError> {
        let machine = MachineId::new(SOURCE).expect("it is an id");
        let store = MachineStore::open(path, None, &machine)?;
        let disk = store.disk(&DiskId::new(SOURCE).expect("it is an id"))?;
        disk.open_session(Epoch(0), layout, false, fingerprint)?;
        disk.released(fingerprint)?;
        Ok(Self(disk))
    }

    /// These blocks were scanned. May be lost in a power cut until the next [`Self::sync`].
    pub fn scanned(&self, blocks: BlockRange, digests: Option<&[Digest]>) -> Result<(), StoreError> {
        self.0.disk().scanned(blocks, digests)?;
        Ok(())
    }

    /// Makes everything durable that was scanned so far.
    pub fn sync(&self) -> Result<(), StoreError> {
        let disk = self.0.disk();
        let (end, ()) = disk.journal.update(disk.slot, |_| (Vec::new(), ()))?;
        Ok(disk.journal.wait_durable(end)?)
    }

    /// What need not be scanned again.
    pub fn trusted(&self) -> Result<TrustedState, StoreError> {
        self.0.trusted()
    }
}

impl ScanLog for SourceState {
    fn scanned(&self, blocks: BlockRange, digests: Option<&[Digest]>) -> Result<(), DiskError> {
        self.0.disk().scanned(blocks, digests).map(|_| ())
    }
}
