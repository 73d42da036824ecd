//! The extent table against a plain vector of bytes.

use super::*;
use crate::Provisioning;
use crate::vmdk::flat::{FlatExtent, ZeroExtent};
use failback_blockio::Device;
use failback_testkit::MemoryDevice;
use proptest::prelude::*;

const NAME: &str = "disk.vmdk";

/// A table of memory extents of these lengths; every third one has no file where `zeros` is set.
fn table(lengths: &[u16], zeros: bool) -> (ExtentTable, Vec<bool>) {
    let (mut slots, mut writable, mut start) = (Vec::new(), Vec::new(), 0);
    for (index, &length) in lengths.iter().enumerate() {
        let disk = ByteRange::new(start, start + u64::from(length));
        let is_zero = zeros && index % 3 == 2;
        let store: Arc<dyn ExtentStore> = if is_zero {
            Arc::new(ZeroExtent { descriptor: NAME.into() })
        } else {
            // Bytes of the file before and behind the run are not the disk's.
            let file = ByteRange::new(100, 100 + disk.length_bytes());
            let device = Arc::new(MemoryDevice::new(file.end() + 50));
            device.write_at(0, &[0xee; 100]).expect("written");
            device.write_at(file.end(), &[0xee; 50]).expect("written");
            Arc::new(FlatExtent::new(device, file, Provisioning::Thin).expect("whole"))
        };
        writable.extend(std::iter::repeat_n(!is_zero, usize::from(length)));
        slots.push(Slot { disk, store });
        start = disk.end();
    }
    (ExtentTable::new(slots), writable)
}

#[derive(Debug, Clone)]
enum Step {
    Write { at: u32, length: u16, cuts: Vec<u16>, fill: u8 },
    Zero { at: u32, length: u16, punch: bool },
    Read { at: u32, length: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let place = (any::<u32>(), 0..20_000_u16);
    prop_oneof![
        (place.clone(), proptest::collection::vec(any::<u16>(), 0..4), 1..=255_u8)
            .prop_map(|((at, length), cuts, fill)| Step::Write { at, length, cuts, fill }),
        (place.clone(), any::<bool>()).prop_map(|((at, length), punch)| Step::Zero { at, length, punch }),
        place.prop_map(|(at, length)| Step::Read { at, length }),
    ]
}

fn parts<'a>(data: &'a [u8], cuts: &[u16]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|&cut| usize::from(cut) % (data.len() + 1)).collect();
    places.sort_unstable();
    let mut from = 0;
    let mut parts: Vec<&[u8]> = Vec::new();
    for place in places.into_iter().chain([data.len()]) {
        parts.push(&data[from..place]);
        from = place;
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn it_is_a_disk(
        lengths in proptest::collection::vec(prop_oneof![Just(0), 1..9000_u16], 1..7),
        zeros in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..24),
    ) {
        let (table, writable) = table(&lengths, zeros);
        let name = Path::new(NAME);
        let mut oracle = vec![0_u8; writable.len()];
        prop_assert_eq!(table.length_bytes(), oracle.len() as u64);
        for step in steps {
            let (at, length) = match step {
                Step::Write { at, length, .. } | Step::Zero { at, length, .. } | Step::Read { at, length } => (at, length),
            };
            let start = at as usize % (oracle.len() + 1);
            let end = start + usize::from(length);
            let range = ByteRange::new(start as u64, end as u64);
            let inside = end <= oracle.len();
            match step {
                Step::Write { cuts, fill, .. } => {
                    let data: Vec<u8> = (0..length).map(|i| fill ^ (i % 251) as u8).collect();
                    let written = table.write_at(name, start as u64, &parts(&data, &cuts));
                    let allowed = inside && writable[start..end].iter().all(|&can| can);
                    if allowed {
                        prop_assert!(written.is_ok());
                        oracle[start..end].copy_from_slice(&data);
                    } else if inside {
                        // Cut at a ZERO extent: what lies before it may have been written.
                        let mut now = vec![0; oracle.len()];
                        table.read_at(name, 0, &mut now).expect("read");
                        let may = |i: usize| now[i] == oracle[i] || (start..end).contains(&i) && now[i] == data[i - start];
                        prop_assert!((0..now.len()).all(may));
                        oracle = now;
                    } else {
                        prop_assert!(written.is_err());
                    }
                }
                Step::Zero { punch, .. } => {
                    let zeroing = if punch { Zeroing::Punch } else { Zeroing::KeepAllocation };
                    prop_assert_eq!(table.zero(name, range, zeroing).is_ok(), inside);
                    if inside {
                        oracle[start..end].fill(0);
                    }
                }
                Step::Read { .. } => {
                    let mut read = vec![0xaa; usize::from(length)];
                    prop_assert_eq!(table.read_at(name, start as u64, &mut read).is_ok(), inside);
                    if inside {
                        prop_assert_eq!(&read, &oracle[start..end]);
                    }
                }
            }
        }
        // What `next_data` passes over is zero, and it comes to an end.
        let (mut at, mut covered) = (0, vec![false; oracle.len()]);
        while let Some(run) = table.next_data(at).expect("sought") {
            prop_assert!(run.start() >= at && !run.is_empty() && run.end() <= oracle.len() as u64);
            covered[run.start() as usize..run.end() as usize].fill(true);
            at = run.end();
        }
        prop_assert!((0..oracle.len()).all(|i| covered[i] || oracle[i] == 0));
    }
}

#[test]
fn offsets_near_the_end_of_all_numbers_are_refused() {
    let (table, _) = table(&[512], false);
    let name = Path::new(NAME);
    for offset_bytes in [512, 511, u64::MAX - 1, u64::MAX] {
        assert!(table.read_at(name, offset_bytes, &mut [0; 2]).is_err());
        assert!(table.write_at(name, offset_bytes, &[&[1], &[2]]).is_err());
    }
    assert_eq!(table.next_data(u64::MAX).expect("sought"), None);
}
