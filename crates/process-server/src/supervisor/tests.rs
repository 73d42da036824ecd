//! The supervisor with passes that end as they are told to.

use super::*;
use crate::config::Config;
use crate::runner::Attempt;
use failback_model::{Code, Digest, Finding, Generation, JobId, PointClaim, PointLabel};
use failback_pass::Progress;
use failback_pki::{Authority, Request, Validity};
use failback_service::control::{About, PassFlags};
use failback_service::status::{DiskStage, Sealed};
use failback_transport::TlsFiles;
use std::path::Path;
use std::sync::Condvar;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How each next pass ends; without an entry it runs until it is cancelled.
#[derive(Default)]
struct Script {
    ends: Mutex<Vec<Result<(), Code>>>,
    /// Whether something was acknowledged before each end.
    advances: AtomicBool,
    /// What each pass sends at once.
    sends: AtomicU64,
    seen: Mutex<Vec<(u64, u64)>>,
    claims: Mutex<Vec<PointClaim>>,
    woken: Condvar,
}

impl Runner for Script {
    fn run(&self, attempt: &Attempt) -> Result<Sealed, Finding> {
        self.seen.lock().expect("no panic").push((attempt.epoch.0, attempt.window_bytes));
        self.claims.lock().expect("no panic").push(attempt.claim.clone());
        self.woken.notify_all();
        if self.advances.load(Ordering::Relaxed) {
            Progress::add(&attempt.progress.messages_acknowledged, 1);
        }
        Progress::add(&attempt.progress.bytes_to_target, self.sends.load(Ordering::Relaxed));
        let end = self.ends.lock().expect("no panic").pop();
        match end {
            Some(Ok(())) => {
                let (verified, claim) = (attempt.flags.verify, attempt.claim.clone());
                Ok(Sealed { generation: Generation(1), root: Digest::ZERO, verified, claim })
            }
            Some(Err(Code::Internal)) => panic!("a pass that panics"),
            Some(Err(code)) => Err(Finding::error(code, "as told")),
            None => {
                while !attempt.cancel.is_cancelled() {
                    std::thread::yield_now();
                }
                Err(Finding::error(Code::Cancelled, "stopped"))
            }
        }
    }
}

fn certificates(folder: &Path) -> Tls {
    let mut authority =
        Authority::init(&folder.join("pki"), "test", Validity::days(9)).expect("an authority");
    let identity = "failback://process-server/ps".parse().expect("an identity");
    let issued = authority.issue(&Request::new(identity, Validity::days(1))).expect("a certificate");
    let ca = folder.join("pki/ca.pem");
    Tls::load(&TlsFiles { cert: issued.files.cert, key: issued.files.key, ca, crl: None }).expect("they fit")
}

struct Lab {
    folder: tempfile::TempDir,
    script: Arc<Script>,
    registry: Registry<Machine>,
    supervisor: Supervisor,
    kit: Kit,
}

impl Lab {
    /// A machine of two disks, and passes that end like this, the last first.
    fn new(ends: &[Result<(), Code>]) -> Self {
        Self::with_hooks(ends, "")
    }

    /// The same with keys of the machine, in which FOLDER is a folder of its own.
    fn with_hooks(ends: &[Result<(), Code>], keys: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let here = folder.path().to_str().expect("plain");
        for disk in ["s0.raw", "s1.raw"] {
            std::fs::write(folder.path().join(disk), [7; 8192]).expect("written");
        }
        let text = format!(
            "tls = {{ certificate = 'c', key = 'k', ca = 'a' }}
            [[machine]]
            id = 'web01'
            target = 'mt:9443'
            target_identity = 'failback://master-target/mt'
            disk = [{{ id = 'd0', source = '{here}/s0.raw' }}, {{ id = 'd1', source = '{here}/s1.raw' }}]
            {}",
            keys.replace("FOLDER", here)
        );
        let config: Config =
            failback_service::config::parse(&text, Path::new("ps.toml")).expect("it is right");
        let about = About { daemon: "process-server", version: "1", started_unix_ms: 0 };
        let kit =
            Kit::new(about, Path::new("ps.toml"), &folder.path().join("state"), 64 << 20).expect("a kit");
        let (registry, _) =
            Registry::open(config.machine, kit.state.join("registry.json")).expect("it opens");
        let script = Arc::new(Script { ends: Mutex::new(ends.to_vec()), ..Script::default() });
        let tls = certificates(folder.path());
        let managed = Managed::new(None, kit.state.join("azure"), kit.stop.clone());
        let supervisor =
            Supervisor::new(kit.clone(), registry.clone(), Arc::clone(&script) as _, tls, managed)
                .expect("it opens");
        Self { folder, script, registry, supervisor, kit }
    }

