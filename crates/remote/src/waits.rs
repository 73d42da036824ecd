//! What whoever reads a source behind a network has to say about its waits: that they end, and who hears of them.
//!
//! **Invariant**: nothing that may wait for long waits on once it shall stop.

use failback_model::limits::STOP_POLL;
use failback_model::{Code, Finding};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whether to stop.
type Stop = Arc<dyn Fn() -> bool + Send + Sync>;
/// Hears why a wait begins, and `None` once it is over, however it ended.
type Heard = Arc<dyn Fn(Option<&Finding>) + Send + Sync>;

/// Ends waits, and hears of long ones. By default they end by themselves only.
#[derive(Clone, Default)]
pub struct Waits {
    /// Looked at a few times a second.
    pub stop: Option<Stop>,
    /// Told of waits that somebody can end: those for a new signature.
    pub heard: Option<Heard>,
}

impl Waits {
    /// Whether nothing is to wait any more.
    pub(crate) fn are_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop())
    }

    /// What ends where they are stopped.
    pub(crate) fn check(&self) -> Result<(), Finding> {
        if self.are_stopped() {
            Err(Finding::error(Code::Cancelled, "stopped while it waited"))
        } else {
            Ok(())
        }
    }

    /// Waits, unless they are stopped.
    pub(crate) fn pause(&self, wait: Duration) -> Result<(), Finding> {
        let until = Instant::now() + wait;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(STOP_POLL));
        }
    }

    /// Says that a wait begins, and once what is returned is dropped that it is over.
    pub(crate) fn begin(&self, why: &Finding) -> Waiting<'_> {
        if let Some(heard) = &self.heard {
            heard(Some(why));
        }
        Waiting(self)
    }
}

/// A wait that was told of.
pub(crate) struct Waiting<'a>(&'a Waits);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(heard) = &self.0.heard {
            heard(None);
        }
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waits")
            .field("stop", &self.stop.is_some())
            .field("heard", &self.heard.is_some())
            .finish()
    }
}
