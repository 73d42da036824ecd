//! How fast a link may send. All its connections draw from one bucket; the rate follows a schedule and may be changed at
//! any time.
//!
//! **Invariant**: over any time longer than a moment, no more bulk leaves than the rates in force allow; frames of
//! control are counted but never wait.

mod bucket;
mod schedule;

pub use schedule::{Rate, Schedule, ScheduleError, WeekTime};

use bucket::Bucket;
use failback_model::limits::{RATE_CHECK, WRITE_BATCH_MIN_BYTES};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// The throttle of one link, or of several that share it. A clone is the same.
#[derive(Debug, Clone)]
pub struct Throttle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    clock: fn() -> WeekTime,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    /// What the schedule's rate is held down to.
    pace: Rate,
    bucket: Bucket,
    checked_at: Instant,
}

impl Throttle {
    /// Follows a schedule by this host's local time.
    pub fn new(schedule: Schedule) -> Self {
        Self::with_clock(schedule, WeekTime::now)
    }

    /// Follows a schedule by another clock.
    pub fn with_clock(schedule: Schedule, clock: fn() -> WeekTime) -> Self {
        let now = Instant::now();
        let bucket = Bucket::new(schedule.rate_at(clock()), now);
        let state = Mutex::new(State { schedule, pace: Rate::Unlimited, bucket, checked_at: now });
        Self(Arc::new(Shared { state, changed: Notify::new(), clock }))
    }

    /// No limit until one is set.
    pub fn unlimited() -> Self {
        Self::new(Schedule::unlimited())
    }

    /// Follows another schedule from now on; whoever waits now feels it.
    pub fn set(&self, schedule: Schedule) {
        let mut state = self.lock();
        let rate = schedule.rate_at((self.0.clock)()).min(state.pace);
        state.schedule = schedule;
        state.bucket.set_rate(rate, Instant::now());
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Goes no faster than this from now on, whatever the schedule allows.
    pub fn pace(&self, pace: Rate) {
        let mut state = self.lock();
        let rate = state.schedule.rate_at((self.0.clock)()).min(pace);
        state.pace = pace;
        state.bucket.set_rate(rate, Instant::now());
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// What the schedule allows now.
    pub fn ceiling(&self) -> Rate {
        self.lock().schedule.rate_at((self.0.clock)())
    }

    /// The schedule in force.
    pub fn schedule(&self) -> Schedule {
        self.lock().schedule.clone()
    }

    /// The rate in force now.
    pub fn rate(&self) -> Rate {
        self.checked().bucket.rate()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A rate is set and time is counted in single steps: no panic leaves them torn.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state with the rate of this moment.
    fn checked(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let now = Instant::now();
        if now >= state.checked_at + RATE_CHECK {
            state.checked_at = now;
            let rate = state.schedule.rate_at((self.0.clock)()).min(state.pace);
            state.bucket.set_rate(rate, now);
        }
        state
    }

    /// Waits until bulk may leave.
    pub(crate) async fn ready(&self) {
        loop {
            let changed = self.0.changed.notified();
            let wait = self.checked().bucket.wait(Instant::now());
            if wait.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep(wait.min(RATE_CHECK)) => (),
                () = changed => (),
            }
        }
    }

    /// Counts what leaves.
    pub(crate) fn charge(&self, bytes: u64) {
        self.lock().bucket.charge(bytes, Instant::now());
    }

    /// Most bytes to take at once, so that a slow link is fed evenly.
    pub(crate) fn batch_bytes(&self, most: u64) -> u64 {
        match self.lock().bucket.rate() {
            Rate::Unlimited => most,
            Rate::BytesPerSecond(rate) => (rate.get() / 16).clamp(WRITE_BATCH_MIN_BYTES, most),
        }
    }
}
