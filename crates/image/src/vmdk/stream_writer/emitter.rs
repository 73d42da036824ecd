//! The end of the file where grains, tables and the footer are appended.
//!
//! **Invariant**: each table stands behind the last of its grains, and the footer is written only when everything
//! before it is durable.

use super::super::sparse::grains::split;
use failback_blockio::{Device, DiskError, Operation};
use failback_format::vmdk::descriptor::SECTOR_BYTES;
use failback_format::vmdk::sparse::{SECTORS_MAX, SparseHeader, TABLE_ENTRIES, TABLE_SECTORS};
use failback_format::vmdk::stream::Marker;
use failback_model::Code;
use std::sync::Arc;

/// Where the next thing goes, and the table being filled.
#[derive(Debug)]
pub(super) struct Emitter {
    device: Arc<dyn Device>,
    header: SparseHeader,
    next_sector: u64,
    /// Sector of each table; 0 for one without grains.
    directory: Vec<u32>,
    /// The table that the last grain went to.
    table: Option<(u32, [u32; TABLE_ENTRIES as usize])>,
    is_finished: bool,
}

impl Emitter {
    /// Begins behind the header and the descriptor.
    pub(super) fn new(device: Arc<dyn Device>, header: &SparseHeader) -> Self {
        Self {
            device,
            header: *header,
            next_sector: header.overhead_sectors,
            directory: vec![0; header.geometry.table_count() as usize],
            table: None,
            is_finished: false,
        }
    }

    /// Appends a deflated grain with its marker; grains come in ascending order.
    pub(super) fn emit(&mut self, grain: u64, packed: &[u8]) -> Result<(), DiskError> {
        let (number, index) = split(grain);
        if self.table.is_some_and(|(open, _)| open != number) {
            self.write_table()?;
        }
        let sector = self.append(packed)?;
        let (_, entries) = self.table.get_or_insert((number, [0; TABLE_ENTRIES as usize]));
        entries[index] = sector;
        Ok(())
    }

    /// Appends what makes an image of it all; durable when it returns.
    pub(super) fn finish(&mut self) -> Result<(), DiskError> {
        if self.is_finished {
            return Ok(());
        }
        self.write_table()?;
        let mut directory: Vec<u8> = self.directory.iter().flat_map(|sector| sector.to_le_bytes()).collect();
        directory.resize(directory.len().next_multiple_of(SECTOR_BYTES as usize), 0);
        let sectors = self.header.geometry.directory_sectors();
        let directory_sector = u64::from(self.append(&Marker::Directory { sectors }.to_bytes())?) + 1;
        self.append(&directory)?;
        self.device.sync()?;
        let footer = SparseHeader { directory_sector, ..self.header };
        let end = [Marker::Footer.to_bytes(), footer.to_bytes(), Marker::EndOfStream.to_bytes()].concat();
        self.append(&end)?;
        self.device.sync()?;
        self.is_finished = true;
        Ok(())
    }

    fn write_table(&mut self) -> Result<(), DiskError> {
        let Some((number, entries)) = self.table.take() else { return Ok(()) };
        let mut bytes = Marker::Table { sectors: TABLE_SECTORS }.to_bytes().to_vec();
        bytes.extend(entries.iter().flat_map(|entry| entry.to_le_bytes()));
        self.directory[number as usize] = self.append(&bytes)? + 1;
        Ok(())
    }

    /// Appends whole sectors and says where.
    fn append(&mut self, bytes: &[u8]) -> Result<u32, DiskError> {
        let sector = self.next_sector;
        let end = sector + bytes.len() as u64 / SECTOR_BYTES;
        if end > SECTORS_MAX {
            let reason = "a streamOptimized file cannot pass 2 TiB";
            return Err(DiskError::new(Code::WriteFailed, Operation::Write, self.device.path(), reason));
        }
        self.device.write_at(sector * SECTOR_BYTES, bytes)?;
        self.next_sector = end;
        Ok(sector as u32)
    }
}
