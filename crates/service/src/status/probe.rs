//! Reads a running pass's counters for its status.

use super::handle::Probe;
use super::{Limiting, Live};
use failback_pass::{Pace, Progress, Stage, Totals};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Says how many bytes wait to go out on the pass's connections.
pub type QueuedBytes = Box<dyn Fn() -> u64 + Send>;

/// A pass's counters, with its link where it sends on one.
pub struct PassProbe {
    pace: Pace,
    progress: Arc<Progress>,
    window_bytes: u64,
    queued_bytes: Option<QueuedBytes>,
}

/// Share of the window that waits to go out, in percent, from which the link is what holds a pass up.
const LINK_BUSY_PERCENT: u64 = 12;

impl PassProbe {
    /// Looks at `progress` from now on; `queued_bytes` is the sending end's.
    pub fn new(
        totals: Totals,
        progress: Arc<Progress>,
        window_bytes: u64,
        queued_bytes: Option<QueuedBytes>,
    ) -> Self {
        Self { pace: Pace::new(totals, Instant::now()), progress, window_bytes, queued_bytes }
    }

    fn limiting(&self, stage: Option<Stage>, queued_bytes: u64) -> Option<Limiting> {
        let percent = queued_bytes * 100 / self.window_bytes.max(1);
        if percent >= LINK_BUSY_PERCENT {
            let why = format!("{percent} % of the window wait to go out");
            return Some(Limiting { cause: "link".into(), stage: None, why });
        }
        let stage = stage?;
        let cause = match stage {
            Stage::ScanSource => "source_read",
            Stage::ScanTarget | Stage::Seeds | Stage::Verify => "target_read",
            Stage::Refine | Stage::Pack | Stage::Unpack => "cpu",
            Stage::Write | Stage::Flush => "target_write",
        };
        let why = format!("{} keeps its threads busiest", stage.as_str());
        Some(Limiting { cause: cause.into(), stage: Some(stage.as_str().into()), why })
    }
}

impl Probe for PassProbe {
    fn observe(&mut self, now: Instant) -> Live {
        let progress = Arc::clone(&self.progress);
        let view = self.pace.observe(now, &progress);
        let queued_bytes = self.queued_bytes.as_ref().map_or(0, |queued| queued());
        let seconds = |stage: Stage| (stage.as_str().to_owned(), progress.times.get(stage).as_secs_f64());
        let rates = view.counters.iter();
        let rates =
            rates.filter_map(|counter| Some((counter.name.to_owned(), counter.rate_bytes?))).collect();
        Live {
            done_bytes: view.done_bytes,
            total_bytes: view.total_bytes,
            left_seconds: view.left.map(|left| left.as_secs()),
            limiting: self.limiting(view.limiting, queued_bytes),
            counters: counters(&progress),
            rates,
            stage_seconds: Stage::ALL.into_iter().map(seconds).collect(),
            credit_used_bytes: queued_bytes,
        }
    }
}

/// All counters by the names that the command's JSON has too.
fn counters(progress: &Progress) -> BTreeMap<String, u64> {
    progress.all().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_full_queue_is_the_links_doing_and_a_busy_stage_the_threads() {
        let totals = Totals { source_bytes: 1 << 30, threads: 1, ..Totals::default() };
        let progress = Arc::new(Progress::default());
        let queue = Box::new(|| 32 << 20);
        let mut probe = PassProbe::new(totals, Arc::clone(&progress), 64 << 20, Some(queue));
        Progress::add(&progress.bytes_to_target, 7);
        let live = probe.observe(Instant::now() + Duration::from_secs(2));
        assert_eq!(live.limiting.map(|limiting| limiting.cause).as_deref(), Some("link"));
        assert_eq!(live.counters["bytes_to_target"], 7);
        let mut probe = PassProbe::new(totals, Arc::clone(&progress), 64 << 20, None);
        progress.times.add(Stage::Write, Duration::from_secs(2));
        let live = probe.observe(Instant::now() + Duration::from_secs(2));
        let limiting = live.limiting.expect("one stage is busy");
        assert_eq!((limiting.cause.as_str(), limiting.stage.as_deref()), ("target_write", Some("write")));
    }
}
