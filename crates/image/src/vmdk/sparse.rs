//! A sparse extent: grains of 64 KiB, mapped by grain tables in two copies.
//!
//! **Invariant**: a table names a grain on the medium only after the grain's space and data are durable. New grains
//! are taken whole behind the end of the file, where everything reads as zero, and are never given to another place:
//! a crash leaves each grain old or new. `uncleanShutdown` is durable before the first change and goes with `close`.

use super::extent::ExtentStore;
use super::parts::Parts;
use super::sparse_cache::TableCache;
use super::sparse_tables::{Survey, Tables, read_header, refused};
use failback_blockio::{Device, DiskError, Operation, UnitSource, Zeroing};
use failback_format::vmdk::descriptor::SECTOR_BYTES;
use failback_format::vmdk::sparse::{
    GrainEntry, GrainGeometry, HEADER_BYTES, SECTORS_MAX, SparseHeader, TABLE_ENTRIES, UNCLEAN_OFFSET,
    new_directory, new_header,
};
use failback_model::{ByteRange, Code, DiskGeometry, Finding, SectorSize};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A sparse extent that was opened or made.
#[derive(Debug)]
pub struct SparseExtent {
    device: Arc<dyn Device>,
    header: SparseHeader,
    /// The header's sector as it was found, so that what is not understood stays.
    header_bytes: [u8; HEADER_BYTES],
    tables: Tables,
    state: Mutex<State>,
    /// Whether `uncleanShutdown` is set on the medium by us.
    is_marked: AtomicBool,
    /// Held while the mark or the tables are written: one flush at a time, so that tables cannot overtake each other.
    flushing: Mutex<()>,
    /// Why nothing is known any more about what the medium holds.
    failed: OnceLock<String>,
}

#[derive(Debug)]
struct State {
    cache: TableCache,
    /// Allocated grains that each table names.
    used: Vec<u16>,
    /// Tables whose copies differed when it was opened; written anew by the first change.
    differing: Vec<u32>,
    /// Where the next grain goes.
    next_sector: u64,
}

/// A run of the extent, and where it lies in the file if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    disk: ByteRange,
    file_offset: Option<u64>,
}

impl Run {
    /// Its bytes of the file.
    fn in_file(self) -> Option<ByteRange> {
        self.file_offset.and_then(|offset| ByteRange::at(offset, self.disk.length_bytes()))
    }
}

impl SparseExtent {
    /// Lays out a new extent in an empty file; `descriptor` is embedded where one is given.
    pub fn create(
        device: Arc<dyn Device>,
        length_bytes: u64,
        descriptor: Option<&[u8]>,
    ) -> Result<Self, DiskError> {
        let refuse = |code, reason: String| Err(DiskError::new(code, Operation::Create, device.path(), reason));
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
        let state = State::new(&header, device.length_bytes(), survey);
        Ok(Self {
            device,
            header,
            header_bytes,
            tables,
            state: Mutex::new(state),
            is_marked: AtomicBool::new(false),
            flushing: Mutex::new(()),
            failed: OnceLock::new(),
        })
    }

    /// Its header as it was when it was opened.
    pub const fn header(&self) -> &SparseHeader {
        &self.header
    }

    /// The file.
    pub const fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    const fn grains(&self) -> GrainGeometry {
        self.header.geometry
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let end = self.grains().length_bytes();
        ByteRange::at(offset_bytes, length_bytes).filter(|range| range.end() <= end).ok_or_else(|| {
            let reason = format!("{length_bytes} bytes from {offset_bytes} pass the extent's end at {end}");
            let code = if operation == Operation::Read { Code::ReadFailed } else { Code::WriteFailed };
            self.error(code, operation, reason)
        })
    }

    /// Where the bytes of `range` lie, runs that are neighbours in the file joined.
    fn runs(&self, range: ByteRange) -> Result<Vec<Run>, DiskError> {
        let mut state = self.lock();
        let mut runs = Runs::default();
        for (grain, disk) in self.cut(range) {
            runs.push(disk, self.place(state.entry(self, grain)?, grain, disk));
        }
        Ok(runs.0)
    }

    /// The same, grains taken for what has none yet.
    fn runs_for_writing(&self, range: ByteRange) -> Result<Vec<Run>, DiskError> {
        let mut state = self.lock();
        let mut holes = Vec::new();
        for (grain, _) in self.cut(range) {
            if !matches!(state.entry(self, grain)?, GrainEntry::At(_)) {
                holes.push(grain);
            }
        }
        if !holes.is_empty() {
            state.allocate(self, &holes)?;
        }
        let mut runs = Runs::default();
        for (grain, disk) in self.cut(range) {
            runs.push(disk, self.place(state.entry(self, grain)?, grain, disk));
        }
        Ok(runs.0)
    }

