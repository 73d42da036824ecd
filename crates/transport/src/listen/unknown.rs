//! Connections that have not said who they are.
//!
//! **Invariant**: there are never more than [`UNKNOWN_CONNECTIONS_MAX`]; the one that has had the longest time goes first.

use failback_model::limits::UNKNOWN_CONNECTIONS_MAX;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;

#[derive(Debug, Default)]
struct State {
    next: u64,
    displaced: u64,
    /// By age; the task is known a moment after the place is taken.
    tasks: BTreeMap<u64, Option<AbortHandle>>,
}

/// The places.
#[derive(Debug, Default, Clone)]
pub(super) struct Unknown(Arc<Mutex<State>>);

/// A place; given back when the connection is known, or gone.
#[derive(Debug)]
pub(super) struct Guard {
    places: Unknown,
    number: u64,
}

/// Says which task sits on a place.
pub(super) struct Admit {
    places: Unknown,
    number: u64,
}

impl Unknown {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, from the oldest connection where none is free.
    pub(super) fn enter(&self) -> (Guard, Admit) {
        let mut state = self.lock();
        if state.tasks.len() >= UNKNOWN_CONNECTIONS_MAX
            && let Some((_, Some(oldest))) = state.tasks.pop_first()
        {
            oldest.abort();
            state.displaced += 1;
        }
        let number = state.next;
        state.next += 1;
        state.tasks.insert(number, None);
        let places = self.clone();
        (Guard { places: places.clone(), number }, Admit { places, number })
    }

    pub(super) fn count(&self) -> usize {
        self.lock().tasks.len()
    }

    pub(super) fn displaced(&self) -> u64 {
        self.lock().displaced
    }
}

impl Admit {
    pub(super) fn set(self, task: AbortHandle) {
        // The task may be done already.
        if let Some(place) = self.places.lock().tasks.get_mut(&self.number) {
            *place = Some(task);
        }
    }
}

impl Guard {
    /// The connection is known: from here on nobody takes its place.
    pub(super) fn leave(self) {
        drop(self);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.places.lock().tasks.remove(&self.number);
    }
}
