//! What ships with the daemon: the reference of its configuration, an example, a unit.

use failback_process_server::config::Config;
use failback_service::config::{load, reference};
use failback_testkit::{assert_part, repository};
use std::process::Command;

#[test]
fn the_reference_is_what_the_types_say() {
    let document = repository(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
    assert_part(&document, "process-server", &reference::<Config>());
}

#[test]
fn the_example_is_accepted() {
    let example = repository(env!("CARGO_MANIFEST_DIR")).join("packaging/examples/process-server.toml");
    load::<Config>(&example).expect("it is valid");
    let checked = Command::new(env!("CARGO_BIN_EXE_failback-process-server"))
        .arg("--check-config")
        .arg("--config")
        .arg(&example)
        .output()
        .expect("it starts");
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stdout).ends_with(": the configuration is valid\n"));
}

#[test]
fn what_is_wrong_with_a_configuration_has_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wrong.toml");
    std::fs::write(&path, "admin = 'off'\nadmn = 'off'\n").expect("it can be written");
    let checked = Command::new(env!("CARGO_BIN_EXE_failback-process-server"))
        .args(["--check-config", "--config"])
        .arg(&path)
        .output()
        .expect("it starts");
    assert_eq!(checked.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&checked.stderr);
    assert!(stderr.starts_with("error[FB701]: configuration is invalid\n"), "{stderr}");
    assert!(stderr.contains("wrong.toml:2:1: unknown field `admn`"), "{stderr}");
}

#[test]
fn the_unit_has_what_it_promises() {
    let unit =
        repository(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd/failback-process-server.service");
    let text = std::fs::read_to_string(&unit).expect("it is there");
    for line in [
        "Type=notify",
        "WatchdogSec=60s",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "LoadCredential=key.pem:/etc/failback/tls/key.pem",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "SystemCallFilter=@system-service",
        "MemoryDenyWriteExecute=yes",
        "StateDirectory=failback/process-server",
        "RuntimeDirectory=failback",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}");
    }
    // The judge itself, where this host has it; the unit's programs need not be installed.
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().join("failback-process-server.service");
    std::fs::write(&here, text.replace("/usr/bin/failback-process-server", "/bin/true")).expect("written");
    if let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&here).output() {
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(!said.contains("failback-process-server.service"), "{said}");
    }
}
