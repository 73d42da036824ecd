//! Runs of `sync --journal` and of `journal undo` that are killed at random moments, on images of every kind that is written
//! in place: each state that the journal shows can be had back, to the byte, by the command alone.
//!
//! `tools/long undo-kill` asks for more kills by FAILBACK_KILLS, from another FAILBACK_SEED.

use crate::command::{failback, start};
use crate::disks::folder;
use crate::host::LoopDevice;
use failback_testkit::{GeneratedDisk, Mutation, Random, asked};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LENGTH_BYTES: u64 = 16 << 20;

/// States of one disk, and their roots.
struct States {
    folder: TempDir,
    paths: Vec<PathBuf>,
    roots: Vec<String>,
}

impl States {
    /// The original first.
    fn new(seed: u64) -> Self {
        let folder = folder();
        let mut bytes = GeneratedDisk::new(seed, LENGTH_BYTES, 64 << 10).bytes();
        let mut paths = Vec::new();
        for state in 0..4 {
            let path = folder.path().join(format!("state-{state}.raw"));
            fs::write(&path, &bytes).expect("writes");
            paths.push(path);
            Mutation { seed: seed + state + 1, permille: 300 }.apply(&mut bytes);
        }
        let roots = paths.iter().map(|path| root_of(path)).collect();
        Self { folder, paths, roots }
    }
}

fn root_of(image: &Path) -> String {
    let hashed = failback([OsStr::new("hash"), image.as_os_str()]).success();
    hashed["root"].as_str().expect("a root").to_owned()
}

/// A target, its journal, and the root of each state that the journal has shown so far.
struct Target {
    image: PathBuf,
    journal: PathBuf,
    known: BTreeMap<u64, String>,
    /// How long a run takes that nobody kills.
    takes: Duration,
    kills: u64,
}

impl Target {
    fn sync(&self, source: &Path) -> Vec<OsString> {
        let words: [&OsStr; 6] = [
            "sync".as_ref(),
            "--journal".as_ref(),
            self.journal.as_ref(),
            "--accept-mismatch".as_ref(),
            source.as_ref(),
            self.image.as_ref(),
        ];
        words.map(OsString::from).into()
    }

    fn undo(&self, number: u64) -> Vec<OsString> {
        let number = number.to_string();
        let words: [&OsStr; 7] = [
            "journal".as_ref(),
            "undo".as_ref(),
            "--yes".as_ref(),
            "--to".as_ref(),
            number.as_ref(),
            self.journal.as_ref(),
            self.image.as_ref(),
        ];
        words.map(OsString::from).into()
    }

    /// What the journal shows: states that are new must be this one.
    fn look(&mut self, expected: &str) {
        let words: [&OsStr; 3] = ["journal".as_ref(), "show".as_ref(), self.journal.as_ref()];
        let shown = failback(words).success();
        let states = shown["states"].as_array().expect("states");
        let number = |state: &Value| state["number"].as_u64().expect("a number");
        for state in states {
            let said = state["root"].as_str();
            let known = self.known.entry(number(state)).or_insert_with(|| expected.to_owned());
            assert!(said.is_none_or(|said| said == known), "{:?}: {shown}", self.known);
        }
        let are_there = self.known.keys().all(|known| states.iter().any(|state| number(state) == *known));
        assert!(are_there, "{:?} were shown before: {shown}", self.known.keys());
    }

    /// Starts a run and kills it somewhere on its way.
    fn strike(&mut self, words: &[OsString], random: &mut Random) {
        let mut child = start(words);
        let moment = Duration::from_micros(random.below(self.takes.as_micros() as u64));
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        let handle = pidfd_open(id, PidfdFlags::empty()).expect("it is not waited for yet");
        let moment = Timespec { tv_sec: moment.as_secs() as i64, tv_nsec: i64::from(moment.subsec_nanos()) };
        let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&moment)).expect("can wait");
        child.kill().expect("may kill its own child");
        child.wait().expect("it ended");
        self.kills += u64::from(ended == 0);
    }

    /// A run that is killed, and what it leaves.
    fn life(&mut self, states: &States, random: &mut Random) {
        let at = random.below(self.known.len() as u64) as usize;
        let (number, root) =
            self.known.iter().nth(at).map(|(number, root)| (*number, root.clone())).expect("one");
        let source = 1 + random.below(3) as usize;
        let is_way_back = random.below(3) == 0;
        let (words, root) = match is_way_back {
            true => (self.undo(number), root),
            false => (self.sync(&states.paths[source]), states.roots[source].clone()),
        };
        self.strike(&words, random);
        self.look(&root);
        // Now and then the next run finds what this one left.
        if random.below(3) > 0 {
            let at = random.below(self.known.len() as u64) as usize;
            let (number, root) =
                self.known.iter().nth(at).map(|(number, root)| (*number, root.clone())).expect("one");
            failback(self.undo(number)).success();
            assert_eq!(root_of(&self.image), root, "state {number} of {}", self.image.display());
            self.look(&root);
        }
    }
}

/// Kills runs over a target that holds the original.
fn lives(image: PathBuf, states: &States, kind: &str) {
    let (kills, seed) = (asked("FAILBACK_KILLS", 12).div_ceil(4), asked("FAILBACK_SEED", 1));
    let journal = states.folder.path().join("journal");
    let mut target = Target { image, journal, known: BTreeMap::new(), takes: Duration::ZERO, kills: 0 };
    let began = Instant::now();
    failback(target.sync(&states.paths[1])).success();
    target.takes = began.elapsed();
    target.known.insert(0, states.roots[0].clone());
    target.look(&states.roots[1]);
    let mut random = Random::part(seed, kind.len() as u64);
    let mut lives = 0;
    while target.kills < kills {
        target.life(states, &mut random);
        lives += 1;
        assert!(lives < 10 * kills + 20, "runs end before they are struck");
    }
    for (number, root) in target.known.clone() {
        failback(target.undo(number)).success();
        assert_eq!(&root_of(&target.image), &root, "state {number}");
    }
    println!("| {kind}, by the command | {} | {} |", target.kills, target.known.len());
}

fn converted(states: &States, name: &str, options: &[&str]) -> PathBuf {
    let image = states.folder.path().join(name);
    let ends = [OsStr::new("sync"), states.paths[0].as_os_str(), image.as_os_str()];
    failback(ends.into_iter().chain(options.iter().map(OsStr::new))).success();
    image
}

#[test]
fn raw() {
    let states = States::new(1900);
    lives(converted(&states, "target.raw", &[]), &states, "raw");
}

#[test]
fn vmfs() {
    let states = States::new(1910);
    lives(converted(&states, "target.vmdk", &["--vmdk-type", "vmfs"]), &states, "vmfs");
}

#[test]
fn monolithic_sparse() {
    let states = States::new(1920);
    let options = ["--vmdk-type", "monolithicSparse"];
    lives(converted(&states, "target.vmdk", &options), &states, "monolithicSparse");
}

#[test]
fn loop_device() {
    let states = States::new(1930);
    let device = LoopDevice::new(&converted(&states, "target.raw", &[]), 512);
    lives(device.path().to_owned(), &states, "a loop device");
}
