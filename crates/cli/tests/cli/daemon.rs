//! The command against a master target that runs: one-shot passes, and what its control socket says.

use crate::lab::Lab;
use failback_master_target::MasterTarget;
use failback_master_target::config::Config;
use failback_service::clock::unix_ms;
use failback_service::control::{About, ControlServer, Desk};
use failback_service::daemon::{Daemon as _, Kit};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub(crate) const LENGTH: u64 = (1 << 20) + 4096;

/// A master target with a disk `web01/disk0` at `home.raw`, in this process.
pub(crate) struct Site {
    pub(crate) lab: Lab,
    runtime: Runtime,
    pub(crate) kit: Kit,
    address: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        let lab = Lab::new();
        lab.run(&["pki", "init", "--pki", "pki"]).text(0);
        for (identity, folder) in [
            ("failback://master-target/mt", "mt"),
            ("failback://operator/me", "me"),
            ("failback://operator/other", "other"),
        ] {
            lab.run(&["pki", "issue", identity, "--pki", "pki", "--export", folder]).text(0);
        }
        let folder = lab.path("");
        let folder = folder.display();
        let text = format!(
            "listen = '127.0.0.1:0'\nadmin = 'off'\nstate_dir = '{folder}state'\ncontrol = '{folder}mt.sock'\n\
             [tls]\ncertificate = '{folder}mt/cert.pem'\nkey = '{folder}mt/key.pem'\nca = '{folder}mt/ca.pem'\n\
             crl = '{folder}mt/crl.pem'\n\
             [[machine]]\nid = 'web01'\nallow = ['failback://operator/me']\n\
             disk = [{{ id = 'disk0', path = '{folder}home.raw', create = true }}]\n"
        );
        lab.write("mt.toml", text.as_bytes());
        let config: Config = failback_service::config::load(&lab.path("mt.toml")).expect("it is valid");
        let about = About { daemon: "master-target", version: "0.0.0", started_unix_ms: unix_ms() };
        let state = lab.path("state");
        let kit = Kit::new(about.clone(), &lab.path("mt.toml"), &state, 64 << 20).expect("a kit");
        let runtime = Runtime::new().expect("threads");
        let daemon = runtime.block_on(MasterTarget::open(config, kit.clone())).expect("it opens");
        let address = daemon.address().expect("it listens").to_string();
        let jobs = kit.state.join("jobs.jsonl");
        let desk = Desk::open(about, daemon, Arc::clone(&kit.events), &jobs).expect("a desk");
        let server = runtime.block_on(async { ControlServer::bind(&lab.path("mt.sock")) }).expect("a socket");
        runtime.spawn(server.run(Arc::new(desk), CancellationToken::new()));
        Self { lab, runtime, kit, address }
    }

    /// Ends the daemon.
    fn end(self) {
        self.kit.stop.cancel();
        self.runtime.shutdown_timeout(std::time::Duration::from_secs(20));
    }

    /// Waits until the master target has closed its disk: the command ends with the seal.
    fn wait_sealed(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let status = || self.lab.run(&["status", "--socket", "mt.sock"]).text(0).stdout;
        while !status().contains("disk0  sealed since ") {
            assert!(std::time::Instant::now() < deadline, "it is not sealed: {}", status());
        }
    }

    /// `sync --json SOURCE mt://…/DISK` with a certificate folder.
    pub(crate) fn sync(&self, source: &str, disk: &str, tls: &str) -> crate::lab::Ended {
        self.sync_with(source, disk, tls, &[])
    }

    /// The same with further options.
    fn sync_with(&self, source: &str, disk: &str, tls: &str, options: &[&str]) -> crate::lab::Ended {
        let target = format!("mt://{}/web01/{disk}", self.address);
        let identity = ["--target-identity", "failback://master-target/mt"];
        self.lab.run(&[&["sync", "--json", source, &target, "--tls", tls], &identity[..], options].concat())
    }
}

