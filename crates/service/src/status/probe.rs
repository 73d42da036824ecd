//! Reads a running pass's counters for its status.

use super::handle::Probe;
use super::{Limiting, Live};
use failback_pass::{Measure, Pace, Progress, Stage, Totals, View};
use failback_transport::LinkHandle;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Which end of the pass is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassEnd {
    /// The one that sends contents.
    Sending,
    /// The one that writes them.
    Receiving,
}

/// What a pass's connections have carried, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkBytes {
    /// Frames that wait to go out.
    pub queued: u64,
    /// Written to the sockets, TLS records included.
    pub sent: u64,
    /// Read from the sockets, TLS records included.
    pub received: u64,
}

/// Looks at the pass's connections.
pub type LinkLook = Box<dyn Fn() -> LinkBytes + Send>;

impl LinkBytes {
    /// A look at a link, again and again.
    pub fn of(link: &LinkHandle) -> LinkLook {
        let link = link.clone();
        Box::new(move || {
            let stats = link.stats();
            let sum = |bytes: fn(&failback_transport::ConnectionStats) -> u64| {
                stats.connections.iter().map(bytes).sum()
            };
            Self {
                queued: stats.queued_bytes,
                sent: sum(|connection| connection.sent_bytes),
                received: sum(|connection| connection.received_bytes),
            }
        })
    }
}

/// A pass's counters, with its link.
pub struct PassProbe {
    end: PassEnd,
    totals: Totals,
    pace: Pace,
    progress: Arc<Progress>,
    window_bytes: u64,
    link: LinkLook,
    recent: VecDeque<(Instant, BTreeMap<String, u64>)>,
}

/// Share of the window that waits to go out, in percent, from which the link is what holds a pass up.
const LINK_BUSY_PERCENT: u64 = 12;
/// Share of the window that is not written yet, in percent, from which the sending end waits for the other one.
const WINDOW_BUSY_PERCENT: u64 = 50;
/// Share of its threads' time from which a stage is what holds a pass up, whatever else waits.
const STAGE_BUSY: f64 = 0.5;
/// Rates are taken over at least this long.
const RATE_WINDOW: Duration = Duration::from_secs(1);

impl PassProbe {
    /// Looks at `progress` and `link` from now on.
    pub fn new(
        end: PassEnd,
        totals: Totals,
        progress: Arc<Progress>,
        window_bytes: u64,
        link: LinkLook,
    ) -> Self {
        let now = Instant::now();
        let recent = VecDeque::from([(now, BTreeMap::new())]);
        Self { end, totals, pace: Pace::new(totals, now), progress, window_bytes, link, recent }
    }

    fn limiting(&self, view: &View, link: LinkBytes, credit_used_bytes: u64) -> Option<Limiting> {
        let is_busy = view.busy >= STAGE_BUSY;
        if self.end == PassEnd::Receiving {
            // A call that lasts longer than anyone looks counts no time yet.
            let lasting = view.limiting.filter(|_| is_busy || view.busy == 0.0);
            return Some(lasting.map_or_else(|| waiting_for_peer(view), busiest));
        }
        let percent = |bytes: u64| bytes.saturating_mul(100) / self.window_bytes.max(1);
        let because = |cause: &str, why| Some(Limiting { cause: cause.into(), stage: None, why });
        let (queued, unwritten) = (percent(link.queued), percent(credit_used_bytes));
        if queued >= LINK_BUSY_PERCENT {
            return because("link", format!("{queued} % of the window wait to go out"));
        }
        if !is_busy && unwritten >= WINDOW_BUSY_PERCENT {
            let why = format!("{unwritten} % of the window are sent, and not yet written by the other end");
            return because("target_write", why);
        }
        let waits = || because("peer", "what was sent is not yet written by the other end".into());
        view.limiting.map(busiest).or_else(|| if view.unsettled_blocks > 0 { waits() } else { None })
    }

    /// All counters by the names that the command's JSON has too, and what crossed the sockets.
    fn counters(&self) -> (BTreeMap<String, u64>, LinkBytes) {
        // Frames before the sockets that carry them: what was received is never less than what came out of it.
        let counters = self.progress.all();
        let link = (self.link)();
        let (to_target, to_source) = match self.end {
            PassEnd::Sending => (link.sent, link.received),
            PassEnd::Receiving => (link.received, link.sent),
        };
        let tls = [("tls_bytes_to_target", to_target), ("tls_bytes_to_source", to_source)];
        (counters.chain(tls).map(|(name, value)| (name.to_owned(), value)).collect(), link)
    }

    /// Per second, of each counter of bytes, over the last second or since the look before.
    fn rates(&mut self, now: Instant, counters: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        self.recent.push_back((now, counters.clone()));
        while self.recent.len() > 2 && now.saturating_duration_since(self.recent[1].0) >= RATE_WINDOW {
            self.recent.pop_front();
        }
        let (at, before) = &self.recent[0];
        let seconds = now.saturating_duration_since(*at).as_secs_f64();
        let rate = |(name, value): (&String, &u64)| {
            let grown = value.saturating_sub(before.get(name).copied().unwrap_or(0)) as f64;
            (name.clone(), if seconds > 0.0 { (grown / seconds) as u64 } else { 0 })
        };
        counters.iter().filter(|(name, _)| name.contains("bytes")).map(rate).collect()
    }
}

