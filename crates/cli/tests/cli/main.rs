//! The command as its users meet it: texts, JSON, exit codes and what it leaves on the disk.

mod control;
mod daemon;
mod errors;
mod formats;
mod hash;
mod interruption;
mod journal;
mod lab;
mod plan;
mod progress;
mod receipts;
mod seeds;
mod targets;
mod texts;

use lab::Lab;
use serde_json::Value;

/// What the product promises of every `sync --json`, however it ends.
const PROMISED: [&str; 25] = [
    "status",
    "exit_code",
    "version",
    "findings",
    "strategy",
    "virtual_size_bytes",
    "block_size_bytes",
    "bytes_read_source",
    "bytes_read_target",
    "bytes_to_target",
    "bytes_to_source",
    "bytes_written",
    "blocks_total",
    "blocks_differing",
    "pages_shipped",
    "zero_bytes",
    "seed_bytes",
    "root",
    "verified",
    "elapsed_seconds",
    "seconds_per_stage",
    "limiting_stage",
    "full_copy_bytes",
    "egress_saved_bytes",
    "blocks_repaired",
];

const LENGTH: u64 = (1 << 20) + 4608;

#[test]
fn sync_updates_in_place_and_a_second_run_finds_nothing_to_do() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, LENGTH);
    lab.write("target.raw", &lab.changed("source.raw", &[5000, 700_000]));
    let first = lab.run(&["sync", "--verify", "--json", "source.raw", "target.raw"]).json(0);
    assert_eq!(lab.read("target.raw"), lab.read("source.raw"));
    assert_eq!((&first["strategy"], &first["verified"]), (&"original-location".into(), &true.into()));
    assert_eq!(first["blocks_differing"], 2);
    assert_eq!(first["pages_shipped"], 2);
    assert_eq!(first["blocks_total"], 17);
    assert_eq!((&first["virtual_size_bytes"], &first["verified_bytes"]), (&LENGTH.into(), &LENGTH.into()));
    let second = lab.run(&["sync", "--json", "source.raw", "target.raw"]).json(0);
    assert_eq!((&second["blocks_differing"], &second["bytes_written"]), (&0.into(), &0.into()));
    assert_eq!(first["root"], second["root"]);
}

#[test]
fn sync_creates_what_is_missing() {
    let lab = Lab::new();
    lab.disk("source.raw", 2, LENGTH);
    let done = lab.run(&["sync", "--json", "source.raw", "new.raw"]).json(0);
    assert_eq!(done["strategy"], "alternate-location");
    assert_eq!(lab.read("new.raw"), lab.read("source.raw"));
}

#[test]
fn json_has_every_promised_field_however_it_ends() {
    let lab = Lab::new();
    lab.noise("source.raw", 3, LENGTH);
    lab.disk("short.raw", 3, 65_536);
    for (words, code, status) in [
        (&["source.raw", "new.raw"][..], 0, "done"),
        (&["source.raw", "short.raw"], 3, "refused"),
        (&["absent.raw", "new2.raw"], 3, "refused"),
        (&["source.raw", "new3.raw", "--block-size", "3K"], 2, "refused"),
    ] {
        let ended = lab.run(&[&["sync", "--json"], words].concat()).json(code);
        for field in PROMISED {
            assert!(ended.get(field).is_some(), "{field} is missing of {words:?}");
        }
        assert_eq!((&ended["status"], &ended["exit_code"]), (&status.into(), &code.into()));
        let findings = ended["findings"].as_array().expect("findings are a list");
        assert_eq!(findings.is_empty(), code == 0);
        for finding in findings {
            for field in ["code", "severity", "title", "evidence", "remedy"] {
                assert!(!finding[field].as_str().expect("text").is_empty(), "{field} of {finding}");
            }
        }
    }
}

#[test]
fn stages_are_named_in_the_order_of_the_data_path() {
    let lab = Lab::new();
    lab.disk("source.raw", 4, LENGTH);
    let line = lab.run(&["sync", "--json", "source.raw", "new.raw"]).stdout;
    let place =
        |stage: &str| line.find(&format!("\"{stage}\":")).unwrap_or_else(|| panic!("{stage}: {line}"));
    let stages =
        ["scan_source", "scan_target", "seeds", "refine", "pack", "unpack", "write", "flush", "verify"]
            .map(place);
    assert!(stages.is_sorted());
}

