//! The life of managed disks' states on the fake of Azure's management: chains, limits, kills between any two requests.

use failback_model::limits::AZURE_ACCESS_TIME;
use failback_model::{Code, DiskId, Finding, MachineId, PointLabel};
use failback_remote::arm::{Arm, AzureDisk, ManagedSnapshots, Reply, Request, SnapshotId, Taken};
use failback_testkit::FakeArm;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GROUP: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute";
const GIB: u64 = 1 << 30;

/// The fake behind the trait; stops like a killed daemon.
struct Wire {
    fake: Arc<FakeArm>,
    requests: AtomicUsize,
    /// The request that is the last one, and whether the cloud still gets it.
    last: Option<(usize, bool)>,
    heard: Mutex<Vec<Finding>>,
}

impl Wire {
    fn new(fake: &Arc<FakeArm>, last: Option<(usize, bool)>) -> Arc<Self> {
        Arc::new(Self {
            fake: Arc::clone(fake),
            requests: AtomicUsize::new(0),
            last,
            heard: Mutex::default(),
        })
    }

    fn waited_for(&self, code: Code) -> bool {
        self.heard.lock().expect("whole").iter().any(|finding| finding.code == code)
    }
}

impl Arm for Wire {
    fn send(&self, request: &Request) -> Result<Reply, Finding> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let killed = || Finding::error(Code::Cancelled, "killed");
        match self.last {
            Some((last, _)) if number > last => return Err(killed()),
            Some((last, false)) if number == last => return Err(killed()),
            _ => {}
        }
        let reply = self.fake.handle(request.method.as_str(), &request.target, request.body.as_ref());
        if self.last.is_some_and(|(last, _)| number == last) {
            return Err(killed());
        }
        Ok(Reply {
            status: reply.status,
            operation: reply.header("azure-asyncoperation").map(str::to_owned),
            location: reply.header("location").map(str::to_owned),
            retry_after: reply.header("retry-after").and_then(|s| s.parse().ok()).map(Duration::from_secs),
            body: reply.body,
        })
    }

    fn now_unix_ms(&self) -> u64 {
        self.fake.now_unix_ms()
    }

    fn wait(&self, time: Duration) -> Result<(), Finding> {
        self.fake.advance(time);
        Ok(())
    }

    fn note(&self, finding: &Finding) {
        self.heard.lock().expect("whole").push(finding.clone());
    }
}

fn disk(name: &str) -> String {
    format!("{GROUP}/disks/{name}")
}

/// A machine with these disks.
fn cloud(disks: &[(&str, &str)]) -> Arc<FakeArm> {
    let fake = Arc::new(FakeArm::new());
    let machine = format!("{GROUP}/virtualMachines/web01");
    fake.add_machine(&machine, "Standard_D4s_v5", "ReadOnly");
    for (name, kind) in disks {
        fake.add_disk(&disk(name), Some(&machine), kind, 64 * GIB);
    }
    fake
}

fn open(wire: &Arc<Wire>, disks: &[&str], notes: &Path) -> ManagedSnapshots {
    let id = |(at, name): (usize, &&str)| {
        (DiskId::new(format!("disk{at}")).expect("an id"), AzureDisk::parse(&disk(name)).expect("a disk"))
    };
    let disks = disks.iter().enumerate().map(id).collect();
    let arm = Arc::clone(wire) as Arc<dyn Arm>;
    ManagedSnapshots::open(arm, MachineId::new("web01").expect("an id"), disks, notes)
        .expect("notes are read")
}

fn ids(taken: &Taken) -> Vec<SnapshotId> {
    taken.states.iter().map(|state| state.id.clone()).collect()
}

/// One cycle as a process server makes it: take, read against the base, seal, retire the base.
fn cycle(states: &ManagedSnapshots, number: u64, base: Option<&Taken>) -> Result<Taken, Finding> {
    let taken = states.take(number)?;
    for (at, state) in taken.states.iter().enumerate() {
        let base = base.map(|base| &base.states[at].id);
        let access = states.access(&state.id, base)?;
        assert_eq!((access.base.is_some(), access.feed), (base.is_some(), None));
    }
    for id in base.iter().flat_map(|base| ids(base)).chain(ids(&taken)) {
        states.release_access(&id)?;
    }
    states.retire(&ids(&taken))?;
    Ok(taken)
}

