//! What a pass need not scan.

use crate::digest_file::DigestFile;
use crate::journal::Journal;
use failback_blockio::DiskError;
use failback_engine::{Known, TrustedDigests};
use failback_model::{BlockIndex, BlockRange, Digest};
use std::sync::Arc;

/// Blocks whose digests are known, and the digests.
#[derive(Debug)]
pub struct TrustedState {
    /// The digests.
    pub digests: HeldDigests,
    /// Which blocks, in order; no two touch.
    pub ranges: Vec<BlockRange>,
}

/// The digests of a disk, read as they are asked for. Those of a block stay what they are until a session begins to
/// write to it.
#[derive(Debug, Clone)]
pub struct HeldDigests {
    file: Option<Arc<DigestFile>>,
    /// Keeps the folder locked.
    _journal: Arc<Journal>,
}

impl HeldDigests {
    pub(crate) fn new(file: Option<Arc<DigestFile>>, journal: Arc<Journal>) -> Self {
        Self { file, _journal: journal }
    }

    /// Digests of some blocks. Panics past the disk's last block.
    pub fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError> {
        match &self.file {
            Some(file) => file.digests(blocks),
            None => Ok(vec![Digest::ZERO; blocks.count() as usize]),
        }
    }

    /// The first block at or behind `from` that need not be zero; `None` where all the rest is.
    pub fn next_data(&self, from: BlockIndex) -> Result<Option<BlockIndex>, DiskError> {
        match &self.file {
            Some(file) => file.next_data(from),
            None => Ok(None),
        }
    }
}

impl From<TrustedState> for Known {
    fn from(trusted: TrustedState) -> Self {
        Self { digests: Box::new(trusted.digests), ranges: trusted.ranges }
    }
}

impl TrustedDigests for HeldDigests {
    /// Where they cannot be read: digests that no block has, so that the blocks are compared as different and shipped.
    fn digests(&self, blocks: BlockRange) -> Vec<Digest> {
        const NO_BLOCKS: Digest = Digest([0xff; 32]);
        Self::digests(self, blocks).unwrap_or_else(|_| vec![NO_BLOCKS; blocks.count() as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_format::manifest::{ManifestHeader, ManifestLayout};
    use failback_model::{BlockSize, Layout, MachineId};
    use failback_testkit::{Call, Damage, Fault, Faulty, MemoryDevice, When};

    #[test]
    fn digests_that_cannot_be_read_are_those_of_no_block() {
        let layout = Layout::new(100 << 20, BlockSize::DEFAULT).expect("a layout");
        let device = MemoryDevice::new(ManifestLayout::new(layout).file_bytes());
        let header = ManifestHeader { layout, generation: 0, root: None };
        failback_blockio::Device::write_at(&device, 0, &header.encode()).expect("memory takes it");
        let fault = Fault { call: Call::Read, when: When::Touching(4096 + 32 * 5), damage: Damage::Io };
        let file = DigestFile::open(Arc::new(Faulty::new(device, [fault]))).expect("opened");
        let folder = tempfile::tempdir().expect("a folder");
        let medium = crate::medium::Folder::open(folder.path()).expect("opened");
        let machine = MachineId::new("machine").expect("an id");
        let (journal, _) = crate::recover::open_journal(Box::new(medium), &machine).expect("opened");
        let held = HeldDigests::new(Some(Arc::new(file)), Arc::new(journal));
        assert!(held.digests(BlockRange::new(0, 10)).is_err());
        let answer = TrustedDigests::digests(&held, BlockRange::new(4, 6));
        assert_eq!(answer, [Digest([0xff; 32]); 2], "and no hole: they are compared as different");
        assert_eq!(TrustedDigests::digests(&held, BlockRange::new(6, 7)), [Digest::ZERO]);
    }
}
