//! A pass that is cut goes on from what is durable.

use crate::code;
use crate::site::Site;
use failback_model::Code;
use failback_pass::Progress;
use failback_transport::{Rate, Schedule, Throttle};
use std::sync::Arc;

#[test]
fn a_link_that_is_cut_costs_no_more_than_the_window() {
    let length = 96 << 20;
    let site = Site::new(length);
    site.remove_target();
    // Cut by the source's wish, in the middle: what was taken in is committed all the same.
    let attempt = site.attempt(1);
    let (cancel, progress) = (attempt.cancel.clone(), Arc::clone(&attempt.progress));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while Progress::get(&progress.bytes_to_target) < 30 << 20 && !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            cancel.cancel();
        });
        site.run(&attempt).expect_err("it was stopped");
        attempt.cancel.cancel();
    });
    site.settle();
    let first = Progress::get(&attempt.progress.bytes_to_target);
    let (sent, progress) = site.send(1);
    sent.expect("the second session finishes it");
    site.assert_same();
    let second = Progress::get(&progress.bytes_to_target);
    let one_go = {
        let fresh = Site::new(length);
        fresh.remove_target();
        let (sent, progress) = fresh.send(1);
        sent.expect("in one go");
        Progress::get(&progress.bytes_to_target)
    };
    assert!(first + second <= one_go + (10 << 20), "{first} and {second} bytes, in one go {one_go}");
    // Nothing of the target was scanned twice: it was made for the pass, and its journal knows the rest.
    let (read, _) = site.target_reads();
    assert!(read < 20 << 20, "{read} bytes of the target were read");
}

#[test]
fn a_newer_session_takes_over_and_an_older_one_disturbs_nobody() {
    let site = Site::new(32 << 20);
    site.remove_target();
    let mut slow = site.attempt(2);
    let rate = Rate::bytes_per_second(4 << 20).expect("a rate");
    slow.connect.throttle = Throttle::new(Schedule::always(rate));
    // Each has its own scan to remember.
    slow.memory = None;
    let replaced = std::thread::scope(|scope| {
        let running = scope.spawn(|| site.run(&slow));
        while Progress::get(&slow.progress.bytes_to_target) < 1 << 20 {
            std::thread::yield_now();
        }
        assert_eq!(code(&site.send(1).0.expect_err("its epoch is over")), Code::SourceOlder);
        assert!(!running.is_finished(), "an older job ended a newer one's pass");
        site.send(3).0.expect("the newest");
        running.join().expect("no panic").expect_err("it was replaced")
    });
    let finding = &replaced.findings()[0];
    assert!(finding.evidence.contains(Code::StaleSession.as_str()), "{}", finding.evidence);
    site.assert_same();
}