#[test]
fn one_disk_has_a_chain_of_snapshots_of_which_only_the_sealed_one_stays() {
    let (folder, fake) = (tempfile::tempdir().expect("a folder"), cloud(&[("os", "Premium_LRS")]));
    let wire = Wire::new(&fake, None);
    let states = open(&wire, &["os"], &folder.path().join("web01.json"));
    let mut base = None;
    for number in 1..=20 {
        let taken = cycle(&states, number, base.as_ref()).expect("a cycle");
        assert_eq!((taken.label, taken.reason.as_str()), (PointLabel::CrashConsistent, ""));
        assert_eq!(fake.states(), [taken.states[0].id.as_str()], "cycle {number}");
        assert_eq!(taken.states[0].length_bytes, 64 * GIB);
        assert!(taken.taken_unix_ms <= fake.now_unix_ms());
        base = Some(taken);
    }
    assert_eq!(fake.violations(), [""; 0]);
    assert!(wire.waited_for(Code::SnapshotLimit), "20 cycles take less than 15 minutes otherwise");
}

#[test]
fn several_disks_are_of_one_restore_point() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = cloud(&[("os", "Premium_LRS"), ("data", "Premium_LRS"), ("scratch", "Premium_LRS")]);
    let states = open(&Wire::new(&fake, None), &["os", "data"], &folder.path().join("web01.json"));
    let first = cycle(&states, 1, None).expect("a cycle");
    assert_eq!((first.label, first.reason.as_str()), (PointLabel::CrashConsistent, ""));
    assert!(first.states.iter().all(|state| state.id.as_str().contains("/diskRestorePoints/")));
    let second = cycle(&states, 2, Some(&first)).expect("a cycle");
    assert_eq!(fake.states().len(), 1, "{:?}", fake.states());
    assert!(second.states[0].id.as_str().starts_with(&fake.states()[0]));
    assert_eq!((fake.violations(), fake.open_accesses()), (vec![], vec![]));
}

#[test]
fn where_azure_promises_no_order_each_disk_is_taken_and_the_reason_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = cloud(&[("os", "Premium_LRS"), ("data", "UltraSSD_LRS")]);
    let wire = Wire::new(&fake, None);
    let states = open(&wire, &["os", "data"], &folder.path().join("web01.json"));
    let taken = cycle(&states, 1, None).expect("a cycle, read once the copy is complete");
    assert_eq!(taken.label, PointLabel::PerDisk);
    assert!(taken.reason.contains("UltraSSD_LRS"), "{}", taken.reason);
    assert!(wire.waited_for(Code::SnapshotLimit));
    assert_eq!(fake.violations(), [""; 0]);

    let fake = cloud(&[("os", "Premium_LRS"), ("data", "Premium_LRS")]);
    fake.refuse_restore_points();
    let states = open(&Wire::new(&fake, None), &["os", "data"], &folder.path().join("other.json"));
    let taken = cycle(&states, 1, None).expect("a cycle");
    assert_eq!(taken.label, PointLabel::PerDisk);
    assert!(taken.reason.contains("no restore points"), "{}", taken.reason);
    assert_eq!(fake.states().len(), 2);
}

#[test]
fn no_difference_is_asked_for_where_azure_gives_none() {
    let (folder, fake) = (tempfile::tempdir().expect("a folder"), cloud(&[("os", "Premium_LRS")]));
    let states = open(&Wire::new(&fake, None), &["os"], &folder.path().join("web01.json"));
    let first = states.take(1).expect("taken");
    fake.resize(&disk("os"), 5 << 40);
    let second = states.take(2).expect("taken");
    let access = states.access(&second.states[0].id, Some(&first.states[0].id)).expect("it is read");
    let why = access.feed.expect("no difference");
    assert_eq!((access.base, why.code), (None, Code::FeedUnusable));
    assert!(why.evidence.contains("4 TiB"), "{}", why.evidence);
    let gone = states.access(&second.states[0].id, Some(&SnapshotId::new("/gone"))).expect("it is read");
    assert!(gone.feed.expect("no base").evidence.contains("not there any more"));
}

