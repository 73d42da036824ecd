//! What is shown while a pass runs, on a pipe and on a terminal.

use crate::lab::{Ended, Lab};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::Read;
use std::process::Stdio;

/// Long enough for a look every millisecond.
const LENGTH: u64 = 64 << 20;

fn lines(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.contains(" %: ")).collect()
}

#[test]
fn plain_lines_end_with_all_of_it() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, LENGTH);
    lab.noise("seed.raw", 2, 8 << 20);
    lab.write("target.raw", &lab.changed("source.raw", &[5000]));
    let words = ["sync", "--verify", "source.raw", "target.raw", "--seed", "seed.raw"];
    let ended: Ended =
        lab.command(&words).env("FAILBACK_PROGRESS_MS", "1").output().expect("it starts").into();
    let ended = ended.text(0);
    let shown = lines(&ended.stderr);
    assert!(shown.len() > 2, "{}", ended.stderr);
    let first = shown[0];
    for counter in ["seeds ", "scanned ", "differing ", "shipped ", "written ", "verified "] {
        assert!(first.contains(counter), "{counter}: {first}");
    }
    let last = shown[shown.len() - 1];
    assert!(last.starts_with("100 %: seeds 8 MiB"), "{last}");
    assert!(last.contains("verified 64 MiB"), "{last}");
    assert!(!ended.stdout.contains(" %: "), "{}", ended.stdout);
}

#[test]
fn a_trimmed_source_reaches_all_of_it_too() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 16 << 20);
    let bytes = lab.read("source.raw");
    lab.write("target.raw", &bytes);
    lab.write("source.raw", &[bytes, vec![0; 16 << 20]].concat());
    let words = ["sync", "source.raw", "target.raw"];
    let ended: Ended =
        lab.command(&words).env("FAILBACK_PROGRESS_MS", "1").output().expect("it starts").into();
    let ended = ended.text(0);
    let shown = lines(&ended.stderr);
    let last = shown.last().expect("a look every millisecond");
    assert!(last.starts_with("100 %: scanned 32 MiB"), "{last}");
}

#[test]
fn no_progress_is_none() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, LENGTH);
    for word in ["--no-progress", "--quiet"] {
        let ended: Ended = lab
            .command(&["sync", word, "source.raw", &format!("new{word}.raw")])
            .env("FAILBACK_PROGRESS_MS", "1")
            .output()
            .expect("it starts")
            .into();
        assert_eq!(ended.text(0).stderr, "");
    }
}

#[test]
fn a_terminal_gets_a_bar_that_goes_away() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, LENGTH);
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("it can be used");
    let name = ptsname(&master, Vec::new()).expect("it has a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("it opens");
    let child = lab
        .command(&["sync", "source.raw", "new.raw"])
        .env("FAILBACK_PROGRESS_MS", "1")
        .env("TERM", "xterm")
        .stdout(Stdio::piped())
        .stderr(terminal)
        .spawn()
        .expect("it starts");
    let reader = std::thread::spawn(move || {
        let (mut seen, mut part) = (Vec::new(), [0; 4096]);
        // A terminal whose other end is closed gives an error, not an end.
        let mut master = File::from(master);
        while let Ok(count @ 1..) = master.read(&mut part) {
            seen.extend_from_slice(&part[..count]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    });
    let ended: Ended = child.wait_with_output().expect("it ends").into();
    ended.text(0);
    let seen = reader.join().expect("the terminal was read");
    assert!(seen.contains("% [") && seen.contains("scanned "), "{seen:?}");
    assert!(seen.contains('\u{1b}'), "the bar is drawn in place: {seen:?}");
    let after = seen.rsplit("% [").next().unwrap_or_default();
    assert!(after.contains("\u{1b}[2K") || after.contains("\u{1b}[J"), "the bar is taken away: {after:?}");
}
