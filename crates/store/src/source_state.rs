//! What the sending end has scanned of its source, so that a process server that was killed goes on from there, and a later
//! state of the source costs only what changed.
//!
//! **Invariant**: a digest that is trusted is that of the state whose fingerprint is held. [`SourceFolder::follow`] gives up the
//! trust in what may differ, durably, before it names the newer state.

use crate::disk::DiskStore;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::machine::MachineStore;
use crate::trusted::{HeldDigests, TrustedState};
use failback_blockio::DiskError;
use failback_engine::ScanLog;
use failback_format::journal_record::Record;
use failback_model::limits::JOURNAL_RECORD_MAX_RANGES;
use failback_model::{BlockRange, Digest, DiskId, Epoch, Layout, MachineId};
use std::path::Path;
use std::sync::Arc;

/// The name of machine and disk in a journal that has one of each.
const SOURCE: &str = "source";

/// A folder for what is known of one source.
#[derive(Debug)]
pub struct SourceFolder(Arc<DiskStore>);

impl SourceFolder {
    /// Opens it, making it if need be; nobody else has it open meanwhile.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = MachineStore::open(path, None, &MachineId::new(SOURCE).expect("it is an id"))?;
        Ok(Self(store.disk(&DiskId::new(SOURCE).expect("it is an id"))?))
    }

    /// Whether it holds anything of the source with this fingerprint, in this layout.
    pub fn holds(&self, fingerprint: &Fingerprint, layout: Layout) -> bool {
        let disk = self.0.disk();
        let held = disk.journal.read(disk.slot, |state| state.fingerprint);
        held == Some(fingerprint.digest()) && self.0.state().layout == Some(layout)
    }

    /// The state with this fingerprint. What is held of one with another fingerprint or layout is discarded.
    pub fn state(self, fingerprint: &Fingerprint, layout: Layout) -> Result<SourceState, StoreError> {
        self.0.open_session(Epoch(0), layout, false, fingerprint)?;
        self.0.released(fingerprint)?;
        Ok(SourceState(self.0))
    }

    /// A state that differs from the one that is held in no block but these, which are in order. Of another layout nothing is
    /// kept.
    pub fn follow(
        self,
        fingerprint: &Fingerprint,
        layout: Layout,
        may_differ: &[BlockRange],
    ) -> Result<SourceState, StoreError> {
        if self.0.state().layout == Some(layout) {
            let disk = self.0.disk();
            let mut last = None;
            for blocks in may_differ.chunks(JOURNAL_RECORD_MAX_RANGES) {
                let record = Record::Doubted { blocks: blocks.to_vec() };
                last = Some(disk.journal.update(disk.slot, |_| (vec![record], ()))?.0);
            }
            last.map_or(Ok(()), |position| disk.journal.wait_durable(position))?;
            self.0.released(fingerprint)?;
        }
        self.state(fingerprint, layout)
    }

    /// The digests as they are held.
    pub fn digests(&self) -> HeldDigests {
        self.0.disk().trusted_state().digests
    }
}

/// The finished part of a source's scan. The source is immutable while it is the one that the fingerprint names.
#[derive(Debug)]
pub struct SourceState(Arc<DiskStore>);

impl SourceState {
    /// Opens a folder, making it if need be. What it holds of a source with another fingerprint or layout is discarded.
    pub fn open(path: &Path, fingerprint: &Fingerprint, layout: Layout) -> Result<Self, StoreError> {
        SourceFolder::open(path)?.state(fingerprint, layout)
    }

    /// These blocks were scanned. May be lost in a power cut until the next [`Self::sync`].
    pub fn scanned(&self, blocks: BlockRange, digests: Option<&[Digest]>) -> Result<(), StoreError> {
        self.0.disk().scanned(blocks, digests)?;
        Ok(())
    }

    /// Gives up the trust in all blocks, durably.
    pub fn forget(&self, fingerprint: &Fingerprint) -> Result<(), StoreError> {
        self.0.forget()?;
        self.0.released(fingerprint)
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

    /// The digests as they are held, also of blocks that are not trusted: of those, the last that was.
    pub fn digests(&self) -> HeldDigests {
        self.0.disk().trusted_state().digests
    }
}

impl ScanLog for SourceState {
    fn scanned(&self, blocks: BlockRange, digests: Option<&[Digest]>) -> Result<(), DiskError> {
        self.0.disk().scanned(blocks, digests).map(|_| ())
    }
}
