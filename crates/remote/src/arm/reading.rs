//! Reading one state: its URL while somebody reads, renewed before it expires, and taken back after the last reader.
//!
//! **Invariant**: a URL lives in memory only, and access ends with its last reader; where that fails, the notes still have it.

use super::managed::{Access, ManagedSnapshots, SnapshotId};
use crate::http::SecretUrl;
use failback_model::Finding;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A state that is read, and the base that it is compared with.
pub struct ManagedRead {
    states: Arc<ManagedSnapshots>,
    id: SnapshotId,
    base: Option<SnapshotId>,
    held: Mutex<Access>,
}

impl ManagedRead {
    /// Opens access to a state, and to the base where there can be a difference to it. Blocks.
    pub fn open(
        states: Arc<ManagedSnapshots>,
        id: SnapshotId,
        base: Option<SnapshotId>,
    ) -> Result<Self, Finding> {
        let access = states.access(&id, base.as_ref())?;
        let base = base.filter(|_| access.base.is_some());
        Ok(Self { states, id, base, held: Mutex::new(access) })
    }

    /// Why there is no difference to the base that was asked for.
    pub fn why_no_difference(&self) -> Option<Finding> {
        self.held().feed.clone()
    }

    /// Where the state is read, for the next few minutes at least.
    pub(crate) fn url(&self) -> Result<SecretUrl, Finding> {
        Ok(self.fresh()?.url.clone())
    }

    /// Where its base is, as long; none: it is compared with nothing.
    pub(crate) fn base_url(&self) -> Result<Option<SecretUrl>, Finding> {
        Ok(self.fresh()?.base.clone())
    }

    /// Asks anew, where the URL in force was refused.
    pub(crate) fn renew(&self) -> Result<SecretUrl, Finding> {
        let mut held = self.held();
        *held = self.states.access(&self.id, self.base.as_ref())?;
        Ok(held.url.clone())
    }

    fn fresh(&self) -> Result<MutexGuard<'_, Access>, Finding> {
        let mut held = self.held();
        if held.renew_unix_ms <= self.states.arm.now_unix_ms() {
            *held = self.states.access(&self.id, self.base.as_ref())?;
        }
        Ok(held)
    }

    fn held(&self) -> MutexGuard<'_, Access> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ManagedRead {
    fn drop(&mut self) {
        let (states, id, base) = (Arc::clone(&self.states), self.id.clone(), self.base.take());
        // The last reader may be a task, which must not wait for the cloud. What is not taken back here ends by itself, with its
        // state, or at the daemon's next start.
        let work = move || {
            for id in std::iter::once(id).chain(base) {
                if let Err(finding) = states.release_access(&id) {
                    states.arm.note(&finding);
                }
            }
        };
        let _started = std::thread::Builder::new().name("release".into()).spawn(work);
    }
}

impl fmt::Debug for ManagedRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManagedRead({})", self.id)
    }
}
