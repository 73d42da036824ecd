//! A target that something else wrote to since its last pass is refused before anything of it changes, until that is
//! accepted for a job.

use crate::code;
use crate::devices::write;
use crate::site::Site;
use failback_image::{Access, CreateOptions, ImageSpec, VmdkType};
use failback_model::limits::RECHECK_BYTES;
use failback_model::{Code, Severity};
use failback_pass::Progress;
use failback_testkit::{LoopDevice, Random};
use std::fs;
use std::time::SystemTime;

const LENGTH: u64 = 8 << 20;

/// A site whose disk came home in job 1.
fn home(length_bytes: u64) -> Site {
    let site = Site::new(length_bytes);
    site.send(1).0.expect("the first job");
    site.settle();
    site
}

/// Refused with these words, without a session and without a byte of the target changed.
#[track_caller]
fn refused(site: &Site, epoch: u64, first: Code, words: &[&str]) {
    let target = site.target_path();
    let (before, session) = (fs::read(&target).expect("read"), site.store().state().session);
    let error = site.send(epoch).0.expect_err("it is refused");
    let finding = &error.findings()[0];
    assert_eq!(finding.code, first, "{error}");
    for word in words {
        assert!(finding.evidence.contains(word), "{} does not say {word}", finding.evidence);
    }
    assert_eq!(site.store().state().session, session, "no session was granted");
    assert!(fs::read(&target).expect("read") == before, "something was written");
    let told = site.registry().refused.lock().expect("no test panics with it").pop();
    assert_eq!(told.as_ref().map(|told| told.code), Some(first), "the registry hears of it");
}

/// Accepted, scanned and brought home; the next job finds nothing to accept.
fn accept(site: &Site, epoch: u64) {
    let mut attempt = site.attempt(epoch);
    attempt.accept_divergence = true;
    let mut welcomed = None;
    let sent = attempt.run(site.handle(), |welcome, _| welcomed = Some(welcome.clone()));
    sent.expect("it was accepted");
    let welcome = welcomed.expect("a session");
    assert!(welcome.is_divergence_accepted && welcome.root.is_zero() && !welcome.is_resumed);
    site.settle();
    assert!(fs::read(site.source()).expect("read") == fs::read(site.target_path()).expect("read"));
    let accepted =
        site.registry().accepted.lock().expect("no test panics with it").clone().expect("it is said");
    assert_eq!((accepted.code, accepted.severity), (Code::Diverged, Severity::Warning));
    assert!(site.last(|progress| &progress.scanned_target_bytes) > 0, "all of it is accounted for by a scan");
    assert!(site.target_reads().0 >= fs::metadata(site.target_path()).expect("looked at").len() / 4);
    site.send(epoch + 1).0.expect("nobody wrote to it since");
    assert_eq!(*site.registry().accepted.lock().expect("no test panics with it"), None);
}

#[test]
fn a_file_that_was_written_to_waits_until_that_is_accepted() {
    let site = home(LENGTH);
    site.mutate_source(3);
    write(&site.target(), 5 << 20, &[0x5a; 512]);
    for epoch in [1, 2, 2] {
        let words = ["target.raw: target.raw was written to at 20", "its last sealed generation is 1"];
        refused(&site, epoch, Code::Diverged, &words);
    }
    accept(&site, 3);
}

#[test]
fn a_file_that_was_replaced_by_an_equal_one_waits_too() {
    let site = home(LENGTH);
    let copy = site.target().with_extension("copy");
    fs::copy(site.target(), &copy).expect("copied");
    fs::rename(&copy, site.target()).expect("renamed");
    refused(&site, 2, Code::Diverged, &["another file is in the place of target.raw"]);
    accept(&site, 3);
}

#[test]
fn a_file_that_was_only_touched_waits_since_only_a_scan_could_tell() {
    let site = home(LENGTH);
    let file = fs::File::options().write(true).open(site.target()).expect("opened");
    file.set_modified(SystemTime::UNIX_EPOCH).expect("set");
    refused(&site, 2, Code::Diverged, &["was written to at 1970-01-01T00:00:00Z"]);
    accept(&site, 3);
}

#[test]
fn all_that_forbids_a_pass_is_said_at_once() {
    let site = home(LENGTH);
    write(&site.source(), LENGTH - 4096, &[1; 4096]);
    let mut other = vec![0; LENGTH as usize];
    Random::new(9).fill(&mut other);
    write(&site.target(), 0, &other);
    refused(
        &site,
        2,
        Code::Diverged,
        &["target.raw was written to", "also FB305, target looks like another disk: "],
    );
    let mut attempt = site.attempt(2);
    attempt.accept_divergence = true;
    assert_eq!(code(&site.run(&attempt).expect_err("the one is not the other")), Code::WrongDisk);
    attempt.options.accept_mismatch = true;
    site.run(&attempt).expect("both are accepted");
    site.assert_same();
    site.shorten_target(4096);
    let both = ["also FB312, ", "the disk was resized: it has 8384512 bytes, had 8388608"];
    refused(&site, 3, Code::TargetTooSmall, &both);
}

