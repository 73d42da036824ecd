//! Reading blocks of a disk, its holes left out.

use failback_blockio::{AlignedBuffer, DiskError, UnitSource};
use failback_model::{BlockRange, ByteRange, Digest, Layout, block_digest};

/// A run of blocks cut into units of so many.
pub(crate) fn units(unit_blocks: u64, blocks: BlockRange) -> impl Iterator<Item = BlockRange> {
    (blocks.start.0..blocks.end.0)
        .step_by(unit_blocks as usize)
        .map(move |start| BlockRange::new(start, (start + unit_blocks).min(blocks.end.0)))
}

/// Bytes of blocks.
pub(crate) fn byte_count(layout: Layout, blocks: BlockRange) -> usize {
    layout.bytes_of(blocks).length_bytes() as usize
}

/// Fills `buffer` from the disk without reading its holes: they would only fill the page cache with zeros. How much was
/// read.
pub fn read_around_holes(
    source: &dyn UnitSource,
    offset_bytes: u64,
    buffer: &mut [u8],
) -> Result<u64, DiskError> {
    let whole = ByteRange::new(offset_bytes, offset_bytes + buffer.len() as u64);
    let (mut at, mut bytes_read) = (whole.start(), 0);
    while at < whole.end() {
        let data = source.next_data(at)?.and_then(|data| data.intersection(whole));
        let (start, end) = data.map_or((whole.end(), whole.end()), |data| (data.start(), data.end()));
        let within = |byte: u64| (byte - whole.start()) as usize;
        buffer[within(at)..within(start)].fill(0);
        if start < end {
            source.read_at(start, &mut buffer[within(start)..within(end)])?;
            bytes_read += end - start;
        }
        at = end;
    }
    Ok(bytes_read)
}

/// Reads blocks that follow each other and returns their digests, and how much was read: for repair and for single chunks.
pub fn read_digests(
    source: &dyn UnitSource,
    layout: Layout,
    blocks: BlockRange,
) -> Result<(Vec<Digest>, u64), DiskError> {
    let (mut digests, mut bytes_read) = (Vec::with_capacity(blocks.count() as usize), 0);
    let unit_blocks = layout.unit_blocks(source.read_bytes());
    let mut buffer =
        AlignedBuffer::new(byte_count(layout, BlockRange::new(0, unit_blocks.min(blocks.count()))));
    for unit in units(unit_blocks, blocks) {
        let count = byte_count(layout, unit);
        bytes_read += read_around_holes(source, layout.bytes_of(unit).start(), &mut buffer[..count])?;
        digests.extend(buffer[..count].chunks(layout.block_size().bytes() as usize).map(block_digest));
    }
    Ok((digests, bytes_read))
}
