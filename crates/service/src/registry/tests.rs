//! Definitions that come and go, and what outlives the daemon.

use super::*;
use crate::config::Fault;
use crate::control::PassFlags;
use failback_model::limits::DISKS_PER_MACHINE_MAX;
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Machine {
    #[serde(with = "crate::text")]
    id: MachineId,
    color: String,
    disks: Vec<Disk>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Disk {
    #[serde(with = "crate::text")]
    id: DiskId,
    path: String,
}

impl DiskEntry for Disk {
    fn id(&self) -> &DiskId {
        &self.id
    }
}

impl MachineEntry for Machine {
    type Disk = Disk;

    fn id(&self) -> &MachineId {
        &self.id
    }

    fn disks(&self) -> &[Disk] {
        &self.disks
    }

    fn disks_mut(&mut self) -> &mut Vec<Disk> {
        &mut self.disks
    }

    fn faults(&self) -> Vec<Fault> {
        let is_bad = self.color == "none";
        is_bad.then(|| Fault::new("color", "a machine has a color", "choose one")).into_iter().collect()
    }
}

fn id(text: &str) -> MachineId {
    text.parse().expect("an id")
}

fn disk_id(text: &str) -> DiskId {
    text.parse().expect("an id")
}

fn disk(name: &str) -> Disk {
    Disk { id: disk_id(name), path: format!("/{name}") }
}

fn machine(name: &str, color: &str) -> Machine {
    Machine { id: id(name), color: color.into(), disks: vec![disk("d0"), disk("d1")] }
}

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn open(&self, configured: Vec<Machine>) -> Registry<Machine> {
        Registry::open(configured, self.0.path().join("registry.json")).expect("it opens").0
    }
}

fn names(registry: &Registry<Machine>) -> Vec<(String, String)> {
    registry.machines().into_iter().map(|machine| (machine.id.to_string(), machine.color)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|&(id, color)| (id.into(), color.into())).collect()
}

#[test]
fn changes_are_idempotent_and_outlive_the_daemon() {
    let lab = Lab::new();
    let registry = lab.open(vec![machine("a", "red")]);
    assert_eq!(registry.register(machine("b", "blue")), Ok(Change::Added));
    assert_eq!(registry.register(machine("b", "blue")), Ok(Change::None));
    assert_eq!(registry.register(machine("b", "green")), Ok(Change::Replaced));
    assert_eq!(registry.register_disk(&id("a"), disk("d2")), Ok(Change::Added));
    assert_eq!(registry.register_disk(&id("a"), disk("d2")), Ok(Change::None));
    assert_eq!(registry.release(&id("a"), Some(&disk_id("d0"))), Ok(Change::Removed));
    assert_eq!(registry.release(&id("a"), Some(&disk_id("d0"))), Ok(Change::None));
    assert_eq!(registry.release(&id("nobody"), None), Ok(Change::None));
    let job: failback_model::JobId = "job-1".parse().expect("an id");
    let begin = |intent: &mut Intent| intent.begin(job.clone(), PassFlags::default(), 5_000);
    assert_eq!(registry.intend(&id("b"), begin), Ok(Change::Replaced));
    assert_eq!(registry.intent(&id("b")).epoch, 5, "by the clock");
    registry.intend(&id("b"), begin).expect("it is kept");
    assert_eq!(registry.intend(&id("b"), |intent| intent.seal(&disk_id("d1"))), Ok(Change::Replaced));
    assert_eq!(registry.intend(&id("b"), |intent| intent.seal(&disk_id("d1"))), Ok(Change::None));
    drop(registry);
    let again = lab.open(vec![machine("a", "red")]);
    assert_eq!(names(&again), pairs(&[("a", "red"), ("b", "green")]));
    let ids: Vec<_> = again.machine(&id("a")).expect("a").disks.into_iter().map(|disk| disk.id).collect();
    assert_eq!(ids, [disk_id("d1"), disk_id("d2")]);
    let intent = again.intent(&id("b"));
    assert_eq!((intent.wanted, intent.epoch, intent.job), (Wanted::Running, 6, Some(job)));
    assert_eq!(intent.sealed, ["d1"]);
    assert_eq!(again.intent(&id("a")), Intent::default());
    assert_eq!(again.disk_count(), 4);
}

