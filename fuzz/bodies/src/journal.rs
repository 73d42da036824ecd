//! A machine's journal. The first byte says what the others are: a segment as it lies on the medium (0, 3, ...); records
//! (kind, disk, length of 2 bytes, payload), which are framed with right checksums (1, 4, ...); or choices of records
//! that mostly fit each other (2, 5, ...). A third of it is the number of records in the checkpoint.

mod composed;
mod medium;

use failback_format::journal_record::{
    RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentKind,
};
use failback_image::RawImage;
use failback_model::{
    BlockRange, BlockSize, Digest, DiskId, Epoch, Layout, MachineId, PointClaim, PointLabel, block_digest,
};
use failback_store::{DiskState, Fingerprint, MachineStore};
use failback_testkit::MemoryDevice;
use medium::MemoryMedium;
use std::sync::Arc;

const SALT: u64 = 0x0123_4567_89ab_cdef;
const SEGMENT: &str = "journal-000000000042.fbj";
/// Lengths of disks are cut to this, so that a set of their blocks is small.
const DISK_MASK: u64 = (256 << 20) - 1;

/// Opens what the bytes make, goes on with what it holds, and opens it again.
pub fn journal(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let in_checkpoint = usize::from(first / 3);
    let segment = match first % 3 {
        0 if has_large_disks(rest) => return,
        0 => rest.to_vec(),
        1 => framed(rest, in_checkpoint),
        _ => composed::composed(rest, in_checkpoint),
    };
    let medium = MemoryMedium::default();
    medium.put(SEGMENT, MemoryDevice::from_bytes(&segment));
    let machine = MachineId::new("web-1").expect("an id");
    let Ok(store) = MachineStore::open_on(Box::new(medium.clone()), None, &machine) else { return };
    let known = states(&store);
    drop(store);
    let store =
        MachineStore::open_on(Box::new(medium.clone()), None, &machine).expect("what was recovered opens");
    assert_eq!((store.recovered().records, store.recovered().torn_bytes), (0, 0));
    assert_eq!(states(&store), known, "a checkpoint says what the records did");
    go_on(&store);
    let after = states(&store);
    drop(store);
    let store = MachineStore::open_on(Box::new(medium), None, &machine).expect("what was written opens");
    assert_eq!(states(&store), after);
}

/// What is known of each disk, with its trusted ranges and a digest of their digests.
fn states(store: &MachineStore) -> Vec<(DiskId, DiskState, Vec<BlockRange>, Digest)> {
    let state_of = |id: DiskId| {
        let disk = store.disk(&id).expect("it is known");
        let trusted = disk.trusted().expect("memory is read");
        let state = disk.state();
        let blocks = state.layout.map_or(0, Layout::block_count);
        let mut all = Vec::new();
        let mut from = 0;
        for run in &trusted.ranges {
            assert!(run.start.0 >= from && !run.is_empty() && run.end.0 <= blocks, "{run:?} of {blocks}");
            from = run.end.0 + 1;
            all.extend(
                trusted.digests.digests(*run).expect("memory is read").into_iter().flat_map(|it| it.0),
            );
        }
        assert_eq!(trusted.ranges.iter().map(|run| run.count()).sum::<u64>(), state.trusted_blocks);
        (id, state, trusted.ranges, block_digest(&all))
    };
    store.disks().into_iter().map(state_of).collect()
}

