//! Recovery points by the command alone: cut over to an older one, forward again, cancel, commit, whatever is killed or
//! written to in between.

use super::steering::steer;
use super::{asked, assert_equal};
use crate::command::{Ended, codes, failback, qemu_img};
use crate::sites::{Daemon, Sites, merged, new_disk, source_disk, target_disk, target_machine};
use failback_service::event::Event;
use failback_testkit::Random;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

const LENGTH_BYTES: u64 = 8 << 20;

/// One machine: `system` overwrites an original, `data` is made.
struct Lab {
    sites: Sites,
    sources: [PathBuf; 2],
    targets: [PathBuf; 2],
    original: Vec<u8>,
    mt: Daemon,
    ps: Daemon,
    passes: u64,
}

impl Lab {
    fn new(seed: u64, length_bytes: u64) -> Self {
        let sites = Sites::new();
        let sources = [0, 1].map(|at| sites.random_disk(&format!("source{at}.raw"), seed + at, length_bytes));
        let targets = [sites.path("system.raw"), sites.path("data.vmdk")];
        fs::copy(&sources[0], &targets[0]).expect("copied");
        // The cloud went on with what the site had.
        let lab = |path: &Path| change(path, seed + 7, length_bytes);
        lab(&sources[0]);
        let disks = [target_disk("system", &targets[0]), new_disk("data", &targets[1])];
        let options = json!({"journal_dir": sites.path("undo"), "retention": {"low_space": "1M"}});
        let mt = sites.master_target(&[target_machine("app01", &disks)], &options);
        let here = [source_disk("system", &sources[0]), source_disk("data", &sources[1])];
        let ps = sites.process_server(&[sites.source_machine("app01", &here)], &json!({}));
        let original = fs::read(&targets[0]).expect("read");
        Self { sites, sources, targets, original, mt, ps, passes: 0 }
    }

    /// Brings the sources' states home as one more point; its number, and the states.
    fn pass(&mut self) -> (u64, [Vec<u8>; 2]) {
        self.mt.forget();
        self.ps.reprotect("app01");
        let point = self.mt.wait("a point", |event| match event {
            Event::PointRecorded { point, .. } => Some(*point),
            Event::PassFailed { finding, .. } => panic!("{finding:?}"),
            _ => None,
        });
        for disk in ["system", "data"] {
            self.ps.sealed(disk);
        }
        let states = self.sources.each_ref().map(|path| fs::read(path).expect("read"));
        self.passes += 1;
        for (at, source) in self.sources.iter().enumerate() {
            change(source, 100 * self.passes + at as u64, states[at].len() as u64);
        }
        (point, states)
    }

    /// Fails unless both disks are as they were once.
    #[track_caller]
    fn assert_is(&self, states: &[Vec<u8>; 2]) {
        assert!(fs::read(&self.targets[0]).expect("read") == states[0], "the system disk differs");
        let expected = self.sites.path("expected.raw");
        fs::write(&expected, &states[1]).expect("written");
        qemu_img(&["compare", "-f", "raw", "-F", "vmdk"], &[&expected, &self.targets[1]]);
    }

    fn verb(&self, words: &[&str]) -> Ended {
        let socket = self.mt.socket();
        failback(words.iter().map(OsStr::new).chain([OsStr::new("--socket"), socket.as_os_str()]))
    }

    /// Points that there are.
    fn points(&self) -> Vec<u64> {
        let listed = steer(&self.mt.socket(), &["points", "list", "app01"]);
        let points = listed["points"].as_array().expect("points");
        points.iter().map(|point| point["number"].as_u64().expect("a number")).collect()
    }

    fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.sites.path("mt/state/audit.log")).expect("read");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// Some pages of a disk become others.
fn change(path: &Path, seed: u64, length_bytes: u64) {
    let file = fs::File::options().write(true).open(path).expect("opened");
    let mut random = Random::new(seed);
    let mut page = vec![0; 4096];
    for _ in 0..length_bytes / 65_536 {
        random.fill(&mut page);
        let at = u64::from_le_bytes(page[..8].try_into().expect("8 bytes")) % (length_bytes / 4096);
        file.write_all_at(&page, at * 4096).expect("written");
    }
}

