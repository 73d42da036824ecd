//! A dry run and the run that follows it say the same, and neither makes anything where one of them refuses.

use crate::lab::Lab;
use serde_json::Value;

/// Codes of the errors among the findings.
fn errors(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().expect("a list");
    let errors = findings.iter().filter(|finding| finding["severity"] == "error");
    errors.map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect()
}

/// Runs both and compares what they refuse.
#[track_caller]
fn refused(lab: &Lab, words: &[&str], codes: &[&str]) -> Value {
    let before = lab.state();
    let exit = if codes == ["FB901"] { 2 } else { 3 };
    let planned = lab.run(&[&["sync", "--dry-run", "--json"], words].concat()).json(exit);
    let run = lab.run(&[&["sync", "--json"], words].concat()).json(exit);
    assert_eq!(errors(&planned), codes, "{words:?}: {planned:#}");
    assert_eq!(errors(&run), codes, "{words:?}: {run:#}");
    assert_eq!(planned["findings"], run["findings"], "{words:?}");
    assert_eq!(lab.state(), before, "{words:?}");
    run
}

#[test]
fn a_dry_run_refuses_what_the_run_refuses() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 1 << 20);
    lab.noise("odd.raw", 2, (1 << 20) + 100);
    lab.write("taken-flat.vmdk", b"");
    lab.run(&["image", "create", "--vmdk-type", "monolithicSparse", "small.vmdk", "64K"]).text(0);
    for (words, codes) in [
        (&["source.raw", "missing/new.vmdk"][..], &["FB207"][..]),
        (&["source.raw", "new.vhdx"], &["FB104"]),
        (&["source.raw", "taken.vmdk"], &["FB109"]),
        (&["odd.raw", "new.vmdk"], &["FB108"]),
        (&["odd.raw", "new.vhd"], &["FB108"]),
        (&["source.raw", "raw:/dev/failback-none"], &["FB207"]),
        (&["source.raw", "/dev/failback-none"], &["FB207"]),
        (
            &["source.raw", "new.vmdk", "--vmdk-type", "monolithicSparse", "--provisioning", "eager"],
            &["FB207"],
        ),
        (&["source.raw", "small.vmdk", "--grow"], &["FB104"]),
        (&["source.raw", "small.vmdk"], &["FB306"]),
        (&["odd.raw", "missing/new.vmdk", "--seed", "gone.raw"], &["FB405", "FB108", "FB207"]),
    ] {
        let report = refused(&lab, words, codes);
        for finding in report["findings"].as_array().expect("a list") {
            assert!(finding["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{finding}");
        }
    }
    assert!(!std::path::Path::new("/dev/failback-none").exists());
    let small = refused(&lab, &["source.raw", "small.vmdk"], &["FB306"]);
    let remedy = small["findings"][0]["remedy"].as_str().expect("text");
    assert!(!remedy.contains("--grow") && remedy.contains("new image"), "{remedy}");
    let eager = ["source.raw", "new.vmdk", "--vmdk-type", "streamOptimized", "--provisioning", "thick"];
    let remedy = refused(&lab, &eager, &["FB207"])["findings"][0]["remedy"].to_string();
    assert!(remedy.contains("--provisioning thin"), "{remedy}");
}

#[test]
fn a_seed_that_fails_hides_nothing_that_is_wrong_with_the_ends() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 4 << 20);
    lab.noise("other.raw", 2, 4 << 20);
    refused(&lab, &["source.raw", "other.raw", "--seed", "gone.raw"], &["FB405", "FB305"]);
}

#[test]
fn seeds_that_are_an_end_of_the_pass_are_named() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 65_536);
    lab.noise("target.raw", 1, 65_536);
    let report = refused(&lab, &["source.raw", "target.raw", "--seed", "./target.raw"], &["FB405"]);
    assert_eq!(report["findings"][0]["evidence"], "seed ./target.raw is the target itself");
    refused(&lab, &["source.raw", "new.raw", "--seed", "new.raw"], &["FB405"]);
    let done = lab.run(&["sync", "--json", "source.raw", "target.raw", "--seed", "source.raw"]).json(0);
    assert_eq!(
        (&done["findings"][0]["code"], &done["findings"][0]["severity"]),
        (&"FB405".into(), &"warning".into())
    );
}

