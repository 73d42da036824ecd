//! A pass that is cut goes on from what is durable.

use crate::site::Site;
use failback_pass::Progress;
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
