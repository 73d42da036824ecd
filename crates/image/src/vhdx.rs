//! VHDX for reading, after "MS-VHDX" 5.0, through the `vhdx-core` crate.
//!
//! **Invariant**: the crate allocates and reads only what was bounded here. It would replay logs and allocate regions by
//! sizes that a file names; so its parsers of headers and region tables, which allocate nothing of the kind, are asked
//! about the first 320 KiB, and an image with a log or with absurd regions is refused before its reader sees it. The
//! bytes that were judged are the bytes that the reader then parses.

mod blocks;
mod reader;

use crate::{Image, ImageFormat, ImageIdentity, Provisioning};
use ::vhdx::header::{REGION_TABLE1_OFFSET, REGION_TABLE2_OFFSET, parse_active_header};
use ::vhdx::metadata::{VhdxMetadata, parse_metadata};
use ::vhdx::region::{RegionTable, parse_region_table};
use ::vhdx::{VhdxError, VhdxReader};
use blocks::BlockMap;
use failback_blockio::{Access, Device, DiskError, FileDevice, Operation, UnitSource, Zeroing};
use failback_model::{ByteRange, Code, DiskGeometry, Finding, SectorSize};
use reader::DeviceReader;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Identifier, headers and region tables: the front of every VHDX.
const HEAD_BYTES: u64 = 0x5_0000;
/// Hyper-V and qemu make 1 MiB.
const METADATA_MAX_BYTES: u32 = 16 << 20;
/// Enough for 64 TiB in blocks of 8 MiB; Hyper-V and qemu choose larger ones for disks of that size.
const TABLE_MAX_BYTES: u32 = 64 << 20;

/// Opens an existing VHDX for reading and locks it.
pub fn open(path: &Path, access: Access) -> Result<Arc<dyn Image>, DiskError> {
    if access == Access::Write {
        return Err(read_only(path, Operation::Open));
    }
    let device = FileDevice::open_file(path, access)?;
    device.lock()?;
    over(Arc::new(device))
}

/// The disk that these bytes hold, whatever carries them.
pub fn over(device: Arc<dyn Device>) -> Result<Arc<dyn Image>, DiskError> {
    let path = device.path();
    let head = judged_head(device.as_ref())?;
    let regions = region_table(&head, device.length_bytes()).map_err(|error| damaged(path, error))?;
    require_bounded(path, &regions)?;
    let metadata = read_metadata(device.as_ref(), &regions)?;
    let table = ByteRange::at(regions.bat.file_offset, u64::from(regions.bat.length));
    let blocks = table.and_then(|table| BlockMap::new(&metadata, table)).ok_or_else(|| {
        let reason = "its block allocation table is too short for its disk";
        DiskError::new(Code::ImageDamaged, Operation::Open, path, reason).at(regions.bat.file_offset)
    })?;
    let sector_size = SectorSize::new(u64::from(metadata.logical_sector_size));
    let sector_size = sector_size
        .map_err(|error| DiskError::new(Code::ImageUnsupported, Operation::Open, path, error.to_string()))?;
    let reader = VhdxReader::open_reader(Box::new(DeviceReader::new(device.clone(), head)));
    let reader = reader.map_err(|error| damaged(path, error))?;
    let geometry = DiskGeometry { length_bytes: metadata.virtual_disk_size, sector_size };
    Ok(Arc::new(Vhdx { device, geometry, blocks, reader: Mutex::new(reader) }))
}

/// The front of the file, if no log waits in it.
fn judged_head(device: &dyn Device) -> Result<Vec<u8>, DiskError> {
    let mut head = vec![0; device.length_bytes().min(HEAD_BYTES) as usize];
    device.read_at(0, &mut head)?;
    let header = parse_active_header(&head).map_err(|error| damaged(device.path(), error))?;
    if header.log_guid == [0; 16] {
        return Ok(head);
    }
    let reason = "its log holds changes that were not applied";
    let error = DiskError::new(Code::ImageUnclean, Operation::Open, device.path(), reason);
    let remedy =
        "have them applied by opening it once where it was made, or by 'qemu-img check -r all' on a copy";
    Err(error.at(header.log_offset).with_remedy(remedy))
}

/// The first region table that is sound, as the crate chooses it.
fn region_table(head: &[u8], file_bytes: u64) -> Result<RegionTable, VhdxError> {
    parse_region_table(head, REGION_TABLE1_OFFSET as usize, file_bytes)
        .or_else(|_| parse_region_table(head, REGION_TABLE2_OFFSET as usize, file_bytes))
}

