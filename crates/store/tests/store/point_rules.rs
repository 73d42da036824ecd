//! What belongs to a point, when there is one, and what a way back tells of itself.

use crate::judge::{assert_contents, roll_back};
use crate::machine_model::{
    Contents, Opened, Site, bytes_of, digests_of, disk_ids, layout_of, original, pages_of_block, plain,
};
use crate::support::{claim, root_of};
use crate::undo_crash::Recorded;
use failback_model::{BlockIndex, BlockRange, Code, Epoch, block_digest};
use failback_store::{DiskState, Fingerprint, Phase, RollbackProgress};

/// Contents of both disks with every second page of the first blocks changed.
fn changed(version: u32) -> Contents {
    let mut contents = original();
    contents
        .iter_mut()
        .for_each(|pages| pages.iter_mut().take(9).step_by(2).for_each(|page| *page = version));
    contents
}

/// A pass of one disk that writes all of it, and seals it.
fn pass(opened: &Opened, disk: usize, epoch: u64, contents: &Contents, is_new: bool) {
    let (store, image) = &opened.disks[disk];
    let fingerprint = Fingerprint::of_image(&**image, Epoch(epoch)).expect("looked at");
    let number = store.open_session(Epoch(epoch), layout_of(disk), is_new, &fingerprint).expect("a session");
    let sink = store.sink(image.clone(), number, claim());
    for block in 0..layout_of(disk).block_count() as usize {
        let (pages, blocks) = (pages_of_block(disk, block), BlockRange::new(block as u64, block as u64 + 1));
        let bytes = bytes_of(disk, pages.clone());
        sink.begin(&[blocks], &[bytes]).expect("begun");
        let plain = plain(disk, &contents[disk], pages);
        sink.write(bytes.start(), &plain).expect("written");
        sink.applied(&[(BlockIndex(block as u64), block_digest(&plain))], &[]).expect("applied");
    }
    sink.seal(root_of(layout_of(disk), &digests_of(disk, &contents[disk]))).expect("sealed");
}

/// A pass of both disks; the point.
fn cycle(opened: &Opened, epoch: u64, contents: &Contents) -> Option<u64> {
    (0..2).for_each(|disk| pass(opened, disk, epoch, contents, false));
    opened.store.record_point(&disk_ids()).expect("asked").map(|point| point.number)
}

fn numbers(opened: &Opened) -> Vec<u64> {
    opened.store.points().iter().map(|point| point.number).collect()
}

#[test]
fn a_commit_begins_another_history_and_an_ended_one_has_no_original() {
    let site = Recorded::new(1);
    let opened = site.open();
    assert_eq!(cycle(&opened, 1, &changed(2)), Some(1));
    opened.store.commit().expect("committed");
    assert_eq!(opened.store.standing().phase, Phase::Committed);
    let again = opened.store.commit().expect_err("once");
    assert!(
        again.code() == Code::AlreadyCommitted && again.to_string().contains("committed before"),
        "{again}"
    );
    assert_eq!(cycle(&opened, 2, &changed(4)), Some(1), "points count from the commit on");
    assert_eq!(numbers(&opened), [0, 1]);
    roll_back(&opened, 0).expect("back");
    assert_contents(&opened, &changed(2), "the original of the second history");

    // Something else wrote to a disk, and that was accepted.
    opened.store.end_history().expect("ended");
    assert!(numbers(&opened).is_empty());
    assert_eq!(cycle(&opened, 2, &changed(6)), Some(1), "also in the job that goes on");
    assert_eq!(cycle(&opened, 2, &changed(8)), Some(2));
    assert_eq!(numbers(&opened), [1, 2], "there is no original that could be had back");
    drop(opened);
    let opened = site.open();
    assert_eq!(numbers(&opened), [1, 2], "and after a restart neither");
    roll_back(&opened, 1).expect("back");
    assert_contents(&opened, &changed(6), "the first point of the third history");
}

#[test]
fn a_disk_that_came_later_keeps_what_it_holds() {
    let site = Recorded::new(2);
    let opened = site.open();
    let ids = disk_ids();
    pass(&opened, 0, 1, &changed(2), false);
    let first = opened.store.record_point(&ids[..1]).expect("asked").expect("of one disk").number;
    // A job made the second one.
    pass(&opened, 1, 1, &changed(4), true);
    pass(&opened, 0, 1, &changed(4), false);
    let both = opened.store.record_point(&ids).expect("asked").expect("of both disks").number;
    let disks = |number: u64| {
        let points = opened.store.points();
        let point = points.into_iter().find(|point| point.number == number).expect("listed");
        point.disks.into_iter().map(|disk| disk.disk).collect::<Vec<_>>()
    };
    assert_eq!([disks(0), disks(first), disks(both)], [ids[..1].to_vec(), ids[..1].to_vec(), ids.clone()]);
    assert!(!opened.disks[0].0.was_created() && opened.disks[1].0.was_created());
    for (number, first) in [(first, changed(2)), (0, original()), (both, changed(4))] {
        roll_back(&opened, number).expect("back");
        let expected = vec![first[0].clone(), changed(4)[1].clone()];
        assert_contents(&opened, &expected, &format!("point {number}"));
    }
}

#[test]
fn who_is_there_already_does_nothing_and_who_goes_tells_how_far() {
    let site = Recorded::new(3);
    let opened = site.open();
    cycle(&opened, 1, &changed(2));
    let states = || opened.disks.iter().map(|(disk, _)| disk.state()).collect::<Vec<DiskState>>();
    let (before, position) = (states(), site.position());
    assert_eq!(roll_back(&opened, 1).expect("it is there"), 1);
    assert_eq!(states(), before, "no session was opened");
    assert!(site.position() < position + 12, "nothing was written");

    let progress = RollbackProgress::default();
    let done = opened.store.roll_back(0, &opened.disks, &progress, &|| false).expect("back");
    assert_eq!(done.point, 2);
    let length: u64 = (0..2).map(|disk| layout_of(disk).length_bytes()).sum();
    assert_eq!(
        (done.written_bytes, progress.restored_bytes()),
        (length, length),
        "all of it was overwritten"
    );
    assert_eq!(progress.read_back_bytes(), length);
    assert!(progress.total_bytes() > 0);
    let stopped = opened.store.roll_back(1, &opened.disks, &progress, &|| true).expect_err("stopped");
    assert_eq!(stopped.code(), Code::Cancelled);
    roll_back(&opened, 1).expect("the same call finishes it");
    assert_contents(&opened, &changed(2), "point 1");
    assert_eq!(roll_back(&opened, 77).expect_err("there is none").code(), Code::PointUnknown);
}
