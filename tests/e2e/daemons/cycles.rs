//! Cycles: each costs what its feed names, none misses anything, and the final one ends them.

use super::assert_equal;
use crate::command::qemu_img;
use crate::sites::{Daemon, Sites, job, machine, merged, new_disk, source_disk, target_disk, target_machine};
use failback_model::limits::FEED_CHECK_BYTES;
use failback_service::control::Request;
use failback_service::event::Event;
use failback_service::registry::CycleOutcome;
use failback_service::status::{Comparison, DiskStage, How};
use failback_testkit::Random;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

const LENGTH_BYTES: u64 = 48 << 20;
const BLOCK_BYTES: u64 = 64 << 10;

/// A machine of two disks that goes on writing: `live-N`; its snapshots are copies, its feed the blocks that the test wrote.
struct Lab {
    sites: Sites,
    homes: [PathBuf; 2],
    mt: Daemon,
    ps: Daemon,
    /// Blocks that changed since the last cycle that was sealed, of each disk.
    changed: [BTreeSet<u64>; 2],
    random: Random,
}

/// Hooks as an operator would write them.
fn hooks(sites: &Sites) -> Value {
    let folder = sites.path("");
    let hook = |script: &str| json!(["/bin/sh", "-ec", format!("cd \"$0\"; {script}"), folder]);
    let take = "echo take $FAILBACK_CYCLE since $FAILBACK_BASE_CYCLE >> ran; for n in 0 1; do \
                test -e lost-$n || cp live-$n snap-$n-$FAILBACK_CYCLE.raw; \
                for base in 1 2 3 4 5 6 7 8 9; do test ! -e changed-$n.json || cp changed-$n.json since-$base-$n.json; \
                done; done";
    let retire = "echo retire $FAILBACK_RETIRE >> ran; for c in $(echo $FAILBACK_RETIRE | tr , ' '); do \
                  rm -f snap-0-$c.raw snap-1-$c.raw; done";
    json!({
        "snapshot": hook(take),
        "snapshot_is_atomic": true,
        "after_seal": hook(retire),
        "final_timeout": "2s",
        "stop_source": hook("echo stop >> ran; test -e may-stop"),
        "start_source": hook("echo start >> ran"),
    })
}

impl Lab {
    fn new(seed: u64) -> Self {
        let sites = Sites::new();
        for disk in 0..2 {
            sites.random_disk(&format!("live-{disk}"), seed + disk, LENGTH_BYTES);
        }
        let homes = [sites.path("home-0.raw"), sites.path("home-1.vmdk")];
        fs::copy(sites.path("live-0"), &homes[0]).expect("copied");
        let disks = [target_disk("d0", &homes[0]), new_disk("d1", &homes[1])];
        let options = json!({"journal_dir": sites.path("undo"), "retention": {"low_space": "1M"}});
        let mt = sites.master_target(&[target_machine("app01", &disks)], &options);
        let disk = |n: u32| {
            let feed = format!("extents:{}", sites.path(&format!("since-{{base}}-{n}.json")).display());
            let source = sites.path(&format!("snap-{n}-{{cycle}}.raw"));
            merged(source_disk(&format!("d{n}"), &source), &json!({"feed": feed}))
        };
        let here = merged(sites.source_machine("app01", &[disk(0), disk(1)]), &hooks(&sites));
        let ps = sites.process_server(&[here], &json!({}));
        Self { sites, homes, mt, ps, changed: Default::default(), random: Random::new(seed) }
    }

    /// The machine writes to blocks of a disk; the feed names them, unless it lies.
    fn write(&mut self, disk: usize, blocks: u64, is_named: bool) {
        let path = self.sites.path(&format!("live-{disk}"));
        let file = fs::File::options().write(true).open(path).expect("opened");
        let mut page = vec![0; 4096];
        for _ in 0..blocks {
            self.random.fill(&mut page);
            let number = u64::from_le_bytes(page[..8].try_into().expect("8 bytes"));
            let block = number % (LENGTH_BYTES / BLOCK_BYTES);
            file.write_all_at(&page, block * BLOCK_BYTES + number / 7 % 16 * 4096).expect("written");
            if is_named {
                self.changed[disk].insert(block);
            }
        }
        let extent =
            |block: &u64| json!({"offset": block * BLOCK_BYTES, "length": BLOCK_BYTES, "exists": "true"});
        let list: Vec<_> = self.changed[disk].iter().map(extent).collect();
        let feed = self.sites.path(&format!("changed-{disk}.json"));
        fs::write(feed, serde_json::to_vec(&list).expect("JSON")).expect("written");
    }

    fn ask(&self, is_final: bool) -> String {
        self.ps.order(&Request::Cycle { job: job(), machine: machine("app01"), is_final })
    }