fn require_bounded(path: &Path, regions: &RegionTable) -> Result<(), DiskError> {
    let parts = [
        ("metadata", &regions.metadata, METADATA_MAX_BYTES),
        ("block allocation table", &regions.bat, TABLE_MAX_BYTES),
    ];
    for (what, region, max_bytes) in parts {
        if region.length > max_bytes {
            let reason = format!("its {what} has {} bytes, more than {max_bytes}", region.length);
            let error = DiskError::new(Code::ImageUnsupported, Operation::Open, path, reason);
            return Err(error.at(region.file_offset));
        }
    }
    Ok(())
}

fn read_metadata(device: &dyn Device, regions: &RegionTable) -> Result<VhdxMetadata, DiskError> {
    let mut bytes = vec![0; regions.metadata.length as usize];
    device.read_at(regions.metadata.file_offset, &mut bytes)?;
    let metadata = parse_metadata(&bytes, 0, regions.metadata.length)
        .and_then(|metadata| metadata.validate().map(|()| metadata))
        .map_err(|error| damaged(device.path(), error).at(regions.metadata.file_offset))?;
    if metadata.has_parent {
        let reason = "it is a differencing VHDX, whose parent holds the rest of the disk";
        return Err(DiskError::new(Code::ImageUnsupported, Operation::Open, device.path(), reason));
    }
    Ok(metadata)
}

fn damaged(path: &Path, error: VhdxError) -> DiskError {
    match error {
        VhdxError::Io(error) => unpacked(Operation::Open, path, None, error),
        other => DiskError::new(Code::ImageDamaged, Operation::Open, path, other.to_string()),
    }
}

/// The device's own error if one came through the crate, else the crate's: a fault of the image.
fn unpacked(operation: Operation, path: &Path, offset_bytes: Option<u64>, error: io::Error) -> DiskError {
    match error.downcast::<DiskError>() {
        Ok(error) => error,
        Err(error) => {
            let reason = error.to_string();
            DiskError { offset_bytes, ..DiskError::new(Code::ImageDamaged, operation, path, reason) }
        }
    }
}

fn read_only(path: &Path, operation: Operation) -> DiskError {
    let reason = "a VHDX is only read here";
    DiskError::new(Code::ImageReadOnlyKind, operation, path, reason)
}

/// A VHDX, for reading. The crate's reader has a position, so readers take turns.
#[derive(Debug)]
struct Vhdx {
    device: Arc<dyn Device>,
    geometry: DiskGeometry,
    blocks: BlockMap,
    reader: Mutex<VhdxReader>,
}

impl UnitSource for Vhdx {
    fn geometry(&self) -> DiskGeometry {
        self.geometry
    }

    fn name(&self) -> &Path {
        self.device.path()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let end = self.geometry.length_bytes;
        if ByteRange::at(offset_bytes, buffer.len() as u64).is_none_or(|range| range.end() > end) {
            let reason = format!("{} bytes pass the disk's end at {end}", buffer.len());
            return Err(
                DiskError::new(Code::ReadFailed, Operation::Read, self.name(), reason).at(offset_bytes)
            );
        }
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader
            .seek(SeekFrom::Start(offset_bytes))
            .and_then(|_| reader.read_exact(buffer))
            .map_err(|error| unpacked(Operation::Read, self.name(), Some(offset_bytes), error))
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.blocks.next_data(self.device.as_ref(), from_bytes)
    }
}

impl Image for Vhdx {
    fn identity(&self) -> ImageIdentity {
        ImageIdentity {
            format: ImageFormat::Vhdx,
            uuid: None,
            content_id: None,
            adapter_type: None,
            files: vec![self.name().into()],
            version: None,
        }
    }

    fn provisioning(&self) -> Provisioning {
        Provisioning::Thin
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.device.allocated_bytes()
    }

    fn write_at(&self, _offset_bytes: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        Err(read_only(self.name(), Operation::Write))
    }

    fn zero(&self, _range: ByteRange, _zeroing: Zeroing) -> Result<(), DiskError> {
        Err(read_only(self.name(), Operation::Zero))
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn grow(&self, _length_bytes: u64) -> Result<(), DiskError> {
        Err(read_only(self.name(), Operation::Resize))
    }

    fn close(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        self.blocks.check(self.device.as_ref())
    }
}
