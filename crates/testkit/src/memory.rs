//! Disks in memory: what the fast tests read and write.
//!
//! **Invariant**: bytes never written are holes; a hole reads as zero and takes no memory.

use failback_blockio::{Device, DiskError, Operation, UnitSource, Zeroing};
use failback_model::{ByteRange, Code, DiskGeometry, SectorSize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE: usize = 4096;

/// A disk in memory, sparse by pages. It is a device, and a source of units too.
#[derive(Debug)]
pub struct MemoryDevice {
    name: PathBuf,
    sector_size: SectorSize,
    state: Mutex<State>,
}

/// A [`MemoryDevice`] that is only read.
pub type MemorySource = MemoryDevice;

#[derive(Debug, Clone)]
struct State {
    length_bytes: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl MemoryDevice {
    /// A disk of holes.
    pub fn new(length_bytes: u64) -> Self {
        let state = State { length_bytes, pages: BTreeMap::new() };
        Self { name: "memory".into(), sector_size: SectorSize::B512, state: Mutex::new(state) }
    }

    /// A disk that holds these bytes; pages of zeros are holes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let disk = Self::new(bytes.len() as u64);
        {
            let mut state = disk.lock();
            for (page, content) in bytes.chunks(PAGE).enumerate() {
                if content.iter().any(|&byte| byte != 0) {
                    state.page(page as u64)[..content.len()].copy_from_slice(content);
                }
            }
        }
        disk
    }

    /// The same disk under another name.
    pub fn named(self, name: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The same disk with other sectors.
    pub fn with_sector_size(self, sector_size: SectorSize) -> Self {
        Self { sector_size, ..self }
    }

    /// All its bytes. For small disks.
    pub fn to_bytes(&self) -> Vec<u8> {
        let state = self.lock();
        let length = usize::try_from(state.length_bytes).expect("a disk in memory fits memory");
        let mut bytes = vec![0; length];
        state.copy_out(0, &mut bytes);
        bytes
    }

    /// A disk of its own with the same contents.
    pub fn duplicate(&self) -> Self {
        let state = Mutex::new(self.lock().clone());
        Self { name: self.name.clone(), sector_size: self.sector_size, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let state = self.lock();
        let end = offset_bytes.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > state.length_bytes) {
            return Err(self.past_the_end(Operation::Read, Code::ReadFailed, state.length_bytes));
        }
        state.copy_out(offset_bytes, buffer);
        Ok(())
    }

    fn past_the_end(&self, operation: Operation, code: Code, length_bytes: u64) -> DiskError {
        DiskError::new(code, operation, &self.name, format!("that is past its end at {length_bytes}"))
            .at(length_bytes)
    }

    fn next_data_run(&self, from_bytes: u64) -> Option<ByteRange> {
        let state = self.lock();
        let length_bytes = state.length_bytes;
        let mut pages = state.pages.range(from_bytes / PAGE as u64..).map(|(page, _)| *page);
        let first = pages.next()?;
        let last = pages.zip(first + 1..).take_while(|(page, next)| page == next).last();
        let end = (last.map_or(first, |(page, _)| page) + 1) * PAGE as u64;
        let start = (first * PAGE as u64).max(from_bytes);
        (start < length_bytes).then(|| ByteRange::new(start, end.min(length_bytes)))
    }
}

impl State {
    fn page(&mut self, page: u64) -> &mut [u8; PAGE] {
        self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE]))
    }

    fn copy_out(&self, offset_bytes: u64, buffer: &mut [u8]) {
        for (page, within, part) in pages_of(offset_bytes, buffer.len()) {
            let into = &mut buffer[part];
            match self.pages.get(&page) {
                Some(content) => into.copy_from_slice(&content[within..within + into.len()]),
                None => into.fill(0),
            }
        }
    }

    fn copy_in(&mut self, offset_bytes: u64, bytes: &[u8]) {
        for (page, within, part) in pages_of(offset_bytes, bytes.len()) {
            let from = &bytes[part];
            self.page(page)[within..within + from.len()].copy_from_slice(from);
        }
    }

    /// Zeroes what is there; `punch` frees whole pages, else all become data.
    fn zero(&mut self, range: ByteRange, punch: bool) {
        let (first, end) = (range.start() / PAGE as u64, range.end().div_ceil(PAGE as u64));
        let pages: Vec<u64> = match punch {
            true => self.pages.range(first..end).map(|(page, _)| *page).collect(),
            false => (first..end).collect(),
        };
        for page in pages {
            let start = page * PAGE as u64;
            let from = range.start().saturating_sub(start) as usize;
            let to = (range.end() - start).min(PAGE as u64) as usize;
            if punch && to - from == PAGE {
                self.pages.remove(&page);
            } else {
                self.page(page)[from..to].fill(0);
            }
        }
    }
}