#[test]
fn a_disk_comes_home_without_a_daemon_on_this_side() {
    let site = Site::new();
    site.lab.noise("source.raw", 1, LENGTH);
    let first = site.sync("source.raw", "disk0", "me").json(0);
    assert_eq!((&first["strategy"], &first["status"]), (&"alternate-location".into(), &"done".into()));
    assert!(site.lab.read("home.raw") == site.lab.read("source.raw"));
    site.lab.write("source.raw", &site.lab.changed("source.raw", &[5000, 700_000]));
    let second = site.sync("source.raw", "disk0", "me").json(0);
    assert_eq!((&second["strategy"], &second["blocks_differing"]), (&"original-location".into(), &2.into()));
    assert_ne!(first["root"], second["root"]);
    // What the other end did is the other end's to tell.
    for unknown in ["bytes_written", "bytes_read_target", "zero_bytes", "seed_bytes", "verified_bytes"] {
        assert!(second[unknown].is_null() && second.get(unknown).is_some(), "{unknown}: {second}");
    }
    assert!(site.lab.read("home.raw") == site.lab.read("source.raw"));

    let code = |ended: crate::lab::Ended, exit| ended.json(exit)["findings"][0]["code"].clone();
    assert_eq!(code(site.sync("source.raw", "disk0", "other"), 3), "FB504");
    assert_eq!(code(site.sync("source.raw", "disk7", "me"), 3), "FB505");
    assert_eq!(code(site.sync("source.raw", "disk0", "absent"), 3), "FB201");
    let text = site.lab.run(&["status", "--socket", "mt.sock"]).text(0).stdout;
    assert!(text.contains("web01 (failback://operator/me)\n  replicating"), "{text}");
    assert!(text.contains("; 2 recovery points, the newest state 0 s old\n"), "{text}");
    assert!(text.contains("\n  disk0  sealed since "), "{text}");
    let status = site.lab.run(&["status", "web01", "--json", "--socket", "mt.sock"]).json(0);
    let disk = &status["daemon_status"]["machines"][0]["disks"][0];
    assert_eq!((&disk["generation"], &disk["root"]), (&2.into(), &second["root"]));
    // One disk is of one instant: that of its last change.
    let written =
        std::fs::metadata(site.lab.path("source.raw")).expect("it is there").modified().expect("a time");
    let written = written.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    assert_eq!(
        (&disk["point_label"], &disk["source_unix_ms"]),
        (&"crash-consistent".into(), &written.into())
    );
    let check = site.lab.run(&["status", "--check", "--lag-critical", "1d", "--socket", "mt.sock"]).text(0);
    assert_eq!(check.stdout, "FAILBACK OK - 1 disks: all is well | disks=1\n");
}

#[test]
fn a_target_that_was_written_to_is_overwritten_only_where_that_is_accepted() {
    let site = Site::new();
    site.lab.noise("source.raw", 1, LENGTH);
    site.sync("source.raw", "disk0", "me").json(0);
    site.wait_sealed();
    site.lab.write("home.raw", &site.lab.changed("source.raw", &[5000]));
    let refused = site.sync("source.raw", "disk0", "me").json(3);
    assert_eq!((&refused["status"], &refused["findings"][0]["code"]), (&"refused".into(), &"FB312".into()));
    let why = refused["findings"][0]["evidence"].as_str().expect("text");
    assert!(why.contains("home.raw was written to at 20"), "{why}");
    assert!(site.lab.read("home.raw") != site.lab.read("source.raw"), "nothing was written");
    let text = site.lab.run(&["status", "--socket", "mt.sock"]).text(0).stdout;
    assert!(text.contains("disk0  failed since ") && text.contains("FB312"), "{text}");
    let done = site.sync_with("source.raw", "disk0", "me", &["--accept-divergence"]).json(0);
    let said = &done["findings"][0];
    assert_eq!((&said["code"], &said["severity"]), (&"FB312".into(), &"warning".into()));
    assert_eq!(&done["blocks_differing"], 1);
    assert!(site.lab.read("home.raw") == site.lab.read("source.raw"));
    let again = site.sync_with("source.raw", "disk0", "me", &["--accept-divergence"]).json(0);
    assert_eq!(again["findings"], serde_json::json!([]), "there is nothing to accept");
}

