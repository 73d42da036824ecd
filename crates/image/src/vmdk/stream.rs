//! Reading a streamOptimized extent: deflated grains behind markers, reached through grain tables.
//!
//! **Invariant**: a grain is believed only if its own marker names the place on the disk that the table gave it, its
//! checksum holds, and it inflates to no more than a grain.

use super::sparse::cache::TableCache;
use super::sparse::grains::{Presence, data_run, split};
use super::sparse::tables::Tables;
use super::sparse::{read_descriptor, read_header, refused};
use failback_blockio::{Device, DiskError, Operation, ReadPath, UnitSource};
use failback_format::vmdk::descriptor::SECTOR_BYTES;
use failback_format::vmdk::sparse::{
    FLAG_MARKERS, GrainEntry, GrainGeometry, HEADER_BYTES, SparseError, SparseHeader,
};
use failback_format::vmdk::stream::{GRAIN_MARKER_BYTES, Marker, compressed_max_bytes, inflate_grain};
use failback_model::limits::INFLATED_GRAINS_MAX;
use failback_model::{ByteRange, Code, DiskGeometry, Finding, SectorSize};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes at the end of a file in which the footer must lie; some tools pad with zeros.
const FOOTER_WITHIN_BYTES: u64 = 64 << 10;

/// A streamOptimized extent, open for reading.
#[derive(Debug)]
pub struct StreamExtent {
    device: Arc<dyn Device>,
    header: SparseHeader,
    tables: Tables,
    /// Allocated grains that each table names.
    used: Vec<u16>,
    cache: Mutex<TableCache>,
    inflated: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

impl StreamExtent {
    /// Opens an extent and checks its directory and tables; grains are checked as they are read.
    pub fn open(device: Arc<dyn Device>) -> Result<Self, DiskError> {
        let fail = |error| refused(device.path(), Operation::Open, error);
        let (_, first) = read_header(&*device, 0)?;
        if !first.is_compressed() {
            let reason = "it is a sparse extent where a streamOptimized one is named";
            return Err(DiskError::new(Code::ImageFormatDisagrees, Operation::Open, device.path(), reason));
        }
        if first.flags & FLAG_MARKERS == 0 {
            let reason = "compressed grains without markers";
            return Err(DiskError::new(Code::ImageUnsupported, Operation::Open, device.path(), reason));
        }
        let header = if first.needs_footer() { read_footer(&*device, first)? } else { first };
        let (tables, metadata) = Tables::read(&*device, header)?;
        let mut survey = tables.survey(&*device, &metadata)?;
        if !survey.faults.is_empty() {
            return Err(fail(survey.faults.remove(0)));
        }
        Ok(Self {
            device,
            header,
            tables,
            used: survey.used,
            cache: Mutex::new(TableCache::default()),
            inflated: Mutex::new(VecDeque::new()),
        })
    }

    /// Its header, or its footer where that names the directory.
    pub const fn header(&self) -> &SparseHeader {
        &self.header
    }

    /// The file.
    pub(super) const fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// The embedded descriptor's room, as it is.
    pub(super) fn read_descriptor(&self) -> Result<Vec<u8>, DiskError> {
        read_descriptor(&*self.device, &self.header)
    }

    const fn geometry_in_grains(&self) -> GrainGeometry {
        self.header.geometry
    }

    fn entry(&self, grain: u64) -> Result<GrainEntry, DiskError> {
        let (table, index) = split(grain);
        if self.used[table as usize] == 0 {
            return Ok(GrainEntry::Hole);
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.header.entry(cache.get(&self.tables, &*self.device, table)?[index]))
    }

    /// Inflates a grain that lies at `sector` of the file into `into`, which is a whole grain.
    fn inflate(&self, grain: u64, sector: u32, into: &mut [u8]) -> Result<(), DiskError> {
        let fail = |error| refused(self.device.path(), Operation::Read, error);
        let at = u64::from(sector) * SECTOR_BYTES;
        let mut first = [0; HEADER_BYTES];
        self.device.read_at(at, &mut first)?;
        let head = first.first_chunk().expect("a sector holds a marker");
        let geometry = self.geometry_in_grains();
        let size_bytes = match Marker::parse(head, at).map_err(fail)? {
            Marker::Grain { disk_sector, size_bytes } if disk_sector == grain * geometry.grain_sectors => {
                u64::from(size_bytes)
            }
            other => {
                let reason = format!("grain {grain} is expected here, the marker says {other:?}");
                return Err(fail(SparseError::damaged(at, reason)));
            }
        };
        let start = at + GRAIN_MARKER_BYTES as u64;
        if size_bytes > compressed_max_bytes(geometry) || start + size_bytes > self.device.length_bytes() {
            let reason = format!("grain {grain} of {size_bytes} compressed bytes has no room in the file");
            return Err(fail(SparseError::damaged(at + 8, reason)));
        }
        let inline = (size_bytes as usize).min(HEADER_BYTES - GRAIN_MARKER_BYTES);
        let mut packed = first[GRAIN_MARKER_BYTES..GRAIN_MARKER_BYTES + inline].to_vec();
        packed.resize(size_bytes as usize, 0);
        self.device.read_at(start + inline as u64, &mut packed[inline..])?;
        let needed = geometry.grain_range(grain).length_bytes() as usize;
        inflate_grain(&packed, into, needed, start).map_err(fail)
    }