#[test]
fn a_dry_run_writes_nothing() {
    let lab = Lab::new();
    lab.noise("source.raw", 5, LENGTH);
    lab.write("target.raw", &lab.changed("source.raw", &[0]));
    lab.disk("short.raw", 6, 65_536);
    let before = lab.state();
    let plan = lab.run(&["sync", "--dry-run", "--json", "source.raw", "target.raw"]).json(0);
    assert_eq!((&plan["status"], &plan["strategy"]), (&"planned".into(), &"original-location".into()));
    let plan = lab.run(&["sync", "--dry-run", "--json", "source.raw", "new.vmdk"]).json(0);
    assert_eq!((&plan["blocks_total"], &plan["strategy"]), (&17.into(), &"alternate-location".into()));
    let refused = lab.run(&["sync", "--dry-run", "source.raw", "short.raw"]).text(3);
    assert!(refused.stdout.starts_with("plan: source.raw -> short.raw"), "{}", refused.stdout);
    assert!(refused.stderr.contains("error[FB306]"), "{}", refused.stderr);
    assert_eq!(lab.state(), before);
}

#[test]
fn refusing_leaves_nothing_behind() {
    let lab = Lab::new();
    lab.noise("source.raw", 7, LENGTH);
    lab.disk("short.raw", 7, 65_536);
    lab.disk("odd", 7, 65_536);
    let before = lab.state();
    for (words, code) in [
        (&["sync", "source.raw", "short.raw"][..], "FB306"),
        (&["sync", "source.raw", "source.raw"], "FB308"),
        (&["sync", "source.raw", "./source.raw"], "FB308"),
        (&["sync", "odd", "new.raw"], "FB101"),
        (&["sync", "source.raw", "new"], "FB101"),
        (&["sync", "source.raw", "new.raw", "--seed", "absent.raw"], "FB405"),
        (&["sync", "source.raw", "new.raw", "--seed", "new.raw"], "FB405"),
        (&["sync", "source.raw", "short.raw", "--grow", "--seed", "short.raw"], "FB405"),
        (&["image", "convert", "source.raw", "short.raw"], "FB109"),
        (&["image", "convert", "absent.raw", "new.raw"], "FB201"),
        (&["image", "create", "short.raw", "1M"], "FB109"),
        (&["image", "create", "new.vmdk", "65T"], "FB108"),
        (&["hash", "absent.raw"], "FB201"),
    ] {
        let ended = lab.run(words).text(3);
        assert!(ended.stderr.contains(&format!("error[{code}]: ")), "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("\n  remedy: "), "{words:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{words:?}");
        assert_eq!(lab.state(), before, "{words:?}");
    }
}

#[test]
fn options_without_effect_are_named() {
    let lab = Lab::new();
    lab.disk("source.raw", 8, 65_536);
    lab.disk("target.raw", 8, 65_536);
    let ended = lab.run(&["sync", "--provisioning", "thick", "source.raw", "target.raw"]).text(0);
    assert!(ended.stderr.starts_with("warning[FB901]"), "{}", ended.stderr);
}

#[test]
fn quiet_is_quiet_until_something_is_wrong() {
    let lab = Lab::new();
    lab.disk("source.raw", 9, 65_536);
    let done = lab.run(&["sync", "-q", "source.raw", "new.raw"]).text(0);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    let wrong = lab.run(&["sync", "-q", "absent.raw", "new.raw"]).text(3);
    assert!(wrong.stderr.starts_with("error[FB201]"), "{}", wrong.stderr);
}

#[test]
fn nothing_of_the_progress_reaches_standard_output() {
    let lab = Lab::new();
    lab.disk("source.raw", 10, LENGTH);
    let done = lab.run(&["sync", "source.raw", "new.raw"]).text(0);
    assert_eq!(done.stderr, "", "a short pass shows no plain lines");
    assert!(
        done.stdout.starts_with("source.raw -> new.raw (alternate-location)\n  read "),
        "{}",
        done.stdout
    );
    let root = lab.run(&["hash", "--json", "new.raw"]).json(0);
    let root = root["root"].as_str().expect("a root");
    assert!(done.stdout.contains(root), "{root} in {}", done.stdout);
}

#[test]
fn a_usage_error_is_json_too() {
    let ended = Lab::new().run(&["sync", "--json", "only-one.raw"]).json(2);
    assert_eq!(ended["findings"][0]["code"], "FB901");
    let evidence = ended["findings"][0]["evidence"].as_str().expect("text");
    assert!(evidence.contains("<DST>"), "{evidence}");
    assert_eq!(Value::from("refused"), ended["status"]);
}
