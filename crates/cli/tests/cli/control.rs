//! Commands that speak with a daemon where there is none, and the certificates of those that will be.

use crate::lab::{Ended, Lab};
use failback_model::Code;
use std::os::unix::fs::PermissionsExt as _;

const TARGET: &str = "failback://master-target/site-1";

/// Runs with `--pki pki`.
fn pki(lab: &Lab, words: &[&str]) -> Ended {
    lab.run(&[&["pki"], words, &["--pki", "pki"]].concat())
}

#[test]
fn a_daemon_that_does_not_run_is_named() {
    let lab = Lab::new();
    lab.write("web01.toml", b"id = 'web01'");
    for words in [
        &["stop", "web01"][..],
        &["resume", "web01"],
        &["verify", "web01"],
        &["verify", "web01", "--wait"],
        &["receipt", "show", "web01"],
        &["points", "list", "web01"],
        &["points", "verify", "web01"],
        &["cutover", "web01", "--point", "latest", "--yes"],
        &["cancel", "web01", "--dry-run"],
        &["receipt", "key"],
        &["status"],
        &["register", "web01.toml"],
        &["release", "web01", "--yes"],
        &["release", "web01", "--disk", "disk0"],
        &["bandwidth", "web01", "20M"],
        &["bandwidth", "web01", "--configured"],
        &["reload"],
        &["events"],
    ] {
        let words = [words, &["--socket", "absent.sock"]].concat();
        let stderr = lab.run(&words).text(1).stderr;
        assert!(stderr.starts_with("error[FB705]: daemon cannot be reached\n  absent.sock: "), "{stderr}");
        let json = lab.run(&[&words[..], &["--json"]].concat()).json(1);
        assert_eq!((&json["status"], &json["findings"][0]["code"]), (&"failed".into(), &"FB705".into()));
    }
    let stderr =
        lab.command(&["status"]).env("FAILBACK_SOCKET", "elsewhere.sock").output().expect("it starts").stderr;
    assert!(String::from_utf8_lossy(&stderr).contains("elsewhere.sock"));
}

#[test]
fn a_check_that_learns_nothing_is_unknown() {
    let lab = Lab::new();
    let ended = lab.run(&["status", "--check", "--socket", "absent.sock"]).text(3);
    assert!(ended.stdout.starts_with("FAILBACK UNKNOWN - 0 disks: absent.sock: "), "{ended:?}");
    let json = lab.run(&["status", "--check", "--json", "--socket", "absent.sock"]).json(3);
    assert_eq!((&json["level"], &json["exit_code"]), (&"unknown".into(), &3.into()));
}

#[test]
fn what_overwrites_a_machine_is_not_done_unasked() {
    let lab = Lab::new();
    insta::assert_snapshot!(lab.run(&["reprotect", "web01", "--socket", "absent.sock"]).text(3).stderr, @"
    error[FB709]: command was not confirmed
      Overwrite the target disks of web01 with what the process server reads? Nobody is there to ask
      remedy: run it on a terminal and confirm, or add --yes
    ");
    lab.run(&["reprotect", "web01", "--yes", "--socket", "absent.sock"]).text(1);
    let stderr = lab.run(&["release", "web01", "--socket", "absent.sock"]).text(3).stderr;
    assert!(stderr.contains("Forget web01 with all its disks? Nobody is there to ask"), "{stderr}");
    let wrong = lab.run(&["bandwidth", "web01", "fast", "--json"]).json(2);
    assert_eq!((&wrong["command"], &wrong["findings"][0]["code"]), (&"bandwidth".into(), &"FB901".into()));
    assert_eq!(lab.run(&["bandwidth", "web01", "--json"]).json(2)["findings"][0]["code"], "FB901");
    lab.write("many.toml", b"[[machine]]\nid = 'a'\n[[machine]]\nid = 'b'\n");
    let many = lab.run(&["register", "many.toml", "--json"]).json(3);
    assert_eq!(many["findings"][0]["evidence"], "many.toml: it defines 2 of them");
    assert_eq!(lab.run(&["register", "absent.toml", "--json"]).json(3)["findings"][0]["code"], "FB201");
    let stderr = lab.run(&["reprotect", "Web01"]).text(2).stderr;
    assert!(stderr.contains("an id has only"), "{stderr}");
}

#[test]
fn certificates_are_issued_renewed_revoked_and_shown() {
    let lab = Lab::new();
    let made = pki(&lab, &["init", "--json"]).json(0);
    assert_eq!(made["certificates"], serde_json::json!([]));
    assert_eq!(pki(&lab, &["init", "--json"]).json(3)["findings"][0]["code"], Code::PkiExists.as_str());
    let issued = pki(&lab, &["issue", TARGET, "--address", "127.0.0.1", "--export", "tls", "--json"]).json(0);
    assert_eq!((&issued["certificate"]["state"], &issued["key"]), (&"valid".into(), &"tls/key.pem".into()));
    let mode = std::fs::metadata(lab.path("tls/key.pem")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = pki(&lab, &["issue", TARGET, "--json"]).json(3);
    assert_eq!(again["findings"][0]["code"], Code::PkiCertificateExists.as_str());
    let renewed = pki(&lab, &["renew", TARGET, "--json"]).json(0);
    assert_ne!(renewed["certificate"]["serial"], issued["certificate"]["serial"]);
    assert_eq!(renewed["certificate"]["addresses"], serde_json::json!(["127.0.0.1"]));
    assert_eq!(pki(&lab, &["revoke", TARGET, "--json"]).json(3)["findings"][0]["code"], "FB709");
    let serial = issued["certificate"]["serial"].as_str().expect("text");
    let revoked = pki(&lab, &["revoke", "--serial", serial, "--yes", "--json"]).json(0);
    assert_eq!(revoked["certificates"].as_array().map(Vec::len), Some(1));
    let shown = pki(&lab, &["show", "--json"]).json(0);
    let states: Vec<_> =
        shown["certificates"].as_array().expect("a list").iter().map(|c| &c["state"]).collect();
    assert_eq!(states, ["revoked", "valid"]);
    let text = pki(&lab, &["show"]).text(0).stdout;
    assert!(text.starts_with("failback in pki, until 20") && text.contains(TARGET), "{text}");
    let stderr = pki(&lab, &["revoke", "--yes"]).text(2).stderr;
    assert!(stderr.contains("<IDENTITY|--serial <HEX>>"), "{stderr}");
    assert_eq!(pki(&lab, &["issue", "failback://nobody/x"]).text(2).stdout, "");
}
