//! A sparse extent: grains of 64 KiB, mapped by grain tables in two copies.
//!
//! **Invariant**: a table names a grain on the medium only after the grain's space and data are durable. New grains
//! are taken whole behind the end of the file, where everything reads as zero, and are never given to another place:
//! a crash leaves each grain old or new. `uncleanShutdown` is durable before the first change and goes with `close`.

pub(super) mod cache;
pub(super) mod grains;
mod store;
pub(super) mod tables;
#[cfg(test)]
mod tests;

use grains::{Grains, Run, Runs};
use tables::Tables;

use failback_blockio::{Device, DiskError, Operation};
use failback_format::vmdk::descriptor::SECTOR_BYTES;
use failback_format::vmdk::sparse::{
    GrainEntry, GrainGeometry, HEADER_BYTES, SparseHeader, UNCLEAN_OFFSET, new_directory, new_header,
};
use failback_model::{ByteRange, Code};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
pub(super) use tables::{read_descriptor, read_header, refused};

/// A sparse extent that was opened or made.
#[derive(Debug)]
pub struct SparseExtent {
    device: Arc<dyn Device>,
    header: SparseHeader,
    /// The header's sector as it was found, so that what is not understood stays.
    header_bytes: [u8; HEADER_BYTES],
    tables: Tables,
    grains: Mutex<Grains>,
    /// Whether `uncleanShutdown` is set on the medium by us.
    is_marked: AtomicBool,
    /// Held while the mark or the tables are written: one flush at a time, so that tables cannot overtake each other.
    flushing: Mutex<()>,
    /// Why nothing is known any more about what the medium holds.
    failed: OnceLock<String>,
}

impl SparseExtent {
    /// Lays out a new extent in an empty file; `descriptor` is embedded where one is given.
    pub fn create(
        device: Arc<dyn Device>,
        length_bytes: u64,
        descriptor: Option<&[u8]>,
    ) -> Result<Self, DiskError> {
        let refuse =
            |code, reason: String| Err(DiskError::new(code, Operation::Create, device.path(), reason));
        if !length_bytes.is_multiple_of(SECTOR_BYTES) {
            return refuse(
                Code::ImageSizeUnsupported,
                format!("{length_bytes} bytes are no multiple of 512"),
            );
        }
        let header = new_header(length_bytes / SECTOR_BYTES, descriptor.is_some())
            .map_err(|error| refused(device.path(), Operation::Create, error))?;
        let geometry = header.geometry;
        let mut head = header.to_bytes().to_vec();
        if let Some(text) = descriptor {
            let room = (header.descriptor_sectors * SECTOR_BYTES) as usize;
            if text.len() > room {
                return refuse(Code::CreateFailed, format!("its descriptor is longer than {room} bytes"));
            }
            head.extend_from_slice(text);
        }
        device.set_length(header.overhead_sectors * SECTOR_BYTES)?;
        device.write_at(0, &head)?;
        for sector in [header.redundant_directory_sector, header.directory_sector] {
            device.write_at(sector * SECTOR_BYTES, &new_directory(geometry, sector))?;
        }
        device.sync()?;
        Self::open(device)
    }

    /// Opens an extent and checks all of its metadata; nothing is changed before the first write.
    pub fn open(device: Arc<dyn Device>) -> Result<Self, DiskError> {
        let (header_bytes, header) = read_header(&*device, 0)?;
        if header.is_compressed() || header.needs_footer() {
            let reason = "it is a streamOptimized extent where a sparse one is named";
            return Err(DiskError::new(Code::ImageFormatDisagrees, Operation::Open, device.path(), reason));
        }
        let (tables, metadata) = Tables::read(&*device, header)?;
        let mut survey = tables.survey(&*device, &metadata)?;
        if !survey.faults.is_empty() {
            return Err(refused(device.path(), Operation::Open, survey.faults.remove(0)));
        }
        let grains = Grains::new(&header, device.length_bytes(), survey);
        Ok(Self {
            device,
            header,
            header_bytes,
            tables,
            grains: Mutex::new(grains),
            is_marked: AtomicBool::new(false),
            flushing: Mutex::new(()),
            failed: OnceLock::new(),
        })
    }

    /// Its header as it was when it was opened.
    pub const fn header(&self) -> &SparseHeader {
        &self.header
    }

    /// The embedded descriptor's room, as it is; empty where there is none.
    pub(crate) fn read_descriptor(&self) -> Result<Vec<u8>, DiskError> {
        read_descriptor(&*self.device, &self.header)
    }

    /// Writes the embedded descriptor's room anew; durable when it returns.
    pub(crate) fn write_descriptor(&self, bytes: &[u8]) -> Result<(), DiskError> {
        self.begin_writing(Operation::Write)?;
        let room = self.header.descriptor_range().filter(|room| room.length_bytes() == bytes.len() as u64);
        let room = room.ok_or_else(|| {
            self.error(Code::Internal, Operation::Write, "a descriptor is replaced by one of its size")
        })?;
        self.device.write_at(room.start(), bytes)?;
        self.latch(self.device.sync())
    }

    /// The file.
    pub const fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    const fn geometry_in_grains(&self) -> GrainGeometry {
        self.header.geometry
    }

