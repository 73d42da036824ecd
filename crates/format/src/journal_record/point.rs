//! The payloads of records about the whole machine.

use super::codec::{Fields, put_claim, put_layout};
use super::record::{DiskSlot, Phase, PhaseKind, Point, PointDisk};
use crate::error::FormatError;
use failback_model::limits::JOURNAL_DISKS_MAX;
use failback_model::{Digest, Epoch, Generation};

/// In the place of a number where there is none.
const NONE: u64 = u64::MAX;

pub(super) fn encode(into: &mut Vec<u8>, point: &Point) {
    into.extend(point.number.to_le_bytes());
    into.extend(point.undo_from.to_le_bytes());
    into.extend(point.sealed_unix_ms.to_le_bytes());
    into.extend(point.restored.unwrap_or(NONE).to_le_bytes());
    put_claim(into, &point.claim);
    into.extend((point.disks.len() as u16).to_le_bytes());
    for disk in &point.disks {
        into.extend(disk.slot.0.to_le_bytes());
        into.extend(disk.generation.0.to_le_bytes());
        put_layout(into, disk.layout);
        into.push(u8::from(disk.root.is_some()));
        into.extend(disk.root.unwrap_or(Digest::ZERO).0);
    }
}

pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Point, FormatError> {
    let (number, undo_from, sealed_unix_ms) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let restored = Some(fields.u64()?).filter(|restored| *restored != NONE);
    let claim = fields.claim()?;
    let count = usize::from(fields.u16()?);
    if count > JOURNAL_DISKS_MAX {
        return fields.fault(format!("no point has {count} disks"));
    }
    let mut disks: Vec<PointDisk> = Vec::new();
    for _ in 0..count {
        let slot = DiskSlot(fields.u16()?);
        if disks.last().is_some_and(|last| last.slot >= slot) {
            return fields.fault("the disks of a point ascend");
        }
        let (generation, layout) = (Generation(fields.u64()?), fields.layout()?);
        let root = match (fields.u8()?, fields.digest()?) {
            (0, Digest::ZERO) => None,
            (1, root) => Some(root),
            _ => return fields.fault("a root is there or it is not"),
        };
        disks.push(PointDisk { slot, generation, layout, root });
    }
    Ok(Point { number, undo_from, sealed_unix_ms, claim, restored, disks })
}

const fn phase_code(kind: PhaseKind) -> u32 {
    match kind {
        PhaseKind::Replicating => 0,
        PhaseKind::Released => 1,
        PhaseKind::Cancelled => 2,
        PhaseKind::Committed => 3,
        PhaseKind::HistoryEnded => 4,
    }
}

pub(super) fn encode_phase(into: &mut Vec<u8>, phase: Phase) {
    into.extend(phase_code(phase.kind).to_le_bytes());
    into.extend(phase.point.to_le_bytes());
    into.extend(phase.epoch.0.to_le_bytes());
    into.extend(phase.at_unix_ms.to_le_bytes());
}

pub(super) fn decode_phase(fields: &mut Fields<'_>) -> Result<Phase, FormatError> {
    let kind = match fields.u32()? {
        0 => PhaseKind::Replicating,
        1 => PhaseKind::Released,
        2 => PhaseKind::Cancelled,
        3 => PhaseKind::Committed,
        4 => PhaseKind::HistoryEnded,
        other => return fields.fault(format!("unknown phase {other}")),
    };
    let (point, epoch, at_unix_ms) = (fields.u64()?, Epoch(fields.u64()?), fields.u64()?);
    Ok(Phase { kind, point, epoch, at_unix_ms })
}
