//! Whether a disk's contents are encrypted by its guest, as far as the first sectors of its partitions tell.
//!
//! BitLocker and LUKS put a signature there; Azure Disk Encryption is one of the two. What has no signature is not noticed.

use failback_blockio::{DiskError, UnitSource};
use failback_model::{Code, Finding};

/// What is read of the disk's beginning: a GPT with its usual entries lies in it.
const HEAD_BYTES: u64 = 1 << 20;
/// First bytes of a partition that are looked at.
const START_BYTES: usize = 512;
/// Partitions that are looked at.
const PARTITIONS_MAX: usize = 128;
const BITLOCKER: &[u8] = b"-FVE-FS-";
const BITLOCKER_AT: usize = 3;
const LUKS: &[u8] = b"LUKS\xba\xbe";
const GPT: &[u8] = b"EFI PART";
const MBR_ENTRIES_AT: usize = 446;
const MBR_MARK_AT: usize = 510;

/// A warning for each partition, or the disk as a whole, that is encrypted.
pub fn encryption(source: &dyn UnitSource) -> Result<Vec<Finding>, DiskError> {
    let geometry = source.geometry();
    let (length_bytes, sector) = (geometry.length_bytes, geometry.sector_size.bytes());
    let mut head = vec![0; length_bytes.min(HEAD_BYTES) as usize];
    read(source, 0, &mut head)?;
    let mut findings = Vec::new();
    for start in std::iter::once(0).chain(partitions(&head, sector)) {
        if start + START_BYTES as u64 > length_bytes {
            continue;
        }
        let mut first = [0; START_BYTES];
        match usize::try_from(start).ok().and_then(|at| head.get(at..at + START_BYTES)) {
            Some(bytes) => first.copy_from_slice(bytes),
            None => read(source, start, &mut first)?,
        }
        let kind = if first[BITLOCKER_AT..].starts_with(BITLOCKER) {
            "BitLocker"
        } else if first.starts_with(LUKS) {
            "LUKS"
        } else {
            continue;
        };
        let evidence = format!("{}: {kind} at byte {start}", source.name().display());
        findings.push(Finding::warning(Code::ContentEncrypted, evidence).about(source.name()));
    }
    Ok(findings)
}

/// Reads what holds data; a disk behind a network is not asked for holes.
fn read(source: &dyn UnitSource, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
    let end = offset_bytes + buffer.len() as u64;
    match source.next_data(offset_bytes)? {
        Some(data) if data.start() < end => source.read_at(offset_bytes, buffer),
        _ => Ok(()),
    }
}

/// Where partitions begin, in bytes; a table that makes no sense names none.
fn partitions(head: &[u8], sector: u64) -> Vec<u64> {
    let field = |at: usize, bytes: usize| -> Option<u64> {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(head.get(at..at.checked_add(bytes)?)?);
        Some(u64::from_le_bytes(number))
    };
    if head.get(MBR_MARK_AT..MBR_MARK_AT + 2) != Some(&[0x55, 0xaa]) {
        return Vec::new();
    }
    let gpt = sector as usize;
    let starts: Vec<u64> = if head.get(gpt..).is_some_and(|header| header.starts_with(GPT)) {
        let (table, count, size) = (field(gpt + 72, 8), field(gpt + 80, 4), field(gpt + 84, 4));
        let (Some(table), Some(count), Some(size)) = (table, count, size) else { return Vec::new() };
        let entry = |number| -> Option<u64> {
            let at = table.checked_mul(sector)?.checked_add(size.checked_mul(number)?)?;
            field(usize::try_from(at).ok()?.checked_add(32)?, 8)
        };
        (0..count.min(PARTITIONS_MAX as u64)).map_while(entry).collect()
    } else {
        (0..4).filter_map(|number| field(MBR_ENTRIES_AT + number * 16 + 8, 4)).collect()
    };
    let mut starts: Vec<u64> = starts.into_iter().filter_map(|start| start.checked_mul(sector)).collect();
    starts.retain(|&start| start > 0);
    starts.sort_unstable();
    starts.dedup();
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_testkit::MemorySource;

    const DISK: usize = 8 << 20;

    fn evidence(bytes: Vec<u8>) -> Vec<String> {
        let source = MemorySource::from_bytes(&bytes);
        encryption(&source).expect("read").into_iter().map(|finding| finding.evidence).collect()
    }

    #[test]
    fn an_encrypted_partition_is_found_by_mbr_by_gpt_and_without_a_table() {
        let mut bytes = vec![0; DISK];
        bytes[0..6].copy_from_slice(LUKS);
        assert!(evidence(bytes)[0].contains("LUKS at byte 0"));

        let mut bytes = vec![0; DISK];
        bytes[MBR_MARK_AT..MBR_MARK_AT + 2].copy_from_slice(&[0x55, 0xaa]);
        bytes[MBR_ENTRIES_AT + 16 + 8..][..4].copy_from_slice(&4096_u32.to_le_bytes());
        bytes[2 << 20..][3..11].copy_from_slice(BITLOCKER);
        assert!(evidence(bytes)[0].contains("BitLocker at byte 2097152"));

        let mut bytes = vec![0; DISK];
        bytes[MBR_MARK_AT..MBR_MARK_AT + 2].copy_from_slice(&[0x55, 0xaa]);
        bytes[512..520].copy_from_slice(GPT);
        bytes[512 + 72..][..8].copy_from_slice(&2_u64.to_le_bytes());
        bytes[512 + 80..][..4].copy_from_slice(&128_u32.to_le_bytes());
        bytes[512 + 84..][..4].copy_from_slice(&128_u32.to_le_bytes());
        bytes[1024 + 128 + 32..][..8].copy_from_slice(&8192_u64.to_le_bytes());
        bytes[4 << 20..][..6].copy_from_slice(LUKS);
        let found = evidence(bytes);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("LUKS at byte 4194304"));
    }

    #[test]
    fn tables_that_make_no_sense_name_nothing() {
        let mut bytes = vec![0xff; DISK];
        bytes[MBR_MARK_AT..MBR_MARK_AT + 2].copy_from_slice(&[0x55, 0xaa]);
        bytes[512..520].copy_from_slice(GPT);
        assert_eq!(evidence(bytes), Vec::<String>::new());
        assert_eq!(evidence(vec![0; 1024]), Vec::<String>::new());
    }
}