    /// Waits for the cycle's end; what it came to.
    fn closed(&mut self) -> CycleOutcome {
        let outcome = self.ps.wait("a closed cycle", |event| match event {
            Event::CycleClosed { outcome, .. } => Some(outcome.clone()),
            Event::PassFailed { finding, .. } => panic!("{finding:?}"),
            _ => None,
        });
        for disk in &mut self.changed {
            disk.clear();
        }
        outcome
    }

    /// One more cycle from its wish to its end; how each disk was known.
    fn cycle(&mut self) -> (CycleOutcome, [Comparison; 2]) {
        self.ps.forget();
        self.ask(false);
        let outcome = self.closed();
        self.assert_home();
        let comparison = |disk| *self.ps.disk("app01", disk).comparison.expect("it was told");
        (outcome, [comparison("d0"), comparison("d1")])
    }

    /// Both disks at home are what the machine's are now.
    #[track_caller]
    fn assert_home(&self) {
        assert_equal(&self.sites.path("live-0"), &self.homes[0]);
        let live = self.sites.path("live-1");
        qemu_img(&["compare", "-f", "raw", "-F", "vmdk"], &[&live, &self.homes[1]]);
    }

    fn ran(&self) -> String {
        fs::read_to_string(self.sites.path("ran")).unwrap_or_default()
    }

    fn points(&self) -> Vec<u64> {
        let listed = super::steering::steer(&self.mt.socket(), &["points", "list", "app01"]);
        let points = listed["points"].as_array().expect("points");
        points.iter().map(|point| point["number"].as_u64().expect("a number")).collect()
    }
}

#[test]
fn a_cycle_costs_what_its_feed_names_and_each_is_a_point() {
    let mut lab = Lab::new(5100);
    lab.write(0, 40, true);
    lab.ps.reprotect("app01");
    let first = lab.closed();
    assert_eq!(first.number, 1);
    assert!(first.read_bytes >= 2 * LENGTH_BYTES, "the first one scans: {first:?}");
    lab.assert_home();
    for number in 2..=4 {
        lab.write(0, 30, true);
        lab.write(1, 20, true);
        let named: u64 = lab.changed.iter().map(|blocks| blocks.len() as u64 * BLOCK_BYTES).sum();
        let (outcome, known) = lab.cycle();
        assert_eq!(outcome.number, number);
        for comparison in &known {
            assert_eq!(
                (comparison.how, comparison.base_cycle),
                (How::Feed, Some(number - 1)),
                "{comparison:?}"
            );
            assert!(comparison.checked_bytes >= FEED_CHECK_BYTES, "some of the rest is read: {comparison:?}");
        }
        assert_eq!(known.iter().filter_map(|known| known.named_bytes).sum::<u64>(), named);
        // What ships is read a second time.
        let checked: u64 = known.iter().map(|known| known.checked_bytes).sum();
        assert!(outcome.read_bytes <= 2 * named + checked, "{outcome:?}: {named} named, {checked} checked");
        let now = fs::read_dir(lab.sites.path("")).expect("listed").flatten();
        let snapshots = now.filter(|file| file.file_name().to_string_lossy().starts_with("snap-"));
        assert_eq!(snapshots.count(), 2, "only the next feed's base is kept");
    }
    assert_eq!(lab.points(), [0, 1, 2, 3, 4]);
    let status = lab.ps.status().machines.remove(0).cycle.expect("cycles");
    assert!(status.final_seconds.is_some() && status.lag_seconds.is_some(), "{status:?}");
    assert_eq!(status.last.expect("one closed").number, 4);

    // What the feed leaves out is found before the disk was gone through: 48 MiB in steps of 16.
    lab.write(0, 8, false);
    lab.ps.forget();
    let mut found = None;
    for _ in 0..4 {
        lab.ask(false);
        lab.closed();
        let comparison = lab.ps.disk("app01", "d0").comparison.expect("told");
        if let Some(finding) = comparison.finding {
            found = Some((comparison.how, finding.code));
            break;
        }
    }
    assert_eq!(found, Some((How::Scan, "FB415".into())), "{}", lab.ps.log());
    lab.assert_home();
    lab.write(0, 3, true);
    assert_eq!(lab.cycle().1[0].how, How::Feed, "feeds are used again from the state that was scanned");
}