#[test]
fn an_operator_goes_back_forward_and_commits() {
    let mut lab = Lab::new(1800, LENGTH_BYTES);
    let mut states: Vec<_> = (0..2).map(|_| lab.pass()).collect();
    // A quarter of the disk that was made is zero in the last state.
    let file = fs::File::options().write(true).open(&lab.sources[1]).expect("opened");
    file.write_all_at(&vec![0; LENGTH_BYTES as usize / 4], LENGTH_BYTES / 2).expect("written");
    states.push(lab.pass());
    assert_eq!((states[0].0, states[2].0, lab.points()), (1, 3, vec![0, 1, 2, 3]));
    lab.assert_is(&states[2].1);
    assert!(fs::metadata(lab.sites.path("system.raw.failback.json")).is_ok(), "its sidecar lies beside it");

    // Nothing is done by looking, and nothing unasked.
    let planned = steer(&lab.mt.socket(), &["cutover", "app01", "--point", "1", "--dry-run"]);
    let plan = &planned["plan"]["machines"][0];
    assert_eq!((&planned["status"], &plan["point"]), (&json!("planned"), &json!(1)));
    assert!(plan["way_back"].as_str().is_some_and(|way| way.contains("--point 3")), "{plan}");
    lab.verb(&["cutover", "app01", "--point", "1"]).failure(3, "FB709");
    lab.verb(&["commit", "app01", "--yes"]).failure(3, "FB712");
    assert_eq!(lab.points(), [0, 1, 2, 3]);

    let back = steer(&lab.mt.socket(), &["cutover", "app01", "--point", "1", "--yes", "--wait"]);
    assert_eq!((&back["ended"][0]["outcome"], &back["ended"][0]["point"]), (&json!("done"), &json!(4)));
    lab.assert_is(&states[0].1);
    assert_eq!(lab.points(), [0, 1, 2, 3, 4]);
    let shown = steer(&lab.mt.socket(), &["points", "show", "app01", "4"]);
    assert_eq!(shown["point"]["restored"], 1);
    // The same once more changes nothing.
    steer(&lab.mt.socket(), &["cutover", "app01", "--point", "1", "--yes", "--wait"]);
    assert_eq!(lab.points(), [0, 1, 2, 3, 4]);

    let forward = steer(&lab.mt.socket(), &["cutover", "app01", "--point", "latest", "--yes", "--wait"]);
    assert_eq!(forward["ended"][0]["point"], 5);
    lab.assert_is(&states[2].1);

    // It outlives the daemon.
    assert!(lab.mt.terminate().success());
    lab.mt.restart();
    let status = steer(&lab.mt.socket(), &["status", "app01"]);
    let standing = &status["daemon_status"]["machines"][0]["recovery"]["standing"];
    assert_eq!((&standing["phase"], &standing["released_point"]), (&json!("released"), &json!(5)));

    lab.verb(&["points", "verify", "app01", "2"]).failure(3, "FB717");
    lab.verb(&["commit", "app01", "--yes"]).failure(3, "FB713");
    let proved = steer(&lab.mt.socket(), &["points", "verify", "app01"]);
    assert_eq!(proved["receipt"]["point"], 5);
    steer(&lab.mt.socket(), &["points", "drop", "app01", "2", "--yes"]);
    lab.verb(&["points", "drop", "app01", "0", "--yes"]).failure(3, "FB607");
    assert_eq!(lab.points(), [0, 1, 3, 4, 5]);
    let allocated = || fs::metadata(lab.sites.path("data-flat.vmdk")).expect("there").blocks() * 512;
    let before = allocated();
    let committed = steer(&lab.mt.socket(), &["commit", "app01", "--yes", "--wait"]);
    assert!(allocated() + LENGTH_BYTES / 8 < before, "zeros stay until commit: {before}, {}", allocated());
    assert_eq!(committed["ended"][0]["outcome"], "done");
    lab.assert_is(&states[2].1);
    assert_eq!(lab.points(), Vec::<u64>::new());
    let again = lab.verb(&["commit", "app01", "--yes"]).failure(3, "FB606");
    assert!(again["findings"][0]["evidence"].as_str().is_some_and(|why| why.contains("committed before")));
    lab.verb(&["cancel", "app01", "--yes"]).failure(3, "FB606");

    let audit = lab.audit();
    let said: Vec<_> = audit
        .iter()
        .map(|line| (line["verb"].as_str().expect("a verb"), line["state"].as_str().expect("one")))
        .collect();
    let twice = |verb| [(verb, "begins"), (verb, "done")];
    let expected =
        [twice("cutover"), twice("cutover"), twice("cutover"), twice("drop_points"), twice("commit")]
            .concat();
    assert_eq!(said, expected);
    assert!(
        audit.iter().all(|line| line["uid"].is_u64() && line["pid"].is_i64() && line["machine"] == "app01")
    );
    assert_eq!((&audit[0]["point"], &audit[8]["verb"]), (&json!(1), &json!("commit")));
    assert!(audit[8]["destroyed"].to_string().contains("every way back"), "{}", audit[8]);

    // A new job begins a new history.
    assert_eq!(lab.pass().0, 1);
}

