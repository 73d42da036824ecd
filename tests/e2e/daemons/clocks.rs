//! Clocks that are wrong: a little is told of, more is refused with a reason that names the clock, and whoever sets it right
//! needs to do nothing else.

use super::assert_equal;
use crate::sites::{
    Daemon, Host, MASTER_TARGET, PROCESS_SERVER, Sites, new_disk, source_disk, target_machine,
};
use failback_service::event::Event;
use serde_json::json;
use std::path::PathBuf;

/// A host whose clock is off by so much: `+10m`, `-3d`. Only what it calls the time of day; timers run as they should.
fn host(offset: &str) -> Host {
    let libraries = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let mut found = libraries.iter().map(|folder| PathBuf::from(folder).join("faketime/libfaketime.so.1"));
    let library = found.find(|path| path.exists()).expect("Debian package libfaketime");
    let settings = [
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME={offset}"),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
        "NO_FAKE_STAT=1".into(),
    ];
    Host([vec!["env".to_owned()], settings.into()].concat())
}

/// Both ends of a small disk, each by a clock of its own.
struct Lab {
    sites: Sites,
    source: PathBuf,
    target: PathBuf,
    mt: Daemon,
    ps: Daemon,
}

impl Lab {
    fn new(seed: u64, [source_clock, target_clock]: [Host; 2]) -> Self {
        let sites = Sites::new();
        let (source, target) = (sites.random_disk("source.raw", seed, 4 << 20), sites.path("target.raw"));
        let targets = [target_machine("app01", &[new_disk("disk0", &target)])];
        let sources = [sites.source_machine("app01", &[source_disk("disk0", &source)])];
        let mt = sites.master_target_on(&targets, &json!({}), target_clock);
        let mut ps = sites.process_server_as(PROCESS_SERVER, &sources, &json!({}), source_clock);
        ps.reprotect("app01");
        Self { sites, source, target, mt, ps }
    }

    /// The process server's try broke off with this code; what it said of it.
    #[track_caller]
    fn refused(&mut self, code: &str) -> String {
        let why = self.ps.broken_with("disk0", code);
        assert_eq!(self.ps.disk("app01", "disk0").error.expect("a reason").code, code);
        assert!(!self.target.exists(), "whoever was refused made something");
        why
    }

    /// Both clocks are set right, and nothing else is done.
    #[track_caller]
    fn heals(mut self) {
        for daemon in [&mut self.mt, &mut self.ps] {
            assert!(daemon.terminate().success());
            daemon.move_to(Host::default());
        }
        self.comes_home();
    }

    #[track_caller]
    fn comes_home(&mut self) {
        self.ps.sealed("disk0");
        self.mt.sealed("disk0");
        assert_equal(&self.source, &self.target);
    }
}

#[test]
fn a_clock_that_is_off_a_little_is_told_of_at_both_ends() {
    let mut lab = Lab::new(1600, [host("+100s"), Host::default()]);
    lab.comes_home();
    let offset = |daemon: &mut Daemon| {
        daemon.wait("the connection is told of", |event| match event {
            Event::Connected { link, .. } => Some(link.clock_offset_ms),
            _ => None,
        })
    };
    let (theirs, ours) = (offset(&mut lab.mt), offset(&mut lab.ps));
    assert!((95_000..105_000).contains(&theirs), "the source is {theirs} ms ahead");
    assert!((-105_000..-95_000).contains(&ours), "the target is {ours} ms ahead");
    for daemon in [&lab.mt, &lab.ps] {
        assert!(daemon.log().contains("set both by NTP"), "{}", daemon.log());
    }
}

#[test]
fn clocks_that_differ_by_more_are_refused_with_both_ends_words_until_they_are_set() {
    for (seed, clocks, side) in [
        (1610, [host("+10m"), Host::default()], "ahead of"),
        (1611, [Host::default(), host("+10m")], "behind"),
    ] {
        let mut lab = Lab::new(seed, clocks);
        let why = lab.refused("FB508");
        assert!(why.contains(side) && why.contains("300 s are allowed"), "{why}");
        assert!(lab.mt.status().errors["FB508"] >= 1, "the target counts it");
        lab.heals();
    }
}

#[test]
fn a_clock_that_is_off_by_days_makes_certificates_look_expired_or_not_yet_valid() {
    // Certificates are of today, for a day; both ends check the other's, each by its own clock.
    for (seed, clocks, said) in [
        (1620, [host("+3d"), Host::default()], "Expired"),
        (1621, [host("-3d"), Host::default()], "NotValidYet"),
        (1622, [Host::default(), host("+3d")], "CertificateExpired"),
        (1623, [Host::default(), host("-3d")], "CertificateExpired"),
    ] {
        let mut lab = Lab::new(seed, clocks);
        let why = lab.refused("FB510");
        println!("{said}: {why}");
        assert!(lab.mt.log().contains("FB510"), "{}", lab.mt.log());
        assert!(lab.sites.tls(MASTER_TARGET).is_object());
        lab.heals();
    }
}