#[test]
fn a_plan_says_who_both_ends_are_and_what_will_be_read_shipped_and_made() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 300 << 10);
    lab.run(&["image", "convert", "source.raw", "target.vmdk"]).text(0);
    lab.noise("seed.raw", 2, 128 << 10);
    let words =
        ["sync", "--dry-run", "--json", "--verify", "source.raw", "target.vmdk", "--seed", "seed.raw"];
    let plan = lab.run(&words).json(0);
    assert_eq!(
        (&plan["target_disk"]["format"], &plan["target_disk"]["provisioning"]),
        (&"vmfs".into(), &"thin".into())
    );
    for field in ["uuid", "content_id"] {
        assert!(plan["target_disk"][field].is_string(), "{field}: {plan:#}");
    }
    for disk in ["source_disk", "target_disk"] {
        assert_eq!(plan[disk]["virtual_size_bytes"], 300 << 10);
        assert_eq!(plan[disk]["sector_size_bytes"], 512);
        assert!(plan[disk].get("generation").is_some_and(Value::is_null), "{plan:#}");
    }
    assert_eq!((&plan["create"], &plan["read_seeds_bytes"]), (&Value::Null, &(128 << 10).into()));
    assert!(plan["read_verify_bytes"].as_u64() >= Some(300 << 10), "{plan:#}");
    assert!(plan["ship_estimate_bytes"].as_u64() < plan["ship_at_most_bytes"].as_u64(), "{plan:#}");
    assert!(plan["seconds_estimate"].as_f64() > Some(0.0), "{plan:#}");
    let done = lab.run(&["sync", "--json", "--verify", "source.raw", "target.vmdk"]).json(0);
    for field in ["virtual_size_bytes", "blocks_total", "block_size_bytes", "strategy", "source", "target"] {
        assert_eq!(plan[field], done[field], "{field} means one thing");
    }
    let plan = lab.run(&["sync", "--dry-run", "--json", "source.raw", "new.vmdk"]).json(0);
    assert_eq!(
        plan["create"],
        serde_json::json!({"format": "vmfs", "provisioning": "thin", "adapter_type": "lsilogic"})
    );
    assert_eq!((&plan["target_disk"], &plan["target_size_bytes"]), (&Value::Null, &(300 << 10).into()));
}

#[test]
fn virtual_size_means_what_is_compared_in_a_plan_and_in_a_result() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 65_536);
    let mut longer = lab.read("source.raw");
    longer.resize(131_072, 1);
    lab.write("target.raw", &longer);
    let plan = lab.run(&["sync", "--dry-run", "--json", "source.raw", "target.raw"]).json(0);
    let done = lab.run(&["sync", "--json", "source.raw", "target.raw"]).json(0);
    assert_eq!((&plan["virtual_size_bytes"], &done["virtual_size_bytes"]), (&65_536.into(), &65_536.into()));
    assert_eq!(plan["target_size_bytes"], 131_072);
}

#[test]
fn quiet_silences_no_plan() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 65_536);
    let plan = lab.run(&["sync", "-q", "--dry-run", "source.raw", "new.raw"]).text(0);
    assert!(plan.stdout.starts_with("plan: source.raw -> new.raw"), "{plan:?}");
}

#[test]
fn a_vmdk_type_for_what_is_no_vmdk_is_named() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 65_536);
    for words in [
        &["sync", "--vmdk-type", "vmfs", "source.raw", "a.raw"][..],
        &["sync", "--dry-run", "--vmdk-type", "vmfs", "source.raw", "b.vhd"],
        &["image", "convert", "--vmdk-type", "vmfs", "source.raw", "c.vhd"],
        &["image", "create", "--vmdk-type", "vmfs", "d.raw", "64K"],
    ] {
        let stderr = lab.run(words).text(0).stderr;
        assert!(
            stderr.starts_with("warning[FB901]") && stderr.contains("--vmdk-type vmfs"),
            "{words:?}: {stderr}"
        );
    }
}

#[test]
fn an_image_that_was_not_closed_is_warned_of_at_either_end() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 65_536);
    lab.run(&["image", "convert", "--vmdk-type", "monolithicSparse", "source.raw", "sparse.vmdk"]).text(0);
    let mut bytes = lab.read("sparse.vmdk");
    bytes[72] = 1;
    lab.write("sparse.vmdk", &bytes);
    for words in [["sparse.vmdk", "new.raw"], ["source.raw", "sparse.vmdk"]] {
        let plan = lab.run(&[&["sync", "--dry-run", "--json"][..], &words].concat()).json(0);
        assert_eq!(
            (&plan["findings"][0]["code"], &plan["findings"][0]["severity"]),
            (&"FB110".into(), &"warning".into())
        );
    }
    // Whoever writes to it and closes it heals it.
    lab.write("source.raw", &lab.changed("source.raw", &[5000]));
    lab.run(&["sync", "source.raw", "sparse.vmdk"]).text(0);
    let check = lab.run(&["image", "check", "--json", "sparse.vmdk"]).json(0);
    assert_eq!((&check["faults"], &check["warnings"]), (&0.into(), &0.into()));
}
