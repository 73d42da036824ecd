//! Flat extents: a run of bytes of a file, and runs that have no file and read as zero.
//!
//! **Invariant**: a flat extent's whole run lies within its file when it is opened; a shorter file is damage, never
//! zeros.

use super::extent::ExtentStore;
use crate::Provisioning;
use crate::provision::{provision, zero_flat};
use failback_blockio::{Device, DiskError, Operation, ReadPath, Zeroing};
use failback_model::{ByteRange, Code};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of a file that are an extent.
#[derive(Debug)]
pub(crate) struct FlatExtent {
    device: Arc<dyn Device>,
    file: ByteRange,
    provisioning: Provisioning,
}

impl FlatExtent {
    /// The bytes `file` of a device.
    pub(crate) fn new(
        device: Arc<dyn Device>,
        file: ByteRange,
        provisioning: Provisioning,
    ) -> Result<Self, DiskError> {
        let length_bytes = device.length_bytes();
        if file.end() > length_bytes {
            let reason = format!(
                "the descriptor places bytes {file:?} in it, it has {length_bytes}: it was cut short or is not yet whole"
            );
            return Err(DiskError::new(Code::ImageDamaged, Operation::Open, device.path(), reason));
        }
        Ok(Self { device, file, provisioning })
    }

    fn in_file(&self, range: ByteRange) -> ByteRange {
        ByteRange::new(self.file.start() + range.start(), self.file.start() + range.end())
    }
}

impl ExtentStore for FlatExtent {
    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.device.read_at(self.file.start() + offset_bytes, buffer)
    }

    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        self.device.write_vectored_at(self.file.start() + offset_bytes, parts)
    }

    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError> {
        zero_flat(self.device.as_ref(), self.in_file(range), zeroing, self.provisioning)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        let found = self.device.next_data(self.file.start() + from_bytes)?;
        let run = found.and_then(|run| run.intersection(self.file));
        Ok(run.map(|run| ByteRange::new(run.start() - self.file.start(), run.end() - self.file.start())))
    }

    fn drop_cached(&self) -> ReadPath {
        self.device.drop_cached()
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.device.sync()
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        if self.file == ByteRange::new(0, self.device.length_bytes()) {
            return self.device.allocated_bytes();
        }
        // A part of a file: its holes are all that can be told apart.
        let (mut at, mut sum_bytes) = (0, 0);
        while let Some(run) = self.next_data(at)? {
            sum_bytes += run.length_bytes();
            at = run.end();
        }
        Ok(sum_bytes)
    }

    fn lengthened(&self, length_bytes: u64) -> Result<Option<Arc<dyn ExtentStore>>, DiskError> {
        let (file_end, new_end) = (self.device.length_bytes(), self.file.start() + length_bytes);
        if file_end > self.file.end() {
            // Bytes behind the run belonged to nobody; now the guest would see them.
            let behind = ByteRange::new(self.file.end(), file_end.min(new_end));
            zero_flat(self.device.as_ref(), behind, Zeroing::Punch, self.provisioning)?;
        }
        if new_end > file_end {
            self.device.set_length(new_end)?;
            let added = ByteRange::new(file_end, new_end);
            provision(self.device.as_ref(), added, self.provisioning, &|| false).inspect_err(|_| {
                // Back to what it was; the error that is returned says why it had to be.
                let _shortened = self.device.set_length(file_end);
            })?;
        }
        let file = ByteRange::new(self.file.start(), new_end);
        Ok(Some(Arc::new(Self::new(self.device.clone(), file, self.provisioning)?)))
    }
}

/// An extent without a file.
#[derive(Debug)]
pub(crate) struct ZeroExtent {
    /// The descriptor, for messages.
    pub(crate) descriptor: PathBuf,
}

impl ZeroExtent {
    fn refused(&self, operation: Operation) -> DiskError {
        let reason = "these bytes are a ZERO extent, there is no file to hold data";
        DiskError::new(Code::ImageReadOnlyKind, operation, &self.descriptor, reason)
    }
}

impl ExtentStore for ZeroExtent {
    fn read_at(&self, _offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        buffer.fill(0);
        Ok(())
    }

    fn write_vectored_at(&self, _offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        if parts.iter().all(|part| failback_model::is_zero(part)) {
            return Ok(());
        }
        Err(self.refused(Operation::Write))
    }

    fn zero(&self, _range: ByteRange, _zeroing: Zeroing) -> Result<(), DiskError> {
        Ok(())
    }

    fn next_data(&self, _from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        Ok(None)
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        Ok(0)
    }

    fn holds_data(&self) -> bool {
        false
    }
}
