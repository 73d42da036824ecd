//! Receipts, from the master target that signs them to the auditor who believes nobody.

use crate::daemon::{LENGTH, Site};
use crate::lab::Ended;
use failback_service::status::DiskStage;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

impl Site {
    /// A disk comes home, and the master target is done with it.
    fn home(&self, disk: &str) {
        self.sync("source.raw", disk, "me").json(0);
        let machine = "web01".parse().expect("an id");
        let status = self.kit.board.disk(&machine, &disk.parse().expect("an id"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while status.status().stage != DiskStage::Sealed {
            assert!(Instant::now() < deadline, "{:?}", status.status());
            std::thread::yield_now();
        }
    }

    /// A disk comes home and is proved; the receipt as `verify --wait --json` gives it.
    fn proved(&self) -> Value {
        self.lab.noise("source.raw", 1, LENGTH);
        self.home("disk0");
        self.verify(&[]).json(0)
    }

    fn verify(&self, more: &[&str]) -> Ended {
        let words = ["verify", "web01", "--wait", "--json", "--socket", "mt.sock"];
        self.lab.run(&[&words[..], more].concat())
    }

    /// `receipt check --json` with these words.
    fn check(&self, words: &[&str]) -> Ended {
        self.lab.run(&[&["receipt", "check", "--json"], words].concat())
    }

    fn key(&self) -> String {
        let text = self.lab.run(&["receipt", "key", "--socket", "mt.sock"]).text(0).stdout;
        text.trim_end().to_owned()
    }
}

/// Codes of the findings, without what only warns that no key was asked for.
fn codes(ended: &Value) -> Vec<&str> {
    let findings = ended["findings"].as_array().expect("a list").iter();
    findings
        .map(|finding| finding["code"].as_str().expect("a code"))
        .filter(|code| *code != "FB858")
        .collect()
}

#[test]
fn a_receipt_is_signed_shown_and_checked_without_the_daemon() {
    let site = Site::new();
    let proved = site.proved();
    let (receipt, key) = (&proved["receipt"], site.key());
    let disk = &receipt["disks"][0];
    assert_eq!((&receipt["machine"], &receipt["number"]), (&json!("web01"), &json!(1)));
    assert_eq!(
        (&disk["id"], &disk["format"], &disk["generation"]),
        (&json!("disk0"), &json!("raw"), &json!(1))
    );
    assert_eq!((&disk["length_bytes"], &disk["bytes_read"]), (&json!(LENGTH), &json!(LENGTH)));
    assert!(disk["read"] == "direct" || disk["read"] == "cache-dropped", "{disk}");
    let root = site.lab.run(&["hash", "--json", "home.raw"]).json(0)["root"].clone();
    assert_eq!(disk["root"], root);
    let text = proved["receipt_text"].as_str().expect("the file");
    let path = proved["receipt_path"].as_str().expect("a path");
    assert_eq!(fs::read_to_string(path).expect("it is there"), text);
    let shown = site.lab.run(&["receipt", "show", "web01", "--socket", "mt.sock"]).text(0).stdout;
    assert_eq!(shown, text);
    let status = site.lab.run(&["status", "--json", "--socket", "mt.sock"]).json(0);
    assert_eq!(status["daemon_status"]["receipt_key"], key.as_str());
    let said = site.lab.run(&["verify", "web01", "--wait", "--socket", "mt.sock"]).text(0).stdout;
    assert!(
        said.starts_with("web01: 1 disks are read back\nreceipt 2: ") && said.ends_with("receipt-2.json\n"),
        "{said}"
    );
    let none = site.lab.run(&["receipt", "show", "web01", "--number", "9", "--json", "--socket", "mt.sock"]);
    assert_eq!(none.json(3)["findings"][0]["code"], "FB856");

    site.lab.write("receipt.json", text.as_bytes());
    let lab = &site.lab;
    site.kit.stop.cancel();
    let good = site.check(&["receipt.json", "--key", &key, "disk0=home.raw"]).json(0);
    assert_eq!((&good["key_matches"], &good["disks"][0]["outcome"]), (&json!(true), &json!("same")));
    assert_eq!(good["findings"], json!([]));
    // The same disk in another container is the same disk.
    lab.run(&["image", "convert", "home.raw", "copy.vmdk", "--vmdk-type", "monolithicSparse", "--quiet"])
        .text(0);
    site.check(&["receipt.json", "--key", &key, "disk0=copy.vmdk"]).json(0);
    let unpinned = site.check(&["receipt.json"]).json(0);
    assert_eq!(
        (&unpinned["findings"][0]["code"], &unpinned["findings"][0]["severity"]),
        (&json!("FB858"), &json!("warning"))
    );
    assert_eq!(unpinned["disks"][0]["outcome"], "not-compared");
    let text = lab.run(&["receipt", "check", "receipt.json", "--key", &key, "disk0=home.raw"]).text(0).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("web01: receipt 1 of 20"), "{text}");
    assert_eq!(lines[1], format!("  key        {key} (as asked for)"));
    assert_eq!(
        (lines[2], lines[5]),
        ("  before it  none: it is the first", "             the same as home.raw")
    );
}

#[test]
fn what_is_not_right_is_named_by_its_code() {
    let site = Site::new();
    let (proved, lab) = (site.proved(), &site.lab);
    let text = proved["receipt_text"].as_str().expect("the file");
    lab.write("receipt.json", text.as_bytes());
    let key = site.key();

    let mut bytes = lab.read("home.raw");
    bytes[700_001] ^= 1;
    lab.write("changed.raw", &bytes);
    let changed = site.check(&["receipt.json", "disk0=changed.raw"]).json(5);
    assert_eq!((codes(&changed), &changed["disks"][0]["outcome"]), (vec!["FB853"], &json!("differs")));
    lab.write("longer.raw", &[lab.read("home.raw"), vec![0; 512]].concat());
    assert_eq!(codes(&site.check(&["receipt.json", "disk0=longer.raw"]).json(5)), ["FB853"]);
    lab.write("shorter.raw", &lab.read("home.raw")[..4096]);
    assert_eq!(codes(&site.check(&["receipt.json", "disk0=shorter.raw"]).json(5)), ["FB853"]);
    let both = site.check(&["receipt.json", "disk7=home.raw", "disk0=absent.raw"]).json(3);
    assert_eq!(codes(&both), ["FB855", "FB201"]);

    let other = "00".repeat(32);
    let foreign = site.check(&["receipt.json", "--key", &other, "disk0=home.raw"]).json(5);
    assert_eq!((codes(&foreign), &foreign["key_matches"]), (vec!["FB852"], &json!(false)));
    assert_eq!(foreign["disks"][0]["outcome"], "not-compared", "nothing is read for it");
    for (what, changed) in [
        ("a root", text.replace("length_bytes\\\":1", "length_bytes\\\":2")),
        ("a machine", text.replace("web01", "web02")),
        ("a signature", text.replace("\"signature\": \"", "\"signature\": \"f").replacen("\"\n}", "", 1)),
        ("its layout", text.replace('\n', "\r\n")),
        ("its end", text[..text.len() - 2].into()),
        ("all of it", String::new()),
    ] {
        lab.write("bad.json", changed.as_bytes());
        let ended = site.check(&["bad.json", "--key", &key]).json(5);
        assert_eq!((codes(&ended), &ended["receipt"]), (vec!["FB851"], &Value::Null), "{what}");
    }
    assert_eq!(codes(&site.check(&["absent.json"]).json(3)), ["FB201"]);
    assert_eq!(codes(&site.check(&["receipt.json", "home.raw"]).json(2)), ["FB901"]);
    assert_eq!(codes(&site.check(&["receipt.json", "--key", "12"]).json(2)), ["FB901"]);
}

#[test]
fn a_receipt_that_was_removed_is_missed() {
    let site = Site::new();
    let first = site.proved()["receipt_path"].as_str().expect("a path").to_owned();
    site.verify(&[]).json(0);
    let third = site.verify(&[]).json(0)["receipt_path"].as_str().expect("a path").to_owned();
    let chain = |code| site.check(&["--chain", &third]).json(code);
    assert_eq!(chain(0)["earlier_receipts"], 2);
    let kept = fs::read(&first).expect("it is there");
    fs::remove_file(&first).expect("removed");
    let broken = chain(5);
    assert_eq!((codes(&broken), &broken["earlier_receipts"]), (vec!["FB854"], &Value::Null));
    // Another sound receipt in its place is noticed, too.
    fs::copy(first.replace("receipt-1", "receipt-2"), &first).expect("copied");
    assert_eq!(codes(&chain(5)), ["FB854"]);
    fs::remove_file(&first).expect("removed");
    let warned = site.verify(&[]).json(0);
    assert_eq!((codes(&warned), &warned["findings"][0]["severity"]), (vec!["FB854"], &json!("warning")));
    fs::write(&first, kept).expect("restored");
    assert_eq!(chain(0)["earlier_receipts"], 2);
}

#[test]
fn what_is_not_what_was_sealed_gets_no_receipt() {
    let site = Site::new();
    assert_eq!(codes(&site.verify(&[]).json(5)), ["FB404"], "nothing is sealed yet");
    site.proved();
    let mut bytes = site.lab.read("home.raw");
    site.lab.write("home.raw", &bytes[..bytes.len() - 1]);
    let short = site.verify(&[]).json(5);
    let evidence = short["findings"][0]["evidence"].as_str().expect("words");
    assert!(
        evidence.ends_with(&format!("it has {} bytes, and {LENGTH} were sealed", LENGTH - 1)),
        "{evidence}"
    );
    bytes[5] ^= 1;
    site.lab.write("home.raw", &bytes);
    let failed = site.verify(&[]).json(5);
    assert_eq!((codes(&failed), &failed["receipt_path"]), (vec!["FB404"], &Value::Null));
    let shown = site.lab.run(&["receipt", "show", "web01", "--json", "--socket", "mt.sock"]).json(0);
    assert_eq!(shown["receipt"]["number"], 1, "no other was signed");
    let job = site.lab.run(&["verify", "web01", "--wait", "--job", "x", "--json"]).json(2);
    assert_eq!(codes(&job), ["FB901"], "an outcome of before is nothing to wait for");
}

#[test]
fn a_target_longer_than_its_source_is_proved_as_far_as_it_was_sealed() {
    let site = Site::new();
    site.lab.noise("source.raw", 1, LENGTH);
    site.lab.write("home.raw", &[site.lab.read("source.raw"), vec![7; 70_000]].concat());
    site.home("disk0");
    let proved = site.verify(&[]).json(0);
    let disk = &proved["receipt"]["disks"][0];
    assert_eq!((&disk["length_bytes"], &disk["image_bytes"]), (&json!(LENGTH), &json!(LENGTH + 70_000)));
    site.lab.write("receipt.json", proved["receipt_text"].as_str().expect("the file").as_bytes());
    site.check(&["receipt.json", "disk0=home.raw"]).json(0);
}

#[test]
fn only_some_of_the_disks_give_no_receipt() {
    let site = Site::new();
    let folder = site.lab.path("").display().to_string();
    let definition = json!({ "id": "disk1", "path": format!("{folder}other.raw"), "create": true });
    site.lab.write("disk.json", definition.to_string().as_bytes());
    site.lab.run(&["register", "--disk-of", "web01", "disk.json", "--socket", "mt.sock"]).text(0);
    site.lab.noise("source.raw", 1, LENGTH);
    site.home("disk0");
    assert_eq!(codes(&site.verify(&[]).json(5)), ["FB404"], "one of the two was never sealed");
    let one = site.verify(&["--disk", "disk0"]).json(0);
    assert_eq!((&one["receipt_number"], &one["status"]), (&Value::Null, &json!("done")));
    site.home("disk1");
    let both = site.verify(&[]).json(0);
    let ids: Vec<_> =
        both["receipt"]["disks"].as_array().expect("disks").iter().map(|disk| &disk["id"]).collect();
    assert_eq!(ids, ["disk0", "disk1"]);
}
