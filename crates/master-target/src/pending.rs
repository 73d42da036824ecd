//! Which machine has a cut-over, cancel or commit under way, kept so that one that was cut off is known after a restart.
//!
//! **Invariant**: while a verb of a machine is under way, or was cut off, no session of the machine begins and no other verb
//! of it runs beside it.

use crate::audit::Deed;
use failback_model::{Code, Finding, MachineId};
use failback_service::clock::unix_ms;
use failback_service::control::OperationStatus;
use failback_service::saved;
use failback_store::RollbackProgress;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The verbs of all machines; its file holds those that are not over.
pub(crate) struct Pending {
    file: PathBuf,
    held: Mutex<BTreeMap<MachineId, Held>>,
}

struct Held {
    begun: Begun,
    /// `None`: it was cut off.
    live: Option<Arc<Live>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Begun {
    verb: String,
    job: String,
    point: Option<u64>,
    since_unix_ms: u64,
}

/// How far one that runs has come.
#[derive(Default)]
pub(crate) struct Live {
    step: Mutex<&'static str>,
    pub(crate) progress: RollbackProgress,
}

impl Live {
    /// Says what it does now.
    pub(crate) fn step(&self, step: &'static str) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }
}

impl Pending {
    /// Those that an earlier run of the daemon left unfinished are cut off. A commit leaves nothing to finish: it is in the
    /// journal or it is not.
    pub(crate) fn open(file: PathBuf) -> Result<Self, Finding> {
        let saved: BTreeMap<String, Begun> = saved::restore(&file)?.unwrap_or_default();
        let cut_off = saved
            .into_iter()
            .filter(|(_, begun)| begun.verb != "commit")
            .filter_map(|(machine, begun)| Some((machine.parse().ok()?, Held { begun, live: None })));
        Ok(Self { file, held: Mutex::new(cut_off.collect()) })
    }

    /// Begins a verb, durably. One that was cut off gives way: every verb takes up what it left.
    pub(crate) fn begin(&self, machine: &MachineId, deed: &Deed) -> Result<Arc<Live>, Finding> {
        let mut held = self.held();
        if let Some(Held { begun, live: Some(_) }) = held.get(machine) {
            return Err(Finding::error(Code::AlreadyRunning, format!("{} of {machine} runs", begun.verb)));
        }
        let live = Arc::<Live>::default();
        let begun = Begun {
            verb: deed.verb.into(),
            job: deed.job.clone(),
            point: deed.point,
            since_unix_ms: unix_ms(),
        };
        let before = held.insert(machine.clone(), Held { begun, live: Some(Arc::clone(&live)) });
        self.save(&held).inspect_err(|_| match before {
            Some(before) => drop(held.insert(machine.clone(), before)),
            None => drop(held.remove(machine)),
        })?;
        Ok(live)
    }

    /// It is over, or was given up. One that can be finished by the same command stays, and keeps sessions out.
    pub(crate) fn end(&self, machine: &MachineId, is_to_be_finished: bool) -> Result<bool, Finding> {
        let mut held = self.held();
        if is_to_be_finished {
            if let Some(held) = held.get_mut(machine) {
                held.live = None;
            }
            return Ok(false);
        }
        let was_there = held.remove(machine).is_some();
        if was_there {
            self.save(&held)?;
        }
        Ok(was_there)
    }

    /// Gives up a verb that was cut off; whether there was one.
    pub(crate) fn abandon(&self, machine: &MachineId) -> Result<bool, Finding> {
        match self.held().get(machine) {
            Some(Held { live: None, .. }) => {}
            _ => return Ok(false),
        }
        self.end(machine, false)
    }

    /// Why no session of the machine begins now.
    pub(crate) fn bars(&self, machine: &MachineId) -> Option<Finding> {
        let held = self.held();
        let Held { begun, live } = held.get(machine)?;
        let state = if live.is_some() { "is under way" } else { "was cut off" };
        let evidence = format!("{} of {machine} {state}", begun.verb);
        Some(Finding::error(Code::OperationPending, evidence).with_remedy(format!(
            "'failback status' at the master target says how far it is; what was cut off is finished by 'failback {}'",
            command(begun, machine)
        )))
    }

    /// What the status says of it.
    pub(crate) fn status(&self, machine: &MachineId) -> Option<OperationStatus> {
        let held = self.held();
        let Held { begun, live } = held.get(machine)?;
        let step = live.as_ref().map(|live| *live.step.lock().unwrap_or_else(PoisonError::into_inner));
        let (done_bytes, total_bytes) = live
            .as_ref()
            .map_or((0, 0), |live| (live.progress.restored_bytes(), live.progress.total_bytes()));
        Some(OperationStatus {
            verb: begun.verb.clone(),
            job: begun.job.clone(),
            point: begun.point,
            since_unix_ms: begun.since_unix_ms,
            is_cut_off: live.is_none(),
            step: step.map_or_else(
                || format!("cut off: 'failback {}' finishes it", command(begun, machine)),
                Into::into,
            ),
            done_bytes,
            total_bytes,
        })
    }

    /// Whether a verb of the machine was cut off.
    pub(crate) fn is_cut_off(&self, machine: &MachineId) -> bool {
        self.held().get(machine).is_some_and(|held| held.live.is_none())
    }

    fn save(&self, held: &BTreeMap<MachineId, Held>) -> Result<(), Finding> {
        let begun: BTreeMap<&str, &Begun> =
            held.iter().map(|(machine, held)| (machine.as_str(), &held.begun)).collect();
        saved::replace(&self.file, &begun)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<MachineId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The command that finishes it.
fn command(begun: &Begun, machine: &MachineId) -> String {
    match (begun.verb.as_str(), begun.point) {
        ("cutover", Some(point)) => format!("cutover {machine} --point {point}"),
        (verb, _) => format!("{verb} {machine}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_service::event::Caller;

    fn deed() -> Deed {
        Deed {
            verb: "cutover",
            machine: "web01".into(),
            job: "job-1".into(),
            caller: Caller::default(),
            direction: String::new(),
            point: Some(3),
            destroyed: Vec::new(),
        }
    }

    #[test]
    fn what_a_daemon_left_is_cut_off_and_named_with_its_command() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("operations.json");
        let web01: MachineId = "web01".parse().expect("an id");
        let pending = Pending::open(file.clone()).expect("it opens");
        assert_eq!(pending.bars(&web01), None);
        pending.begin(&web01, &deed()).map(drop).expect("it begins");
        let second = pending.begin(&web01, &deed()).map(drop).expect_err("one at a time");
        assert_eq!(second.code, Code::AlreadyRunning);
        assert!(!pending.abandon(&web01).expect("nothing to give up"), "it runs");

        let pending = Pending::open(file.clone()).expect("it opens");
        assert!(pending.is_cut_off(&web01));
        let status = pending.status(&web01).expect("it is known");
        assert!(status.step.contains("'failback cutover web01 --point 3'"), "{}", status.step);
        assert_eq!(pending.bars(&web01).map(|finding| finding.code), Some(Code::OperationPending));
        pending.begin(&web01, &deed()).map(drop).expect("it is taken up");
        assert!(pending.end(&web01, false).expect("saved"));
        assert!(!Pending::open(file.clone()).expect("it opens").is_cut_off(&web01));

        let commit = Deed { verb: "commit", point: None, ..deed() };
        pending.begin(&web01, &commit).map(drop).expect("it begins");
        let bars = Pending::open(file).expect("it opens").bars(&web01);
        assert_eq!(bars, None, "the same command either commits, or says that it is done");
    }
}