/// A session on the first disk, or a new one: scans a part, writes a part, commits, and begins another.
fn go_on(store: &MachineStore) {
    let id = store.disks().into_iter().next().unwrap_or(DiskId::new("new").expect("an id"));
    let disk = store.disk(&id).expect("there is room for one");
    let state = disk.state();
    if state.epoch.0 == u64::MAX || state.session.0 >= u64::MAX - 2 || state.generation.0 == u64::MAX {
        return;
    }
    let small = Layout::new(1_000_000, BlockSize::DEFAULT).expect("a layout");
    let layout = state.layout.filter(|layout| !layout.blocks().is_empty()).unwrap_or(small);
    let image =
        Arc::new(RawImage::over(Arc::new(MemoryDevice::new(layout.length_bytes()))).expect("an image"));
    let fingerprint = Fingerprint::of_text("it may be anything");
    let number = disk.open_session(Epoch(state.epoch.0 + 1), layout, false, &fingerprint).expect("opened");
    let sink = disk.sink(
        image,
        number,
        PointClaim { source_unix_ms: 0, label: PointLabel::PerDisk, reason: String::new(), cycle: 0 },
    );
    let half = layout.block_count().div_ceil(2);
    sink.scanned(BlockRange::new(0, half), None).expect("logged");
    let first = BlockRange::new(0, 1);
    let bytes = vec![7; layout.bytes_of(first).length_bytes() as usize];
    sink.begin(&[first], &[]).expect("begun");
    sink.write(0, &bytes).expect("written");
    sink.applied(&[(first.start, block_digest(&bytes))], &[]).expect("applied");
    sink.commit().expect("committed");
    let held = disk.trusted().expect("memory is read").digests.digests(first).expect("memory is read");
    assert_eq!(held, [block_digest(&bytes)]);
    sink.begin(&[BlockRange::new(half - 1, half)], &[]).expect("begun");
    assert!(disk.state().in_pass && disk.state().session == number);
    let generation = sink.seal(Digest([1; 32])).expect("sealed");
    assert_eq!(generation, state.generation.0 + 1);
}

/// A segment of these records.
fn framed(script: &[u8], in_checkpoint: usize) -> Vec<u8> {
    let mut records = Vec::new();
    let mut rest = script;
    while let Some((&[kind, disk, low, high], behind)) = rest.split_first_chunk() {
        let (payload, next) = behind.split_at(behind.len().min(usize::from(u16::from_le_bytes([low, high]))));
        records.push((kind, disk, with_small_disk(kind, payload)));
        rest = next;
    }
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
    let mut checkpoint_end = bytes.len();
    for (sequence, (kind, disk, payload)) in records.into_iter().enumerate() {
        frame(&mut bytes, sequence as u32, checkpoint_end as u32, kind, disk, &payload);
        if sequence < in_checkpoint {
            checkpoint_end = bytes.len();
        }
    }
    let header = SegmentHeader {
        kind: SegmentKind::Journal,
        machine: MachineId::new("web-1").expect("an id"),
        number: 42,
        salt: SALT,
        checkpoint_end_bytes: checkpoint_end as u32,
    };
    bytes[..SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode());
    bytes
}

fn frame(bytes: &mut Vec<u8>, sequence: u32, durable: u32, kind: u8, disk: u8, payload: &[u8]) {
    let (offset, mut padded) = (bytes.len() as u32, payload.to_vec());
    padded.resize((RECORD_HEADER_BYTES + payload.len()).next_multiple_of(8) - RECORD_HEADER_BYTES, 0);
    let mut header = (payload.len() as u32).to_le_bytes().to_vec();
    header.extend([kind, 0, disk, 0]);
    header.extend(sequence.to_le_bytes());
    header.extend(durable.to_le_bytes());
    header.extend(crc32fast::hash(&padded).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&SALT.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(&header);
    header.extend(hasher.finalize().to_le_bytes());
    bytes.extend(header);
    bytes.extend(padded);
}

/// Where records of these kinds have the length of a disk.
fn length_at(kind: u8) -> Option<usize> {
    match kind {
        2 => Some(16),
        9 => Some(96),
        _ => None,
    }
}

/// A payload whose disk, if it names one, is small.
fn with_small_disk(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if let Some(field) = length_at(kind).and_then(|at| payload.get_mut(at..at + 8)) {
        let length = u64::from_le_bytes(field.try_into().expect("8 bytes")) & DISK_MASK;
        field.copy_from_slice(&length.to_le_bytes());
    }
    payload
}

/// Whether a record that lies in a raw segment as one would names a large disk.
fn has_large_disks(segment: &[u8]) -> bool {
    let is_large = |record: &[u8]| {
        let field = length_at(record[4]).and_then(|at| record.get(24 + at..24 + at + 8));
        field.is_some_and(|field| u64::from_le_bytes(field.try_into().expect("8 bytes")) > DISK_MASK)
    };
    let starts = (SEGMENT_HEADER_BYTES..segment.len()).step_by(8);
    starts.filter_map(|at| segment.get(at..)).any(|record| record.len() > 24 && is_large(record))
}