    fn lock(&self) -> MutexGuard<'_, Grains> {
        // Every change under the lock is complete before anything can panic.
        self.grains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, code: Code, operation: Operation, reason: impl Into<String>) -> DiskError {
        DiskError::new(code, operation, self.device.path(), reason)
    }

    fn refuse_failed(&self, operation: Operation) -> Result<(), DiskError> {
        self.failed.get().map_or(Ok(()), |first| {
            let reason = format!("an earlier flush failed ({first}); open it again");
            Err(self.error(Code::FlushFailed, operation, reason))
        })
    }

    fn latch<T>(&self, result: Result<T, DiskError>) -> Result<T, DiskError> {
        if let Err(error) = &result {
            let _first_wins = self.failed.set(error.to_string());
        }
        result
    }

    /// The bytes `range` of the extent, which must lie within it.
    fn checked(
        &self,
        operation: Operation,
        offset_bytes: u64,
        length_bytes: u64,
    ) -> Result<ByteRange, DiskError> {
        self.refuse_failed(operation)?;
        let end = self.geometry_in_grains().length_bytes();
        ByteRange::at(offset_bytes, length_bytes).filter(|range| range.end() <= end).ok_or_else(|| {
            let reason = format!("{length_bytes} bytes from {offset_bytes} pass the extent's end at {end}");
            let code = if operation == Operation::Read { Code::ReadFailed } else { Code::WriteFailed };
            self.error(code, operation, reason)
        })
    }

    /// Where the bytes of `range` lie, runs that are neighbours in the file joined.
    fn runs(&self, range: ByteRange) -> Result<Vec<Run>, DiskError> {
        let mut grains = self.lock();
        let mut runs = Runs::default();
        for (grain, disk) in self.geometry_in_grains().cut(range) {
            runs.push(disk, self.place(grains.entry(self, grain)?, grain, disk));
        }
        Ok(runs.0)
    }

    /// The same, grains taken for what has none yet.
    fn runs_for_writing(&self, range: ByteRange) -> Result<Vec<Run>, DiskError> {
        let mut grains = self.lock();
        let mut holes = Vec::new();
        for (grain, _) in self.geometry_in_grains().cut(range) {
            if !matches!(grains.entry(self, grain)?, GrainEntry::At(_)) {
                holes.push(grain);
            }
        }
        if !holes.is_empty() {
            grains.allocate(self, &holes)?;
        }
        let mut runs = Runs::default();
        for (grain, disk) in self.geometry_in_grains().cut(range) {
            runs.push(disk, self.place(grains.entry(self, grain)?, grain, disk));
        }
        Ok(runs.0)
    }

    fn place(&self, entry: GrainEntry, grain: u64, disk: ByteRange) -> Option<u64> {
        let GrainEntry::At(sector) = entry else { return None };
        Some(
            u64::from(sector) * SECTOR_BYTES
                + (disk.start() - grain * self.geometry_in_grains().grain_bytes()),
        )
    }

    /// Refuses an extent that can only be read. Whoever opens one for writing asks at once, not in the middle of a pass.
    pub(crate) fn require_writable(&self, operation: Operation) -> Result<(), DiskError> {
        if self.header.version > 2 {
            let reason = "it tracks changed blocks (sparse version 3), which a write here would not";
            return Err(self.error(Code::ImageReadOnlyKind, operation, reason));
        }
        if let Some(table) = self.tables.first_missing() {
            let reason = format!("its grain directory has no table {table}");
            return Err(self.error(Code::ImageReadOnlyKind, operation, reason));
        }
        Ok(())
    }

    /// What must be true on the medium before anything changes.
    fn begin_writing(&self, operation: Operation) -> Result<(), DiskError> {
        if self.is_marked.load(Ordering::Acquire) {
            return Ok(());
        }
        self.require_writable(operation)?;
        let _one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_marked.load(Ordering::Acquire) {
            return Ok(());
        }
        self.latch(self.write_mark(true))?;
        self.is_marked.store(true, Ordering::Release);
        self.heal()
    }

    fn write_mark(&self, unclean: bool) -> Result<(), DiskError> {
        let mut bytes = self.header_bytes;
        bytes[UNCLEAN_OFFSET] = u8::from(unclean);
        self.device.write_at(0, &bytes)?;
        self.device.sync()
    }

    /// Has both copies of tables that differed written with the next flush.
    fn heal(&self) -> Result<(), DiskError> {
        let differing = std::mem::take(&mut self.lock().differing);
        for table in differing {
            let mut grains = self.lock();
            grains.cache.get(&self.tables, &*self.device, table)?;
            grains.cache.mark_dirty(table);
            let is_full = grains.cache.is_full();
            drop(grains);
            if is_full {
                self.latch(self.flush_tables())?;
            }
        }
        Ok(())
    }

    /// Data and the file's length first, then the tables that were changed before that. The caller holds `flushing`.
    fn flush_tables(&self) -> Result<(), DiskError> {
        let changed = self.lock().cache.take_dirty();
        self.device.sync()?;
        if changed.is_empty() {
            return Ok(());
        }
        for (table, entries) in &changed {
            self.tables.store(&*self.device, *table, entries)?;
        }
        self.device.sync()?;
        self.lock().cache.mark_flushed(&changed);
        Ok(())
    }
}