#[test]
fn a_pass_that_was_stopped_or_cut_goes_on_without_a_word() {
    let site = Site::new(24 << 20);
    site.remove_target();
    let attempt = site.attempt(1);
    std::thread::scope(|scope| {
        let (cancel, progress) = (attempt.cancel.clone(), std::sync::Arc::clone(&attempt.progress));
        scope.spawn(move || {
            while Progress::get(&progress.bytes_to_target) < 4 << 20 && !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            cancel.cancel();
        });
        site.run(&attempt).expect_err("it was stopped");
        attempt.cancel.cancel();
    });
    site.settle();
    site.send(2).0.expect("its own writes are none of a stranger");
    site.assert_same();
}

#[test]
fn no_kind_of_image_is_taken_for_diverged_by_what_opening_writing_and_closing_it_does() {
    let kinds = [
        ("flat.vmdk", VmdkType::MonolithicFlat),
        ("vmfs.vmdk", VmdkType::Vmfs),
        ("sparse.vmdk", VmdkType::MonolithicSparse),
        ("parts.vmdk", VmdkType::TwoGbMaxExtentSparse),
        ("fixed.vhd", VmdkType::default()),
    ];
    for (name, vmdk_type) in kinds {
        let site = Site::new(LENGTH);
        let path = site.target().with_file_name(name);
        let options = CreateOptions { vmdk_type, ..CreateOptions::new(LENGTH) };
        let image = failback_image::create(&ImageSpec::parse(&path), &options).expect("made");
        image.close().expect("closed");
        drop(image);
        site.write_to(&path);
        for cycle in 1..4 {
            // The third finds nothing to write.
            if cycle == 2 {
                site.mutate_source(cycle);
            }
            site.send(cycle).0.unwrap_or_else(|error| panic!("{name}, cycle {cycle}: {error}"));
            site.settle();
        }
        let held = failback_image::open(&ImageSpec::parse(&path), Access::Read).expect("opened");
        let mut bytes = vec![0; LENGTH as usize];
        held.read_at(0, &mut bytes).expect("read");
        assert!(bytes == fs::read(site.source()).expect("read"), "{name}");
    }
}

#[test]
fn a_target_that_grew_with_its_source_has_not_diverged() {
    let site = home(LENGTH);
    site.allow_growth();
    write(&site.source(), LENGTH, &[7; 1 << 16]);
    for job in 2..4 {
        site.send(job).0.expect("nobody else extended it");
        site.assert_same();
    }
}

#[test]
fn before_each_pass_a_part_of_what_is_trusted_is_read_again_and_counted() {
    let site = home(40 << 20);
    for cycle in 2..4 {
        site.mutate_source(cycle);
        site.send(cycle).0.expect("a cycle");
        site.settle();
        let bytes = site.last(|progress| &progress.bytes_rechecked_target);
        assert!((1 << 20..=RECHECK_BYTES).contains(&bytes), "{bytes} bytes");
        site.assert_same();
    }
}

#[test]
fn a_device_that_was_written_to_between_jobs_waits_until_that_is_accepted() {
    let site = Site::new(LENGTH);
    let device = LoopDevice::attach(&site.target(), 512);
    site.write_to(device.path());
    for job in 1..4 {
        site.send(job).0.expect("a job after the other, and nobody in between");
        site.settle();
    }
    write(device.path(), 5 << 20, &[0x5a; 4096]);
    for job in [4, 5] {
        let words = ["blocks that were read again are not what was written, the first at byte 5242880"];
        refused(&site, job, Code::Diverged, &words);
    }
    accept(&site, 6);
}

#[test]
fn a_device_that_was_resized_waits_until_that_is_accepted() {
    let site = Site::new(LENGTH);
    let device = LoopDevice::attach(&site.target(), 512);
    site.write_to(device.path());
    site.send(1).0.expect("the first job");
    site.settle();
    drop(device);
    let file = fs::File::options().write(true).open(site.target()).expect("opened");
    file.set_len(LENGTH + (1 << 20)).expect("extended");
    let device = LoopDevice::attach(&site.target(), 512);
    site.write_to(device.path());
    refused(&site, 2, Code::Diverged, &["the disk was resized: it has 9437184 bytes, had 8388608"]);
    let mut attempt = site.attempt(3);
    attempt.accept_divergence = true;
    site.run(&attempt).expect("accepted");
}
