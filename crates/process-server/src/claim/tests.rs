use super::*;
use crate::config::Config;
use failback_service::config::parse;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        let lab = Self(tempfile::tempdir().expect("a folder"));
        for disk in 0..3 {
            fs::write(lab.path(&format!("d{disk}.raw")), [7; 8192]).expect("written");
        }
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A machine of so many disks with these keys; `sh` in them is a shell that runs the next word in the folder.
    fn machine(&self, disks: usize, keys: &str) -> Machine {
        let folder = self.0.path().display();
        let sh = format!("'/bin/sh', '-c', 'cd {folder} && eval \"$0\"'");
        let disk = |at| format!("{{ id = 'd{at}', source = '{folder}/d{at}.raw' }}");
        let disks: Vec<_> = (0..disks).map(disk).collect();
        let text = format!(
            "tls = {{ certificate = 'c', key = 'k', ca = 'a' }}\n[[machine]]\nid = 'web01'\ntarget = 'mt:9443'\n\
             target_identity = 'failback://master-target/mt'\ndisk = [{}]\n{}",
            disks.join(", "),
            keys.replace("sh,", &format!("{sh},"))
        );
        let config: Config = parse(&text, Path::new("ps.toml")).expect("it is right");
        config.machine.into_iter().next().expect("one")
    }

    async fn take(&self, machine: &Machine, is_final: bool) -> Result<Taken, Finding> {
        let job = "job-1".parse().expect("an id");
        let taking = Taking {
            machine,
            managed: &managed(),
            job: &job,
            is_final,
            cycle: 1,
            environment: &[],
            stop: &CancellationToken::new(),
        };
        taking.take(&machine.disk[0].id).await
    }

    fn ran(&self) -> String {
        fs::read_to_string(self.path("ran")).unwrap_or_default()
    }
}

fn managed() -> Managed {
    Managed::new(None, "/nowhere".into(), CancellationToken::new())
}

const ALL: &str = "
    before_snapshot = [sh, 'echo before >> ran']
    snapshot = [sh, 'echo snapshot >> ran']
    after_snapshot = [sh, 'echo after >> ran']\n";

#[tokio::test]
async fn labels_say_what_hooks_vouch_for() {
    let lab = Lab::new();
    let snapshot = "snapshot = ['/bin/true']\n";
    let atomic = "snapshot_is_atomic = true\n";
    let per_disk = "3 disks, and nothing says that their snapshots are one instant";
    let cases = [
        (1, String::new(), PointLabel::CrashConsistent, NOT_QUIESCED),
        (3, String::new(), PointLabel::PerDisk, per_disk),
        (1, snapshot.into(), PointLabel::CrashConsistent, NOT_QUIESCED),
        (3, snapshot.into(), PointLabel::PerDisk, per_disk),
        (3, [snapshot, atomic].concat(), PointLabel::CrashConsistent, NOT_QUIESCED),
        (1, ALL.into(), PointLabel::AppConsistent, ""),
        (3, ALL.into(), PointLabel::PerDisk, per_disk),
        (3, [ALL, atomic].concat(), PointLabel::AppConsistent, ""),
        (
            1,
            [snapshot, "before_snapshot = ['/bin/true']"].concat(),
            PointLabel::CrashConsistent,
            NOT_QUIESCED,
        ),
        (1, [snapshot, "after_snapshot = ['/bin/true']"].concat(), PointLabel::CrashConsistent, NOT_QUIESCED),
    ];
    for (disks, keys, label, reason) in cases {
        let taken = lab.take(&lab.machine(disks, &keys), false).await.expect("it is taken");
        assert_eq!(
            (taken.claim.label, taken.claim.reason.as_str()),
            (label, reason),
            "{disks} disks, {keys}"
        );
        assert!(taken.warnings.is_empty(), "{:?}", taken.warnings);
        let taken = lab.take(&lab.machine(disks, &keys), true).await.expect("it is taken");
        assert_eq!((taken.claim.label, taken.claim.reason.as_str()), (PointLabel::Final, ""));
    }
}

#[tokio::test]
async fn hooks_run_in_their_order_and_a_source_that_is_off_is_not_quiesced() {
    let lab = Lab::new();
    let machine = lab.machine(1, ALL);
    let began = unix_ms();
    let taken = lab.take(&machine, false).await.expect("it is taken");
    assert_eq!(lab.ran(), "before\nsnapshot\nafter\n");
    assert!((began..=unix_ms()).contains(&taken.claim.source_unix_ms));
    lab.take(&machine, true).await.expect("it is taken");
    assert_eq!(lab.ran(), "before\nsnapshot\nafter\nsnapshot\n");
}

#[tokio::test]
async fn a_hook_around_the_snapshot_that_fails_only_lowers_the_label() {
    for (before, after, why) in [
        ("exit 1", "true", "before_snapshot ended with exit status: 1"),
        ("true", "echo in vain >&2; exit 2", "after_snapshot ended with exit status: 2: in vain"),
        ("exit 1", "exit 2", "before_snapshot ended with exit status: 1"),
        ("sleep 1000", "true", "before_snapshot was killed after 1 s, its limit"),
    ] {
        let lab = Lab::new();
        let machine = lab.machine(
            1,
            &format!(
                "hook_timeout = 1\nbefore_snapshot = [sh, '{before}']\nsnapshot = [sh, 'echo snapshot >> ran']\n\
                 after_snapshot = [sh, 'echo after >> ran; {after}']"
            ),
        );
        let taken = lab.take(&machine, false).await.expect("it is taken all the same");
        assert_eq!((taken.claim.label, taken.claim.reason.as_str()), (PointLabel::CrashConsistent, why));
        assert_eq!(lab.ran(), "snapshot\nafter\n");
        let warnings: Vec<_> = taken.warnings.iter().map(|finding| finding.code).collect();
        assert_eq!(warnings, [Code::QuiesceFailed]);
    }
}

