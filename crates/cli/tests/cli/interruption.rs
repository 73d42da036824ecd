//! Ctrl-C: a clean end, and a second run that finishes the job.

use crate::lab::{Ended, Lab};
use failback_blockio::draft_of;
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Stdio};

/// Takes long enough to write that a signal sent when it begins arrives before it ends.
const LENGTH_BYTES: usize = 384 << 20;
/// On a machine that stops us for too long between two steps, the pass may win the race; it must not win all.
const ATTEMPTS: usize = 5;

/// Starts the command and interrupts it as soon as it has created its target, or the draft of one that has no name before
/// it is whole.
fn interrupted(lab: &Lab, words: &[&str], target: &str) -> Ended {
    signalled(lab, words, target, Signal::INT)
}

/// The same with another signal.
fn signalled(lab: &Lab, words: &[&str], target: &str, signal: Signal) -> Ended {
    let mut child =
        lab.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let draft = draft_of(&lab.path(target));
    while !lab.path(target).exists() && !draft.exists() && is_running(&mut child) {
        std::thread::yield_now();
    }
    // It may have ended meanwhile; then there is nobody to interrupt.
    let _ = kill_process(Pid::from_child(&child), signal);
    child.wait_with_output().expect("it ends").into()
}

fn is_running(child: &mut Child) -> bool {
    child.try_wait().expect("it can be asked").is_none()
}

#[test]
fn ctrl_c_ends_cleanly_and_the_same_command_finishes() {
    let lab = Lab::new();
    lab.write("source.raw", &vec![0x5a; LENGTH_BYTES]);
    let words = ["sync", "--json", "--no-progress", "source.raw", "home.raw"];
    let ended = (0..ATTEMPTS)
        .map(|_| {
            let _ = std::fs::remove_file(lab.path("home.raw"));
            interrupted(&lab, &words, "home.raw")
        })
        .find(|ended| ended.code != 0)
        .expect("one of the attempts is interrupted in time");
    let report = ended.json(130);
    assert_eq!((&report["status"], &report["findings"][0]["code"]), (&"interrupted".into(), &"FB403".into()));
    assert_eq!(report["root"], serde_json::Value::Null);
    let finished = lab.run(&words).json(0);
    assert_eq!(finished["blocks_total"], LENGTH_BYTES / 65_536);
    assert!(lab.read("home.raw") == lab.read("source.raw"), "the second run finished the job");
}

#[test]
fn what_cannot_be_continued_is_removed() {
    let lab = Lab::new();
    lab.write("source.raw", &vec![0x5a; LENGTH_BYTES]);
    for (words, target) in [
        (&["image", "convert", "source.raw", "copy.raw"][..], "copy.raw"),
        (&["image", "convert", "source.raw", "copy.vmdk"], "copy.vmdk"),
        (&["sync", "--vmdk-type", "streamOptimized", "source.raw", "stream.vmdk"], "stream.vmdk"),
    ] {
        let ended = (0..ATTEMPTS)
            .map(|_| {
                let _ = std::fs::remove_file(lab.path("copy-flat.vmdk"));
                let _ = std::fs::remove_file(lab.path(target));
                interrupted(&lab, words, target)
            })
            .find(|ended| ended.code != 0)
            .expect("one of the attempts is interrupted in time");
        assert_eq!(ended.code, 130, "{ended:?}");
        assert!(ended.stderr.contains("error[FB403]"), "{ended:?}");
        assert_eq!(lab.names(), ["source.raw"], "after {words:?}");
    }
}

#[test]
fn a_lost_terminal_and_a_polite_kill_end_it_as_cleanly() {
    let lab = Lab::new();
    lab.write("source.raw", &vec![0x5a; LENGTH_BYTES]);
    let words = ["sync", "--json", "source.raw", "home.raw"];
    for signal in [Signal::HUP, Signal::TERM] {
        let ended = (0..ATTEMPTS)
            .map(|_| {
                let _ = std::fs::remove_file(lab.path("home.raw"));
                signalled(&lab, &words, "home.raw", signal)
            })
            .find(|ended| ended.code != 0)
            .expect("one of the attempts is interrupted in time");
        let report = ended.json(130);
        assert_eq!((&report["status"], &report["command"]), (&"interrupted".into(), &"sync".into()));
    }
}

#[test]
fn a_hash_that_is_stopped_says_how_far_it_came_and_leaves_nothing() {
    let lab = Lab::new();
    lab.write("source.raw", &vec![0x5a; LENGTH_BYTES]);
    let report = (0..ATTEMPTS)
        .map(|_| {
            let words = ["hash", "--json", "--manifest", "m", "source.raw"];
            let mut child =
                lab.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
            let draft = format!(".m.failback-{}", child.id());
            while !lab.path(&draft).exists() && is_running(&mut child) {
                std::thread::yield_now();
            }
            let _ = kill_process(Pid::from_child(&child), Signal::INT);
            let ended: Ended = child.wait_with_output().expect("it ends").into();
            let _ = std::fs::remove_file(lab.path("m"));
            ended
        })
        .find(|ended| ended.code != 0)
        .expect("one of the attempts is interrupted in time")
        .json(130);
    assert_eq!((&report["status"], &report["root"]), (&"interrupted".into(), &serde_json::Value::Null));
    assert_eq!(report["virtual_size_bytes"], LENGTH_BYTES);
    assert_eq!(lab.names(), ["source.raw"]);
}

#[test]
fn a_command_that_is_no_pass_ends_with_the_first_signal_and_says_so() {
    let lab = Lab::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    // Too small for the text, and nobody reads: the command waits.
    let small = rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("it can be made small");
    assert!(small <= 4096, "{small}");
    let child = lab.command(&["completions", "bash"]).stdout(writer).stderr(Stdio::piped()).spawn();
    let child = child.expect("it starts");
    while rustix::io::ioctl_fionread(&reader).expect("it can be asked") < 4096 {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it waits");
    let ended: Ended = child.wait_with_output().expect("it ends").into();
    let ended = ended.text(130);
    assert!(ended.stderr.starts_with("error[FB403]: stopped on request"), "{ended:?}");
}

#[test]
fn a_signal_that_was_ignored_before_stays_ignored() {
    let lab = Lab::new();
    lab.write("source.raw", &vec![0x5a; LENGTH_BYTES / 4]);
    let script = "trap '' HUP; exec \"$0\" sync -q source.raw home.raw";
    let mut child = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_failback")])
        .current_dir(lab.path(""))
        .spawn()
        .expect("a shell");
    while !lab.path("home.raw").exists() && is_running(&mut child) {
        std::thread::yield_now();
    }
    let _ = kill_process(Pid::from_child(&child), Signal::HUP);
    assert!(child.wait().expect("it ends").success());
    assert!(lab.read("home.raw") == lab.read("source.raw"));
}
