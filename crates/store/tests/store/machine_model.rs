//! A machine of two disks as the tests see it: what its pages hold, by versions that stand for bytes, where its media lie, and
//! what is noted of what was asked and answered.

use crate::support::BLOCK_BYTES;
use crate::undo_oracle::Segments;
use failback_image::Image;
use failback_model::{BlockSize, ByteRange, Digest, DiskId, Epoch, Layout, block_digest};
use failback_store::{DiskStore, MachineStore};
use failback_testkit::Random;
use std::ops::Range;
use std::sync::Arc;

pub(crate) const PAGE_BYTES: u64 = 4096;
pub(crate) const PAGES_A_BLOCK: usize = (BLOCK_BYTES / PAGE_BYTES) as usize;
/// Of whole blocks, and one that ends within a page.
pub(crate) const LENGTHS: [u64; 2] = [11 * BLOCK_BYTES, 6 * BLOCK_BYTES + PAGE_BYTES + 1024];

/// What a disk holds: a version for each page. 0 is zeros.
pub(crate) type Pages = Vec<u32>;
/// What all disks hold.
pub(crate) type Contents = Vec<Pages>;

/// Where a machine's store and images lie.
pub(crate) trait Site {
    /// Opens what is there, as a process does that starts.
    fn open(&self) -> Opened;

    /// A number that grows with what was done to the media.
    fn position(&self) -> u64;

    /// The undo log's files.
    fn undo(&self) -> Segments;

    /// Something was noted.
    fn noted(&self, _note: &Note) {}
}

/// A machine's store and disks.
pub(crate) struct Opened {
    pub(crate) store: Arc<MachineStore>,
    pub(crate) disks: Vec<(Arc<DiskStore>, Arc<dyn Image>)>,
}

impl Opened {
    pub(crate) fn new(store: Arc<MachineStore>, images: Vec<Arc<dyn Image>>) -> Self {
        let disks = images.into_iter().zip(disk_ids());
        let disks = disks.map(|(image, id)| (store.disk(&id).expect("a disk"), image)).collect();
        Self { store, disks }
    }
}

pub(crate) fn disk_ids() -> Vec<DiskId> {
    ["scsi0.0", "scsi0.1"].map(|id| DiskId::new(id).expect("an id")).into()
}

pub(crate) fn layout_of(disk: usize) -> Layout {
    Layout::new(LENGTHS[disk], BlockSize::new(BLOCK_BYTES).expect("a block size")).expect("a layout")
}

/// Bytes of a page.
pub(crate) fn page_range(disk: usize, page: usize) -> ByteRange {
    let start = page as u64 * PAGE_BYTES;
    ByteRange::new(start, (start + PAGE_BYTES).min(LENGTHS[disk]))
}

pub(crate) fn bytes_of(disk: usize, pages: Range<usize>) -> ByteRange {
    ByteRange::new(page_range(disk, pages.start).start(), page_range(disk, pages.end - 1).end())
}

pub(crate) fn pages_of_block(disk: usize, block: usize) -> Range<usize> {
    let count = LENGTHS[disk].div_ceil(PAGE_BYTES) as usize;
    block * PAGES_A_BLOCK..((block + 1) * PAGES_A_BLOCK).min(count)
}

/// The bytes that a version stands for: zeros, a short pattern, or what no compressor shortens.
pub(crate) fn fill(version: u32, bytes: &mut [u8]) {
    match version {
        0 => bytes.fill(0),
        odd if odd % 2 == 1 => Random::part(77, u64::from(odd)).fill(bytes),
        even => bytes.chunks_mut(4).for_each(|part| part.copy_from_slice(&even.to_le_bytes()[..part.len()])),
    }
}

/// The bytes of some pages.
pub(crate) fn plain(disk: usize, pages: &Pages, run: Range<usize>) -> Vec<u8> {
    let range = bytes_of(disk, run.clone());
    let mut bytes = vec![0; range.length_bytes() as usize];
    for (page, bytes) in run.zip(bytes.chunks_mut(PAGE_BYTES as usize)) {
        fill(pages[page], bytes);
    }
    bytes
}

pub(crate) fn all_bytes(disk: usize, pages: &Pages) -> Vec<u8> {
    plain(disk, pages, 0..pages.len())
}

/// Disks as they were before anything happened to them.
pub(crate) fn original() -> Contents {
    let pages = |disk: usize| LENGTHS[disk].div_ceil(PAGE_BYTES) as u32;
    // Pages of zeros among them, and pages of either kind.
    (0..LENGTHS.len()).map(|disk| (0..pages(disk)).map(|page| (page % 5) * (page + 1000)).collect()).collect()
}

/// The digests of all blocks.
pub(crate) fn digests_of(disk: usize, pages: &Pages) -> Vec<Digest> {
    let blocks = layout_of(disk).block_count() as usize;
    (0..blocks).map(|block| block_digest(&plain(disk, pages, pages_of_block(disk, block)))).collect()
}

/// What was asked of the store, or answered by it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Note {
    /// Acknowledged: these pages hold these versions.
    Holds(Vec<(usize, usize, u32)>),
    /// These pages are about to change.
    MayChange(usize, Range<usize>),
    /// A point with these contents may come to be.
    Coming(Arc<Contents>),
    /// A point is there.
    Point(u64, Arc<Contents>),
    /// These points may go.
    MayGo(Vec<u64>),
    /// They are gone.
    Gone(Vec<u64>),
    /// Sessions of this epoch and older ones are refused.
    Over(Epoch),
}

/// Notes, each with where the media were: promises after what they rest on, the others before what they begin.
pub(crate) type Notes = Vec<(u64, Note)>;
