//! The payloads, one function for each kind.
//!
//! **Invariant**: what decodes encodes to the same bytes.

use super::codec::{Fields, RANGE_BYTES, put_claim, put_layout, put_range};
use super::record::{DiskCheckpoint, Left, Record, SealedAs, Trust};
use super::{point, undo};
use crate::error::FormatError;
use failback_model::limits::DISK_MAX_BLOCKS;
use failback_model::{BlockIndex, BlockRange, Digest, DiskId, Epoch, Generation, SessionNumber};

const DISK: u8 = 1;
const SESSION: u8 = 2;
const SCANNED: u8 = 3;
const INTENT: u8 = 4;
const COMMIT: u8 = 5;
const SEAL: u8 = 6;
const RELEASED: u8 = 7;
const FORGET: u8 = 8;
const CHECKPOINT: u8 = 9;
const TRUSTED: u8 = 10;
const DOUBTED: u8 = 11;
const CREATED: u8 = 12;
const POINT: u8 = 13;
const POINT_DROPPED: u8 = 14;
const PHASE: u8 = 15;
const UNDO: u8 = 16;

const FLAG_SEALED: u32 = 1;
const FLAG_IN_PASS: u32 = 2;
const FLAG_FINGERPRINT: u32 = 4;
const FLAG_CREATED: u32 = 8;
const FLAG_SEALED_AS: u32 = 16;

pub(super) fn kind(record: &Record) -> u8 {
    match record {
        Record::Disk { .. } => DISK,
        Record::Session { .. } => SESSION,
        Record::Scanned { .. } => SCANNED,
        Record::Intent { .. } => INTENT,
        Record::Commit { .. } => COMMIT,
        Record::Seal { .. } => SEAL,
        Record::Released(_) => RELEASED,
        Record::Forget => FORGET,
        Record::Checkpoint(_) => CHECKPOINT,
        Record::Trusted { .. } => TRUSTED,
        Record::Doubted { .. } => DOUBTED,
        Record::Created => CREATED,
        Record::Point(_) => POINT,
        Record::PointDropped { .. } => POINT_DROPPED,
        Record::Phase(_) => PHASE,
        Record::Undo(_) => UNDO,
    }
}

pub(super) fn encode(into: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Disk { id } => into.extend(id.as_str().as_bytes()),
        Record::Session { epoch, number, layout, trust } => {
            into.extend(epoch.0.to_le_bytes());
            into.extend(number.0.to_le_bytes());
            put_layout(into, Some(*layout));
            into.extend(trust_code(*trust).to_le_bytes());
        }
        Record::Scanned { blocks, digests } => {
            put_range(into, *blocks);
            into.extend(digests.iter().flatten().flat_map(|digest| digest.0));
        }
        Record::Intent { group, blocks } => {
            into.extend(group.to_le_bytes());
            blocks.iter().for_each(|range| put_range(into, *range));
        }
        Record::Commit { group, entries, zeros } => encode_commit(into, *group, entries, zeros),
        Record::Seal { generation, root, fingerprint, trust, at_unix_ms, claim } => {
            into.extend(generation.0.to_le_bytes());
            into.extend(root.0);
            into.extend(fingerprint.0);
            into.extend(trust_code(*trust).to_le_bytes());
            into.extend(at_unix_ms.to_le_bytes());
            put_claim(into, claim);
        }
        Record::Released(left) => {
            into.extend(left.fingerprint.0);
            into.extend(left.at_unix_ms.to_le_bytes());
            into.extend(left.recheck_from.0.to_le_bytes());
            into.extend(left.look.as_bytes());
        }
        Record::Forget | Record::Created => {}
        Record::Point(point) => point::encode(into, point),
        Record::PointDropped { number } => into.extend(number.to_le_bytes()),
        Record::Phase(phase) => point::encode_phase(into, *phase),
        Record::Undo(undo) => undo::encode(into, undo),
        Record::Checkpoint(disk) => encode_checkpoint(into, disk),
        Record::Trusted { blocks } | Record::Doubted { blocks } => {
            blocks.iter().for_each(|range| put_range(into, *range));
        }
    }
}