#[test]
fn orders_are_carried_out_once() {
    let site = Site::new();
    let order = |words: &[&str]| site.lab.run(&[words, &["--socket", "mt.sock", "--json"]].concat());
    let stop = ["stop", "web01", "--job", "job-1"];
    let first = order(&stop).json(0);
    assert_eq!((&first["job"], &first["repeated"]), (&"job-1".into(), &false.into()));
    assert_eq!(order(&stop).json(0)["repeated"], true);
    site.lab.noise("source.raw", 1, LENGTH);
    assert_eq!(site.sync("source.raw", "disk0", "me").json(4)["findings"][0]["code"], "FB710");
    let text = site.lab.run(&["status", "--check", "--socket", "mt.sock"]).text(0);
    assert!(text.stdout.starts_with("FAILBACK OK"), "{text:?}");
    order(&["resume", "web01"]).json(0);
    site.sync("source.raw", "disk0", "me").json(0);
    site.wait_sealed();
    order(&["verify", "web01", "--disk", "disk0"]).json(0);
    assert_eq!(order(&["stop", "web02"]).json(3)["findings"][0]["code"], "FB703");
    assert_eq!(order(&["reprotect", "web01", "--yes"]).json(3)["findings"][0]["code"], "FB702");
    assert_eq!(order(&["verify", "web01", "--job", "job-1"]).json(3)["findings"][0]["code"], "FB702");
    site.kit.stop.cancel();
    assert_eq!(order(&["stop", "web01"]).json(4)["findings"][0]["code"], "FB706", "it is stopping");
    drop(site.runtime);
}

#[test]
fn machines_come_and_go_and_the_daemon_is_steered_and_followed() {
    let site = Site::new();
    let order = |words: &[&str]| site.lab.run(&[words, &["--socket", "mt.sock", "--json"]].concat());
    let home = site.lab.path("db.raw").display().to_string();
    site.lab.write("db01.toml", b"[[machine]]\nid = 'db01'\nallow = ['failback://operator/me']\n");
    let disk = serde_json::json!({ "id": "disk0", "path": home, "create": true });
    site.lab.write("disk.json", disk.to_string().as_bytes());
    let said = |ended: crate::lab::Ended| ended.json(0)["said"].clone();
    assert_eq!(said(order(&["register", "db01.toml"])), "db01 is registered");
    let disk = ["register", "--disk-of", "db01", "disk.json", "--job", "job-7"];
    assert_eq!(said(order(&disk)), "db01/disk0 is registered");
    assert_eq!(order(&disk).json(0)["repeated"], true);
    assert_eq!(
        order(&["register", "--disk-of", "app01", "disk.json"]).json(3)["findings"][0]["code"],
        "FB703"
    );
    site.lab.write("wrong.toml", b"id = 'db02'\nalow = []\n");
    let wrong = order(&["register", "wrong.toml"]).json(3);
    assert!(wrong["findings"][0]["evidence"].as_str().is_some_and(|why| why.contains("alow")), "{wrong}");

    let rate = order(&["bandwidth", "db01", "3M"]).json(0);
    assert!(rate["said"].as_str().is_some_and(|said| said.starts_with("3M ")), "{rate}");
    let rate = order(&["bandwidth", "db01", "--configured"]).json(0);
    assert!(rate["said"].as_str().is_some_and(|said| said.starts_with("unlimited ")), "{rate}");
    assert_eq!(said(order(&["reload"])), "read again");
    let text = String::from_utf8(site.lab.read("mt.toml")).expect("text");
    site.lab.write("mt.toml", format!("log_level = 'debug'\nthreads = 3\n{text}").as_bytes());
    let waits = "read again; changed, and counting only once the daemon starts anew: log_level, threads";
    assert_eq!(said(order(&["reload"])), waits);
    let certificate = site.lab.read("mt/cert.pem");
    site.lab.write("mt/cert.pem", b"nonsense");
    assert_eq!(order(&["reload"]).json(3)["findings"][0]["code"], "FB510");
    let check = site.lab.run(&["status", "--check", "--socket", "mt.sock"]).text(1).stdout;
    assert!(check.contains("certificates could not be read again: FB510"), "{check}");
    let error = || {
        let status = order(&["status"]).json(0);
        status["daemon_status"]["certificate"]["error"]["code"].clone()
    };
    assert_eq!(error(), "FB510");
    site.lab.write("mt/cert.pem", &certificate);
    order(&["reload"]).json(0);
    assert!(error().is_null(), "{}", error());
    site.lab.write("mt.toml", b"nonsense = 1\n");
    assert_eq!(order(&["reload"]).json(3)["findings"][0]["code"], "FB701");

    assert_eq!(
        said(order(&["release", "db01", "--disk", "disk0"])),
        "db01/disk0 is released; no disk was touched"
    );
    assert_eq!(order(&["release", "db01"]).json(3)["findings"][0]["code"], "FB709", "a whole machine asks");
    assert_eq!(said(order(&["release", "db01", "--yes"])), "db01 is released; no disk was touched");
    assert_eq!(said(order(&["release", "db01", "--yes"])), "db01 was so already");

    let events = order(&["events", "db01", "--since", "0", "--count", "2"]);
    let lines: Vec<serde_json::Value> =
        events.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap_or("")).collect();
    assert_eq!(names, ["machine_registered", "job", ""], "{events:?}");
    assert_eq!((&lines[2]["command"], &lines[2]["status"]), (&"events".into(), &"done".into()));
    let text =
        site.lab.run(&["events", "--since", "0", "--count", "1", "--socket", "mt.sock"]).text(0).stdout;
    assert!(text.starts_with("1 20") && text.ends_with("Z db01: machine registered\n"), "{text}");
    // A daemon that ends also ends whoever follows it.
    let follows = site.lab.command(&["events", "--since", "0", "--json", "--socket", "mt.sock"]);
    let mut child = { follows }.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    lines.next().expect("an event").expect("it reads");
    site.end();
    let last = lines.last().expect("a last line").expect("it reads");
    let last: serde_json::Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!((&last["exit_code"], &last["findings"][0]["code"]), (&1.into(), &"FB705".into()));
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
}

