//! How many requests of a blob are under way: more while it answers, half as many once it says that it is too much.
//!
//! **Invariant**: at least one may be under way, never more than the connections that were asked for.

use crate::waits::Waits;
use failback_model::Finding;
use failback_model::limits::STOP_POLL;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared by all threads that read a blob.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
    most: f64,
}

#[derive(Debug)]
struct State {
    limit: f64,
    under_way: usize,
    /// Nothing is asked before.
    quiet_until: Option<Instant>,
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Pace);

impl Pace {
    pub(super) fn new(connections: usize) -> Self {
        let most = connections.max(1) as f64;
        let state = State { limit: most, under_way: 0, quiet_until: None };
        Self { state: Mutex::new(state), changed: Condvar::new(), most }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more request may be made, unless waits are stopped.
    pub(super) fn enter(&self, waits: &Waits) -> Result<Turn<'_>, Finding> {
        let mut state = self.lock();
        loop {
            let quiet = state.quiet_until.and_then(|until| until.checked_duration_since(Instant::now()));
            match quiet.filter(|quiet| !quiet.is_zero()) {
                None if (state.under_way as f64) < state.limit.floor() => break,
                quiet => {
                    waits.check()?;
                    let wait = quiet.unwrap_or(STOP_POLL).min(STOP_POLL);
                    state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        state.under_way += 1;
        Ok(Turn(self))
    }

    /// An answer came in good time.
    pub(super) fn raise(&self) {
        let mut state = self.lock();
        state.limit = (state.limit + 1.0 / state.limit).min(self.most);
        self.changed.notify_all();
    }

    /// It was too much: half of it, and nothing for as long as the service asks.
    pub(super) fn slow(&self, quiet: Duration) {
        let mut state = self.lock();
        // Those that were asked together are refused together; that is one lesson.
        let is_told = state.quiet_until.is_some_and(|until| until > Instant::now());
        if !is_told {
            state.limit = (state.limit / 2.0).max(1.0);
        }
        let until = Instant::now() + quiet;
        state.quiet_until = Some(state.quiet_until.map_or(until, |before| before.max(until)));
    }

    /// Requests that may be under way now.
    #[cfg(test)]
    pub(super) fn limit(&self) -> usize {
        self.lock().limit as usize
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::Code;
    use std::sync::Arc;

    #[test]
    fn the_limit_halves_once_for_refusals_that_come_together_and_grows_back() {
        let (pace, waits) = (Pace::new(8), Waits::default());
        let turns: Vec<_> = (0..8).map(|_| pace.enter(&waits).expect("a turn")).collect();
        pace.slow(Duration::from_millis(20));
        pace.slow(Duration::from_millis(20));
        assert_eq!(pace.limit(), 4);
        drop(turns);
        let before = Instant::now();
        drop(pace.enter(&waits).expect("a turn"));
        assert!(before.elapsed() >= Duration::from_millis(15), "it waits as asked");
        (0..100).for_each(|_| pace.raise());
        assert_eq!(pace.limit(), 8);
        for _ in 0..10 {
            pace.slow(Duration::ZERO);
        }
        assert_eq!(pace.limit(), 1, "one request is always allowed");
    }

    #[test]
    fn whoever_shall_stop_waits_no_longer_for_a_turn() {
        let pace = Pace::new(1);
        let stopped = Waits { stop: Some(Arc::new(|| true)), heard: None };
        let turn = pace.enter(&stopped).expect("it need not wait");
        assert_eq!(pace.enter(&stopped).map(drop).expect_err("it would wait").code, Code::Cancelled);
        drop(turn);
        pace.slow(Duration::from_secs(1000));
        assert_eq!(pace.enter(&stopped).map(drop).expect_err("it would wait").code, Code::Cancelled);
    }
}
