//! Records that mostly fit each other, four bytes each: so a fuzzer gets behind what refuses a journal.

use failback_format::journal_record::{
    DiskCheckpoint, DiskSlot, Left, Phase, PhaseKind, Place, Point, PointDisk, Record, SEGMENT_HEADER_BYTES,
    SealedAs, SegmentHeader, SegmentKind, Trust, encode_record,
};
use failback_model::{
    BlockIndex, BlockRange, BlockSize, Digest, DiskId, Epoch, Generation, Layout, MachineId, PointClaim,
    PointLabel, SessionNumber,
};

/// What later records must count up from.
#[derive(Default)]
struct Counters {
    disks: u16,
    session: u64,
    epoch: u64,
    generation: u64,
    point: u64,
}

/// A segment of the records that the bytes choose; `in_checkpoint` of them are its checkpoint.
pub(super) fn composed(script: &[u8], in_checkpoint: usize) -> Vec<u8> {
    const SALT: u64 = 7;
    let mut counters = Counters::default();
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
    let mut checkpoint_end = bytes.len();
    for (sequence, &choice) in script.as_chunks::<4>().0.iter().enumerate() {
        let (disk, record) = counters.record(choice, sequence < in_checkpoint);
        let place = Place { salt: SALT, offset_bytes: bytes.len() as u32, sequence: sequence as u32 };
        encode_record(&mut bytes, place, checkpoint_end as u32, DiskSlot(disk), &record);
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

impl Counters {
    fn record(&mut self, [kind, a, b, c]: [u8; 4], in_checkpoint: bool) -> (u16, Record) {
        let disk = u16::from(kind >> 4) % self.disks.max(1);
        let digest = Digest([a.max(1); 32]);
        let range = BlockRange::new(u64::from(b), u64::from(b) + 1 + u64::from(c % 64));
        let group = u64::from(a);
        let record = match (kind & 15, in_checkpoint) {
            (0, _) => return self.disk(a, b, c, in_checkpoint),
            (10, _) | (1..8, true) => Record::Trusted { blocks: vec![range] },
            (1, false) => {
                self.session += u64::from(a % 3);
                self.epoch += u64::from(a / 3 % 2);
                Record::Session {
                    epoch: Epoch(self.epoch),
                    number: SessionNumber(self.session),
                    layout: layout(b),
                    trust: if c.is_multiple_of(4) { Trust::Nothing } else { Trust::Kept },
                }
            }
            (2, _) => Record::Scanned { blocks: range, digests: None },
            (3, _) => Record::Scanned { blocks: range, digests: Some(vec![digest; range.count() as usize]) },
            (4, _) => Record::Intent { group, blocks: vec![range] },
            (5 | 6, _) => {
                let entries = range.iter().step_by(1 + usize::from(a % 3)).map(|block| (block, digest));
                let zeros = vec![BlockRange::new(range.end.0 + 1, range.end.0 + 2)];
                Record::Commit { group, entries: entries.collect::<Vec<(BlockIndex, Digest)>>(), zeros }
            }
            (7, _) => {
                self.generation += u64::from(b % 3);
                let trust = if c.is_multiple_of(2) { Trust::Nothing } else { Trust::Everything };
                let generation = Generation(self.generation);
                Record::Seal {
                    generation,
                    root: digest,
                    fingerprint: digest,
                    trust,
                    at_unix_ms: u64::from(a),
                    claim: claim(c),
                }
            }
            (8, _) => Record::Released(Left {
                fingerprint: digest,
                at_unix_ms: u64::from(a),
                recheck_from: BlockIndex(b.into()),
                look: format!("disk {c} -\n"),
            }),
            (9, _) => Record::Forget,
            (11, _) => Record::Created,
            (12, _) => return (DiskSlot::MACHINE.0, Record::Point(self.point(a, b, c))),
            (13, _) => return (DiskSlot::MACHINE.0, Record::PointDropped { number: u64::from(a % 4) }),
            (14, _) => {
                let kinds = [
                    PhaseKind::Replicating,
                    PhaseKind::Released,
                    PhaseKind::Cancelled,
                    PhaseKind::Committed,
                    PhaseKind::HistoryEnded,
                ];
                let kind = kinds[usize::from(a) % kinds.len()];
                let phase = Phase { kind, point: u64::from(b), epoch: Epoch(u64::from(c)), at_unix_ms: 1 };
                return (DiskSlot::MACHINE.0, Record::Phase(phase));
            }
            _ => Record::Doubted { blocks: vec![range] },
        };
        (disk, record)
    }

    fn point(&mut self, a: u8, b: u8, c: u8) -> Point {
        self.point += u64::from(a % 3);
        let disk = |slot| PointDisk {
            slot: DiskSlot(slot),
            generation: Generation(self.generation),
            layout: (!b.is_multiple_of(3)).then(|| layout(b)),
            root: b.is_multiple_of(2).then_some(Digest([c; 32])),
        };
        Point {
            number: self.point,
            undo_from: self.point,
            sealed_unix_ms: u64::from(c),
            claim: claim(b),
            restored: None,
            disks: (0..self.disks + u16::from(c % 7 == 6)).map(disk).collect(),
        }
    }

    /// The next disk.
    fn disk(&mut self, a: u8, b: u8, c: u8, in_checkpoint: bool) -> (u16, Record) {
        let id = DiskId::new(format!("disk-{}", self.disks)).expect("an id");
        let slot = self.disks;
        self.disks += 1;
        if !in_checkpoint {
            return (slot, Record::Disk { id });
        }
        (self.session, self.epoch, self.generation) = (u64::from(a), u64::from(b), u64::from(c));
        let checkpoint = DiskCheckpoint {
            id,
            generation: Generation(self.generation),
            root: a.is_multiple_of(2).then_some(Digest([c.max(1); 32])),
            epoch: Epoch(self.epoch),
            session: SessionNumber(self.session),
            layout: (!b.is_multiple_of(5)).then(|| layout(b)),
            in_pass: c.is_multiple_of(2),
            fingerprint: a.is_multiple_of(3).then_some(Digest([a.max(1); 32])),
            group: u64::from(c),
            is_created: a.is_multiple_of(5),
            sealed: b.is_multiple_of(2).then(|| SealedAs {
                epoch: Epoch(self.epoch),
                at_unix_ms: u64::from(c),
                claim: claim(a),
            }),
        };
        (slot, Record::Checkpoint(Box::new(checkpoint)))
    }
}

fn claim(choice: u8) -> PointClaim {
    let label = PointLabel::of_number(choice % 4).expect("there are four");
    PointClaim {
        source_unix_ms: u64::from(choice),
        label,
        reason: format!("reason {choice}"),
        cycle: u64::from(choice),
    }
}

/// One of a few small disks.
fn layout(choice: u8) -> Layout {
    let size = BlockSize::new(16 << 10).expect("a block size");
    Layout::new(u64::from(choice % 7) * 1_000_000 + 5_000_000, size).expect("a layout")
}