pub(super) fn decode(kind: u8, payload: &[u8]) -> Result<Record, FormatError> {
    let mut fields = Fields::new(payload);
    let record = match kind {
        DISK => Record::Disk { id: disk_id(&mut fields)? },
        SESSION => decode_session(&mut fields)?,
        SCANNED => {
            let blocks = fields.range(BlockIndex(0))?;
            let digests = match fields.left_bytes() {
                0 => None,
                _ => Some(fields.digests(blocks.count())?.collect()),
            };
            Record::Scanned { blocks, digests }
        }
        INTENT => Record::Intent { group: fields.u64()?, blocks: all_ranges(&mut fields)? },
        COMMIT => decode_commit(&mut fields)?,
        SEAL => {
            let generation = Generation(fields.u64()?);
            let (root, fingerprint, trust) = (fields.digest()?, fields.digest()?, trust(&mut fields)?);
            if trust == Trust::Kept {
                return fields.fault("a seal keeps all trust or none");
            }
            let (at_unix_ms, claim) = (fields.u64()?, fields.claim()?);
            Record::Seal { generation, root, fingerprint, trust, at_unix_ms, claim }
        }
        RELEASED => Record::Released(Left {
            fingerprint: fields.digest()?,
            at_unix_ms: fields.u64()?,
            recheck_from: BlockIndex(fields.u64()?),
            look: fields.text()?.to_owned(),
        }),
        FORGET => Record::Forget,
        CHECKPOINT => decode_checkpoint(&mut fields)?,
        TRUSTED => Record::Trusted { blocks: all_ranges(&mut fields)? },
        DOUBTED => Record::Doubted { blocks: all_ranges(&mut fields)? },
        CREATED => Record::Created,
        POINT => Record::Point(point::decode(&mut fields)?),
        POINT_DROPPED => Record::PointDropped { number: fields.u64()? },
        PHASE => Record::Phase(point::decode_phase(&mut fields)?),
        UNDO => Record::Undo(undo::decode(&mut fields)?),
        other => return fields.fault(format!("unknown kind of record {other}")),
    };
    fields.finish()?;
    Ok(record)
}

fn disk_id(fields: &mut Fields<'_>) -> Result<DiskId, FormatError> {
    let text = fields.text()?;
    DiskId::new(text).or_else(|error| fields.fault(error.to_string()))
}

fn trust_code(trust: Trust) -> u32 {
    match trust {
        Trust::Kept => 0,
        Trust::Nothing => 1,
        Trust::Everything => 2,
    }
}

fn trust(fields: &mut Fields<'_>) -> Result<Trust, FormatError> {
    match fields.u32()? {
        0 => Ok(Trust::Kept),
        1 => Ok(Trust::Nothing),
        2 => Ok(Trust::Everything),
        other => fields.fault(format!("unknown trust {other}")),
    }
}

fn decode_session(fields: &mut Fields<'_>) -> Result<Record, FormatError> {
    let (epoch, number) = (Epoch(fields.u64()?), SessionNumber(fields.u64()?));
    let Some(layout) = fields.layout()? else {
        return fields.fault("a session needs a layout");
    };
    Ok(Record::Session { epoch, number, layout, trust: trust(fields)? })
}

fn all_ranges(fields: &mut Fields<'_>) -> Result<Vec<BlockRange>, FormatError> {
    fields.ranges(fields.left_bytes().div_ceil(RANGE_BYTES))
}

/// Group, number of runs, number of zero ranges; the zero ranges; the runs: first block, count, digests.
fn encode_commit(into: &mut Vec<u8>, group: u64, entries: &[(BlockIndex, Digest)], zeros: &[BlockRange]) {
    let runs = || entries.chunk_by(|(block, _), (next, _)| block.0 + 1 == next.0);
    into.extend(group.to_le_bytes());
    into.extend((runs().count() as u32).to_le_bytes());
    into.extend((zeros.len() as u32).to_le_bytes());
    zeros.iter().for_each(|range| put_range(into, *range));
    for run in runs() {
        into.extend((run[0].0.0 as u32).to_le_bytes());
        into.extend((run.len() as u32).to_le_bytes());
        into.extend(run.iter().flat_map(|(_, digest)| digest.0));
    }
}