    fn begin(&self) {
        self.begin_with(PassFlags::default(), 7_000);
    }

    fn begin_with(&self, flags: PassFlags, now_unix_ms: u64) {
        let job: JobId = "job".parse().expect("an id");
        let begin = |intent: &mut failback_service::registry::Intent| {
            intent.begin(job.clone(), flags, now_unix_ms);
        };
        self.registry.intend(&machine(), begin).expect("it is kept");
        self.supervisor.settle();
    }

    fn claims(&self) -> Vec<PointClaim> {
        self.script.claims.lock().expect("no panic").clone()
    }

    /// How often the hook ran that writes a line each time.
    fn ran(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("ran")).unwrap_or_default().lines().count()
    }

    fn stages(&self) -> Vec<DiskStage> {
        let disk = |disk: &str| self.kit.board.disk(&machine(), &disk.parse().expect("an id")).status().stage;
        vec![disk("d0"), disk("d1")]
    }

    /// Waits until this is so: passes end on threads of their own.
    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let wait = async {
            while !what(self) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes to that");
    }
}

fn machine() -> MachineId {
    "web01".parse().expect("an id")
}

#[tokio::test]
async fn every_disk_is_brought_to_its_seal_once() {
    let lab = Lab::new(&[Ok(()), Ok(())]);
    lab.begin();
    lab.until(|lab| lab.supervisor.count() == 0).await;
    assert_eq!(lab.stages(), [DiskStage::Sealed; 2]);
    let seen = lab.script.seen.lock().expect("no panic").clone();
    let windows: u64 = seen.iter().map(|(_, window)| window).sum();
    assert!(seen.iter().all(|(epoch, _)| *epoch == 7) && windows <= 64 << 20, "{seen:?}");
    lab.supervisor.settle();
    assert_eq!(lab.supervisor.count(), 0, "what is sealed is not sent again");
}

#[tokio::test]
async fn what_may_heal_is_tried_again_and_the_rest_waits_for_an_operator() {
    let lab = Lab::new(&[Ok(()), Err(Code::ConnectionLost), Err(Code::WrongDisk)]);
    lab.begin();
    lab.until(|lab| lab.stages().contains(&DiskStage::Retrying)).await;
    lab.supervisor.hurry(&machine());
    lab.until(|lab| lab.supervisor.count() == 0).await;
    let mut stages = lab.stages();
    stages.sort();
    assert_eq!(stages, [DiskStage::Sealed, DiskStage::Failed]);
    let errors = lab.kit.events.errors();
    assert_eq!((errors.get("FB509"), errors.get("FB305")), (Some(&1), Some(&1)));
}

#[tokio::test]
async fn a_try_that_got_somewhere_makes_the_next_one_a_first_one() {
    for advances in [true, false] {
        let lab = Lab::new(&[Err(Code::ConnectionLost); 64]);
        lab.script.advances.store(advances, Ordering::Relaxed);
        lab.begin();
        lab.until(|lab| {
            lab.supervisor.hurry(&machine());
            lab.script.seen.lock().expect("no panic").len() >= 8
        })
        .await;
        lab.until(|lab| lab.stages() == [DiskStage::Retrying; 2]).await;
        let tries = ["d0", "d1"]
            .map(|disk| lab.kit.board.disk(&machine(), &disk.parse().expect("an id")).status().failed_tries);
        assert_eq!(tries == [1, 1], advances, "{tries:?}");
    }
}

#[tokio::test]
async fn a_stop_ends_passes_and_a_resume_goes_on() {
    let lab = Lab::new(&[]);
    lab.begin();
    lab.until(|lab| lab.script.seen.lock().expect("no panic").len() == 2).await;
    assert!(lab.supervisor.is_running(&machine()));
    lab.registry.intend(&machine(), |intent| intent.wanted = Wanted::Stopped).expect("it is kept");
    assert_eq!(lab.supervisor.stop(&machine()), 2);
    lab.until(|lab| lab.supervisor.count() == 0).await;
    assert_eq!(lab.stages(), [DiskStage::Stopped; 2]);
    lab.script.ends.lock().expect("no panic").extend([Ok(()), Ok(())]);
    lab.registry.intend(&machine(), |intent| intent.wanted = Wanted::Running).expect("it is kept");
    lab.supervisor.settle();
    lab.until(|lab| lab.supervisor.count() == 0).await;
    assert_eq!(lab.stages(), [DiskStage::Sealed; 2]);
}

