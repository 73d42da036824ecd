//! A pass always ends, and says how: whatever panics, whenever it is stopped, however much a seed holds.

use crate::memory_image::MemoryImage;
use crate::{assert_same, options, pass, pass_ok};
use failback_model::{Code, Layout};
use failback_pass::{Cancel, Link, PassError, PassOptions, Progress, Refinement, SendingEnd, Target, run};
use failback_testkit::{MemoryDevice, Random};
use failback_wire::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const LENGTH: usize = 24 << 20;

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    Random::new(seed).fill(&mut bytes);
    bytes
}

/// Counts the reads of threads whose name starts like this: 0 in others.
fn counting(prefix: &'static str) -> impl Fn() -> u64 + Send + Sync {
    let reads = AtomicU64::new(0);
    move || {
        let is_counted = std::thread::current().name().is_some_and(|name| name.starts_with(prefix));
        if is_counted { reads.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 }
    }
}

fn code(error: &PassError) -> Code {
    error.findings()[0].code
}

#[test]
fn a_new_target_takes_more_from_a_seed_than_the_window_holds() {
    let new = noise(1);
    let seed = Arc::new(MemoryDevice::from_bytes(&new));
    let (source, target) = (MemoryImage::new(&new, []), MemoryImage::new(&vec![0; LENGTH], []));
    let options = PassOptions { seeds: vec![seed], window_bytes: 4 << 20, ..options() };
    let (outcome, progress) = pass(&source, &target, true, &options);
    outcome.expect("the seed holds everything");
    assert_same(&source, &target);
    assert_eq!(Progress::get(&progress.seed_bytes), LENGTH as u64);
}

#[test]
fn a_proof_that_was_stopped_is_no_proof() {
    let new = noise(1);
    let scan_reads = (LENGTH >> 18) as u64;
    for delay in [1, 5] {
        let cancel = Cancel::default();
        let asked = cancel.clone();
        // The target equals the source: after its scan nothing reads it but the proof.
        let scans = counting("scan-");
        let target = MemoryImage::hooked(&new, move || {
            if scans() == scan_reads + delay {
                asked.cancel();
            }
        });
        let source = MemoryImage::new(&new, []);
        let options = PassOptions { verify: true, ..options() };
        let to = Target::Existing(Arc::clone(&target) as _);
        let ended = run(Arc::clone(&source) as _, to, &options, &Arc::default(), &cancel);
        assert_eq!(code(&ended.expect_err("stopped")), Code::Cancelled);
        pass_ok(&source, &target, &options);
    }
}

#[test]
fn a_thread_that_panics_ends_the_pass() {
    let (new, old) = (noise(1), noise(2));
    let panicking = |bytes: &[u8], prefix| {
        let reads = counting(prefix);
        MemoryImage::hooked(bytes, move || assert!(reads() != 9, "this read panics, as the test wants"))
    };
    // Every block is looked at twice at both ends.
    let options = PassOptions { refinement: Refinement::On, ..options() };
    for (at_source, prefix) in [(true, "scan-"), (true, "reread-"), (false, "scan-"), (false, "target-")] {
        let (source, target) = if at_source {
            (panicking(&new, prefix), MemoryImage::new(&old, []))
        } else {
            (MemoryImage::new(&new, []), panicking(&old, prefix))
        };
        let (ended, _) = pass(&source, &target, false, &options);
        let error = ended.expect_err("a thread panicked");
        assert_eq!(code(&error), Code::Internal, "{error}");
        pass_ok(&source, &target, &options);
    }
}

#[test]
fn no_threads_are_one_thread() {
    let (source, target) = (MemoryImage::new(&noise(1), []), MemoryImage::new(&noise(2), []));
    pass_ok(&source, &target, &PassOptions { threads: 0, ..options() });
}

#[test]
fn what_waits_to_go_out_is_given_up_when_the_other_end_says_that_it_stops() {
    let source = MemoryImage::new(&[1; LENGTH], []);
    let options = options();
    let end = SendingEnd {
        layout: Layout::new(LENGTH as u64, options.block_size).expect("a layout"),
        source,
        options: &options,
        ships_everything: true,
        expects_changes: false,
        base: None,
        scan_log: None,
        progress: Arc::default(),
        cancel: Cancel::default(),
    };
    let (to_end, input) = crossbeam_channel::unbounded();
    let given_up = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&given_up);
    let link = Link::new(|_| true, input).with_discard(move || noted.store(true, Ordering::Relaxed));
    let stopping = Message::Error { code: Code::Draining.as_str().into(), message: "it stops".into() };
    to_end.send(stopping.encode()).expect("it listens");
    assert_eq!(code(&end.run(link, None).expect_err("ended")), Code::Draining);
    assert!(given_up.load(Ordering::Relaxed));
}
