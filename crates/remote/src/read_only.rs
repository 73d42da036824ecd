//! A disk behind a network as an image that is only read.

use failback_blockio::{DiskError, Operation, UnitSource, Zeroing};
use failback_image::{Image, ImageFormat, ImageIdentity, Provisioning};
use failback_model::DiskGeometry;
use failback_model::{ByteRange, Code, Finding};
use std::path::Path;

/// What a disk behind a network is, beside its bytes.
pub trait RemoteDisk: UnitSource {
    /// Kind of server.
    fn format(&self) -> ImageFormat;

    /// Another text once its bytes are others. Secrets are no part of it.
    fn version(&self) -> String;

    /// What whoever reads it should know first.
    fn warnings(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// A disk behind a network, as an image.
#[derive(Debug)]
pub struct ReadOnly<D>(pub D);

impl<D: RemoteDisk> ReadOnly<D> {
    fn refused(&self, operation: Operation) -> DiskError {
        let reason = "a source behind a network is only read";
        DiskError::new(Code::ImageReadOnlyKind, operation, self.0.name(), reason)
    }
}

impl<D: RemoteDisk> UnitSource for ReadOnly<D> {
    fn geometry(&self) -> DiskGeometry {
        self.0.geometry()
    }

    fn name(&self) -> &Path {
        self.0.name()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.0.read_at(offset_bytes, buffer)
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.0.next_data(from_bytes)
    }

    fn read_bytes(&self) -> u64 {
        self.0.read_bytes()
    }
}

impl<D: RemoteDisk> Image for ReadOnly<D> {
    fn identity(&self) -> ImageIdentity {
        ImageIdentity {
            format: self.0.format(),
            uuid: None,
            content_id: None,
            adapter_type: None,
            files: Vec::new(),
            version: Some(self.0.version()),
        }
    }

    fn warnings(&self) -> Vec<Finding> {
        self.0.warnings()
    }

    fn provisioning(&self) -> Provisioning {
        Provisioning::Thin
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        let (mut at, mut sum) = (0, 0);
        while let Some(data) = self.0.next_data(at)? {
            sum += data.length_bytes();
            at = data.end();
        }
        Ok(sum)
    }

    fn write_at(&self, _offset_bytes: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        Err(self.refused(Operation::Write))
    }

    fn zero(&self, _range: ByteRange, _zeroing: Zeroing) -> Result<(), DiskError> {
        Err(self.refused(Operation::Zero))
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn grow(&self, _length_bytes: u64) -> Result<(), DiskError> {
        Err(self.refused(Operation::Resize))
    }

    fn close(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        Ok(Vec::new())
    }
}
