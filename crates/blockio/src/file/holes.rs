//! Where a file's data lies.
//!
//! **Invariant**: what is not named reads as zero. Where the file system cannot tell, or the file changed its length
//! meanwhile, everything is named.

use super::FileDevice;
use crate::{Device, DiskError, Operation};
use failback_model::ByteRange;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

impl FileDevice {
    pub(super) fn next_data_run(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        let length_bytes = self.length_bytes();
        if from_bytes >= length_bytes {
            return Ok(None);
        }
        let all = ByteRange::new(from_bytes, length_bytes);
        let fail = |errno| self.fail(Operation::Seek, from_bytes, errno);
        let start = match self.seek(SeekFrom::Data(from_bytes)) {
            Ok(Some(start)) => start,
            // Nothing but a hole up to the end; but a file that was shortened must not pass for zeros.
            Ok(None) => return if self.ends_early()? { Ok(Some(all)) } else { Ok(None) },
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOTTY) => return Ok(Some(all)),
            Err(errno) => return Err(fail(errno)),
        };
        if start >= length_bytes {
            return Ok(None);
        }
        let end = self.seek(SeekFrom::Hole(start)).map_err(fail)?.unwrap_or(length_bytes);
        // A shortened file ends in a "hole" here too; the data run is cut there and the next call finds out.
        Ok(Some(ByteRange::new(start, end.max(start + 1).min(length_bytes))))
    }

    /// Offset of the next data or hole; `None` where there is none before the end.
    fn seek(&self, to: SeekFrom) -> Result<Option<u64>, Errno> {
        match rustix::io::retry_on_intr(|| rustix::fs::seek(&self.file, to)) {
            Ok(offset) => Ok(Some(offset)),
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether the file is shorter now than it was when it was opened.
    fn ends_early(&self) -> Result<bool, DiskError> {
        if self.is_block_device() {
            return Ok(false);
        }
        let stat = rustix::fs::fstat(&self.file).map_err(|errno| self.fail(Operation::Seek, None, errno))?;
        Ok((stat.st_size as u64) < self.length_bytes())
    }
}