    /// A whole grain out of the few that were inflated last.
    fn inflated(&self, grain: u64, sector: u32) -> Result<Arc<[u8]>, DiskError> {
        let lock = || self.inflated.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = lock().iter().find(|(known, _)| *known == grain) {
            return Ok(bytes.clone());
        }
        let mut bytes = vec![0; self.geometry_in_grains().grain_bytes() as usize];
        self.inflate(grain, sector, &mut bytes)?;
        let bytes: Arc<[u8]> = bytes.into();
        let mut known = lock();
        known.truncate(INFLATED_GRAINS_MAX - 1);
        known.push_front((grain, bytes.clone()));
        Ok(bytes)
    }

    /// Lets go of what is cached of it, here and by the kernel.
    pub(super) fn drop_cached(&self) -> ReadPath {
        self.inflated.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.device.drop_cached()
    }

    /// Reads every grain; one finding for each that is damaged.
    pub(super) fn check(&self) -> Result<Vec<Finding>, DiskError> {
        let geometry = self.geometry_in_grains();
        let mut bytes = vec![0; geometry.grain_bytes() as usize];
        let mut findings = Vec::new();
        for grain in 0..geometry.grain_count() {
            let GrainEntry::At(sector) = self.entry(grain)? else { continue };
            match self.inflate(grain, sector, &mut bytes) {
                Ok(()) => {}
                Err(error) if error.source.is_none() => {
                    findings.push(Finding::error(Code::ImageCheck, error.to_string()));
                    if findings.len() == failback_model::limits::IMAGE_FAULTS_MAX {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(findings)
    }
}

/// The footer, which stands for the header of a file that was written in one pass.
fn read_footer(device: &dyn Device, first: SparseHeader) -> Result<SparseHeader, DiskError> {
    let fail = |error| refused(device.path(), Operation::Open, error);
    let length_bytes = device.length_bytes() / SECTOR_BYTES * SECTOR_BYTES;
    let tail_bytes = length_bytes.min(FOOTER_WITHIN_BYTES);
    let base = length_bytes - tail_bytes;
    let mut tail = vec![0; tail_bytes as usize];
    device.read_at(base, &mut tail)?;
    let cut = || {
        let reason = "it has no footer: it was cut short, or its writer never finished";
        fail(SparseError::damaged(length_bytes, reason))
    };
    // The end-of-stream marker and any padding are zeros, so the footer is the last sector that is not.
    let last = tail.iter().rposition(|&byte| byte != 0).ok_or_else(cut)? / HEADER_BYTES * HEADER_BYTES;
    let at = base + last as u64;
    let sector = tail[last..].first_chunk().ok_or_else(cut)?;
    let has_marker = last >= HEADER_BYTES
        && tail[last - HEADER_BYTES..]
            .first_chunk()
            .is_some_and(|head| Marker::parse(head, at) == Ok(Marker::Footer));
    let has_end = length_bytes - at >= 2 * SECTOR_BYTES;
    let footer = SparseHeader::parse(sector, at).ok().filter(|_| has_marker && has_end).ok_or_else(cut)?;
    if footer.geometry != first.geometry || !footer.is_compressed() || footer.needs_footer() {
        return Err(fail(SparseError::damaged(at, "its footer and its header describe different extents")));
    }
    let SparseHeader { descriptor_sector, descriptor_sectors, .. } = first;
    Ok(SparseHeader { descriptor_sector, descriptor_sectors, ..footer })
}

impl UnitSource for StreamExtent {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.geometry_in_grains().length_bytes(), sector_size: SectorSize::B512 }
    }

    fn name(&self) -> &Path {
        self.device.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let geometry = self.geometry_in_grains();
        let range = ByteRange::at(offset_bytes, buffer.len() as u64)
            .filter(|range| range.end() <= geometry.length_bytes())
            .ok_or_else(|| {
                let reason = format!("{} bytes from {offset_bytes} pass the extent's end", buffer.len());
                DiskError::new(Code::ReadFailed, Operation::Read, self.device.path(), reason)
            })?;
        let mut rest = buffer;
        for (grain, part) in geometry.cut(range) {
            let (out, behind) = rest.split_at_mut(part.length_bytes() as usize);
            rest = behind;
            let from = (part.start() - grain * geometry.grain_bytes()) as usize;
            match self.entry(grain)? {
                GrainEntry::At(sector) if out.len() as u64 == geometry.grain_bytes() => {
                    self.inflate(grain, sector, out)?;
                }
                GrainEntry::At(sector) => {
                    out.copy_from_slice(&self.inflated(grain, sector)?[from..from + out.len()]);
                }
                GrainEntry::Hole | GrainEntry::Zero => out.fill(0),
            }
        }
        Ok(())
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        data_run(self.geometry_in_grains(), from_bytes, |grain| {
            if self.used[split(grain).0 as usize] == 0 {
                return Ok(Presence::NoneInTable);
            }
            self.entry(grain).map(Presence::of)
        })
    }
}
