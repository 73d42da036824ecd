//! Ctrl-C: a clean end, and a second run that finishes the job.

use crate::lab::{Ended, Lab};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Stdio};

/// Takes long enough to write that a signal sent when it begins arrives before it ends.
const LENGTH_BYTES: usize = 384 << 20;
/// On a machine that stops us for too long between two steps, the pass may win the race; it must not win all.
const ATTEMPTS: usize = 5;

/// Starts the command and interrupts it as soon as it has created its target.
fn interrupted(lab: &Lab, words: &[&str], target: &str) -> Ended {
    let mut child =
        lab.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    while !lab.path(target).exists() && is_running(&mut child) {
        std::thread::yield_now();
    }
    // It may have ended meanwhile; then there is nobody to interrupt.
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
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
