//! Processes that are killed at random moments of passes, seals, rollbacks, thinning and commits, on images of every kind
//! that is written in place: what was acknowledged stays, and every sealed point restores exactly.
//!
//! `tools/long undo-kill` asks for more kills by FAILBACK_KILLS, from another FAILBACK_SEED.

use crate::judge::judge;
use crate::machine_model::{Note, Notes, Opened, Site, all_bytes, original};
use crate::note_text::{decode, encode};
use crate::player::Player;
use crate::support::machine;
use crate::undo_oracle::{Segments, segments_in};
use failback_image::{Access, CreateOptions, ImageSpec, VmdkType};
use failback_store::MachineStore;
use failback_testkit::{LoopDevice, Random, asked, reopen};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const FOLDER: &str = "FAILBACK_STORE_KILL_FOLDER";
const IMAGES: &str = "FAILBACK_STORE_KILL_IMAGES";
const SEED: &str = "FAILBACK_STORE_KILL_SEED";
const NAME: &str = "undo_kill::killed_processes_leave_ways_back";

/// Images and folders of this host.
struct Host {
    folder: PathBuf,
    images: Vec<PathBuf>,
    notes: Option<Mutex<File>>,
}

impl Site for Host {
    fn open(&self) -> Opened {
        let open =
            || MachineStore::open(&self.folder.join("store"), Some(&self.folder.join("undo")), &machine());
        let store = open().unwrap_or_else(|error| panic!("recovery: {error}"));
        let image = |path: &PathBuf| reopen(|| failback_image::open(&ImageSpec::parse(path), Access::Write));
        Opened::new(store, self.images.iter().map(image).collect())
    }

    fn undo(&self) -> Segments {
        segments_in(&self.folder.join("undo"))
    }

    fn position(&self) -> u64 {
        0
    }

    fn noted(&self, note: &Note) {
        if let Some(notes) = &self.notes {
            let mut notes = notes.lock().expect("no test panics with it");
            notes.write_all(encode(note).as_bytes()).expect("noted");
        }
    }
}

impl Host {
    fn notes_path(&self) -> PathBuf {
        self.folder.join("notes")
    }

    fn read_notes(&self) -> Notes {
        let text = std::fs::read_to_string(self.notes_path()).unwrap_or_default();
        decode(&text).into_iter().map(|note| (0, note)).collect()
    }

    fn write_notes(&self, notes: &Notes) {
        let text: String = notes.iter().map(|(_, note)| encode(note)).collect();
        std::fs::write(self.notes_path(), text).expect("noted");
    }
}

/// What the process does that is killed: goes on with the history that it finds, for ever.
fn play_until_killed(folder: PathBuf) {
    let images = std::env::var(IMAGES).expect("the images");
    let mut host = Host { folder, images: images.split(' ').map(PathBuf::from).collect(), notes: None };
    let notes = host.read_notes();
    host.notes = Some(Mutex::new(OpenOptions::new().append(true).open(host.notes_path()).expect("opened")));
    let seed = asked(SEED, 0);
    let opened = host.open();
    let mut player = match Player::resume(&host, opened, &notes, seed) {
        Some(player) => player,
        None => Player::new(&host, original(), seed),
    };
    println!("\nplaying");
    std::io::stdout().flush().expect("the parent reads");
    loop {
        player.play(1);
    }
}

fn start(host: &Host, seed: u64) -> Child {
    let images: Vec<_> = host.images.iter().map(|path| path.to_str().expect("text")).collect();
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", NAME, "--nocapture"])
        .env(FOLDER, &host.folder)
        .env(IMAGES, images.join(" "))
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let is_playing = lines.map_while(Result::ok).any(|line| line == "playing");
    assert!(is_playing, "it ended by itself: {:?}", child.wait());
    child
}

/// Bytes that a child has noted.
fn noted_bytes(host: &Host) -> u64 {
    std::fs::metadata(host.notes_path()).map_or(0, |notes| notes.len())
}

/// One life: a process plays until it has noted so much, and is killed within the next milliseconds; what it leaves is
/// judged.
fn life(host: &Host, random: &mut Random, seed: u64, what: &str) {
    let mut child = start(host, seed);
    let blow_at = noted_bytes(host) + random.below(40_000);
    while noted_bytes(host) < blow_at {
        assert!(child.try_wait().expect("it is asked").is_none(), "{what}: it failed by itself");
        std::thread::yield_now();
    }
    let blow_at = Instant::now() + Duration::from_micros(random.below(30_000));
    while Instant::now() < blow_at {
        std::thread::yield_now();
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let notes = host.read_notes();
    let opened = host.open();
    let more = judge(host, &opened, &notes, u64::MAX, random, what);
    host.write_notes(&notes.into_iter().chain(more).collect());
}

/// Makes an image and writes a disk into it.
fn make(path: &Path, kind: Option<VmdkType>, bytes: &[u8]) {
    let options =
        CreateOptions { vmdk_type: kind.unwrap_or_default(), ..CreateOptions::new(bytes.len() as u64) };
    let image = failback_image::create(&ImageSpec::parse(path), &options).expect("made");
    image.write_at(0, bytes).expect("written");
    image.flush().expect("flushed");
    image.close().expect("closed");
}

#[test]
fn killed_processes_leave_ways_back() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return play_until_killed(folder.into());
    }
    let (kills, first) = (asked("FAILBACK_KILLS", 12), asked("FAILBACK_SEED", 1));
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let disks: Vec<Vec<u8>> =
        original().iter().enumerate().map(|(disk, pages)| all_bytes(disk, pages)).collect();
    let pairs = [
        [("a.raw", None), ("a.vmdk", Some(VmdkType::Vmfs))],
        [("b.vmdk", Some(VmdkType::MonolithicSparse)), ("b.raw", None)],
    ];
    let mut machines = Vec::new();
    for (number, pair) in pairs.into_iter().enumerate() {
        let images = pair.iter().zip(&disks).map(|((name, kind), bytes)| {
            make(&path(name), *kind, bytes);
            path(name)
        });
        machines.push((images.collect::<Vec<_>>(), path(&format!("machine-{number}"))));
    }
    // A disk that was hot-added to this host.
    let device = LoopDevice::attach(&machines[1].0[1], 512);
    machines[1].0[1] = device.path().into();
    let mut random = Random::new(first);
    for (images, folder) in &machines {
        std::fs::create_dir(folder).expect("made");
        let host = Host { folder: folder.clone(), images: images.clone(), notes: None };
        host.write_notes(&Notes::new());
        let half = kills.div_ceil(machines.len() as u64);
        for life_number in 0..half {
            let seed = first * 1000 + life_number;
            life(&host, &mut random, seed, &format!("{images:?}, seed {first}, life {life_number}"));
        }
        let kinds =
            if images[1].starts_with("/dev") { "monolithicSparse and a loop device" } else { "raw and vmfs" };
        println!("| {kinds} | {half} | {} |", host.open().store.points().len());
    }
}