#[test]
fn cancel_gives_the_original_back_and_removes_what_was_made() {
    let mut lab = Lab::new(1810, LENGTH_BYTES);
    lab.pass();
    lab.pass();
    steer(&lab.mt.socket(), &["cutover", "app01", "--point", "1", "--yes", "--wait"]);
    let plan = steer(&lab.mt.socket(), &["cancel", "app01", "--dry-run"]);
    assert!(plan["plan"]["machines"][0]["destroyed"].to_string().contains("data.vmdk"), "{plan}");
    steer(&lab.mt.socket(), &["cancel", "app01", "--yes", "--wait"]);
    assert!(fs::read(&lab.targets[0]).expect("read") == lab.original, "the original");
    assert!(!lab.targets[1].exists() && !lab.sites.path("data-flat.vmdk").exists(), "what was made is gone");
    // Twice is once.
    steer(&lab.mt.socket(), &["cancel", "app01", "--yes", "--wait"]);
    assert!(fs::read(&lab.targets[0]).expect("read") == lab.original, "the original");
    lab.verb(&["cutover", "app01", "--point", "latest", "--yes"]).failure(3, "FB201");
    // And it can be brought home again.
    let (_, states) = lab.pass();
    lab.assert_is(&states);
}

#[test]
fn cancel_refuses_where_the_machine_ran_without_an_overlay_and_lists_what_it_wrote() {
    let mut lab = Lab::new(1820, LENGTH_BYTES);
    lab.pass();
    steer(&lab.mt.socket(), &["cutover", "app01", "--point", "latest", "--yes", "--wait"]);
    let file = fs::File::options().write(true).open(&lab.targets[0]).expect("opened");
    let times = fs::metadata(&lab.targets[0]).and_then(|stat| stat.modified()).expect("times");
    file.write_all_at(&[0x5a; 4096], 5 << 20).expect("written");
    // Even where the times do not tell.
    file.set_modified(times).expect("set");
    file.sync_all().expect("durable");
    let before = fs::read(&lab.targets[0]).expect("read");
    let refused = lab.verb(&["cancel", "app01", "--yes", "--wait"]).failure(3, "FB312");
    assert!(refused["findings"].to_string().contains("system.raw"), "{refused}");
    assert!(fs::read(&lab.targets[0]).expect("read") == before, "nothing was written");
    assert!(lab.targets[1].exists(), "nothing was removed");
    lab.verb(&["cutover", "app01", "--point", "1", "--yes", "--wait"]).failure(3, "FB312");
    let audit = lab.audit();
    assert_eq!(audit.last().map(|line| &line["state"]), Some(&json!("failed")));
}

#[test]
fn a_cut_over_that_was_killed_is_named_and_finished_by_the_same_command() {
    let mut lab = Lab::new(1830, 64 << 20);
    let states: Vec<_> = (0..2).map(|_| lab.pass()).collect();
    for round in 0..asked("FAILBACK_CUTOVER_KILLS", 3) {
        let (point, expected) = &states[(round % 2) as usize];
        let word = point.to_string();
        let order = ["cutover", "app01", "--point", &word, "--yes"];
        steer(&lab.mt.socket(), &order);
        // At a moment that differs from round to round.
        for _ in 0..round {
            lab.mt.moment();
        }
        lab.mt.kill();
        lab.mt.restart();
        let status = steer(&lab.mt.socket(), &["status", "app01"]);
        let recovery = &status["daemon_status"]["machines"][0]["recovery"];
        if recovery["operation"].is_object() {
            let step = recovery["operation"]["step"].as_str().expect("words");
            assert!(step.contains(&format!("'failback cutover app01 --point {point}'")), "{step}");
            assert_eq!(
                codes(
                    &recovery["findings"]
                        .as_array()
                        .map_or(json!({"findings": []}), |all| json!({"findings": all}))
                ),
                ["FB711"]
            );
            // No pass writes into what is half done.
            lab.ps.forget();
            lab.ps.reprotect("app01");
            lab.ps.broken("system", "FB711");
            steer(&lab.ps.socket(), &["stop", "app01"]);
        }
        steer(&lab.mt.socket(), &["cutover", "app01", "--point", &word, "--yes", "--wait"]);
        lab.assert_is(expected);
        let status = steer(&lab.mt.socket(), &["status", "app01"]);
        let recovery = &status["daemon_status"]["machines"][0]["recovery"];
        assert_eq!(
            (&recovery["standing"]["phase"], &recovery["operation"]),
            (&json!("released"), &Value::Null)
        );
    }
    steer(&lab.mt.socket(), &["cancel", "app01", "--yes", "--wait"]);
    assert!(fs::read(&lab.targets[0]).expect("read") == lab.original, "the original");
}