fn busiest(stage: Stage) -> Limiting {
    let cause = match stage {
        Stage::ScanSource => "source_read",
        Stage::ScanTarget | Stage::Seeds | Stage::Verify => "target_read",
        Stage::Refine | Stage::Pack | Stage::Unpack => "cpu",
        Stage::Write | Stage::Flush => "target_write",
    };
    let why = format!("{} keeps its threads busiest", stage.as_str());
    Limiting { cause: cause.into(), stage: Some(stage.as_str().into()), why }
}

/// This end has time left: it writes what comes.
fn waiting_for_peer(view: &View) -> Limiting {
    let own = view.limiting.map_or_else(
        || "this end is idle".into(),
        |stage| format!("{} is busy for {:.0} % of its time", stage.as_str(), view.busy * 100.0),
    );
    let why = format!("waits for what the other end sends, or the link to it: {own}");
    Limiting { cause: "peer".into(), stage: None, why }
}

impl Probe for PassProbe {
    fn observe(&mut self, now: Instant) -> Live {
        let progress = Arc::clone(&self.progress);
        let view = self.pace.observe(now, &progress);
        let credit_used_bytes = progress.credit_used_bytes.load(Ordering::Relaxed);
        let seconds = |stage: Stage| (stage.as_str().to_owned(), progress.times.get(stage).as_secs_f64());
        let (counters, link) = self.counters();
        let rates = self.rates(now, &counters);
        // Who only knows its own scan does not know when the other end is done.
        let left = view.left.filter(|_| self.totals.measure != Measure::Scanned);
        Live {
            measure: self.totals.measure.as_str().into(),
            done_bytes: view.done_bytes,
            total_bytes: view.total_bytes,
            left_seconds: left.map(|left| left.as_secs()),
            limiting: self.limiting(&view, link, credit_used_bytes),
            counters,
            rates,
            stage_seconds: Stage::ALL.into_iter().map(seconds).collect(),
            credit_used_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_BYTES: u64 = 64 << 20;

    fn probe(end: PassEnd, progress: &Arc<Progress>, queued: u64) -> PassProbe {
        let totals = Totals { disk_bytes: 1 << 30, threads: 1, ..Totals::default() };
        let look = Box::new(move || LinkBytes { queued, sent: 9 << 20, received: 1 << 20 });
        PassProbe::new(end, totals, Arc::clone(progress), WINDOW_BYTES, look)
    }

    fn look(probe: &mut PassProbe) -> Live {
        probe.observe(Instant::now() + Duration::from_secs(2))
    }

    fn cause(live: &Live) -> Option<&str> {
        live.limiting.as_ref().map(|limiting| limiting.cause.as_str())
    }

    #[test]
    fn the_sending_end_names_link_target_and_stage() {
        let progress = Arc::new(Progress::default());
        Progress::add(&progress.bytes_to_target, 8 << 20);
        let live = look(&mut probe(PassEnd::Sending, &progress, 32 << 20));
        assert_eq!(cause(&live), Some("link"));
        assert_eq!(cause(&look(&mut probe(PassEnd::Sending, &progress, 0))), None);
        progress.credit_used_bytes.store(WINDOW_BYTES, Ordering::Relaxed);
        assert_eq!(cause(&look(&mut probe(PassEnd::Sending, &progress, 0))), Some("target_write"));
        let mut probe = probe(PassEnd::Sending, &progress, 0);
        progress.times.add(Stage::ScanSource, Duration::from_secs(2));
        assert_eq!(cause(&look(&mut probe)), Some("source_read"));
    }

    #[test]
    fn the_receiving_end_waits_for_the_other_one_unless_it_is_busy() {
        let progress = Arc::new(Progress::default());
        Progress::add(&progress.bytes_written, 8 << 20);
        let mut waiting = probe(PassEnd::Receiving, &progress, 0);
        progress.times.add(Stage::Flush, Duration::from_millis(100));
        assert_eq!(cause(&look(&mut waiting)), Some("peer"));
        let mut busy = probe(PassEnd::Receiving, &progress, 0);
        progress.times.add(Stage::Flush, Duration::from_secs(2));
        assert_eq!(cause(&look(&mut busy)), Some("target_write"));
        let mut lasting = probe(PassEnd::Receiving, &progress, 0);
        let _inside = progress.times.enter(Stage::Flush);
        assert_eq!(cause(&look(&mut lasting)), Some("target_write"));
    }

    #[test]
    fn rates_have_the_counters_names_and_sockets_are_counted_beside_frames() {
        let progress = Arc::new(Progress::default());
        let mut probe = probe(PassEnd::Receiving, &progress, 0);
        Progress::add(&progress.bytes_to_target, 8 << 20);
        let live = look(&mut probe);
        assert!(live.rates.keys().all(|name| live.counters.contains_key(name)), "{live:?}");
        assert!(live.rates["bytes_to_target"] >= 3 << 20 && !live.rates.contains_key("pages_shipped"));
        let crossed = ["tls_bytes_to_target", "tls_bytes_to_source"].map(|name| live.counters[name]);
        assert_eq!(crossed, [1 << 20, 9 << 20], "the receiving end sends to the source");
        assert_eq!(live.left_seconds, None, "its own scan says nothing of the end");
    }
}
