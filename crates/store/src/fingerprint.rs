//! What an image looks like from outside, to notice that somebody else wrote to it.
//!
//! Anything that changes the bytes of a file changes its time stamps too; whoever sets them back is not noticed. A block
//! device has no times of change, so nothing about it vouches for its bytes beyond the job that has it.
//! **Invariant**: two states of an image of files that were written to in between, by the file system's means and a tick
//! of its clock apart, never have the same fingerprint; nor do those of a block device in different jobs.

use crate::look::look_at;
use failback_blockio::{DiskError, Operation};
use failback_image::{Image, ImageFormat};
use failback_model::limits::LOOK_MAX_BYTES;
use failback_model::{Digest, Epoch};
use std::fs;
use std::sync::Arc;

/// A text about an image's files; what is kept of it has 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(Arc<str>);

impl Fingerprint {
    /// Of a text that the caller made.
    pub fn of_text(text: &str) -> Self {
        Self(text.into())
    }

    /// Of an image as a job has it: device, inode, length, times of change of its files; id, else number, of a block device,
    /// and the job's epoch.
    pub fn of_image(image: &dyn Image, epoch: Epoch) -> Result<Self, DiskError> {
        Ok(Self(look_at(image, epoch)?.into()))
    }

    /// Of a source as a cycle of a job has it. A page blob vouches for its bytes by itself (ETag and snapshot), a file by its times,
    /// unless it is `retaken` for each cycle: those of a file in a snapshot of its file system may be older than its bytes.
    /// A device or an export has none. What does not vouch is another source in each cycle.
    pub fn of_source(source: &dyn Image, epoch: Epoch, cycle: u64, retaken: bool) -> Result<Self, DiskError> {
        let mut text = look_at(source, epoch)?;
        let vouches = match source.identity().format {
            ImageFormat::PageBlob => true,
            ImageFormat::Device | ImageFormat::Nbd => false,
            _ => !retaken,
        };
        if !vouches {
            text += &format!("cycle {epoch} {cycle}\n");
        }
        Ok(Self(text.into()))
    }

    /// The same of an image that nobody writes to, once its files' times are durable: a power cut must not take them back, or it
    /// would pass for somebody who wrote to them.
    pub fn of_settled_image(image: &dyn Image, epoch: Epoch) -> Result<Self, DiskError> {
        for path in &image.identity().files {
            let failed = |error| DiskError::io(Operation::Flush, path, None, error);
            match fs::File::open(path) {
                Ok(file) => file.sync_all().map_err(failed)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Self::of_image(image, epoch)
    }

    /// As records hold it.
    pub(crate) fn digest(&self) -> Digest {
        Digest(*blake3::hash(self.0.as_bytes()).as_bytes())
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// As many whole lines of the text as are kept.
    pub(crate) fn look(&self) -> String {
        let mut kept = String::new();
        for line in self.0.split_inclusive('\n') {
            if kept.len() + line.len() > LOOK_MAX_BYTES {
                break;
            }
            kept += line;
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_image::{Access, ImageSpec};
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_write_from_outside_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk.raw");
        fs::write(&path, [7; 8192]).expect("written");
        let image = failback_image::open(&ImageSpec::parse(&path), Access::Read).expect("opened");
        let before = Fingerprint::of_image(&*image, Epoch(1)).expect("looked at");
        assert_eq!(Fingerprint::of_settled_image(&*image, Epoch(1)).expect("looked at"), before);
        let file = fs::File::options().write(true).open(&path).expect("opened");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(5)).expect("set");
        assert_ne!(Fingerprint::of_image(&*image, Epoch(1)).expect("looked at"), before);
    }

    #[test]
    fn what_is_kept_is_whole_lines() {
        let line = "x".repeat(LOOK_MAX_BYTES / 3) + "\n";
        assert_eq!(Fingerprint::of_text(&line.repeat(2)).look(), line.repeat(2));
        assert_eq!(Fingerprint::of_text(&line.repeat(3)).look(), line.repeat(2));
    }
}