#[tokio::test]
async fn applications_are_let_go_on_whatever_became_of_the_snapshot() {
    for (snapshot, why) in [
        ("exit 5", "snapshot ended with exit status: 5"),
        ("sleep 1000", "snapshot was killed after 1 s, its limit"),
        ("/nowhere/lvcreate", "snapshot ended with exit status: 127"),
    ] {
        let lab = Lab::new();
        let keys = format!(
            "hook_timeout = 1\nbefore_snapshot = ['/bin/true']\nsnapshot = [sh, '{snapshot}']\n\
             after_snapshot = [sh, 'echo after >> ran']"
        );
        let finding = lab.take(&lab.machine(1, &keys), false).await.err().expect("there is no snapshot");
        assert_eq!(finding.code, Code::SnapshotFailed);
        assert!(finding.evidence.starts_with(why) && !finding.remedy.is_empty(), "{finding:?}");
        assert_eq!(lab.ran(), "after\n");
    }
}

#[tokio::test]
async fn applications_are_let_go_on_where_the_job_is_stopped_meanwhile() {
    let lab = Lab::new();
    let machine = lab.machine(
        1,
        "before_snapshot = [sh, 'echo before >> ran; sleep 1000']\nsnapshot = [sh, 'echo snapshot >> ran']\n\
         after_snapshot = [sh, 'echo after >> ran']",
    );
    let (job, stop) = ("job-1".parse().expect("an id"), CancellationToken::new());
    let taking = Taking {
        machine: &machine,
        managed: &managed(),
        job: &job,
        is_final: false,
        cycle: 1,
        environment: &[],
        stop: &stop,
    };
    let stopper = async {
        while lab.ran().is_empty() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (taken, ()) = tokio::join!(taking.take(&machine.disk[0].id), stopper);
    assert!(taken.is_err());
    assert_eq!(lab.ran(), "before\nafter\n", "no snapshot, and no application that stands still");
}

#[tokio::test]
async fn without_a_snapshot_the_state_is_as_old_as_the_newest_source() {
    let lab = Lab::new();
    let machine = lab.machine(3, "");
    for (at, seconds) in [5, 9, 7].into_iter().enumerate() {
        let file = fs::File::options().write(true).open(lab.path(&format!("d{at}.raw"))).expect("opened");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).expect("set");
    }
    assert_eq!(lab.take(&machine, false).await.expect("it is taken").claim.source_unix_ms, 9_000);
    let began = unix_ms();
    fs::remove_file(lab.path("d2.raw")).expect("removed");
    let taken = lab.take(&machine, false).await.expect("another disk's source may come later");
    assert!(taken.claim.source_unix_ms >= began, "what is not there yet may be written now");
    fs::remove_file(lab.path("d0.raw")).expect("removed");
    assert_eq!(lab.take(&machine, false).await.err().expect("its own").code, Code::OpenFailed);
    let future = SystemTime::now() + Duration::from_secs(86_400);
    let file = fs::File::options().write(true).open(lab.path("d1.raw")).expect("opened");
    file.set_modified(future).expect("set");
    let job = "job-1".parse().expect("an id");
    let taking = Taking {
        machine: &machine,
        managed: &managed(),
        job: &job,
        is_final: false,
        cycle: 1,
        environment: &[],
        stop: &CancellationToken::new(),
    };
    let taken = taking.take(&machine.disk[1].id).await.expect("it is taken");
    assert!(taken.claim.source_unix_ms <= unix_ms(), "no state comes from the future");
}

#[test]
fn hooks_that_make_no_sense_are_refused() {
    let text = |keys: &str| {
        format!(
            "tls = {{ certificate = 'c', key = 'k', ca = 'a' }}\n[[machine]]\nid = 'web01'\ntarget = 'mt:9443'\n\
             target_identity = 'failback://master-target/mt'\n{keys}"
        )
    };
    for (keys, said) in [
        ("before_snapshot = ['/bin/true']", "before_snapshot: there is no 'snapshot'"),
        ("after_snapshot = ['/bin/true']", "after_snapshot: there is no 'snapshot'"),
        ("snapshot_is_atomic = true", "snapshot_is_atomic: there is no 'snapshot'"),
        ("snapshot = ['lvcreate']", "is no absolute path"),
        ("snapshot = ['/bin/sh', \"a\\u0000b\"]", "it is no command"),
        ("hook_timeout = 0", "hook_timeout: 0 is not possible"),
        ("hook_timeout = 3601", "hook_timeout: 3601 is not possible"),
        ("snapshot = '/bin/true -x'", "invalid type"),
    ] {
        let findings = parse::<Config>(&text(keys), Path::new("ps.toml")).expect_err(keys);
        assert!(findings[0].evidence.contains(said), "{keys}: {findings:?}");
    }
}