    /// The grains of `range` and the part of each that falls into it.
    fn cut(&self, range: ByteRange) -> impl Iterator<Item = (u64, ByteRange)> + use<> {
        let grains = self.grains();
        let size = grains.grain_bytes();
        let last = if range.is_empty() { range.start() / size } else { range.end().div_ceil(size) };
        (range.start() / size..last)
            .filter_map(move |grain| Some((grain, grains.grain_range(grain).intersection(range)?)))
    }

    fn place(&self, entry: GrainEntry, grain: u64, disk: ByteRange) -> Option<u64> {
        let GrainEntry::At(sector) = entry else { return None };
        Some(u64::from(sector) * SECTOR_BYTES + (disk.start() - grain * self.grains().grain_bytes()))
    }

    /// What must be true on the medium before anything changes.
    fn begin_writing(&self, operation: Operation) -> Result<(), DiskError> {
        if self.is_marked.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.header.version > 2 {
            let reason = "it tracks changed blocks (sparse version 3), which a write here would not";
            return Err(self.error(Code::ImageReadOnlyKind, operation, reason));
        }
        if let Some(table) = self.tables.first_missing() {
            let reason = format!("its grain directory has no table {table}");
            return Err(self.error(Code::ImageReadOnlyKind, operation, reason));
        }
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
            let mut state = self.lock();
            state.cache.get(&self.tables, &*self.device, table)?;
            state.cache.mark_dirty(table);
            let is_full = state.cache.is_full();
            drop(state);
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

impl State {
    fn new(header: &SparseHeader, file_bytes: u64, survey: Survey) -> Self {
        let end = file_bytes.div_ceil(SECTOR_BYTES).max(survey.end_sector).max(header.overhead_sectors);
        Self {
            cache: TableCache::default(),
            used: survey.used,
            differing: survey.differing,
            next_sector: end.next_multiple_of(header.geometry.grain_sectors),
        }
    }

    /// What the tables say of a grain. A table that names none is not read.
    fn entry(&mut self, extent: &SparseExtent, grain: u64) -> Result<GrainEntry, DiskError> {
        let (table, index) = split(grain);
        if self.used[table as usize] == 0 {
            return Ok(GrainEntry::Hole);
        }
        let raw = self.cache.get(&extent.tables, &*extent.device, table)?[index];
        Ok(extent.header.entry(raw))
    }

    /// Takes space behind the end of the file for `grains`, which have none.
    fn allocate(&mut self, extent: &SparseExtent, grains: &[u64]) -> Result<(), DiskError> {
        let size = extent.grains().grain_sectors;
        let end = self.next_sector + grains.len() as u64 * size;
        if end > SECTORS_MAX {
            let reason = "its file would pass 2 TiB";
            return Err(extent.error(Code::WriteFailed, Operation::Write, reason));
        }
        for &grain in grains {
            self.cache.get(&extent.tables, &*extent.device, split(grain).0)?;
        }
        // The length first: a table may be on its way to the medium as soon as the lock is gone.
        extent.device.set_length(end * SECTOR_BYTES)?;
        for &grain in grains {
            let (table, index) = split(grain);
            self.cache.get(&extent.tables, &*extent.device, table)?[index] = self.next_sector as u32;
            self.cache.mark_dirty(table);
            self.used[table as usize] += 1;
            self.next_sector += size;
        }
        Ok(())
    }
}

/// Table of a grain, and its entry there.
const fn split(grain: u64) -> (u32, usize) {
    ((grain / TABLE_ENTRIES as u64) as u32, (grain % TABLE_ENTRIES as u64) as usize)
}

/// Runs in the order of the disk.
#[derive(Default)]
struct Runs(Vec<Run>);

impl Runs {
    fn push(&mut self, disk: ByteRange, file_offset: Option<u64>) {
        if let Some(last) = self.0.last_mut() {
            let follows = match (last.in_file(), file_offset) {
                (Some(file), Some(offset)) => file.end() == offset,
                (None, None) => true,
                _ => false,
            };
            if follows {
                last.disk = ByteRange::new(last.disk.start(), disk.end());
                return;
            }
        }
        self.0.push(Run { disk, file_offset });
    }
}

impl UnitSource for SparseExtent {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.grains().length_bytes(), sector_size: SectorSize::B512 }
    }

