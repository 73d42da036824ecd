//! The command steers both daemons: nothing of it needs the control socket by hand.

use super::assert_equal;
use crate::command::failback;
use crate::sites::{Sites, new_disk, source_disk, target_machine};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

#[track_caller]
pub(super) fn steer(socket: &Path, words: &[&str]) -> Value {
    let words = words.iter().map(OsStr::new).chain([OsStr::new("--socket"), socket.as_os_str()]);
    failback(words).success()
}

#[test]
fn a_machine_is_registered_throttled_replicated_and_released_by_commands() {
    let sites = Sites::new();
    let source = sites.random_disk("source.raw", 1450, 4 << 20);
    let target = sites.path("target.raw");
    let mut mt = sites.master_target(&[], &json!({}));
    let mut ps = sites.process_server(&[], &json!({}));
    let write = |name: &str, value: &Value| {
        fs::write(sites.path(name), value.to_string()).expect("writes");
        sites.path(name).display().to_string()
    };
    let there = write("there.json", &target_machine("app01", &[]));
    let here = write("here.json", &sites.source_machine("app01", &[source_disk("disk0", &source)]));
    let disk = write("disk.json", &new_disk("disk0", &target));
    steer(&mt.socket(), &["register", &there]);
    steer(&mt.socket(), &["register", "--disk-of", "app01", &disk]);
    let said = steer(&ps.socket(), &["register", &here, "--job", "first"]);
    assert_eq!((&said["said"], &said["repeated"]), (&json!("app01 is registered"), &json!(false)));
    assert_eq!(steer(&ps.socket(), &["register", &here, "--job", "first"])["repeated"], true);
    steer(&ps.socket(), &["bandwidth", "app01", "50M"]);
    steer(&ps.socket(), &["reload"]);
    steer(&ps.socket(), &["reprotect", "app01", "--yes"]);
    ps.sealed("disk0");
    mt.sealed("disk0");
    assert_equal(&source, &target);
    steer(&ps.socket(), &["bandwidth", "app01", "--configured"]);
    for daemon in [&ps, &mt] {
        steer(&daemon.socket(), &["release", "app01", "--disk", "disk0"]);
        steer(&daemon.socket(), &["release", "app01", "--yes"]);
        assert!(daemon.status().machines.is_empty() && target.exists());
    }
}
