//! Power cuts: every prefix of what was done to the file, with any part of what was not yet synced.

use crate::support::{GRAIN, alone, qemu_img, text};
use failback_blockio::{Access, Action, Device, Event, Recording, after_cut};
use failback_image::vmdk::{create_on, open_on};
use failback_image::{CreateOptions, Image, VmdkType};
use failback_model::{ByteRange, Code};
use failback_testkit::{MemoryDevice, Random};
use std::sync::Arc;

const SECTOR: usize = 512;
const DISK_BYTES: u64 = 6 * GRAIN + 1536;

/// What each sector held, from which event on.
struct History {
    /// For each sector: its versions, each with the number of events before it was written.
    versions: Vec<Vec<(usize, u8)>>,
    /// Numbers of events at which flushes ended.
    flushed: Vec<usize>,
    /// Number of events before closing began.
    closing: usize,
}

impl History {
    /// The versions that a sector may hold after a cut behind `events` events.
    fn allowed(&self, sector: usize, events: usize) -> Vec<u8> {
        let flushed = self.flushed.iter().copied().rfind(|&end| end <= events).unwrap_or(0);
        let versions = &self.versions[sector];
        let certain = versions.iter().rposition(|&(at, _)| at < flushed).unwrap_or(0);
        versions[certain..].iter().filter(|&&(at, _)| at <= events).map(|&(_, version)| version).collect()
    }
}

/// Writes, zeroes and flushes by chance; each write fills its sectors with a number of its own.
fn play(image: &dyn Image, recording: &Recording, seed: u64) -> History {
    let sectors = (DISK_BYTES / 512) as usize;
    let mut history = History { versions: vec![vec![(0, 0)]; sectors], flushed: vec![0], closing: 0 };
    let mut random = Random::new(seed);
    for version in 1..=24_u8 {
        let start = random.below(sectors as u64) as usize;
        let count = (1 + random.below(200) as usize).min(sectors - start);
        let range = ByteRange::new((start * SECTOR) as u64, ((start + count) * SECTOR) as u64);
        let zeroes = version % 6 == 5;
        let before = recording.events().len();
        if zeroes {
            image.zero(range, failback_blockio::Zeroing::KeepAllocation).expect("zeroed");
        } else {
            image.write_at(range.start(), &vec![version; count * SECTOR]).expect("written");
        }
        for versions in &mut history.versions[start..start + count] {
            versions.push((before, if zeroes { 0 } else { version }));
        }
        if version % 5 == 4 {
            image.flush().expect("flushed");
            history.flushed.push(recording.events().len());
        }
    }
    history.closing = recording.events().len();
    image.close().expect("closed");
    history.flushed.push(recording.events().len());
    history
}

/// The file as a power cut behind `events` may leave it.
fn cut(events: &[Event], random: &mut Random) -> MemoryDevice {
    let device = MemoryDevice::new(0);
    let state = after_cut(events, 0);
    // Zeroing never lengthens a file: where the length was lost, so are the bytes to zero.
    let apply = |action: &Action| match action {
        Action::Zero { range, .. } if range.end() > device.length_bytes() => {}
        _ => action.apply(&device).expect("replayed"),
    };
    for &position in &state.durable {
        apply(&events[position].action);
    }
    for &position in &state.uncertain {
        let action = &events[position].action;
        match random.below(4) {
            0 => {}
            1 => {
                if let Some(torn) = action.torn(1 + random.below(8)) {
                    apply(&torn);
                }
            }
            _ => apply(action),
        }
    }
    device
}

#[test]
fn every_cut_leaves_each_sector_old_or_new() {
    let _guard = alone();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    for seed in 0..6 {
        let recording = Recording::new();
        let device: Arc<dyn Device> = Arc::new(recording.add(Arc::new(MemoryDevice::new(0))));
        let options =
            CreateOptions { vmdk_type: VmdkType::MonolithicSparse, ..CreateOptions::new(DISK_BYTES) };
        let image = create_on(device.clone(), &options).expect("created");
        // Half of the disk has its grains already, so that writes in place are cut too.
        image.write_at(0, &[0; 3 * GRAIN as usize]).expect("written");
        image.close().expect("closed");
        let original = image.identity().content_id;
        drop(image);
        let created = recording.events().len();
        let image = open_on(device, Access::Write).expect("opened");
        let history = play(&*image, &recording, seed);
        drop(image);
        let events = recording.events();
        let mut random = Random::new(seed ^ 0xc0ffee);
        for prefix in created..=events.len() {
            for _ in 0..3 {
                let file = Arc::new(cut(&events[..prefix], &mut random));
                let what = format!("seed {seed}, cut behind event {prefix} of {}", events.len());
                let changed = judge(file.clone(), &history, prefix, original, &what);
                if prefix % 17 == 0 {
                    qemu_finds_no_fault(folder.path(), &file.to_bytes(), &what);
                }
                recover(file, changed, &what);
            }
        }
    }
}