/// Cuts a run of bytes at pages: page, offset within it, and the part of the run.
fn pages_of(offset_bytes: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset_bytes + done as u64;
        let within = (at % PAGE as u64) as usize;
        let count = (PAGE - within).min(length - done);
        let part = done..done + count;
        done += count;
        (count > 0).then_some((at / PAGE as u64, within, part))
    })
}

impl Device for MemoryDevice {
    fn path(&self) -> &Path {
        &self.name
    }

    fn length_bytes(&self) -> u64 {
        self.lock().length_bytes
    }

    fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.read(offset_bytes, buffer)
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.lock();
        let end = offset_bytes + bytes.len() as u64;
        state.length_bytes = state.length_bytes.max(end);
        state.copy_in(offset_bytes, bytes);
        Ok(())
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        let mut state = self.lock();
        if range.end() > state.length_bytes {
            return Err(self.past_the_end(Operation::Zero, Code::WriteFailed, state.length_bytes));
        }
        state.zero(range, zeroing == Zeroing::Punch);
        Ok(())
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        Ok(self.next_data_run(from_bytes))
    }

    fn set_length(&self, length_bytes: u64) -> Result<(), DiskError> {
        let mut state = self.lock();
        if length_bytes < state.length_bytes {
            let rounded = length_bytes.next_multiple_of(PAGE as u64).min(state.length_bytes);
            state.zero(ByteRange::new(length_bytes, rounded), true);
            state.pages.split_off(&length_bytes.div_ceil(PAGE as u64));
        }
        state.length_bytes = length_bytes;
        Ok(())
    }

    fn start_writeback(&self, _range: ByteRange) {}

    fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

impl UnitSource for MemoryDevice {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.lock().length_bytes, sector_size: self.sector_size }
    }

    fn name(&self) -> &Path {
        &self.name
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.read(offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        Ok(self.next_data_run(from_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(disk: &MemoryDevice) -> Vec<ByteRange> {
        let mut at = 0;
        std::iter::from_fn(|| {
            let run = disk.next_data_run(at)?;
            at = run.end();
            Some(run)
        })
        .collect()
    }

    #[test]
    fn a_disk_in_memory_is_sparse_and_exact() {
        let disk = MemoryDevice::new(64 << 40);
        disk.write_at(10_000, &[7; 5000]).expect("written");
        disk.write_at((64 << 40) - 1, &[9]).expect("written");
        let last_page = (64 << 40) - 4096;
        assert_eq!(runs(&disk), [ByteRange::new(8192, 16_384), ByteRange::new(last_page, 64 << 40)]);
        disk.zero(ByteRange::new(9000, 14_000), Zeroing::Punch).expect("punched");
        let mut bytes = [1; 8192];
        Device::read_at(&disk, 8192, &mut bytes).expect("read");
        assert!(bytes[..5808].iter().all(|&byte| byte == 0) && bytes[5808..6808] == [7; 1000]);
        disk.set_length(14_500).expect("shortened");
        disk.set_length(20_000).expect("extended");
        assert_eq!(runs(&disk), [ByteRange::new(8192, 16_384)]);
        disk.zero(ByteRange::new(0, 20_000), Zeroing::Punch).expect("punched");
        assert_eq!(runs(&disk), []);
        disk.write_at(14_400, &[7; 100]).expect("written");
        assert_eq!(disk.to_bytes()[14_400..14_600], [[7; 100], [0; 100]].concat());
        assert!(Device::read_at(&disk, 19_999, &mut [0; 2]).is_err());
        assert_eq!(MemoryDevice::from_bytes(&disk.to_bytes()).to_bytes(), disk.duplicate().to_bytes());
    }
}