#[test]
fn a_running_pass_is_stopped_and_its_job_is_over() {
    let mut lab = Lab::new(1840, LENGTH_BYTES);
    let (_, states) = lab.pass();
    // The next one is slow, and the source is gone in the middle of it.
    steer(&lab.ps.socket(), &["bandwidth", "app01", "64K"]);
    lab.mt.forget();
    lab.ps.reprotect("app01");
    lab.mt.wait("a pass", |event| matches!(event, Event::PassStarted { .. }).then_some(()));
    steer(&lab.mt.socket(), &["cutover", "app01", "--point", "latest", "--yes", "--wait"]);
    lab.assert_is(&states);
    let is_given_up = |event: &Event| match event {
        Event::PassFailed { finding, .. } => Some(finding.clone()),
        _ => None,
    };
    let finding = lab.ps.wait("its job is over", is_given_up);
    assert_eq!(finding.code, "FB605", "{finding:?}");
    assert!(finding.remedy.contains("failback reprotect"), "{}", finding.remedy);
    lab.assert_is(&states);
}

#[test]
fn passes_pause_where_undo_would_not_fit() {
    let sites = Sites::new();
    let (source, target) = (sites.random_disk("source.raw", 1860, 1 << 20), sites.path("target.raw"));
    let there = target_machine("app01", &[new_disk("disk0", &target)]);
    let mt = sites.master_target(&[there], &json!({"retention": {"low_space": "4096T"}}));
    let here = sites.source_machine("app01", &[source_disk("disk0", &source)]);
    let mut ps = sites.process_server(&[here], &json!({}));
    ps.reprotect("app01");
    assert!(ps.broken("disk0", "FB608"), "it is tried again once there is room");
    assert!(!target.exists(), "nothing was made");
    let status = steer(&mt.socket(), &["status", "app01"]);
    let finding = &status["daemon_status"]["machines"][0]["recovery"]["findings"][0];
    assert_eq!((&finding["code"], &finding["severity"]), (&json!("FB608"), &json!("error")));
}

#[test]
fn a_group_waits_for_the_machine_that_has_no_point() {
    let sites = Sites::new();
    let source = sites.random_disk("source.raw", 1850, 1 << 20);
    let of_shop = |id: &str| {
        let target = sites.path(&format!("{id}.raw"));
        let machine = target_machine(id, &[new_disk("disk0", &target)]);
        merged(machine, &json!({"group": "shop"}))
    };
    let mut mt = sites.master_target(&[of_shop("web01"), of_shop("db01")], &json!({}));
    let here = |id: &str| sites.source_machine(id, &[source_disk("disk0", &source)]);
    let mut ps = sites.process_server(&[here("web01"), here("db01")], &json!({}));
    let point_of = |id: &'static str| {
        move |event: &Event| match event {
            Event::PointRecorded { machine, point, .. } if machine == id => Some(*point),
            _ => None,
        }
    };
    ps.reprotect("web01");
    mt.wait("a point", point_of("web01"));
    let verb = |words: &[&str]| {
        let socket = mt.socket();
        failback(words.iter().map(OsStr::new).chain([OsStr::new("--socket"), socket.as_os_str()]))
    };
    let refused = verb(&["cutover", "shop", "--point", "latest", "--yes", "--wait"]).failure(3, "FB607");
    let why = refused["findings"][0]["evidence"].as_str().expect("words");
    assert!(why.contains("db01") && !why.contains("web01"), "{why}");
    verb(&["cutover", "store", "--point", "latest", "--yes"]).failure(3, "FB703");
    ps.reprotect("db01");
    mt.wait("a point", point_of("db01"));
    let done = steer(&mt.socket(), &["cutover", "shop", "--point", "latest", "--yes", "--wait"]);
    assert_eq!(done["ended"].as_array().map(Vec::len), Some(2));
    for id in ["web01", "db01"] {
        assert_equal(&source, &sites.path(&format!("{id}.raw")));
    }
    // The process server has no disks to give.
    let socket = ps.socket();
    let words = ["cancel", "web01", "--yes", "--socket"].map(OsStr::new);
    failback(words.into_iter().chain([socket.as_os_str()])).failure(3, "FB702");
}
