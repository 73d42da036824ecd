//! `hash` as scripts meet it: the same fields however it ends, and a manifest that is whole or not there.

use crate::lab::Lab;

const PROMISED: [&str; 12] = [
    "image",
    "format",
    "root",
    "block_size_bytes",
    "virtual_size_bytes",
    "length_bytes",
    "blocks_total",
    "bytes_read_source",
    "manifest",
    "elapsed_seconds",
    "seconds_per_stage",
    "limiting_stage",
];

#[test]
fn json_has_every_field_however_it_ends() {
    let lab = Lab::new();
    lab.noise("disk.raw", 1, 100_000);
    for (words, code) in [
        (&["disk.raw"][..], 0),
        (&["absent.raw"], 3),
        (&["disk.raw", "--block-size", "3K"], 2),
        (&["disk.raw", "--manifest", "disk.raw"], 3),
    ] {
        let ended = lab.run(&[&["hash", "--json"], words].concat()).json(code);
        for field in PROMISED {
            assert!(ended.get(field).is_some(), "{field} of {words:?}: {ended:#}");
        }
        assert_eq!(ended["image"], words[0]);
        assert_eq!(ended["root"].is_string(), code == 0);
        assert!(ended["seconds_per_stage"]["scan_source"].is_number());
    }
    let done = lab.run(&["hash", "--json", "disk.raw"]).json(0);
    assert_eq!((&done["virtual_size_bytes"], &done["bytes_read_source"]), (&100_000.into(), &100_000.into()));
}

#[test]
fn a_manifest_replaces_nothing_and_a_killed_run_hinders_nobody() {
    let lab = Lab::new();
    lab.noise("disk.raw", 1, 100_000);
    lab.write("taken.manifest", b"something");
    let refused = lab.run(&["hash", "--json", "--manifest", "taken.manifest", "disk.raw"]).json(3);
    assert_eq!((&refused["findings"][0]["code"], &refused["status"]), (&"FB109".into(), &"refused".into()));
    assert_eq!(lab.read("taken.manifest"), b"something");
    let refused = lab.run(&["hash", "--json", "--manifest", "missing/x.manifest", "disk.raw"]).json(3);
    assert_eq!(refused["findings"][0]["code"], "FB207");
    let evidence = refused["findings"][0]["evidence"].as_str().expect("text");
    assert!(evidence.contains("missing/x.manifest"), "{evidence}");

    // What a killed run leaves: a draft under the name of a process that is gone.
    let gone = std::process::Command::new("true").spawn().expect("it starts");
    let number = gone.id();
    gone.wait_with_output().expect("it ends");
    lab.write(&format!(".disk.manifest.failback-{number}"), b"half");
    lab.run(&["hash", "--manifest", "disk.manifest", "disk.raw"]).text(0);
    assert_eq!(lab.names(), ["disk.manifest", "disk.raw", "taken.manifest"]);
}

#[test]
fn a_source_that_fails_leaves_no_manifest() {
    let lab = Lab::new();
    lab.noise("disk.raw", 1, 1 << 20);
    lab.run(&["image", "convert", "--vmdk-type", "streamOptimized", "disk.raw", "disk.vmdk"]).text(0);
    let mut bytes = lab.read("disk.vmdk");
    // A grain's data, far from the tables that opening checks.
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xff);
    lab.write("disk.vmdk", &bytes);
    let failed = lab.run(&["hash", "--json", "--manifest", "disk.manifest", "disk.vmdk"]);
    assert_ne!(failed.code, 0, "{failed:?}");
    let code = failed.code;
    let report = failed.json(code);
    assert_eq!((&report["image"], &report["format"]), (&"disk.vmdk".into(), &"streamOptimized".into()));
    assert!(report["findings"][0]["path"].is_string(), "{report:#}");
    assert_eq!(lab.names(), ["disk.raw", "disk.vmdk"]);
}
