//! `sync --journal` and `failback journal`: a one-shot that can be taken back.

use crate::lab::Lab;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const MIB: u64 = 1 << 20;

/// A target that two passes went over: `original`, then `first`, then `second`.
fn passed_over(format: &str) -> (Lab, String) {
    let lab = Lab::new();
    lab.disk("original.raw", 1, 8 * MIB);
    lab.write("first.raw", &lab.changed("original.raw", &[0, 70_000, 3 << 20]));
    lab.write("second.raw", &lab.changed("first.raw", &[70_000, 5 << 20]));
    let target = format!("target.{format}");
    lab.run(&["sync", "original.raw", &target]).text(0);
    for (source, state) in [("first.raw", 1), ("second.raw", 2)] {
        let said =
            lab.run(&["sync", "--json", "--accept-mismatch", "--journal", "j", source, &target]).json(0);
        assert_eq!((said["state"].as_u64(), said["journal"].as_str()), (Some(state), Some("j")));
    }
    (lab, target)
}

fn assert_is(lab: &Lab, target: &str, source: &str) {
    let root = |name: &str| lab.run(&["hash", "--json", name]).json(0)["root"].clone();
    assert_eq!(root(target), root(source), "{target} is {source}");
}

#[test]
fn every_state_of_a_one_shot_is_had_back_and_a_commit_is_final() {
    for format in ["raw", "vmdk", "vhd"] {
        let (lab, target) = passed_over(format);
        let back =
            |to: &str| lab.run(&["journal", "undo", "--yes", "--json", "--to", to, "j", &target]).json(0);
        assert_eq!(back("1")["state"], 3);
        assert_is(&lab, &target, "first.raw");
        assert_eq!(back("2")["state"], 4);
        assert_is(&lab, &target, "second.raw");
        assert_eq!(back("0")["state"], 5);
        assert_is(&lab, &target, "original.raw");
        let shown = lab.run(&["journal", "show", "--json", "j"]).json(0);
        let restored: Vec<_> = shown["states"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|state| state["restored"].as_u64())
            .collect();
        assert_eq!(restored, [None, None, None, Some(1), Some(2), Some(0)]);
        assert!(lab.run(&["journal", "show", "j"]).text(0).stdout.contains("what state 2 was"));
        let committed = lab.run(&["journal", "commit", "--yes", "--json", "j"]).json(0);
        assert!(committed["freed_bytes"].as_u64() > Some(0));
        let again = lab.run(&["journal", "commit", "--yes", "--json", "j"]).json(3);
        assert_eq!(again["findings"][0]["code"], "FB606");
        let gone = lab.run(&["journal", "undo", "--yes", "--json", "j", &target]).json(3);
        assert_eq!(gone["findings"][0]["code"], "FB607");
        lab.run(&["sync", "--journal", "j", "first.raw", &target]).text(0);
        assert_eq!(back("0")["asked"], 0, "what it was when it was committed");
        assert_is(&lab, &target, "original.raw");
    }
}

#[test]
fn what_something_else_wrote_is_told_before_anything_is_written() {
    let (lab, target) = passed_over("raw");
    lab.write(&target, &lab.changed(&target, &[2 << 20]));
    let before = lab.read(&target);
    for words in [
        &["journal", "undo", "--yes", "--json", "j", &target][..],
        &["sync", "--json", "--journal", "j", "first.raw", &target],
        &["sync", "--json", "--dry-run", "--journal", "j", "first.raw", &target],
    ] {
        let refused = lab.run(words).json(3);
        assert_eq!(refused["findings"][0]["code"], "FB312", "{words:?}");
        assert_eq!(lab.read(&target), before, "{words:?}");
    }
    lab.run(&["sync", "--accept-divergence", "--journal", "j", "first.raw", &target]).text(0);
    assert_is(&lab, &target, "first.raw");
    let refused = lab.run(&["journal", "undo", "--yes", "--json", "j", &target]).json(3);
    assert_eq!(refused["findings"][0]["code"], "FB607", "no way back over what nobody logged");
}

#[test]
fn nothing_is_done_unasked() {
    let (lab, target) = passed_over("raw");
    for words in [&["journal", "undo", "--json", "j", &target][..], &["journal", "commit", "--json", "j"]] {
        assert_eq!(lab.run(words).json(3)["findings"][0]["code"], "FB709");
    }
    assert_is(&lab, &target, "second.raw");
    for words in [&["journal", "show", "--json", "k"][..], &["journal", "commit", "--yes", "--json", "k"]] {
        assert_eq!(lab.run(words).json(3)["findings"][0]["code"], "FB201");
    }
    assert!(!lab.path("k").exists(), "a wrong path makes no journal");
    lab.run(&["sync", "--dry-run", "--journal", "k", "first.raw", &target]).text(0);
    assert!(!lab.path("k").exists(), "a dry run neither");
    let mode = |name: &str| fs::metadata(lab.path(name)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode("j/undo"), 0o700);
    let held = fs::read_dir(lab.path("j/undo")).expect("it can be listed");
    for file in held
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|end| end == "fbu"))
    {
        assert_eq!(mode(file.to_str().expect("text")), 0o600, "{}", file.display());
    }
}

#[test]
fn a_new_disk_has_no_original_and_later_states_come_back() {
    let lab = Lab::new();
    lab.disk("first.raw", 1, 4 * MIB);
    lab.write("second.raw", &lab.changed("first.raw", &[9000]));
    lab.run(&["sync", "--journal", "j", "first.raw", "new.vmdk"]).text(0);
    lab.run(&["sync", "--journal", "j", "second.raw", "new.vmdk"]).text(0);
    lab.run(&["journal", "undo", "--yes", "--to", "1", "j", "new.vmdk"]).text(0);
    assert_is(&lab, "new.vmdk", "first.raw");
    lab.run(&["journal", "undo", "--yes", "--to", "0", "j", "new.vmdk"]).text(3);
    let warned = lab
        .run(&["sync", "--json", "--vmdk-type", "streamOptimized", "--journal", "k", "first.raw", "s.vmdk"])
        .json(0);
    assert_eq!(warned["findings"][0]["code"], "FB901");
}
