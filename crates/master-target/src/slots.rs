//! One session a disk: the newest asks the one before it to end, and waits for its place.
//!
//! A process server that lost its connection comes back before this end has noticed: it must not be told to wait until
//! the dead session times out.
//!
//! **Invariant**: of the sessions that want a disk, all but the newest are asked to stop, and only one has the turn.

use failback_model::limits::TAKEOVER_MAX;
use failback_model::{Code, DiskId, Finding, MachineId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

type Name = (MachineId, DiskId);

/// The disks' slots.
#[derive(Default)]
pub(crate) struct Slots(Mutex<BTreeMap<Name, Arc<Slot>>>);

#[derive(Default)]
struct Slot {
    newest: Mutex<CancellationToken>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A disk's turn; the next session gets it when this is dropped.
pub(crate) struct Turn {
    /// Cancelled when a newer session wants the disk, or an operator stops it.
    pub(crate) stop: CancellationToken,
    _turn: OwnedMutexGuard<()>,
}

impl Slots {
    /// Asks whoever has the disk to stop, and waits for the turn.
    pub(crate) async fn take(&self, name: &Name, stop: CancellationToken) -> Result<Turn, Finding> {
        let slot = Arc::clone(self.slots().entry(name.clone()).or_default());
        let before = std::mem::replace(&mut *slot.newest(), stop.clone());
        before.cancel();
        let turn = tokio::select! {
            turn = tokio::time::timeout(TAKEOVER_MAX, Arc::clone(&slot.turn).lock_owned()) => turn,
            () = stop.cancelled() => {
                let evidence = format!("{}/{}: a newer session wants the disk, or it was stopped", name.0, name.1);
                return Err(Finding::error(Code::StaleSession, evidence));
            }
        };
        let turn = turn.map_err(|_| {
            let evidence = format!("{}/{}: the session before this one has not ended yet", name.0, name.1);
            Finding::error(Code::TimedOut, evidence)
        })?;
        Ok(Turn { stop, _turn: turn })
    }

    /// Asks a machine's sessions to stop.
    pub(crate) fn stop(&self, machine: &MachineId) {
        let slots = self.slots();
        slots.iter().filter(|((id, _), _)| id == machine).for_each(|(_, slot)| slot.newest().cancel());
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn newest(&self) -> MutexGuard<'_, CancellationToken> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        ("web01".parse().expect("an id"), "d0".parse().expect("an id"))
    }

    #[tokio::test]
    async fn a_newer_session_takes_over_once_the_older_has_ended() {
        let slots = Arc::new(Slots::default());
        let first = slots.take(&name(), CancellationToken::new()).await.expect("it is free");
        let token = CancellationToken::new();
        let (waiting, task_slots) = (token.clone(), Arc::clone(&slots));
        let second = tokio::spawn(async move { task_slots.take(&name(), waiting).await });
        first.stop.cancelled().await;
        assert!(!second.is_finished(), "the older has not ended");
        let third_slots = Arc::clone(&slots);
        let third = tokio::spawn(async move { third_slots.take(&name(), CancellationToken::new()).await });
        let stale = second.await.expect("no panic").err().expect("a newer one came");
        assert_eq!(stale.code, Code::StaleSession);
        assert!(token.is_cancelled());
        drop(first);
        let third = third.await.expect("no panic").expect("its turn");
        slots.stop(&name().0);
        assert!(third.stop.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_end_is_named() {
        let slots = Slots::default();
        let held = slots.take(&name(), CancellationToken::new()).await.expect("it is free");
        let late = slots.take(&name(), CancellationToken::new()).await.err().expect("it holds on");
        assert_eq!(late.code, Code::TimedOut);
        drop(held);
        slots.take(&name(), CancellationToken::new()).await.expect("it is free now");
    }
}