fn decode_commit(fields: &mut Fields<'_>) -> Result<Record, FormatError> {
    let group = fields.u64()?;
    let (runs, zeros) = (fields.u32()?, fields.u32()?);
    let zeros = fields.ranges(zeros as usize)?;
    let mut entries: Vec<(BlockIndex, Digest)> = Vec::new();
    for _ in 0..runs {
        let start = u64::from(fields.u32()?);
        let count = u64::from(fields.u32()?);
        // Runs that touch would have been one.
        let is_behind = entries.last().is_none_or(|(last, _)| start > last.0 + 1);
        if !is_behind || count == 0 || start + count > DISK_MAX_BLOCKS {
            return fields.fault(format!("{count} blocks from {start} are no run of a commit"));
        }
        entries.extend((start..start + count).map(BlockIndex).zip(fields.digests(count)?));
    }
    Ok(Record::Commit { group, entries, zeros })
}

fn encode_checkpoint(into: &mut Vec<u8>, disk: &DiskCheckpoint) {
    let flag = |flag, is_set| if is_set { flag } else { 0 };
    let flags = flag(FLAG_SEALED, disk.root.is_some())
        | flag(FLAG_IN_PASS, disk.in_pass)
        | flag(FLAG_FINGERPRINT, disk.fingerprint.is_some())
        | flag(FLAG_CREATED, disk.is_created)
        | flag(FLAG_SEALED_AS, disk.sealed.is_some());
    into.extend(disk.generation.0.to_le_bytes());
    into.extend(disk.epoch.0.to_le_bytes());
    into.extend(disk.session.0.to_le_bytes());
    into.extend(disk.group.to_le_bytes());
    into.extend(disk.root.unwrap_or(Digest::ZERO).0);
    into.extend(disk.fingerprint.unwrap_or(Digest::ZERO).0);
    put_layout(into, disk.layout);
    into.extend(flags.to_le_bytes());
    if let Some(sealed) = &disk.sealed {
        into.extend(sealed.epoch.0.to_le_bytes());
        into.extend(sealed.at_unix_ms.to_le_bytes());
        put_claim(into, &sealed.claim);
    }
    into.extend(disk.id.as_str().as_bytes());
}

fn decode_checkpoint(fields: &mut Fields<'_>) -> Result<Record, FormatError> {
    let (generation, epoch) = (Generation(fields.u64()?), Epoch(fields.u64()?));
    let (session, group) = (SessionNumber(fields.u64()?), fields.u64()?);
    let (root, fingerprint) = (fields.digest()?, fields.digest()?);
    let layout = fields.layout()?;
    let flags = fields.u32()?;
    let optional = |flag, digest: Digest| match (flags & flag != 0, digest.is_zero()) {
        (true, _) => Some(Some(digest)),
        (false, true) => Some(None),
        (false, false) => None,
    };
    let (Some(root), Some(fingerprint), 0..=31) =
        (optional(FLAG_SEALED, root), optional(FLAG_FINGERPRINT, fingerprint), flags)
    else {
        return fields.fault("flags that do not fit the fields");
    };
    let sealed = match flags & FLAG_SEALED_AS {
        0 => None,
        _ => {
            Some(SealedAs { epoch: Epoch(fields.u64()?), at_unix_ms: fields.u64()?, claim: fields.claim()? })
        }
    };
    Ok(Record::Checkpoint(Box::new(DiskCheckpoint {
        id: disk_id(fields)?,
        generation,
        root,
        epoch,
        session,
        layout,
        in_pass: flags & FLAG_IN_PASS != 0,
        fingerprint,
        group,
        is_created: flags & FLAG_CREATED != 0,
        sealed,
    })))
}