#[test]
fn one_look_and_a_watch_have_one_shape() {
    let site = Site::new();
    let once = site.lab.run(&["status", "--json", "--socket", "mt.sock"]).json(0);
    let mut watch = site.lab.command(&["status", "--watch", "--json", "--socket", "mt.sock"]);
    let mut child = watch.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a look");
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    let watched: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let keys =
        |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&watched), keys(&once));
    assert_eq!(keys(&watched["daemon_status"]), keys(&once["daemon_status"]));
}

#[test]
fn whoever_watches_stops_in_silence() {
    let site = Site::new();
    let socket = ["--socket", "mt.sock"];
    for (words, signal, is_json) in [
        (&["status", "--watch"][..], Signal::INT, false),
        (&["status", "--watch", "--json"], Signal::TERM, true),
        (&["events", "--since", "0"], Signal::TERM, false),
        (&["events", "--since", "0", "--json"], Signal::INT, true),
    ] {
        site.lab.run(&[&["stop", "web01"][..], &socket].concat()).text(0);
        let mut child = site.lab.command(&[words, &socket].concat());
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        output.read_line(&mut String::new()).expect("it has begun");
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        let (mut rest, mut said) = (String::new(), String::new());
        output.read_to_string(&mut rest).expect("it ends");
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("it ends");
        assert_eq!((child.wait().expect("it ended").code(), said.as_str()), (Some(130), ""), "{words:?}");
        assert!(!rest.contains("FB403"), "{rest}");
        if is_json {
            let last: serde_json::Value =
                serde_json::from_str(rest.lines().last().expect("one")).expect("JSON");
            assert_eq!((&last["status"], &last["exit_code"]), (&"interrupted".into(), &130.into()));
        }
    }
}

#[test]
fn what_is_the_master_targets_to_decide_is_refused_with_all_that_is_wrong() {
    let lab = Lab::new();
    let stderr =
        lab.run(&["sync", "absent.raw", "mt://h:1/web01", "--grow", "--tls", "nowhere"]).text(3).stderr;
    for words in [
        "--grow does not work with a target named mt://",
        "mt://h:1/web01: it is not made of an address, a machine and a disk",
        "cannot open absent.raw",
        "nowhere/cert.pem",
        "remedy: add --target-identity failback://master-target/NAME",
    ] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    assert!(!Path::new("nowhere").exists());
}
