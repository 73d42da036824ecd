//! The order in which a sparse extent touches its file, and what is left when the file fails.

use super::*;
use crate::vmdk::extent::ExtentStore;
use failback_blockio::{Action, Recording, UnitSource, Zeroing};
use failback_testkit::{Call, Damage, Fault, Faulty, MemoryDevice, When};

const GRAIN: u64 = 64 << 10;
const LENGTH_BYTES: u64 = 8 * GRAIN;

/// An extent whose first two grains are taken.
fn made() -> MemoryDevice {
    let device = Arc::new(MemoryDevice::new(0));
    let extent = SparseExtent::create(device.clone(), LENGTH_BYTES, None).expect("created");
    extent.write_vectored_at(0, &[&[1; 2 * GRAIN as usize]]).expect("written");
    extent.close().expect("closed");
    device.duplicate()
}

fn bytes_of(extent: &SparseExtent) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH_BYTES as usize];
    UnitSource::read_at(extent, 0, &mut bytes).expect("read");
    bytes
}

#[test]
fn the_mark_is_durable_before_data_and_goes_last() {
    let recording = Recording::new();
    let device = Arc::new(recording.add(Arc::new(made())));
    let extent = SparseExtent::open(device).expect("opened");
    extent.write_vectored_at(5, &[&[2; 10]]).expect("written");
    extent.zero(ByteRange::new(0, GRAIN), Zeroing::KeepAllocation).expect("zeroed");
    extent.close().expect("closed");
    let steps: Vec<&str> = recording
        .events()
        .iter()
        .map(|event| match &event.action {
            Action::Write { offset_bytes: 0, bytes } if bytes[UNCLEAN_OFFSET] == 1 => "mark",
            Action::Write { offset_bytes: 0, .. } => "unmark",
            Action::Write { .. } => "write",
            Action::Zero { .. } => "zero",
            Action::SetLength(_) => "lengthen",
            Action::SyncBegan => "sync",
            Action::SyncEnded => "synced",
        })
        .collect();
    let expected = ["mark", "sync", "synced", "write", "zero", "sync", "synced", "unmark", "sync", "synced"];
    assert_eq!(steps, expected);
}

#[test]
fn a_new_grain_is_durable_before_both_tables_name_it() {
    let recording = Recording::new();
    let device = Arc::new(recording.add(Arc::new(made())));
    let extent = SparseExtent::open(device).expect("opened");
    extent.write_vectored_at(3 * GRAIN, &[&[2; 10]]).expect("written");
    extent.flush().expect("flushed");
    let tables: Vec<u64> = extent.tables.copies(0).map(|sector| sector * SECTOR_BYTES).collect();
    let events = recording.events();
    let position = |wanted: &dyn Fn(&Action) -> bool| {
        events.iter().position(|event| wanted(&event.action)).expect("it was done")
    };
    let grain = position(&|action| matches!(action, Action::Write { bytes, .. } if bytes.len() == 10));
    let length = position(&|action| matches!(action, Action::SetLength(_)));
    let table =
        |at| position(&|action| matches!(action, Action::Write { offset_bytes, .. } if *offset_bytes == at));
    let (first, second) = (table(tables[0]), table(tables[1]));
    let is_synced = |from: usize, to: usize| {
        events[from..to]
            .windows(2)
            .any(|pair| pair[0].action == Action::SyncBegan && pair[1].action == Action::SyncEnded)
    };
    assert!(length < grain && is_synced(grain, first) && is_synced(grain, second));
    assert!(is_synced(first.max(second), events.len()));
}

#[test]
fn after_a_failed_sync_nothing_is_done_any_more() {
    let fault = Fault { call: Call::Sync, when: When::Nth(2), damage: Damage::Io };
    let device = Arc::new(Faulty::new(made(), [fault]));
    let extent = SparseExtent::open(device.clone()).expect("opened");
    extent.write_vectored_at(3 * GRAIN, &[&[2; 10]]).expect("written");
    assert_eq!(extent.flush().expect_err("the medium fails").code, Code::FlushFailed);
    assert_eq!(extent.flush().expect_err("latched").code, Code::FlushFailed);
    assert_eq!(extent.write_vectored_at(0, &[&[2]]).expect_err("latched").code, Code::FlushFailed);
    assert_eq!(UnitSource::read_at(&extent, 0, &mut [0]).expect_err("latched").code, Code::FlushFailed);
    assert_eq!(extent.close().expect_err("latched").code, Code::FlushFailed);
    assert_eq!(device.calls(Call::Sync), 2, "no sync is tried again");
}

#[test]
fn whatever_fails_a_second_run_succeeds() {
    let mut expected = vec![0; LENGTH_BYTES as usize];
    expected[..GRAIN as usize].fill(1);
    expected[2 * GRAIN as usize..].fill(3);
    let run = |device: Arc<dyn Device>| -> Result<(), DiskError> {
        let extent = SparseExtent::open(device)?;
        for grain in 2..8 {
            extent.write_vectored_at(grain * GRAIN, &[&[3; 1000], &[3; GRAIN as usize - 1000]])?;
            if grain % 2 == 0 {
                extent.flush()?;
            }
        }
        extent.zero(ByteRange::new(GRAIN, 2 * GRAIN), Zeroing::Punch)?;
        extent.close()
    };
    let mut struck = 0;
    for call in [Call::Read, Call::Write, Call::Sync, Call::Zero] {
        for damage in [Damage::Io, Damage::NoSpace, Damage::Short] {
            for number in 1..40 {
                let fault = Fault { call, when: When::Nth(number), damage };
                let device = Arc::new(Faulty::new(made(), [fault]));
                let outcome = run(device.clone());
                if device.struck().is_empty() {
                    break;
                }
                struck += 1;
                let what = format!("{fault:?}");
                assert!(outcome.is_err(), "{what}: the failure was swallowed");
                let file = Arc::new(device.inner().duplicate());
                run(file.clone()).unwrap_or_else(|error| panic!("{what}: second run: {error}"));
                let extent = SparseExtent::open(file).expect("opened");
                assert!(bytes_of(&extent) == expected, "{what}");
                assert_eq!(extent.check().expect("checked"), [], "{what}");
            }
        }
    }
    assert!(struck > 60, "{struck} faults struck");
}
