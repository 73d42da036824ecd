//! The wrong-disk guard: does the target look like another disk than the source once was?
//!
//! Two partition tables that name different disks answer at once. Where they name the same one, or say nothing, a sample
//! of the target's data decides: machines cloned from one template share their disk's id, so an equal id proves nothing.
//!
//! **Invariant**: what counts is what would be lost. A block of the target that holds data counts, whatever the source
//! has there: a blank source must not wipe a full disk. A block without data never counts, so a target that holds hardly
//! anything (new, or the beginning of an interrupted copy, which has data only where the source has it) is not another
//! disk.

use crate::api::{Cancel, PassError};
use failback_blockio::{DiskError, UnitSource};
use failback_model::limits::PAGE_BYTES;
use failback_model::{BlockIndex, BlockRange, ByteRange, Layout, is_zero};

/// Blocks that are sampled.
const SAMPLE_BLOCKS: u64 = 128;
/// Blocks with data at the target that a verdict needs.
const VERDICT_MIN_BLOCKS: u64 = 16;
/// Sectors looked at: MBR and GPT header.
const TABLE_BYTES: usize = 8192;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Why the target looks like another disk; `None` where it does not.
    pub(crate) verdict: Option<String>,
    /// Blocks that were compared.
    pub(crate) sample: Sample,
    /// Id of the source's partition table.
    pub(crate) source_id: Option<String>,
    /// Id of the target's partition table.
    pub(crate) target_id: Option<String>,
}

/// Blocks that hold data at the target.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    pub(crate) blocks: u64,
    pub(crate) differing_blocks: u64,
    /// Pages of those blocks that hold data at the source too.
    pub(crate) pages: u64,
    /// Those that differ: what ships where blocks are narrowed.
    pub(crate) differing_pages: u64,
    /// Those in blocks that differ: what ships where blocks travel whole.
    pub(crate) touched_pages: u64,
}

impl Look {
    /// Compares partition tables and a sample of blocks.
    pub(crate) fn at(
        source: &dyn UnitSource,
        target: &dyn UnitSource,
        layout: Layout,
        cancel: &Cancel,
    ) -> Result<Self, PassError> {
        let (source_id, target_id) = (disk_id(source, layout)?, disk_id(target, layout)?);
        let sample = sample(source, target, layout, cancel)?;
        let (from, to) = (source.name().display(), target.name().display());
        let verdict = match (&source_id, &target_id) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                Some(format!("{from} has disk id {ours}, {to} has {theirs}"))
            }
            _ => sample.verdict(target),
        };
        Ok(Self { verdict, sample, source_id, target_id })
    }
}

impl Sample {
    /// Why the target does not look like the source's disk; `None` where it does.
    pub(crate) fn verdict(&self, target: &dyn UnitSource) -> Option<String> {
        let Self { blocks, differing_blocks, .. } = *self;
        let is_another = blocks >= VERDICT_MIN_BLOCKS && differing_blocks * 10 > blocks * 9;
        is_another.then(|| {
            let to = target.name().display();
            format!(
                "{differing_blocks} of {blocks} sampled blocks with data of {to} differ from the source's"
            )
        })
    }

    fn add(&mut self, ours: &[u8], theirs: &[u8]) {
        if is_zero(theirs) {
            return;
        }
        let differs = ours != theirs;
        self.blocks += 1;
        self.differing_blocks += u64::from(differs);
        if is_zero(ours) {
            return;
        }
        let count = (ours.len() as u64).div_ceil(PAGE_BYTES);
        let pages = ours.chunks(PAGE_BYTES as usize).zip(theirs.chunks(PAGE_BYTES as usize));
        self.pages += count;
        self.differing_pages += pages.filter(|(ours, theirs)| ours != theirs).count() as u64;
        self.touched_pages += if differs { count } else { 0 };
    }
}

/// GPT disk GUID or MBR disk signature, as text; `None` where there is neither.
///
/// UEFI specification 2.10, section 5.3.2 (header at LBA 1, GUID at byte 56) and table 5-1 (signature at byte 440).
pub(crate) fn disk_id(disk: &dyn UnitSource, layout: Layout) -> Result<Option<String>, DiskError> {
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

/// Compares blocks that hold data at the target. They are spread evenly but for a scatter that no regular pattern on the
/// disk can follow.
fn sample(
    source: &dyn UnitSource,
    target: &dyn UnitSource,
    layout: Layout,
    cancel: &Cancel,
) -> Result<Sample, PassError> {
    let count = layout.block_count();
    let stride = (count / SAMPLE_BLOCKS).max(1);
    let mut found = Sample::default();
    let mut start = 0;
    while start < count && found.blocks < SAMPLE_BLOCKS {
        cancel.check()?;
        let from = (start + scatter(start) % stride).min(count - 1);
        let Some(block) = next_data_block(target, layout, from)? else { break };
        found.add(&read(source, layout, block)?, &read(target, layout, block)?);
        start = (block.0 / stride + 1) * stride;
    }
    Ok(found)
}

/// A number that looks random and is always the same for the same position (the finalizer of SplitMix64).
pub(crate) fn scatter(position: u64) -> u64 {
    let mixed = (position ^ (position >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

pub(crate) fn next_data_block(
    disk: &dyn UnitSource,
    layout: Layout,
    from: u64,
) -> Result<Option<BlockIndex>, DiskError> {
    let start = layout.bytes_of(BlockRange::new(from, from)).start();
    let data =
        disk.next_data(start)?.and_then(|data| data.intersection(ByteRange::new(0, layout.length_bytes())));
    Ok(data.map(|data| layout.blocks_covering(data).start))
}

pub(crate) fn read(disk: &dyn UnitSource, layout: Layout, block: BlockIndex) -> Result<Vec<u8>, DiskError> {
    let bytes = layout.block_bytes(block);
    let mut buffer = vec![0; bytes.length_bytes() as usize];
    disk.read_at(bytes.start(), &mut buffer)?;
    Ok(buffer)
}
