//! What the jobs of machines sent, over all sessions and restarts.
//!
//! **Invariant**: what is noted is durable and, but for what leaves between two looks, ahead of what was sent: after a kill no less is counted than left.
//! Only jobs with a budget are noted.

use failback_model::limits::EGRESS_STEP_BYTES;
use failback_model::{Finding, MachineId};
use failback_pass::Progress;
use failback_service::saved;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The count; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Egress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<MachineId, Count>,
}

/// One machine's job.
#[derive(Debug, Default)]
struct Count {
    epoch: u64,
    /// Of tries that have ended.
    ended_bytes: u64,
    noted_bytes: u64,
    seen_bytes: u64,
    running: Vec<Arc<Progress>>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Noted {
    epoch: u64,
    bytes: u64,
}

/// A try that sends; it is counted as ended when this is dropped.
pub(crate) struct Metered {
    egress: Egress,
    machine: MachineId,
    epoch: u64,
    progress: Arc<Progress>,
}

impl Egress {
    /// Goes on from what was noted.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Finding> {
        let noted: BTreeMap<String, Noted> = saved::restore(&path)?.unwrap_or_default();
        let known = noted.into_iter().filter_map(|(id, Noted { epoch, bytes })| {
            let count = Count { epoch, ended_bytes: bytes, noted_bytes: bytes, ..Count::default() };
            Some((MachineId::new(id).ok()?, count))
        });
        let state = Mutex::new(State { counts: known.collect() });
        Ok(Self(Arc::new(Shared { path, state })))
    }

    /// Counts a try from now on.
    pub(crate) fn meter(&self, machine: &MachineId, epoch: u64, progress: &Arc<Progress>) -> Metered {
        let mut state = self.state();
        state.of(machine, epoch).running.push(Arc::clone(progress));
        Metered { egress: self.clone(), machine: machine.clone(), epoch, progress: Arc::clone(progress) }
    }

    /// Bytes that a job sent.
    pub(crate) fn sent_bytes(&self, machine: &MachineId, epoch: u64) -> u64 {
        self.state().of(machine, epoch).sent_bytes()
    }

    /// Notes what was sent, and some ahead, where too little is noted.
    pub(crate) fn note(&self, machine: &MachineId, epoch: u64, most_bytes: u64) -> Result<(), Finding> {
        let mut state = self.state();
        let count = state.of(machine, epoch);
        let sent = count.sent_bytes();
        let lately = sent.saturating_sub(std::mem::replace(&mut count.seen_bytes, sent));
        let step = EGRESS_STEP_BYTES.min(most_bytes / 64).max(lately.saturating_mul(2));
        // Nobody sends beyond the budget, but by little.
        let ahead = sent.saturating_add(step).min(most_bytes.max(sent));
        if count.noted_bytes >= sent.saturating_add(step / 2).min(most_bytes.max(sent)) {
            return Ok(());
        }
        count.noted_bytes = ahead;
        self.keep(&state)
    }

    /// Notes exactly what was sent: nothing of it runs any more.
    fn settle(&self, machine: &MachineId, epoch: u64) {
        let mut state = self.state();
        let count = state.of(machine, epoch);
        if count.noted_bytes == 0 || !count.running.is_empty() {
            return;
        }
        count.noted_bytes = count.ended_bytes;
        if let Err(finding) = self.keep(&state) {
            // What was noted before counts more, not less.
            tracing::warn!("{machine}: {}", finding.evidence);
        }
    }

    fn keep(&self, state: &State) -> Result<(), Finding> {
        let noted = |count: &Count| Noted { epoch: count.epoch, bytes: count.noted_bytes };
        let counts = state.counts.iter().filter(|(_, count)| count.noted_bytes > 0);
        let all: BTreeMap<String, Noted> = counts.map(|(id, count)| (id.to_string(), noted(count))).collect();
        saved::replace(&self.0.path, &all)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The count of a job; a newer job begins at 0.
    fn of(&mut self, machine: &MachineId, epoch: u64) -> &mut Count {
        let count = self.counts.entry(machine.clone()).or_default();
        if count.epoch < epoch {
            *count = Count { epoch, ..Count::default() };
        }
        count
    }
}

impl Count {
    fn sent_bytes(&self) -> u64 {
        let running = self.running.iter().map(|progress| Progress::get(&progress.bytes_to_target));
        self.ended_bytes + running.sum::<u64>()
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        let mut state = self.egress.state();
        let count = state.of(&self.machine, self.epoch);
        if count.epoch == self.epoch {
            count.running.retain(|running| !Arc::ptr_eq(running, &self.progress));
            count.ended_bytes += Progress::get(&self.progress.bytes_to_target);
        }
        drop(state);
        self.egress.settle(&self.machine, self.epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_kill_counts_no_less_than_was_sent_and_a_good_end_exactly_that() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("egress.json");
        let machine = MachineId::new("web01").expect("an id");
        let budget = 64_000 * MIB;
        let egress = Egress::open(path.clone()).expect("new");
        let progress = Arc::new(Progress::default());
        let metered = egress.meter(&machine, 7, &progress);
        for second in 1..=100 {
            Progress::add(&progress.bytes_to_target, 20 * MIB);
            egress.note(&machine, 7, budget).expect("noted");
            let killed = Egress::open(path.clone()).expect("read").sent_bytes(&machine, 7);
            let sent = 20 * MIB * second;
            assert!((sent..=sent + 64 * MIB).contains(&killed), "second {second}: {killed}");
        }
        drop(metered);
        let after = Egress::open(path.clone()).expect("read");
        assert_eq!(after.sent_bytes(&machine, 7), 2000 * MIB);
        assert_eq!(after.sent_bytes(&machine, 8), 0, "another job");
    }

    #[test]
    fn disks_of_a_machine_and_tries_of_a_disk_add_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let egress = Egress::open(folder.path().join("egress.json")).expect("new");
        let machine = MachineId::new("web01").expect("an id");
        let tries: Vec<_> = (0..3).map(|_| Arc::new(Progress::default())).collect();
        let mut metered: Vec<_> = tries.iter().map(|progress| egress.meter(&machine, 1, progress)).collect();
        tries.iter().for_each(|progress| Progress::add(&progress.bytes_to_target, 5));
        assert_eq!(egress.sent_bytes(&machine, 1), 15);
        metered.pop();
        assert_eq!(egress.sent_bytes(&machine, 1), 15);
    }
}
