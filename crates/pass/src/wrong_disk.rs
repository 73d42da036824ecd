//! The wrong-disk guard: does the target look like another disk than the source once was?
//!
//! Two partition tables that name different disks answer at once. Where they name the same one, or say nothing, a sample
//! of the target's data decides: machines cloned from one template share their disk's id, so an equal id proves nothing.
//!
//! **Invariant**: what counts is what would be lost. A block of the target that holds data counts, whatever the source
//! has there: a blank source must not wipe a full disk. A block without data never counts, so a target that holds hardly
//! anything (new, or the beginning of an interrupted copy, which has data only where the source has it) is not another
//! disk.

use failback_blockio::{DiskError, UnitSource};
use failback_model::{BlockIndex, BlockRange, ByteRange, Digest, Layout, block_digest};

/// Blocks that are sampled.
const SAMPLE_BLOCKS: u64 = 128;
/// Blocks with data at the target that a verdict needs.
const VERDICT_MIN_BLOCKS: u64 = 16;
/// Sectors looked at: MBR and GPT header.
const TABLE_BYTES: usize = 8192;

/// Why the target looks like another disk; `None` where it does not.
pub(crate) fn looks_like_another_disk(
    source: &dyn UnitSource,
    target: &dyn UnitSource,
    layout: Layout,
) -> Result<Option<String>, DiskError> {
    let (ours, theirs) = (disk_id(source, layout)?, disk_id(target, layout)?);
    if let (Some(ours), Some(theirs)) = (&ours, &theirs)
        && ours != theirs
    {
        let (from, to) = (source.name().display(), target.name().display());
        return Ok(Some(format!("{from} has disk id {ours}, {to} has {theirs}")));
    }
    let (sampled, differing) = sample(source, target, layout)?;
    let is_other = sampled >= VERDICT_MIN_BLOCKS && differing * 10 > sampled * 9;
    Ok(is_other.then(|| {
        format!(
            "{differing} of {sampled} sampled blocks with data of {} differ from the source's",
            target.name().display()
        )
    }))
}

/// GPT disk GUID or MBR disk signature, as text; `None` where there is neither.
///
/// UEFI specification 2.10, section 5.3.2 (header at LBA 1, GUID at byte 56) and table 5-1 (signature at byte 440).
fn disk_id(disk: &dyn UnitSource, layout: Layout) -> Result<Option<String>, DiskError> {
    let geometry = disk.geometry();
    let mut table = [0; TABLE_BYTES];
    let length = layout.length_bytes().min(geometry.length_bytes).min(TABLE_BYTES as u64) as usize;
    disk.read_at(0, &mut table[..length])?;
    let gpt = &table[geometry.sector_size.bytes() as usize..];
    if gpt.starts_with(b"EFI PART") {
        return Ok(Some(format!("GPT {}", hex(&gpt[56..72]))));
    }
    let signature = &table[440..444];
    let is_mbr = table[510..512] == [0x55, 0xaa] && signature != [0; 4];
    Ok(is_mbr.then(|| format!("MBR {}", hex(signature))))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares blocks that hold data at the target: how many, and how many differ. They are spread evenly but for a scatter
/// that no regular pattern on the disk can follow.
fn sample(source: &dyn UnitSource, target: &dyn UnitSource, layout: Layout) -> Result<(u64, u64), DiskError> {
    let count = layout.block_count();
    let stride = (count / SAMPLE_BLOCKS).max(1);
    let (mut sampled, mut differing) = (0, 0);
    let mut start = 0;
    while start < count && sampled < SAMPLE_BLOCKS {
        let from = (start + scatter(start) % stride).min(count - 1);
        let Some(block) = next_data_block(target, layout, from)? else { break };
        let theirs = digest(target, layout, block)?;
        if !theirs.is_zero() {
            sampled += 1;
            differing += u64::from(digest(source, layout, block)? != theirs);
        }
        start = (block.0 / stride + 1) * stride;
    }
    Ok((sampled, differing))
}

/// A number that looks random and is always the same for the same position (the finalizer of SplitMix64).
fn scatter(position: u64) -> u64 {
    let mixed = (position ^ (position >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn next_data_block(
    disk: &dyn UnitSource,
    layout: Layout,
    from: u64,
) -> Result<Option<BlockIndex>, DiskError> {
    let start = layout.bytes_of(BlockRange::new(from, from)).start();
    let data =
        disk.next_data(start)?.and_then(|data| data.intersection(ByteRange::new(0, layout.length_bytes())));
    Ok(data.map(|data| layout.blocks_covering(data).start))
}

fn digest(disk: &dyn UnitSource, layout: Layout, block: BlockIndex) -> Result<Digest, DiskError> {
    let bytes = layout.block_bytes(block);
    let mut buffer = vec![0; bytes.length_bytes() as usize];
    disk.read_at(bytes.start(), &mut buffer)?;
    Ok(block_digest(&buffer))
}
