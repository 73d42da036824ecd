//! Journals whose records are whole and make no sense together: no journal of ours holds them, and none of it is believed.

use crate::support::{MemoryMedium, claim, disk_id, machine};
use failback_format::journal_record::{
    DiskSlot, Place, Point, Record, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentKind, encode_record,
};
use failback_model::{Code, DiskId};
use failback_store::{MachineStore, Medium as _};

const SALT: u64 = 7;

/// A journal of one segment with these records behind its checkpoint, or in it.
fn journal(records: &[(DiskSlot, Record)], in_checkpoint: bool) -> MemoryMedium {
    let mut bytes = Vec::new();
    for (sequence, (disk, record)) in records.iter().enumerate() {
        let offset_bytes = (SEGMENT_HEADER_BYTES + bytes.len()) as u32;
        let place = Place { salt: SALT, offset_bytes, sequence: sequence as u32 };
        encode_record(&mut bytes, place, SEGMENT_HEADER_BYTES as u32, *disk, record);
    }
    let end = (SEGMENT_HEADER_BYTES + bytes.len()) as u32;
    let header = SegmentHeader {
        kind: SegmentKind::Journal,
        machine: machine(),
        number: 1,
        salt: SALT,
        checkpoint_end_bytes: if in_checkpoint { end } else { SEGMENT_HEADER_BYTES as u32 },
    };
    let medium = MemoryMedium::new();
    let file = medium.create("journal-000000000001.fbj").expect("made");
    file.write_at(0, &[&header.encode()[..], &bytes].concat()).expect("written");
    medium
}

/// What opening it says; the points where it is taken.
fn open(records: &[(DiskSlot, Record)], in_checkpoint: bool) -> Result<Vec<u64>, String> {
    let undo = MemoryMedium::new();
    // Points lead back through a log that reaches as far as they do.
    undo.create("undo-000000000009.fbu").expect("made");
    let undo = Some(Box::new(undo) as _);
    match MachineStore::open_on(Box::new(journal(records, in_checkpoint)), undo, &machine()) {
        Ok(store) => Ok(store.points().iter().map(|point| point.number).collect()),
        Err(error) => {
            assert_eq!(error.code(), Code::JournalDamaged, "{error}");
            Err(error.to_string())
        }
    }
}

fn disk(slot: u16) -> (DiskSlot, Record) {
    let id = if slot == 0 { disk_id() } else { DiskId::new(format!("scsi0.{slot}")).expect("an id") };
    (DiskSlot(slot), Record::Disk { id })
}

fn point(number: u64, undo_from: u64) -> (DiskSlot, Record) {
    let (sealed_unix_ms, claim, restored, disks) = (1, claim(), None, Vec::new());
    (DiskSlot::MACHINE, Record::Point(Point { number, undo_from, sealed_unix_ms, claim, restored, disks }))
}

#[test]
fn disks_come_in_the_order_of_their_slots() {
    assert_eq!(open(&[disk(0), disk(1)], false), Ok(vec![]));
    for records in [vec![disk(1)], vec![disk(0), disk(2)], vec![disk(0), disk(0)]] {
        let said = open(&records, false).expect_err("they are out of order");
        assert!(said.contains("order of their numbers") || said.contains("known"), "{said}");
    }
}

#[test]
fn points_and_the_undo_behind_them_count_up() {
    assert_eq!(open(&[disk(0), point(0, 1), point(1, 3), point(2, 3)], false), Ok(vec![0, 1, 2]));
    assert_eq!(open(&[disk(0), point(1, 3), point(1, 5)], false), Ok(vec![1]), "the newest is told anew");
    assert_eq!(open(&[disk(0), point(1, 3), point(0, 3)], false), Ok(vec![0, 1]), "an original comes late");
    for records in [
        [disk(0), point(2, 3), point(1, 4)],
        [disk(0), point(1, 3), point(2, 2)],
        [disk(0), point(1, 3), point(0, 4)],
    ] {
        let said = open(&records, false).expect_err("they count down");
        assert!(said.contains("points count up"), "{said}");
    }
}

#[test]
fn a_checkpoint_holds_what_a_checkpoint_holds() {
    let said = open(&[disk(0)], true).expect_err("a disk is introduced in another way there");
    assert!(said.contains("known") || said.contains("checkpoint"), "{said}");
    assert_eq!(open(&[point(0, 1), point(1, 2)], true), Ok(vec![0, 1]));
    let said = open(&[(DiskSlot(0), Record::Forget)], false).expect_err("there is no such disk");
    assert!(said.contains("not known"), "{said}");
}
