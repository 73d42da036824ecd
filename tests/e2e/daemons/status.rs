//! What operators see of passes over a thin link: nothing is called done that is not, at either end.

use super::Slow;
use crate::sites::{Daemon, job, machine};
use failback_model::limits::PACK_MAX_BYTES;
use failback_service::control::Request;
use failback_service::status::{DiskStage, DiskStatus, Live};
use failback_testkit::Random;
use std::fs;

const LENGTH_BYTES: u64 = 24 << 20;
/// Most bytes a second of a pass that is looked at while it runs.
const THIN: u64 = 3_000_000;

/// What a pass says while it runs, with some of it done.
#[track_caller]
fn at_work(daemon: &Daemon, is_far: impl Fn(&Live) -> bool) -> (DiskStatus, Live) {
    let is_so =
        |disk: &DiskStatus| disk.stage == DiskStage::Replicating && disk.pass.as_ref().is_some_and(&is_far);
    let disk = daemon.until("app01", is_so);
    let pass = disk.pass.clone().expect("it runs");
    (disk, pass)
}

fn limited_by(pass: &Live) -> &str {
    pass.limiting.as_ref().map_or("", |limiting| &limiting.cause)
}

/// Nothing counts as done that the link has not carried: the disk's bytes do not compress.
#[track_caller]
fn assert_honest(slow: &Slow, equal_bytes: u64, crossed_before: u64, pass: &Live) {
    let most = equal_bytes + slow.proxy.to_target() - crossed_before;
    assert!(pass.done_bytes <= most, "{} done, and only {most} can be: {pass:#?}", pass.done_bytes);
}

#[test]
fn a_share_rests_on_what_the_target_wrote_and_labels_and_lag_outlive_a_restart() {
    let mut slow = Slow::new(1400, LENGTH_BYTES, THIN);
    let (sent, pass) = at_work(&slow.ps, |pass| pass.done_bytes > 4 << 20 && pass.left_seconds.is_some());
    assert_honest(&slow, 0, 0, &pass);
    assert_eq!(
        (pass.measure.as_str(), pass.total_bytes, limited_by(&pass)),
        ("settled", LENGTH_BYTES, "link")
    );
    assert_eq!(sent.strategy.as_deref(), Some("alternate-location"));
    // What came is written a little later.
    let (taken, pass) = at_work(&slow.mt, |pass| pass.counters["bytes_written"] >= 4 << 20);
    assert_eq!(
        (pass.measure.as_str(), pass.total_bytes, limited_by(&pass)),
        ("received", LENGTH_BYTES, "peer")
    );
    assert!(pass.done_bytes < LENGTH_BYTES, "{pass:#?}");
    assert_eq!(taken.strategy.as_deref(), Some("alternate-location"));
    let joined = |disk: &DiskStatus| disk.link.as_ref().map_or(0, |link| link.data_connections);
    assert!(joined(&taken) > 0 && joined(&taken) == joined(&sent), "{taken:#?}");
    let counter = |name: &str| pass.counters[name];
    // Counters are read one after the other: a pack may come in between.
    let came = counter("bytes_to_target") + PACK_MAX_BYTES as u64;
    assert!(came >= pass.done_bytes && pass.done_bytes >= 4 << 20, "{pass:#?}");
    assert!(counter("tls_bytes_to_target") >= counter("bytes_to_target"), "records around frames: {pass:#?}");
    assert!(pass.rates.keys().all(|name| pass.counters.contains_key(name)));

    // A group is durable, so that there is something to go on from. Both ends are killed: the disk that this job made stays a new one.
    at_work(&slow.ps, |pass| pass.counters["messages_acknowledged"] > 0);
    slow.ps.kill();
    slow.mt.kill();
    slow.mt.restart();
    slow.ps.restart();
    let (sent, _) = at_work(&slow.ps, |_| true);
    let (taken, _) = at_work(&slow.mt, |_| true);
    for disk in [&sent, &taken] {
        assert_eq!((disk.resumed, disk.strategy.as_deref()), (true, Some("alternate-location")), "{disk:#?}");
    }
    let mut slow = slow.finish();
    let metrics = slow.mt.page(slow.sites.at(9444), "/metrics").1;
    assert!(metrics.contains("failback_disk_tls_bytes_to_target_total{machine=\"app01\""), "{metrics}");
    let ends = |slow: &Slow| [slow.ps.disk("app01", "disk0"), slow.mt.disk("app01", "disk0")];
    let before = ends(&slow).map(|disk| disk.sealed_unix_ms.expect("it is sealed"));
    assert!(slow.ps.terminate().success() && slow.mt.terminate().success());
    slow.mt.restart();
    slow.ps.restart();
    let after = ends(&slow);
    assert_eq!(after.each_ref().map(|disk| disk.sealed_unix_ms), before.map(Some));
    assert_eq!(after.each_ref().map(|disk| disk.generation), [Some(1); 2]);

    // The next cycle: half of it differs.
    let mut bytes = fs::read(&slow.source).expect("reads");
    Random::new(1401).fill(&mut bytes[..LENGTH_BYTES as usize / 2]);
    fs::write(&slow.source, bytes).expect("writes");
    let crossed = slow.proxy.to_target();
    slow.ps.reprotect("app01");
    let half = LENGTH_BYTES / 2;
    let (sent, pass) = at_work(&slow.ps, |pass| pass.done_bytes > half + (3 << 20));
    assert_honest(&slow, half, crossed, &pass);
    assert!(pass.left_seconds.is_some() && pass.done_bytes < LENGTH_BYTES, "{pass:#?}");
    assert_eq!(sent.strategy.as_deref(), Some("original-location"));
    let (_, pass) = at_work(&slow.mt, |pass| pass.counters["bytes_written"] > 1 << 20);
    assert_eq!((pass.measure.as_str(), pass.left_seconds, limited_by(&pass)), ("scanned", None, "peer"));
    slow.finish();
}

#[test]
fn an_end_that_stops_does_not_wait_for_a_thin_link() {
    let mut slow = Slow::new(1410, LENGTH_BYTES, 400_000);
    slow.proxy.wait_for(2 << 20);
    let before = slow.proxy.to_target();
    assert!(slow.ps.terminate().success());
    let more = slow.proxy.to_target() - before;
    assert!(more < 4 << 20, "{more} bytes more of the window's 8 MiB were sent before it stopped");
    slow.mt.broken("disk0", "FB403");
    let taken = slow.mt.disk("app01", "disk0");
    let why = taken.error.expect("the reason of the wait");
    assert_eq!((taken.stage, why.severity.as_str()), (DiskStage::Waiting, "info"));
    assert!(slow.mt.status().errors.is_empty(), "an orderly stop is no error");
    slow.ps.restart();
    let schedule = Some("unlimited".into());
    slow.ps.order(&Request::Bandwidth { job: job(), machine: machine("app01"), schedule });
    slow.finish();
}

#[test]
fn a_peer_that_is_sent_away_has_an_address() {
    let mut slow = Slow::new(1420, 2 << 20, 400_000);
    let away = Request::Release { job: job(), machine: machine("app01"), disk: None };
    slow.ps.order(&Request::Stop { job: job(), machine: machine("app01") });
    slow.ps.wait("it stops", |event| (event.name() == "pass_stopped").then_some(()));
    slow.mt.until("app01", |disk| disk.link.is_none());
    slow.mt.order(&away);
    slow.ps.resume("app01");
    let address = slow.mt.wait("a refusal", |event| match event {
        failback_service::event::Event::PeerRefused { address, .. } => Some(address.clone()),
        _ => None,
    });
    assert!(address.expect("it is known").starts_with("127."));
}
