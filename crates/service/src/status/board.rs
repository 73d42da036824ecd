//! Every disk's live status, by machine and disk.

use super::DiskHandle;
use super::kept::Kept;
use crate::event::Events;
use crate::metrics::Totals;
use failback_model::{DiskId, MachineId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

type Name = (MachineId, DiskId);

/// The handles; one for each disk that was ever asked for and is still registered.
pub struct Board {
    events: Arc<Events>,
    kept: Arc<Kept>,
    disks: Mutex<BTreeMap<Name, Arc<DiskHandle>>>,
}

impl Board {
    /// An empty board whose disks tell their events there. What their status says across restarts lies in a file.
    pub fn new(events: Arc<Events>, kept: Option<PathBuf>) -> Self {
        Self { events, kept: Arc::new(Kept::open(kept)), disks: Mutex::default() }
    }

    /// A disk's status, made where it is new.
    pub fn disk(&self, machine: &MachineId, disk: &DiskId) -> Arc<DiskHandle> {
        let make = || {
            let (events, kept) = (Arc::clone(&self.events), Arc::clone(&self.kept));
            Arc::new(DiskHandle::new(machine.clone(), disk.clone(), events, kept))
        };
        Arc::clone(self.disks().entry((machine.clone(), disk.clone())).or_insert_with(make))
    }

    /// Forgets disks that are registered no more.
    pub fn retain(&self, is_registered: impl Fn(&MachineId, &DiskId) -> bool) {
        self.disks().retain(|(machine, disk), _| is_registered(machine, disk));
        self.kept.retain(is_registered);
    }

    /// Looks at the counters of every pass that runs. Called once a second.
    pub fn observe(&self, now: Instant) {
        let disks: Vec<_> = self.disks().values().cloned().collect();
        for disk in disks {
            disk.observe(now);
        }
    }

    /// Counters of every disk since the daemon started.
    pub fn totals(&self) -> Totals {
        let disks = self.disks();
        let totals = |((machine, disk), handle): (&Name, &Arc<DiskHandle>)| {
            ((machine.to_string(), disk.to_string()), handle.totals())
        };
        disks.iter().map(totals).collect()
    }

    fn disks(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<DiskHandle>>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use crate::event::{Event, Events};
    use crate::status::{Board, DiskStage, LinkStatus, Live, PassFacts, Probe, Sealed};
    use failback_model::{Code, Digest, Epoch, Finding, Generation, PointClaim, PointLabel, SessionNumber};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// Each look finds ten more bytes.
    struct Counting(u64);

    impl Probe for Counting {
        fn observe(&mut self, _: Instant) -> Live {
            self.0 += 10;
            let counters = BTreeMap::from([("bytes_written".to_string(), self.0)]);
            Live { rates: counters.clone(), left_seconds: Some(1), counters, ..Live::default() }
        }
    }

    fn facts() -> PassFacts {
        PassFacts {
            session: SessionNumber(7),
            epoch: Epoch(2),
            is_new: false,
            resumed: true,
            window_bytes: 1 << 20,
            accepted: None,
        }
    }

    #[test]
    fn a_disk_is_followed_through_a_failed_and_a_good_pass() {
        let events = Arc::new(Events::new());
        let mut told = events.subscribe(None);
        let board = Board::new(Arc::clone(&events), None);
        let (machine, disk) = ("web01".parse().expect("an id"), "disk0".parse().expect("an id"));
        let handle = board.disk(&machine, &disk);
        assert_eq!(handle.status().stage, DiskStage::Idle);
        handle.connected(LinkStatus { peer: "failback://mt".into(), ..LinkStatus::default() });
        handle.started(facts(), Box::new(Counting(0)));
        board.observe(Instant::now());
        let status = board.disk(&machine, &disk).status();
        assert_eq!((status.stage, status.session, status.resumed), (DiskStage::Replicating, Some(7), true));
        assert_eq!(status.pass.expect("it was looked at").rates["bytes_written"], 10);
        assert_eq!(handle.totals()["bytes_written"], 10);

        handle.retrying(&Finding::error(Code::ConnectionLost, "reset"), 3, Duration::from_secs(9));
        let status = handle.status();
        assert_eq!((status.stage, status.failed_tries, status.link), (DiskStage::Retrying, 3, None));
        assert!(status.next_try_unix_ms > Some(status.stage_since_unix_ms));
        assert_eq!(status.error.expect("a reason").code, "FB509");
        let last = status.pass.expect("the last look");
        assert_eq!((last.counters["bytes_written"], last.rates.len(), last.left_seconds), (20, 0, None));

        handle.connected(LinkStatus::default());
        handle.started(facts(), Box::new(Counting(100)));
        let claim = PointClaim::new(5, PointLabel::PerDisk, "2 disks");
        let sealed = Sealed { generation: Generation(4), root: Digest::ZERO, verified: false, claim };
        handle.sealed(&sealed);
        let status = handle.status();
        assert_eq!((status.stage, status.generation, status.error), (DiskStage::Sealed, Some(4), None));
        assert_eq!(handle.totals()["bytes_written"], 130, "of both passes");
        handle.failed(&Finding::error(Code::RootMismatch, "two blocks"));
        handle.stopped();
        assert_eq!(events.errors(), BTreeMap::from([("FB402".to_string(), 1), ("FB509".to_string(), 1)]));
        let names: Vec<_> = std::iter::from_fn(|| told.try_next()).map(|told| told.event.name()).collect();
        let expected = [
            "connected",
            "pass_started",
            "pass_interrupted",
            "connected",
            "pass_started",
            "pass_sealed",
            "pass_failed",
        ];
        assert_eq!(names, expected, "what has failed is not stopped as well");
        assert!(matches!(Event::Missed { count: 1 }.name(), "missed"));
        board.retain(|_, _| false);
        assert_eq!(board.disk(&machine, &disk).status().stage, DiskStage::Idle);
    }

    #[test]
    fn a_pass_that_waits_says_why_goes_on_and_is_no_error() {
        let events = Arc::new(Events::new());
        let mut told = events.subscribe(None);
        let board = Board::new(Arc::clone(&events), None);
        let handle = board.disk(&"web01".parse().expect("an id"), &"disk0".parse().expect("an id"));
        handle.started(facts(), Box::new(Counting(0)));
        handle.paused(Some(&Finding::warning(Code::SourceDenied, "waits for a new signature")));
        let status = handle.status();
        let error = status.error.expect("the reason of the wait");
        assert_eq!((error.code.as_str(), error.severity.as_str()), ("FB411", "warning"));
        handle.paused(None);
        let status = handle.status();
        assert_eq!((status.stage, status.error), (DiskStage::Replicating, None));
        let names: Vec<_> = std::iter::from_fn(|| told.try_next()).map(|told| told.event.name()).collect();
        assert_eq!((names, events.errors()), (vec!["pass_started", "pass_interrupted"], BTreeMap::new()));
    }

    #[test]
    fn an_orderly_stop_of_the_other_end_is_a_reason_and_no_error() {
        let events = Arc::new(Events::new());
        let board = Board::new(Arc::clone(&events), None);
        let handle = board.disk(&"web01".parse().expect("an id"), &"disk0".parse().expect("an id"));
        handle.retrying(&Finding::error(Code::Draining, "the other end: stops"), 1, Duration::from_secs(1));
        let error = handle.status().error.expect("the reason of the wait");
        assert_eq!((error.code.as_str(), error.severity.as_str()), ("FB706", "info"));
        handle.waiting(&Finding::error(Code::Cancelled, "the other end: stopped on request"));
        assert_eq!(handle.status().stage, DiskStage::Waiting);
        assert_eq!(events.errors(), BTreeMap::new());
    }

    #[test]
    fn the_last_seal_and_a_new_disks_label_outlive_the_daemon() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disks.json");
        let (machine, disk) = ("web01".parse().expect("an id"), "disk0".parse().expect("an id"));
        let open = || Board::new(Arc::new(Events::new()), Some(path.clone())).disk(&machine, &disk);
        let handle = open();
        handle.started(PassFacts { is_new: true, resumed: false, ..facts() }, Box::new(Counting(0)));
        assert_eq!(handle.status().strategy.as_deref(), Some("alternate-location"));
        // The same job, after a restart of the daemon; then another one, which goes on with what the first left.
        let handle = open();
        handle.started(PassFacts { resumed: false, ..facts() }, Box::new(Counting(0)));
        assert_eq!(handle.status().strategy.as_deref(), Some("alternate-location"));
        handle.started(PassFacts { epoch: Epoch(3), ..facts() }, Box::new(Counting(0)));
        assert_eq!(handle.status().strategy.as_deref(), Some("alternate-location"));
        let claim = PointClaim::new(5, PointLabel::Final, "");
        handle.sealed(&Sealed { generation: Generation(1), root: Digest::ZERO, verified: false, claim });
        let sealed = handle.status();
        let handle = open();
        let known = handle.status();
        assert_eq!((known.generation, known.sealed_unix_ms), (Some(1), sealed.sealed_unix_ms));
        assert!(known.sealed_unix_ms.is_some() && known.root == sealed.root);
        handle.started(facts(), Box::new(Counting(0)));
        assert_eq!(handle.status().strategy.as_deref(), Some("original-location"), "it is sealed");
        // The journal knows better: that state was sealed by nobody we know.
        handle.known(Generation(7), None);
        assert_eq!(handle.status().sealed_unix_ms, None);
    }
}