#[test]
fn after_a_cycle_that_failed_half_way_nothing_is_missed() {
    let mut lab = Lab::new(5200);
    lab.ps.reprotect("app01");
    lab.closed();
    // Disk 1 has no snapshot in cycle 2, while disk 0 comes home.
    fs::write(lab.sites.path("lost-1"), "").expect("written");
    lab.write(0, 25, true);
    lab.write(1, 25, true);
    let before = fs::read(lab.sites.path("live-0")).expect("read");
    lab.ps.forget();
    lab.ask(false);
    lab.ps.sealed("d0");
    assert!(lab.ps.broken("d1", "FB201"));
    assert_eq!(lab.points(), [0, 1], "a point has all disks of a machine");
    // Meanwhile the daemon is killed, and what had changed on disk 0 is written back.
    lab.ps.kill();
    lab.ps.restart();
    fs::remove_file(lab.sites.path("lost-1")).expect("removed");
    fs::write(lab.sites.path("live-0"), before).expect("written");
    lab.write(0, 5, true);
    lab.write(1, 5, true);
    assert!(lab.ps.broken("d1", "FB201"));
    let (outcome, known) = lab.cycle();
    assert_eq!(outcome.number, 3);
    assert_eq!(known.each_ref().map(|known| known.base_cycle), [Some(2), Some(1)], "{known:?}");
    assert_eq!(lab.points(), [0, 1, 2]);
    assert!(lab.ran().contains("take 3 since 1\n"), "{}", lab.ran());
    assert!(lab.ran().ends_with("retire 1,2\n"), "{}", lab.ran());
}

#[test]
fn a_final_cycle_needs_a_source_that_is_off_and_nothing_follows_it() {
    let mut lab = Lab::new(5300);
    lab.ps.reprotect("app01");
    lab.closed();
    lab.write(0, 9, true);
    lab.ps.forget();
    lab.ask(true);
    let why = lab.ps.wait("a failed final cycle", |event| match event {
        Event::CycleFailed { finding, .. } => Some(finding.clone()),
        _ => None,
    });
    assert_eq!(why.code, "FB420");
    assert!(lab.ran().ends_with("stop\nstart\n"), "{}", lab.ran());
    assert_eq!(lab.ps.disk("app01", "d0").stage, DiskStage::Sealed, "cycles go on");

    fs::write(lab.sites.path("may-stop"), "").expect("written");
    lab.ps.forget();
    lab.ask(true);
    let last = lab.closed();
    assert_eq!(last.number, 2);
    lab.assert_home();
    assert_eq!(lab.mt.disk("app01", "d0").point_label.as_deref(), Some("final"));
    let again = Request::Cycle { job: job(), machine: machine("app01"), is_final: false };
    lab.ps.refuses(&again, "FB702");
    assert!(lab.ran().contains("stop\ntake 2 since 1\nretire 1\n"), "{}", lab.ran());
}

#[test]
fn cycles_run_by_the_clock_until_they_are_stopped() {
    let sites = Sites::new();
    let source = sites.random_disk("source.raw", 5400, 8 << 20);
    let home = sites.path("home.raw");
    let _mt = sites.master_target(&[target_machine("app01", &[new_disk("disk0", &home)])], &json!({}));
    let disks = [source_disk("disk0", &source)];
    let here = merged(sites.source_machine("app01", &disks), &json!({"cycle_every": "1s"}));
    let mut ps = sites.process_server(&[here], &json!({}));
    ps.reprotect("app01");
    let number = |number: u64| {
        move |event: &Event| match event {
            Event::CycleClosed { outcome, said, .. } if outcome.number == number => Some(said.clone()),
            _ => None,
        }
    };
    ps.wait("the first cycle", number(1));
    let mut random = Random::new(5401);
    let mut page = vec![0; 4096];
    random.fill(&mut page);
    fs::File::options()
        .write(true)
        .open(&source)
        .expect("opened")
        .write_all_at(&page, 5 << 20)
        .expect("written");
    ps.wait("the third cycle", number(3));
    assert_equal(&source, &home);
    ps.order(&Request::Stop { job: job(), machine: machine("app01") });
    let again = Request::Cycle { job: job(), machine: machine("app01"), is_final: false };
    ps.refuses(&again, "FB702");
}

#[test]
fn a_final_cycle_that_takes_too_long_frees_the_source_and_is_never_sealed() {
    let mut lab = Lab::new(5500);
    lab.ps.reprotect("app01");
    lab.closed();
    fs::write(lab.sites.path("may-stop"), "").expect("written");
    lab.write(0, 9, true);
    lab.mt.kill();
    lab.ps.forget();
    lab.ask(true);
    // Whatever is overdue when a daemon starts has a minute more.
    let why = lab.ps.wait("a failed final cycle", |event| match event {
        Event::CycleFailed { finding, .. } => Some(finding.clone()),
        _ => None,
    });
    assert_eq!(why.code, "FB420");
    assert!(why.evidence.contains("within 2s") && why.evidence.contains("started again"), "{why:?}");
    assert!(lab.ran().contains("stop\ntake 2 since 1\nstart\n"), "{}", lab.ran());
    lab.write(0, 4, true);
    lab.mt.restart();
    lab.ps.resume("app01");
    lab.ps.forget();
    let outcome = lab.closed();
    assert!(outcome.number >= 3, "{outcome:?}");
    lab.assert_home();
    assert_eq!(lab.mt.disk("app01", "d0").point_label.as_deref(), Some("crash-consistent"));
    assert_eq!(lab.points(), [0, 1, 2], "the final cycle is no point");
}
