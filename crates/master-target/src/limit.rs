//! How fast this end may send: one limit for all machines, since what it sends is little.
//!
//! **Invariant**: what was set over the control socket holds against the configuration until it is taken back or the
//! daemon starts anew.

use failback_transport::{Schedule, Throttle};
use std::sync::{Mutex, PoisonError};

/// The limit, configured and in force.
pub(crate) struct Limit {
    throttle: Throttle,
    state: Mutex<State>,
}

struct State {
    configured: Schedule,
    is_overridden: bool,
}

impl Limit {
    pub(crate) fn new(configured: Schedule) -> Self {
        let throttle = Throttle::new(configured.clone());
        Self { throttle, state: Mutex::new(State { configured, is_overridden: false }) }
    }

    /// For the connections.
    pub(crate) fn throttle(&self) -> Throttle {
        self.throttle.clone()
    }

    /// The configuration was read again.
    pub(crate) fn configure(&self, configured: Schedule) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.is_overridden {
            self.throttle.set(configured.clone());
        }
        state.configured = configured;
    }

    /// Sets it; `None`: back to what is configured. Gives what is in force then.
    pub(crate) fn set(&self, schedule: Option<Schedule>) -> Schedule {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_overridden = schedule.is_some();
        let schedule = schedule.unwrap_or_else(|| state.configured.clone());
        self.throttle.set(schedule.clone());
        schedule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_outlives_a_reload_and_ends_when_it_is_taken_back() {
        let schedule = |text: &str| text.parse::<Schedule>().expect("a schedule");
        let limit = Limit::new(schedule("20M"));
        assert_eq!(limit.set(Some(schedule("5M"))), schedule("5M"));
        limit.configure(schedule("30M"));
        assert_eq!(limit.throttle().schedule(), schedule("5M"));
        assert_eq!(limit.set(None), schedule("30M"));
        limit.configure(schedule("40M"));
        assert_eq!(limit.throttle().schedule(), schedule("40M"));
    }
}