    fn name(&self) -> &Path {
        self.device.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let range = self.checked(Operation::Read, offset_bytes, buffer.len() as u64)?;
        let mut rest = buffer;
        for run in self.runs(range)? {
            let (part, behind) = rest.split_at_mut(run.disk.length_bytes() as usize);
            match run.file_offset {
                Some(offset) => self.device.read_at(offset, part)?,
                None => part.fill(0),
            }
            rest = behind;
        }
        Ok(())
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.refuse_failed(Operation::Seek)?;
        let grains = self.grains();
        let mut state = self.lock();
        let mut grain = from_bytes / grains.grain_bytes();
        while grain < grains.grain_count() {
            if state.used[split(grain).0 as usize] == 0 {
                grain = (grain / u64::from(TABLE_ENTRIES) + 1) * u64::from(TABLE_ENTRIES);
                continue;
            }
            if matches!(state.entry(self, grain)?, GrainEntry::At(_)) {
                break;
            }
            grain += 1;
        }
        let start = (grain * grains.grain_bytes()).max(from_bytes);
        let mut end = grain;
        while end < grains.grain_count() && matches!(state.entry(self, end)?, GrainEntry::At(_)) {
            end += 1;
        }
        let end_bytes = (end * grains.grain_bytes()).min(grains.length_bytes());
        Ok((start < end_bytes).then(|| ByteRange::new(start, end_bytes)))
    }
}

impl ExtentStore for SparseExtent {
    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        UnitSource::read_at(self, offset_bytes, buffer)
    }

    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        let length_bytes = parts.iter().map(|part| part.len() as u64).sum();
        let range = self.checked(Operation::Write, offset_bytes, length_bytes)?;
        self.begin_writing(Operation::Write)?;
        let mut cursor = Parts::new(parts);
        for run in self.runs_for_writing(range)? {
            let taken = cursor.take(run.disk.length_bytes() as usize);
            if let Some(offset) = run.file_offset {
                self.device.write_vectored_at(offset, &taken)?;
            }
        }
        if self.lock().cache.is_full() {
            ExtentStore::flush(self)?;
        }
        Ok(())
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        let range = self.checked(Operation::Zero, range.start(), range.length_bytes())?;
        // A hole stays a hole, and a grain stays where it is: its space is zeroed or punched in the file.
        let taken: Vec<_> = self.runs(range)?.into_iter().filter_map(Run::in_file).collect();
        if !taken.is_empty() {
            self.begin_writing(Operation::Zero)?;
        }
        taken.into_iter().try_for_each(|file| self.device.zero(file, zeroing))
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        UnitSource::next_data(self, from_bytes)
    }

    fn start_writeback(&self, range: ByteRange) {
        // Only a hint: what cannot be looked up now will be found by the flush.
        if let Ok(runs) = self.runs(range) {
            runs.into_iter().filter_map(Run::in_file).for_each(|file| self.device.start_writeback(file));
        }
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.refuse_failed(Operation::Flush)?;
        if !self.is_marked.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.latch(self.flush_tables())
    }

    fn close(&self) -> Result<(), DiskError> {
        self.refuse_failed(Operation::Flush)?;
        let _one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_marked.load(Ordering::Acquire) {
            return Ok(());
        }
        self.latch(self.flush_tables().and_then(|()| self.write_mark(false)))?;
        self.is_marked.store(false, Ordering::Release);
        Ok(())
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.device.allocated_bytes()
    }

    fn set_length(&self, _length_bytes: u64) -> Result<(), DiskError> {
        let reason = "a sparse extent has no room for more grain tables; convert the image into a larger one";
        Err(self.error(Code::ImageUnsupported, Operation::Resize, reason))
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        ExtentStore::flush(self)?;
        let (_, header) = read_header(&*self.device, 0)?;
        let (tables, metadata) = Tables::read(&*self.device, header)?;
        let survey = tables.survey(&*self.device, &metadata)?;
        let path = self.device.path().display();
        let fault = |fault: &dyn std::fmt::Display| format!("{path}: {fault}");
        let mut findings: Vec<_> =
            survey.faults.iter().map(|error| Finding::error(Code::ImageCheck, fault(error))).collect();
        for table in survey.differing {
            let at = tables.entry_offset(table, 0);
            let text = fault(&format!("byte {at}: the two copies of grain table {table} differ"));
            findings.push(Finding::warning(Code::ImageCheck, text));
        }
        if header.unclean && !self.is_marked.load(Ordering::Acquire) {
            findings.push(Finding::warning(Code::ImageUnclean, fault(&"it was not closed cleanly")));
        }
        Ok(findings)
    }
}
