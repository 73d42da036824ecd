//! Passes between an attempt and a reception over real sockets, with certificates that were issued for them.

mod agreed;
mod devices;
mod divergence;
mod guards;
mod resume;
mod site;

use failback_model::Code;
use failback_pass::{PassError, Progress};
use site::Site;

fn code(error: &PassError) -> Code {
    error.findings()[0].code
}

#[test]
fn a_disk_comes_home_and_the_next_cycle_reads_only_what_changed() {
    let site = Site::new(24 << 20);
    let (sent, progress) = site.send(1);
    let sent = sent.expect("nothing is in the way");
    assert_eq!(sent.generation.0, 1);
    site.assert_same();
    assert!(Progress::get(&progress.bytes_to_target) > 0);
    // The source changed on purpose: its scan is stale, the target's journal is not.
    site.mutate_source(7);
    let (sent, _) = site.send(1);
    assert_eq!(sent.expect("the second cycle").generation.0, 2);
    site.assert_same();
    let (read, _) = site.target_reads();
    assert!(read < 24 << 20, "the target was scanned again: {read} bytes");
}

#[test]
fn a_new_disk_is_made_with_the_source_length() {
    let site = Site::new(24 << 20);
    site.remove_target();
    let (sent, _) = site.send(1);
    sent.expect("it may be created");
    site.assert_same();
}

#[test]
fn what_the_other_end_refuses_arrives_with_its_code() {
    let site = Site::new(4 << 20);
    let refused = |error: Result<_, PassError>| {
        code(&error.map(|_: failback_process_server::Sent| ()).expect_err("refused"))
    };
    site.send(5).0.expect("epoch 5");
    assert_eq!(refused(site.send(4).0), Code::SourceOlder);
    let stranger = site.attempt_as("someone-else", 6);
    assert_eq!(refused(site.run(&stranger)), Code::IdentityNotAllowed);
    let mut unknown = site.attempt(6);
    unknown.disk = "other".parse().expect("an id");
    assert_eq!(refused(site.run(&unknown)), Code::UnknownDisk);
    site.shorten_target(4096);
    assert_eq!(refused(site.send(6).0), Code::TargetTooSmall);
}
