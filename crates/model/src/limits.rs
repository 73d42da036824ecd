//! Every bound of the product, with the relations between bounds checked when it is compiled.
//!
//! The last word of a name is its unit.

/// A page: the unit of refinement.
pub const PAGE_BYTES: u64 = 4096;
/// Smallest block that may be chosen.
pub const BLOCK_MIN_BYTES: u64 = 16 << 10;
/// Block size when none is chosen.
pub const BLOCK_DEFAULT_BYTES: u64 = 64 << 10;
/// Largest block that may be chosen.
pub const BLOCK_MAX_BYTES: u64 = 1 << 20;
/// Most pages in one block.
pub const PAGES_PER_BLOCK_MAX: usize = (BLOCK_MAX_BYTES / PAGE_BYTES) as usize;
/// Smallest unit read from a source; larger requests measured slower, since they leave the cache.
pub const UNIT_MIN_BYTES: u64 = 256 << 10;
/// Blocks whose entries form one chunk of a manifest.
pub const CHUNK_BLOCKS: u64 = 1024;
/// Blocks scanned and compared together: the step of the pipeline.
pub const SEGMENT_BLOCKS: u64 = 64;
/// Most bytes of one such step, so that large blocks do not make large steps.
pub const SEGMENT_MAX_BYTES: u64 = 4 << 20;
/// Largest disk.
pub const DISK_MAX_BYTES: u64 = 64 << 40;

/// Largest frame on the wire, header included.
pub const FRAME_MAX_BYTES: usize = 2 << 20;
/// Most bytes of pages packed into one data message before compression.
pub const PACK_MAX_BYTES: usize = 1 << 20;
/// Most entries in one digest, page request, reference or zero message.
pub const BATCH_MAX_BLOCKS: usize = 1024;
/// Most page digests in one page reply.
pub const PAGE_REPLY_MAX_PAGES: usize = 16 << 10;
/// Most bytes of pages that one job of the sending end can pack: the blocks of one page reply.
pub const JOB_MAX_BYTES: u64 = PAGE_REPLY_MAX_PAGES as u64 * PAGE_BYTES;

/// Bytes of data on their way from the source's medium to the target's, for one disk.
pub const WINDOW_DEFAULT_BYTES: u64 = 64 << 20;
/// Blocks' digests on their way from target to source before the source has used them.
pub const DIGEST_WINDOW_BLOCKS: u64 = 64 << 10;
/// Blocks with an open page digest request.
pub const REFINE_WINDOW_BLOCKS: usize = 1024;
/// Blocks with an open reference.
pub const REFERENCE_WINDOW_BLOCKS: usize = 4096;
/// A commit group closes when it holds this much.
pub const GROUP_MAX_BYTES: u64 = 64 << 20;
/// Data messages and zero messages without acknowledgement.
pub const UNACKNOWLEDGED_MAX_MESSAGES: usize = 64 << 10;
/// Blocks that one pass may list as unrepairable before it stops listing.
pub const MISMATCH_LIST_MAX_BLOCKS: usize = 256;

/// Largest descriptor text of a VMDK.
pub const DESCRIPTOR_MAX_BYTES: usize = 1 << 20;
/// Smallest grain of a sparse VMDK.
pub const GRAIN_MIN_BYTES: u64 = 4 << 10;
/// Largest grain of a sparse VMDK; VMware writes 64 KiB.
pub const GRAIN_MAX_BYTES: u64 = 4 << 20;
/// Grain tables of one sparse extent held in memory, 2 KiB each.
pub const GRAIN_TABLES_MAX: usize = 4096;
/// Grains of a foreign sparse VMDK that may lie off the grain raster.
pub const STRAY_GRAINS_MAX: usize = 1 << 20;
/// Faults of one sparse extent that are listed before the list stops.
pub const IMAGE_FAULTS_MAX: usize = 64;
/// Inflated grains of a streamOptimized VMDK kept for the next read.
pub const INFLATED_GRAINS_MAX: usize = 16;
/// Grains waiting for their turn while a streamOptimized VMDK is written: above this the lowest goes out, and each thread
/// that writes waits for that with one grain in hand.
pub const STREAM_WINDOW_BYTES: u64 = 96 << 20;
/// Space that is taken at once while an image is created; between two such steps it can be stopped.
pub const PROVISION_STEP_BYTES: u64 = 64 << 20;
/// Most extents in a VMDK descriptor.
pub const EXTENTS_MAX: usize = 4096;
/// Bytes that a buffered reader leaves in the page cache behind itself before it drops what it brought in.
pub const DROP_BEHIND_BYTES: u64 = 256 << 20;
/// Threads that may be asked for.
pub const THREADS_MAX: usize = 64;

const _: () = {
    assert!(BLOCK_MIN_BYTES <= BLOCK_DEFAULT_BYTES && BLOCK_DEFAULT_BYTES <= BLOCK_MAX_BYTES);
    assert!(
        BLOCK_MIN_BYTES.is_power_of_two()
            && BLOCK_MAX_BYTES.is_power_of_two()
            && PAGE_BYTES.is_power_of_two()
    );
    assert!(BLOCK_MIN_BYTES > PAGE_BYTES);
    assert!(PACK_MAX_BYTES as u64 >= BLOCK_MAX_BYTES, "a whole block fits one pack");
    assert!(
        PACK_MAX_BYTES + (256 << 10) <= FRAME_MAX_BYTES,
        "a pack, its entries and its header fit one frame"
    );
    assert!(CHUNK_BLOCKS.is_multiple_of(SEGMENT_BLOCKS), "segments do not cross chunks");
    assert!((SEGMENT_BLOCKS * BLOCK_MIN_BYTES).is_multiple_of(UNIT_MIN_BYTES), "a segment is whole units");
    assert!(WINDOW_DEFAULT_BYTES >= 4 * PACK_MAX_BYTES as u64, "the window keeps the pipeline full");
    assert!(PAGE_REPLY_MAX_PAGES >= PAGES_PER_BLOCK_MAX, "a block's page digests fit one reply");
    assert!(PAGE_REPLY_MAX_PAGES * 16 + (256 << 10) <= FRAME_MAX_BYTES, "a page reply fits one frame");
    assert!(GRAIN_MIN_BYTES.is_power_of_two() && GRAIN_MAX_BYTES.is_power_of_two());
    assert!(
        STREAM_WINDOW_BYTES >= WINDOW_DEFAULT_BYTES + (16 << 20),
        "a block as late as a window is still in time"
    );
    assert!(JOB_MAX_BYTES >= PACK_MAX_BYTES as u64, "a job fills a pack");
    assert!(CHUNK_BLOCKS as usize <= BATCH_MAX_BLOCKS, "a trusted chunk's digests are one message");
    assert!(BATCH_MAX_BLOCKS * 40 <= FRAME_MAX_BYTES, "a batch of references fits one frame");
};
