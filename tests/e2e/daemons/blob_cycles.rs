//! Cycles of a disk in Azure's storage, whose snapshots the process server takes itself: against Azurite, whose page-range diff is
//! wrong, and against our fake, whose diff is true and can be made to lie.

use super::assert_equal;
use crate::sites::{Daemon, Sites, job, machine, merged, new_disk, target_machine};
use failback_service::control::Request;
use failback_service::event::Event;
use failback_service::registry::CycleOutcome;
use failback_service::status::{Comparison, How};
use failback_testkit::{Azurite, BlobDisk, BlobServer, Random};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const LENGTH_BYTES: usize = 40 << 20;

struct Lab {
    sites: Sites,
    home: PathBuf,
    _mt: Daemon,
    ps: Daemon,
    /// What the blob holds.
    now: Vec<u8>,
}

impl Lab {
    fn new(seed: u64, url: impl Fn(&Sites, &[u8]) -> String) -> Self {
        let sites = Sites::new();
        let mut now = vec![0; LENGTH_BYTES];
        Random::new(seed).fill(&mut now[..LENGTH_BYTES - (8 << 20)]);
        let (home, sas) = (sites.path("home.raw"), sites.path("sas"));
        fs::write(&sas, url(&sites, &now)).expect("written");
        fs::set_permissions(&sas, fs::Permissions::from_mode(0o600)).expect("its own");
        let mt = sites.master_target(&[target_machine("app01", &[new_disk("disk0", &home)])], &json!({}));
        let source = format!("azblob:@{}", sas.display());
        let disk = json!({"id": "disk0", "source": source, "take_snapshots": true, "threads": 2});
        let here = merged(sites.source_machine("app01", &[disk]), &json!({}));
        let mut ps = sites.process_server(&[here], &json!({}));
        ps.reprotect("app01");
        let mut lab = Self { sites, home, _mt: mt, ps, now };
        lab.closed();
        lab.assert_home();
        lab
    }

    fn closed(&mut self) -> CycleOutcome {
        self.ps.wait("a closed cycle", |event| match event {
            Event::CycleClosed { outcome, findings, .. } => {
                assert!(findings.is_empty(), "{findings:?}");
                Some(outcome.clone())
            }
            Event::PassFailed { finding, .. } => panic!("{finding:?}"),
            _ => None,
        })
    }

    fn cycle(&mut self) -> (CycleOutcome, Comparison) {
        self.ps.forget();
        self.ps.order(&Request::Cycle { job: job(), machine: machine("app01"), is_final: false });
        let outcome = self.closed();
        (outcome, *self.ps.disk("app01", "disk0").comparison.expect("it was told"))
    }

    #[track_caller]
    fn assert_home(&self) {
        let expected = self.sites.path("expected.raw");
        fs::write(&expected, &self.now).expect("written");
        assert_equal(&expected, &self.home);
    }
}

#[test]
fn azurite_names_too_much_and_clears_nothing_and_nothing_is_missed() {
    let azurite = std::cell::OnceCell::new();
    let mut lab = Lab::new(6100, |sites, bytes| {
        let azurite = azurite.get_or_init(|| Azurite::start(&sites.path("azurite")));
        let file = sites.path("upload.raw");
        fs::write(&file, bytes).expect("written");
        azurite.upload("disk0", &file);
        azurite.account_url("disk0")
    });
    let azurite = azurite.get().expect("started");
    for round in 0..2_usize {
        let (written, cleared) = ((3 + round) << 20, (9 + round) << 20);
        let mut page = vec![0; 64 << 10];
        Random::new(round as u64).fill(&mut page);
        azurite.write_pages("disk0", written as u64, &page);
        azurite.clear_pages("disk0", cleared as u64, 1 << 20);
        lab.now[written..written + page.len()].copy_from_slice(&page);
        lab.now[cleared..cleared + (1 << 20)].fill(0);
        let (_, comparison) = lab.cycle();
        assert_eq!((comparison.how, comparison.finding), (How::Feed, None));
        lab.assert_home();
    }
}

#[test]
fn a_true_diff_costs_what_changed_and_one_that_lies_is_found() {
    let server = BlobServer::start();
    let mut lab = Lab::new(6200, |_, bytes| {
        let mut disk = BlobDisk::new(LENGTH_BYTES as u64);
        disk.write(0, &bytes[..LENGTH_BYTES - (8 << 20)]);
        server.add("disk0", disk)
    });
    assert_eq!(server.snapshots("disk0").len(), 1, "the next diff's base");
    let mut page = vec![0; 64 << 10];
    Random::new(7).fill(&mut page);
    let read = server.data_bytes();
    server.change("disk0", |disk| {
        disk.write(5 << 20, &page);
        disk.clear(12 << 20..13 << 20);
    });
    lab.now[5 << 20..(5 << 20) + page.len()].copy_from_slice(&page);
    lab.now[12 << 20..13 << 20].fill(0);
    let (outcome, comparison) = lab.cycle();
    lab.assert_home();
    assert_eq!((comparison.how, comparison.named_bytes), (How::Feed, Some((1 << 20) + (64 << 10))));
    assert_eq!(outcome.read_bytes, (64 << 10) + comparison.checked_bytes, "the block, once, and the check");
    // The request for a session samples the source: 4 MiB, its partition table and where its contents end.
    let facts = 6 << 20;
    assert!(server.data_bytes() - read <= outcome.read_bytes + facts, "{} bytes", server.data_bytes() - read);
    assert_eq!(server.snapshots("disk0").len(), 1, "the one before is gone");

    let at = 20 << 20;
    server.lie_about(at as u64..at as u64 + 4096);
    server.change("disk0", |disk| disk.write(at as u64, &page[..4096]));
    lab.now[at..at + 4096].copy_from_slice(&page[..4096]);
    let found = (0..4).find_map(|_| lab.cycle().1.finding.map(|finding| finding.code));
    assert_eq!(found.as_deref(), Some("FB415"));
    lab.assert_home();
}
