//! `verify`: the whole target read anew from its medium, its digests in place of those that were computed while writing.

use crate::receiving::ReceivingEnd;
use crate::stage::Stage;
use failback_blockio::DiskError;
use failback_engine::manifest::Manifest;
use failback_engine::{DigestSource, ScanEnd};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

impl ReceivingEnd<'_> {
    /// Reads the target and returns the manifest of what it holds; `None` where the pass was cancelled meanwhile. Pages that the kernel caches are let go first, so that what is read comes from the medium.
    pub(crate) fn prove(&self) -> Result<Option<Manifest>, DiskError> {
        if self.is_written_once() {
            // It can be read only once its tables are written, and then not written any more.
            self.image.close()?;
        }
        self.image.drop_cached();
        let mut proven = Manifest::create_temp(self.layout)?;
        let mut failure = None;
        let outcome = self.scan(Stage::Verify).deliver(&mut |run| {
            if let Some(digests) = &run.digests
                && let Err(error) = proven.set_run(run.blocks.start, digests)
            {
                failure = Some(error);
                return ControlFlow::Break(());
            }
            self.progress.verified_bytes.store(self.layout.bytes_of(run.blocks).end(), Ordering::Relaxed);
            if self.cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match (failure, outcome) {
            (Some(error), _) | (None, Err(ScanEnd::Disk(error))) => Err(error),
            (None, Err(ScanEnd::Stopped)) => Ok(None),
            (None, Ok(())) => Ok(Some(proven)),
        }
    }
}