#[tokio::test]
async fn stopped_and_resumed_in_one_breath_goes_on() {
    let lab = Lab::new(&[]);
    lab.begin();
    lab.until(|lab| lab.script.seen.lock().expect("no panic").len() == 2).await;
    lab.script.ends.lock().expect("no panic").extend([Ok(()), Ok(())]);
    lab.supervisor.stop(&machine());
    // Still wanted: the tasks that end see to their own successors.
    lab.supervisor.settle();
    lab.until(|lab| lab.supervisor.count() == 0).await;
    assert_eq!(lab.stages(), [DiskStage::Sealed; 2]);
}

#[tokio::test]
async fn a_daemon_that_stops_ends_its_passes_and_starts_none() {
    let lab = Lab::new(&[]);
    lab.begin();
    lab.until(|lab| lab.script.seen.lock().expect("no panic").len() == 2).await;
    lab.kit.stop.cancel();
    lab.supervisor.drained().await;
    assert_eq!(lab.stages(), [DiskStage::Stopped; 2]);
    lab.supervisor.settle();
    assert_eq!(lab.supervisor.count(), 0);
}

#[tokio::test]
async fn a_pass_that_panics_is_a_failed_pass() {
    let lab = Lab::new(&[Err(Code::Internal), Err(Code::Internal)]);
    lab.begin();
    lab.until(|lab| lab.supervisor.count() == 0).await;
    assert_eq!(lab.stages(), [DiskStage::Failed; 2]);
}

#[tokio::test]
async fn bandwidth_follows_the_definition_until_it_is_overridden() {
    let lab = Lab::new(&[]);
    let mut entry = lab.registry.machine(&machine()).expect("it is there");
    let throttle = lab.supervisor.throttle(&entry);
    let schedule = |text: &str| text.parse::<Schedule>().expect("a schedule");
    entry.bandwidth = schedule("20M");
    lab.registry.register(entry.clone()).expect("it is kept");
    lab.supervisor.settle();
    assert_eq!(throttle.schedule(), schedule("20M"));
    lab.supervisor.set_bandwidth(&entry, Some(schedule("5M")));
    lab.supervisor.settle();
    assert_eq!(throttle.schedule(), schedule("5M"));
    lab.supervisor.set_bandwidth(&entry, None);
    assert_eq!(throttle.schedule(), schedule("20M"));
    lab.supervisor.set_bandwidth(&entry, Some(schedule("5M")));
    lab.registry.release(&machine(), None).expect("nothing runs");
    lab.supervisor.settle();
    lab.registry.register(entry.clone()).expect("it is kept");
    lab.supervisor.settle();
    assert_eq!(lab.supervisor.throttle(&entry).schedule(), schedule("20M"), "another machine of that name");
}

const SNAPSHOT: &str = "snapshot_is_atomic = true
            snapshot = ['/bin/sh', '-c', 'cd FOLDER; echo ran >> ran; test -e allowed']";

#[tokio::test]
async fn all_disks_of_a_job_claim_the_same_and_the_hooks_run_once() {
    let lab = Lab::with_hooks(&[Ok(()), Ok(()), Err(Code::ConnectionLost)], SNAPSHOT);
    std::fs::write(lab.folder.path().join("allowed"), "").expect("written");
    lab.begin();
    lab.until(|lab| {
        lab.supervisor.hurry(&machine());
        lab.supervisor.count() == 0
    })
    .await;
    assert_eq!((lab.stages(), lab.ran()), (vec![DiskStage::Sealed; 2], 1));
    let claims = lab.claims();
    assert_eq!((claims.len(), claims[0].label), (3, PointLabel::CrashConsistent));
    assert!(claims.iter().all(|claim| *claim == claims[0]), "also the second try's: {claims:?}");
    let status = lab.kit.board.disk(&machine(), &"d1".parse().expect("an id")).status();
    assert_eq!(status.source_unix_ms, Some(claims[0].source_unix_ms));
    assert_eq!(status.point_label.as_deref(), Some("crash-consistent"));
    lab.registry.intend(&machine(), |intent| intent.wanted = Wanted::Stopped).expect("it is kept");
    lab.script.ends.lock().expect("no panic").extend([Ok(()), Ok(())]);
    lab.begin();
    lab.until(|lab| lab.supervisor.count() == 0).await;
    assert_eq!(lab.ran(), 2, "another job, another snapshot");
}

