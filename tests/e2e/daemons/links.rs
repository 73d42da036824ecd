//! A link that is cut, and ends that drain: the next session goes on from what is durable.

use super::{SLOW_WINDOW_BYTES, Slow};
use failback_service::status::DiskStage;

const LENGTH_BYTES: u64 = 48 << 20;
const BYTES_PER_SECOND: u64 = 12_000_000;
/// What a pass sends beside contents: digests, headers, TLS records and handshakes.
const BESIDE_BYTES: u64 = 2 << 20;

#[test]
fn a_link_that_is_cut_is_made_again_and_the_reason_stands_in_the_status() {
    let mut slow = Slow::new(800, LENGTH_BYTES, BYTES_PER_SECOND);
    slow.proxy.wait_for(20 << 20);
    slow.proxy.cut();
    assert!(slow.ps.broken("disk0", "FB509"), "a lost connection is tried again");
    slow.mt.broken("disk0", "FB509");
    let (sent, taken) = (slow.ps.disk("app01", "disk0"), slow.mt.disk("app01", "disk0"));
    assert!(
        matches!(sent.stage, DiskStage::Retrying | DiskStage::Connecting | DiskStage::Planning),
        "{sent:?}"
    );
    assert_eq!(sent.error.expect("a reason").code, "FB509");
    assert_eq!((taken.stage, taken.link), (DiskStage::Waiting, None));
    assert_eq!(taken.error.expect("a reason").code, "FB509");
    // More than one try fails before it heals; nobody asks for the one that gets through.
    slow.ps.forget();
    assert!(slow.ps.broken("disk0", "FB509"), "for ever");
    slow.proxy.heal();
    let slow = slow.finish();
    assert!(slow.ps.disk("app01", "disk0").resumed, "it went on where it was");
    assert!(slow.ps.status().errors["FB509"] >= 2);
}

#[test]
fn ends_that_are_told_to_stop_drain_and_nothing_acknowledged_is_sent_again() {
    let mut slow = Slow::new(810, LENGTH_BYTES, BYTES_PER_SECOND);
    slow.proxy.wait_for(14 << 20);
    assert!(slow.mt.terminate().success());
    let told = slow.ps.broken_with("disk0", "FB706");
    assert!(told.contains("the other end: the master target is stopping"), "it says why: {told}");
    assert!(slow.ps.status().errors.is_empty(), "that is no error");
    slow.mt.restart();
    slow.ps.resume("app01");
    slow.proxy.wait_for(14 << 20);
    assert!(slow.ps.terminate().success());
    slow.ps.restart();
    let mut slow = slow.finish();
    assert!(slow.ps.disk("app01", "disk0").resumed, "it went on where it was");
    // What was taken in when it was told to stop is durable: all that is lost was under way.
    let sent = slow.proxy.to_target();
    let most = LENGTH_BYTES + 2 * SLOW_WINDOW_BYTES + BESIDE_BYTES;
    assert!(sent <= most, "{sent} bytes crossed the link, {most} may");
    // What is sealed is not sent again by a daemon that starts anew.
    assert!(slow.ps.terminate().success());
    slow.ps.restart();
    assert!(slow.mt.terminate().success());
    slow.mt.restart();
    let known = slow.mt.disk("app01", "disk0");
    assert_eq!(known.generation, Some(1), "{known:?}");
    assert_eq!(slow.proxy.to_target(), sent);
}
