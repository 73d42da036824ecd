//! A machine comes home, the master target proves it and signs, and an auditor checks that without either daemon: whatever
//! is changed afterwards, in an image, in a receipt or among the receipts, is named.

use crate::command::{Ended, failback};
use crate::disks::Disks;
use crate::sites::{Daemon, Sites, new_disk, source_disk, target_disk, target_machine};
use failback_service::event::Event;
use failback_testkit::LoopDevice;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const LENGTH_BYTES: u64 = 32 << 20;

/// `failback verify app01 --wait` at the master target.
fn verify(mt: &Daemon) -> Ended {
    let words = ["verify".as_ref(), "app01".as_ref(), "--wait".as_ref(), "--socket".as_ref()];
    failback(words.into_iter().chain([mt.socket().as_os_str()]))
}

/// The receipt's path.
fn signed(mt: &Daemon) -> PathBuf {
    let proved = verify(mt).success();
    PathBuf::from(proved["receipt_path"].as_str().expect("a path"))
}

/// `failback receipt check` of a receipt against images.
fn check(receipt: &Path, more: &[&str], images: &[(&str, &Path)]) -> Ended {
    let mut words: Vec<OsString> = vec!["receipt".into(), "check".into(), receipt.into()];
    words.extend(more.iter().map(OsString::from));
    words.extend(images.iter().map(|(disk, path)| {
        let mut word = OsString::from(format!("{disk}="));
        word.push(path);
        word
    }));
    failback(words)
}

fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("reads");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("writes");
    file.sync_all().expect("durable");
}

fn outcomes(checked: &Value) -> Vec<&str> {
    let disks = checked["disks"].as_array().expect("disks");
    disks.iter().map(|disk| disk["outcome"].as_str().expect("a word")).collect()
}

#[test]
fn what_was_proved_can_be_checked_and_what_was_changed_since_is_found() {
    let sites = Sites::new();
    let (one, other) = (Disks::new(1720, LENGTH_BYTES), Disks::new(1721, LENGTH_BYTES));
    let (made, below) = (sites.path("app01.vmdk"), sites.path("below.raw"));
    fs::File::create(&below).and_then(|file| file.set_len(LENGTH_BYTES)).expect("a file");
    let device = LoopDevice::attach(&below, 512);
    let machine = [new_disk("system", &made), target_disk("data", device.path())];
    let mut mt = sites.master_target(&[target_machine("app01", &machine)], &json!({}));
    let disks = [source_disk("system", &one.after), source_disk("data", &other.after)];
    let mut ps = sites.process_server(&[sites.source_machine("app01", &disks)], &json!({}));
    ps.reprotect("app01");
    for disk in ["system", "data"] {
        ps.sealed(disk);
        mt.sealed(disk);
    }

    let proved = verify(&mt).success();
    let first = PathBuf::from(proved["receipt_path"].as_str().expect("a path"));
    for disk in proved["receipt"]["disks"].as_array().expect("disks") {
        assert!(disk["read"] == "direct" || disk["read"] == "cache-dropped", "{disk}");
    }
    let key = mt.status().receipt_key.expect("it signs receipts");
    let images = [("system", made.as_path()), ("data", device.path())];

    // A rest of the medium that nobody wrote since is proved from the medium, not from the cache: what rots below the
    // device is seen, though nothing told the kernel.
    flip(&below, 5_000_000);
    verify(&mt).failure(5, "FB404");
    // Nor is it believed any longer: the next pass reads it anew, and mends it.
    ps.forget();
    ps.reprotect("app01");
    for name in ["system", "data"] {
        ps.sealed(name);
        mt.wait("the second seal", |event| match event {
            Event::PassSealed { disk, generation: 2, .. } if disk == name => Some(()),
            _ => None,
        });
    }
    let second = signed(&mt);
    assert!(mt.log().contains("machine verified"), "{}", mt.log());

    // A restart changes neither the key nor the chain.
    assert!(mt.terminate().success());
    mt.restart();
    let third = signed(&mt);
    assert_eq!(mt.status().receipt_key.as_deref(), Some(key.as_str()));
    assert!(mt.terminate().success());
    assert!(ps.terminate().success());

    let good = check(&third, &["--key", &key, "--chain"], &images).success();
    assert_eq!((outcomes(&good), &good["earlier_receipts"]), (vec!["same", "same"], &json!(2)));
    let other = sites.path("app01-flat.vmdk");
    flip(&other, 9_000_001);
    let found = check(&third, &["--key", &key], &images).failure(5, "FB853");
    assert_eq!(outcomes(&found), ["differs", "same"]);
    flip(&other, 9_000_001);
    check(&third, &["--key", &key], &images).success();

    // One changed byte of the receipt, of the key that it names, and a receipt that is gone.
    let text = fs::read_to_string(&third).expect("reads");
    let forged = sites.path("forged.json");
    fs::write(&forged, text.replacen("app01", "app02", 1)).expect("writes");
    check(&forged, &[], &[]).failure(5, "FB851");
    let at = text.find("\"public_key\": \"").expect("a key") + 15;
    let mut bytes = text.into_bytes();
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    fs::write(&forged, bytes).expect("writes");
    check(&forged, &["--key", &key], &[]).failure(5, "FB851");
    check(&first, &["--key", &"ab".repeat(32)], &[]).failure(5, "FB852");
    fs::remove_file(&second).expect("removes");
    check(&third, &["--chain"], &[]).failure(5, "FB854");
    check(&first, &["--chain"], &[]).success();
}

#[test]
fn a_key_of_the_operators_own_signs() {
    let sites = Sites::new();
    let source = sites.random_disk("source.raw", 1722, 2 << 20);
    let home = sites.path("home.raw");
    // RFC 8410, section 10.3.
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
               -----END PRIVATE KEY-----\n";
    let key = sites.path("receipts.pem");
    fs::write(&key, pem).expect("writes");
    let machines = [target_machine("app01", &[new_disk("disk0", &home)])];
    let mut mt = sites.master_target(&machines, &json!({"receipt_key": key}));
    let machine = sites.source_machine("app01", &[source_disk("disk0", &source)]);
    let mut ps = sites.process_server(&[machine], &json!({}));
    ps.reprotect("app01");
    ps.sealed("disk0");
    mt.sealed("disk0");
    let receipt = signed(&mt);
    let text = fs::read_to_string(&receipt).expect("reads");
    assert!(text.contains("19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"), "{text}");
    assert!(!sites.path("mt/state/receipt-key.pem").exists(), "none was made");
    check(&receipt, &[], &[("disk0", &home)]).success();
}
