//! Events to their subscribers, with the last ones kept for those that come later.

use super::{Envelope, Event};
use crate::clock::unix_ms;
use crate::report::printable;
use failback_model::Code;
use failback_model::limits::EVENTS_KEPT;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// The daemon's events.
pub struct Events {
    kept: Mutex<Kept>,
    errors: Mutex<BTreeMap<&'static str, u64>>,
    live: broadcast::Sender<Arc<Envelope>>,
}

struct Kept {
    next_seq: u64,
    last: VecDeque<Arc<Envelope>>,
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Events {
    /// A stream without events.
    pub fn new() -> Self {
        let kept = Kept { next_seq: 1, last: VecDeque::with_capacity(EVENTS_KEPT) };
        let (live, _) = broadcast::channel(EVENTS_KEPT);
        Self { kept: Mutex::new(kept), errors: Mutex::default(), live }
    }

    /// Tells an event to everyone, and to the log.
    pub fn publish(&self, event: Event) {
        let line = printable(&event.to_string());
        match event.findings().iter().map(|finding| finding.severity.as_str()).find(|&word| word != "info") {
            Some("error") => tracing::error!("{line}"),
            Some(_) => tracing::warn!("{line}"),
            None => tracing::info!("{line}"),
        }
        let mut kept = self.kept();
        let envelope = Arc::new(Envelope { seq: kept.next_seq, time_unix_ms: unix_ms(), event });
        kept.next_seq += 1;
        if kept.last.len() == EVENTS_KEPT {
            kept.last.pop_front();
        }
        kept.last.push_back(Arc::clone(&envelope));
        // Within the lock, so that a subscriber sees each event once and in order. Nobody may be listening.
        let _ = self.live.send(envelope);
    }

    /// What happens from now on; with `since`, first what was kept and has a larger number.
    pub fn subscribe(&self, since: Option<u64>) -> Subscription {
        let kept = self.kept();
        let mut backlog: VecDeque<_> = VecDeque::new();
        if let Some(since) = since {
            backlog.extend(kept.last.iter().filter(|envelope| envelope.seq > since).cloned());
            let first_wanted = since.saturating_add(1);
            let first_there = backlog.front().map_or(kept.next_seq, |envelope| envelope.seq);
            if first_there > first_wanted {
                backlog.push_front(missed(first_there - first_wanted));
            }
        }
        Subscription { backlog, live: self.live.subscribe() }
    }

    /// Counts an error of this code.
    pub fn count(&self, code: Code) {
        *self.errors.lock().unwrap_or_else(PoisonError::into_inner).entry(code.as_str()).or_default() += 1;
    }

    /// Errors so far, by code.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.iter().map(|(code, count)| ((*code).to_string(), *count)).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missed(count: u64) -> Arc<Envelope> {
    Arc::new(Envelope { seq: 0, time_unix_ms: unix_ms(), event: Event::Missed { count } })
}

/// Events in order, as one subscriber gets them.
pub struct Subscription {
    backlog: VecDeque<Arc<Envelope>>,
    live: broadcast::Receiver<Arc<Envelope>>,
}

impl Subscription {
    /// The next event; `None` once the daemon has no more.
    pub async fn next(&mut self) -> Option<Arc<Envelope>> {
        if let Some(envelope) = self.backlog.pop_front() {
            return Some(envelope);
        }
        match self.live.recv().await {
            Ok(envelope) => Some(envelope),
            Err(RecvError::Lagged(count)) => Some(missed(count)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event if it is there.
    pub fn try_next(&mut self) -> Option<Arc<Envelope>> {
        if let Some(envelope) = self.backlog.pop_front() {
            return Some(envelope);
        }
        match self.live.try_recv() {
            Ok(envelope) => Some(envelope),
            Err(TryRecvError::Lagged(count)) => Some(missed(count)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::Finding;

    fn released(machine: usize) -> Event {
        Event::MachineReleased { machine: format!("m{machine}") }
    }

    fn seqs(told: &mut Subscription) -> Vec<u64> {
        std::iter::from_fn(|| told.try_next()).map(|envelope| envelope.seq).collect()
    }

    #[test]
    fn a_subscriber_sees_every_event_once_from_where_it_asked() {
        let events = Events::new();
        (0..3).for_each(|machine| events.publish(released(machine)));
        let (mut now, mut all, mut some) =
            (events.subscribe(None), events.subscribe(Some(0)), events.subscribe(Some(2)));
        events.publish(released(3));
        assert_eq!(
            (seqs(&mut now), seqs(&mut all), seqs(&mut some)),
            (vec![4], vec![1, 2, 3, 4], vec![3, 4])
        );
    }

    #[test]
    fn what_was_missed_is_counted() {
        let events = Events::new();
        let mut slow = events.subscribe(None);
        (0..EVENTS_KEPT + 5).for_each(|machine| events.publish(released(machine)));
        assert_eq!(slow.try_next().map(|told| told.event.clone()), Some(Event::Missed { count: 5 }));
        assert_eq!(slow.try_next().map(|told| told.seq), Some(6));
        let mut late = events.subscribe(Some(1));
        assert_eq!(late.try_next().map(|told| told.event.clone()), Some(Event::Missed { count: 4 }));
        assert_eq!(seqs(&mut late).len(), EVENTS_KEPT);
    }

    #[test]
    fn a_line_of_the_log_says_where_what_and_why() {
        let finding = Finding::error(Code::ConnectionLost, "reset\nby peer").with_remedy("check the network");
        let event = Event::PassInterrupted {
            machine: "web01".into(),
            disk: "disk0".into(),
            finding: (&finding).into(),
            failed_tries: 2,
            next_try_unix_ms: None,
        };
        assert_eq!(
            event.to_string(),
            "web01/disk0: pass interrupted (try 2); error[FB509] connection was lost: reset, by peer; \
             remedy: check the network"
        );
    }
}
