//! Reading and writing through the map of grains.
//!
//! **Invariant**: the map is held only while places are looked up or handed out, never while data moves.

use super::SparseExtent;
use super::grains::{Presence, Run, data_run, split};
use super::tables::{Tables, read_header};
use crate::vmdk::extent::ExtentStore;
use crate::vmdk::parts::Parts;
use failback_blockio::{DiskError, Operation, ReadPath, UnitSource, Zeroing};
use failback_format::vmdk::sparse::SparseError;
use failback_model::{ByteRange, Code, DiskGeometry, Finding, Place, SectorSize};
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

impl UnitSource for SparseExtent {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.geometry_in_grains().length_bytes(), sector_size: SectorSize::B512 }
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
        let mut grains = self.lock();
        data_run(self.geometry_in_grains(), from_bytes, |grain| {
            if grains.used[split(grain).0 as usize] == 0 {
                return Ok(Presence::NoneInTable);
            }
            grains.entry(self, grain).map(Presence::of)
        })
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

    fn drop_cached(&self) -> ReadPath {
        self.device.drop_cached()
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

    fn warnings(&self) -> Vec<Finding> {
        let is_ours = self.is_marked.load(Ordering::Acquire);
        (self.header.unclean && !is_ours).then(|| unclean(self.device.path())).into_iter().collect()
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        ExtentStore::flush(self)?;
        let (_, header) = read_header(&*self.device, 0)?;
        let (tables, metadata) = Tables::read(&*self.device, header)?;
        let survey = tables.survey(&*self.device, &metadata)?;
        let path = self.device.path().display();
        let fault = |fault: &dyn std::fmt::Display| format!("{path}: {fault}");
        let mut findings: Vec<_> =
            survey.faults.into_iter().map(|error| check_finding(self.device.path(), error)).collect();
        for table in survey.differing {
            let at = tables.entry_offset(table, 0);
            let text = fault(&format!("byte {at}: the two copies of grain table {table} differ"));
            findings.push(Finding::warning(Code::ImageCheck, text));
        }
        if header.unclean && !self.is_marked.load(Ordering::Acquire) {
            findings.push(unclean(self.device.path()));
        }
        Ok(findings)
    }
}

/// Whoever wrote it last did not come to its end.
fn unclean(path: &Path) -> Finding {
    let evidence = format!("{}: it was not closed cleanly", path.display());
    Finding::warning(Code::ImageUnclean, evidence).about(path)
}

fn check_finding(path: &Path, error: SparseError) -> Finding {
    let evidence = format!("{}: {error}", path.display());
    Finding::error(Code::ImageCheck, evidence).with_place(Place {
        operation: None,
        path: Some(path.into()),
        offset_bytes: Some(error.offset_bytes),
        reason: Some(error.reason),
    })
}