#[tokio::test]
async fn a_snapshot_that_fails_is_tried_again_for_all_disks_at_once() {
    let lab = Lab::with_hooks(&[Ok(()), Ok(())], SNAPSHOT);
    lab.begin();
    lab.until(|lab| lab.stages() == [DiskStage::Retrying; 2]).await;
    assert!(lab.claims().is_empty(), "no disk was opened");
    let status = lab.kit.board.disk(&machine(), &"d0".parse().expect("an id")).status();
    let error = status.error.expect("a reason");
    assert_eq!((error.code.as_str(), status.failed_tries), ("FB408", 1));
    assert!(error.evidence.starts_with("snapshot ended with exit status: 1"), "{error:?}");
    assert_eq!(lab.ran(), 1, "one try, not one for each disk");
    lab.until(|lab| lab.ran() >= 2).await;
    std::fs::write(lab.folder.path().join("allowed"), "").expect("written");
    lab.until(|lab| {
        lab.supervisor.hurry(&machine());
        lab.supervisor.count() == 0
    })
    .await;
    assert_eq!(lab.stages(), [DiskStage::Sealed; 2]);
}

#[tokio::test]
async fn a_claim_outlives_the_daemon_and_does_not_speak_for_disks_that_came_later() {
    let lab = Lab::with_hooks(&[], SNAPSHOT);
    std::fs::write(lab.folder.path().join("allowed"), "").expect("written");
    lab.begin();
    lab.until(|lab| lab.claims().len() == 2).await;
    lab.supervisor.stop(&machine());
    lab.kit.stop.cancel();
    lab.supervisor.drained().await;

    let machines = lab.registry.machines();
    let file = lab.kit.state.join("registry.json");
    let (registry, _) = Registry::open(machines, file).expect("it opens");
    let mut entry = registry.machine(&machine()).expect("it is there");
    let mut late = entry.disk[0].clone();
    late.id = "d2".parse().expect("an id");
    entry.disk.push(late);
    registry.register(entry).expect("nothing holds it");
    let about = About { daemon: "process-server", version: "1", started_unix_ms: 0 };
    let kit =
        Kit::new(about, Path::new("ps.toml"), &lab.folder.path().join("other"), 64 << 20).expect("a kit");
    let script = Arc::new(Script { ends: Mutex::new(vec![Ok(()); 3]), ..Script::default() });
    let tls = certificates(lab.folder.path().join("again").as_path());
    let managed = Managed::new(None, kit.state.join("azure"), kit.stop.clone());
    let again = Supervisor::new(kit, registry, Arc::clone(&script) as _, tls, managed).expect("it opens");
    again.settle();
    lab.until(|_| again.count() == 0).await;
    let (before, mut after) = (lab.claims(), script.claims.lock().expect("no panic").clone());
    after.sort_by_key(|claim| claim.label);
    assert_eq!((after.len(), lab.ran()), (3, 1), "{after:?}");
    assert_eq!(after[1..], before[..], "word for word");
    assert_eq!(after[0].label, PointLabel::PerDisk);
    assert!(after[0].reason.contains("d2 was added"), "{after:?}");
}

#[tokio::test]
async fn a_job_pauses_where_its_budget_is_spent_and_another_one_goes_on() {
    let lab = Lab::new(&[]);
    lab.script.sends.store(600, Ordering::Relaxed);
    let budget = PassFlags { max_egress_bytes: Some(1000), ..PassFlags::default() };
    lab.begin_with(budget, 7_000);
    // Both disks sent 600 and run on: only the budget ends them.
    lab.until(|lab| lab.stages() == [DiskStage::Failed; 2] && lab.supervisor.count() == 0).await;
    assert_eq!(lab.kit.events.errors().get("FB421"), Some(&2));
    let machines = lab.registry.machines();
    let pace = lab.supervisor.pace_status(&machines[0]).expect("it has a budget");
    assert_eq!((pace.sent_bytes, pace.finding.map(|finding| finding.code)), (1200, Some("FB421".into())));
    // Neither a look nor another start of the daemon sends more.
    lab.supervisor.settle();
    lab.until(|lab| lab.supervisor.count() == 0).await;
    assert_eq!(lab.script.seen.lock().expect("no panic").len(), 2);
    *lab.script.ends.lock().expect("no panic") = vec![Ok(()), Ok(())];
    lab.begin_with(PassFlags::default(), 9_000_000);
    lab.until(|lab| lab.stages() == [DiskStage::Sealed; 2]).await;
}

#[tokio::test]
async fn a_job_whose_time_is_over_sends_nothing() {
    let lab = Lab::new(&[]);
    lab.begin_with(PassFlags { finish_by_unix_ms: Some(1), ..PassFlags::default() }, 7_000);
    lab.until(|lab| lab.stages() == [DiskStage::Failed; 2] && lab.supervisor.count() == 0).await;
    assert_eq!(lab.script.seen.lock().expect("no panic").len(), 0);
}