/// Reads the disk and compares each sector with what it may hold; whether any is not as at first.
fn judge(
    file: Arc<MemoryDevice>,
    history: &History,
    events: usize,
    original: Option<u32>,
    what: &str,
) -> bool {
    let image = open_on(file, Access::Read).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut bytes = vec![0; DISK_BYTES as usize];
    image.read_at(0, &mut bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (sector, found) in bytes.chunks(SECTOR).enumerate() {
        let allowed = history.allowed(sector, events);
        let whole = found.iter().all(|&byte| byte == found[0]);
        assert!(
            whole && allowed.contains(&found[0]),
            "{what}: sector {sector} holds {}, not one of {allowed:?}",
            found[0]
        );
    }
    let changed = !failback_model::is_zero(&bytes);
    if changed {
        assert_ne!(image.identity().content_id, original, "{what}: new data under the old content id");
    }
    let findings = image.check().expect("checked");
    if changed && events <= history.closing {
        let is_marked = findings.iter().any(|finding| finding.code == Code::ImageUnclean);
        assert!(is_marked, "{what}: new data and no mark that it is open");
    }
    for finding in findings {
        let harmless =
            finding.code == Code::ImageUnclean || finding.evidence.contains("copies of grain table");
        assert!(harmless, "{what}: {finding:?}");
    }
    changed
}

/// What survived is written to again: the second run succeeds and leaves a sound image.
fn recover(file: Arc<MemoryDevice>, changed: bool, what: &str) {
    let mut before = vec![0; DISK_BYTES as usize];
    let image = open_on(file.clone(), Access::Write).expect("opened");
    image.read_at(0, &mut before).expect("read");
    image.write_at(3 * GRAIN + 7, &[0xaa; 70_000]).unwrap_or_else(|error| panic!("{what}: {error}"));
    image.close().unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(image);
    before[3 * GRAIN as usize + 7..][..70_000].fill(0xaa);
    let image = open_on(file, Access::Read).expect("opened");
    assert_eq!(image.check().expect("checked"), [], "{what}");
    let mut after = vec![0; DISK_BYTES as usize];
    image.read_at(0, &mut after).expect("read");
    assert!(after == before, "{what}: the second run changed what it did not write (data before: {changed})");
}

fn qemu_finds_no_fault(folder: &std::path::Path, file: &[u8], what: &str) {
    let path = folder.join("cut.vmdk");
    std::fs::write(&path, file).expect("written");
    let output = qemu_img(&["check", "-f", "vmdk", text(&path)]);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}");
}

#[test]
fn a_cut_stream_is_whole_or_refused() {
    let recording = Recording::new();
    let device: Arc<dyn Device> = Arc::new(recording.add(Arc::new(MemoryDevice::new(0))));
    let options = CreateOptions { vmdk_type: VmdkType::StreamOptimized, ..CreateOptions::new(DISK_BYTES) };
    let image = create_on(device, &options).expect("created");
    image.write_at(GRAIN / 2, &vec![3; 3 * GRAIN as usize]).expect("written");
    image.flush().expect("flushed");
    image.close().expect("closed");
    drop(image);
    let mut expected = vec![0; DISK_BYTES as usize];
    expected[GRAIN as usize / 2..][..3 * GRAIN as usize].fill(3);
    let events = recording.events();
    let mut random = Random::new(9);
    let mut whole = 0;
    for prefix in 0..=events.len() {
        for _ in 0..20 {
            let file = Arc::new(cut(&events[..prefix], &mut random));
            let Ok(image) = open_on(file, Access::Read) else { continue };
            let mut bytes = vec![0; DISK_BYTES as usize];
            image.read_at(0, &mut bytes).expect("what opens is whole");
            assert!(bytes == expected, "cut behind event {prefix}");
            whole += 1;
        }
    }
    assert!(whole >= 20, "the finished stream opens");
}