#[test]
fn access_is_renewed_before_it_ends_and_no_more_than_five_are_read() {
    let (folder, fake) = (tempfile::tempdir().expect("a folder"), cloud(&[("os", "Premium_LRS")]));
    let states = open(&Wire::new(&fake, None), &["os"], &folder.path().join("web01.json"));
    let taken = states.take(1).expect("taken");
    let id = &taken.states[0].id;
    let first = states.access(id, None).expect("it is read");
    assert!(!format!("{first:?}").contains("SECRET"), "{first:?}");
    let until = first.renew_unix_ms - fake.now_unix_ms();
    fake.advance(Duration::from_millis(until));
    let second = states.access(id, None).expect("it is read");
    assert_ne!(first.url, second.url);
    assert!(second.renew_unix_ms > fake.now_unix_ms() + AZURE_ACCESS_TIME.as_millis() as u64 / 2);
    for number in 2..=5 {
        fake.advance(Duration::from_secs(60));
        let taken = states.take(number).expect("taken");
        states.access(&taken.states[0].id, None).expect("it is read");
    }
    let sixth = states.take(6).expect("taken");
    let refused = states.access(&sixth.states[0].id, None).expect_err("five are read");
    assert_eq!(refused.code, Code::SnapshotLimit);
    assert_eq!(fake.violations(), [""; 0]);
    assert_eq!(fake.open_accesses().len(), 5);
    let notes = std::fs::read_to_string(folder.path().join("web01.json")).expect("notes");
    assert!(!notes.contains("SECRET"), "{notes}");
}

#[test]
fn a_busy_cloud_is_asked_again_when_it_says() {
    let (folder, fake) = (tempfile::tempdir().expect("a folder"), cloud(&[("os", "Premium_LRS")]));
    let wire = Wire::new(&fake, None);
    let states = open(&wire, &["os"], &folder.path().join("web01.json"));
    fake.throttle(3);
    let before = fake.now_unix_ms();
    states.take(1).expect("taken");
    assert!(fake.now_unix_ms() >= before + 3 * 7000, "Retry-After is kept");
    fake.throttle(1000);
    let refused = states.take(2).expect_err("it stays busy");
    assert_eq!(refused.code, Code::SnapshotLimit, "{refused:?}");
}

#[test]
fn a_kill_between_any_two_requests_leaks_nothing_and_loses_nothing_needed() {
    for disks in [&[("os", "Premium_LRS")][..], &[("os", "Premium_LRS"), ("data", "Premium_LRS")]] {
        for is_received in [false, true] {
            let mut last = 0;
            while !killed_at(disks, last, is_received) {
                last += 1;
            }
            assert!(last > 20, "there are more requests than {last} in two cycles");
        }
    }
}

/// Two cycles of which a kill ends the second after its `last` request; whether it came to its end.
fn killed_at(disks: &[(&str, &str)], last: usize, is_received: bool) -> bool {
    let (folder, fake) = (tempfile::tempdir().expect("a folder"), cloud(disks));
    let (names, notes): (Vec<_>, _) =
        (disks.iter().map(|(name, _)| *name).collect(), folder.path().join("n"));
    let base = cycle(&open(&Wire::new(&fake, None), &names, &notes), 1, None).expect("a cycle");
    let ended = cycle(&open(&Wire::new(&fake, Some((last, is_received))), &names, &notes), 2, Some(&base));
    let is_whole = ended.is_ok();
    // What the daemon knows for certain to be sealed when it starts again.
    let states = open(&Wire::new(&fake, None), &names, &notes);
    let stand = states.recover().expect("recovered");
    let at = format!("after request {last} ({is_received}): {stand:?}");
    assert_eq!(fake.open_accesses(), [""; 0], "{at}");
    assert!(stand.iter().any(|taken| ids(taken) == ids(&base) || taken.cycle == 2), "{at}");
    let base = match stand.iter().find(|taken| taken.cycle == 1) {
        Some(base) => base.clone(),
        None => stand.iter().find(|taken| taken.cycle == 2).expect("the newer one").clone(),
    };
    let next = cycle(&states, 3, Some(&base)).unwrap_or_else(|why| panic!("{at}: {why:?}"));
    assert_eq!(next.label, PointLabel::CrashConsistent, "{at}");
    // What was asked for and never came is forgotten only once it cannot come any more.
    fake.advance(Duration::from_secs(301));
    states.retire(&ids(&next)).expect("retired");
    let stay: Vec<_> = fake.states();
    assert_eq!(
        stay.len(),
        1.max(if next.states[0].id.as_str().contains("/restorePoints/") { 1 } else { disks.len() }),
        "{at}: {stay:?}"
    );
    assert!(
        next.states.iter().all(|state| stay.iter().any(|path| state.id.as_str().starts_with(path.as_str()))),
        "{at}"
    );
    assert_eq!((fake.violations(), fake.open_accesses()), (vec![], vec![]), "{at}");
    is_whole
}