#[test]
fn a_release_holds_until_the_configuration_changes() {
    let lab = Lab::new();
    assert_eq!(lab.open(vec![machine("a", "red")]).release(&id("a"), None), Ok(Change::Removed));
    assert_eq!(names(&lab.open(vec![machine("a", "red")])), pairs(&[]));
    assert_eq!(names(&lab.open(vec![machine("a", "blue")])), pairs(&[("a", "blue")]));
    let file = lab.0.path().join("registry.json");
    let (_, findings) = Registry::open(vec![machine("a", "blue")], file).expect("it opens");
    assert!(
        findings.len() == 1 && findings[0].evidence.contains("the configuration changed"),
        "{findings:?}"
    );
}

#[test]
fn a_running_pass_keeps_its_definition() {
    let lab = Lab::new();
    let registry = lab.open(vec![machine("a", "red"), machine("b", "red")]);
    let lease = registry.lease(&id("a"), &disk_id("d0")).expect("it is free");
    let refused = |result: Result<Change, Finding>| result.expect_err("a pass runs").code;
    assert_eq!(refused(registry.register(machine("a", "blue"))), Code::AlreadyRunning);
    assert_eq!(refused(registry.release(&id("a"), None)), Code::AlreadyRunning);
    assert_eq!(refused(registry.register_disk(&id("a"), disk("d9"))), Code::AlreadyRunning);
    assert_eq!(registry.register(machine("a", "red")), Ok(Change::None), "what changes nothing is no change");
    assert!(registry.lease(&id("a"), &disk_id("d0")).is_err(), "one pass a disk");
    assert_eq!(registry.leases(&id("a")), [disk_id("d0")]);
    registry.lease(&id("a"), &disk_id("d1")).expect("the other disk is free");
    let findings = registry.reload(vec![machine("a", "blue"), machine("b", "blue")]).expect("it is taken");
    assert!(findings.len() == 1 && findings[0].code == Code::AlreadyRunning, "{findings:?}");
    assert_eq!(names(&registry), pairs(&[("a", "red"), ("b", "blue")]));
    assert_eq!((lease.machine().color.as_str(), lease.disk().path.as_str()), ("red", "/d0"));
    drop(lease);
    assert_eq!(registry.reload(vec![machine("a", "blue")]), Ok(Vec::new()));
    assert_eq!(names(&registry), pairs(&[("a", "blue")]));
}

#[test]
fn what_is_unknown_or_wrong_is_refused() {
    let registry = Lab::new().open(vec![machine("a", "red")]);
    assert_eq!(registry.machine(&id("x")).expect_err("unknown").code, Code::UnknownMachine);
    assert_eq!(registry.disk(&id("a"), &disk_id("d7")).expect_err("unknown").code, Code::UnknownMachine);
    assert_eq!(registry.intend(&id("x"), |_| ()).expect_err("unknown").code, Code::UnknownMachine);
    let wrong = registry.register(machine("b", "none")).expect_err("it has a fault");
    assert_eq!((wrong.code, wrong.evidence.as_str()), (Code::RequestInvalid, "color: a machine has a color"));
    let many = Machine {
        disks: (0..=DISKS_PER_MACHINE_MAX).map(|at| disk(&format!("d{at}"))).collect(),
        ..machine("c", "red")
    };
    assert_eq!(registry.register(many).expect_err("too many").code, Code::RequestInvalid);
    let mut twice = machine("d", "none");
    twice.disks[1] = twice.disks[0].clone();
    let keys: Vec<_> = faults_of(&[twice.clone(), twice]).into_iter().map(|fault| fault.key).collect();
    let expected =
        ["machine.0.color", "machine.0.disk.1.id", "machine.1.id", "machine.1.color", "machine.1.disk.1.id"];
    assert_eq!(keys, expected);
}

#[test]
fn a_change_that_cannot_be_kept_is_not_made() {
    let lab = Lab::new();
    let registry = lab.open(vec![machine("a", "red")]);
    std::fs::create_dir(lab.0.path().join("registry.json")).expect("a folder where the file should be");
    assert_eq!(registry.register(machine("b", "red")).expect_err("no file").code, Code::StateFailed);
    assert_eq!(names(&registry), pairs(&[("a", "red")]));
}
