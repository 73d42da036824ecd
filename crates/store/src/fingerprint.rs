//! What an image looks like from outside, to notice that somebody else wrote to it.
//!
//! Anything that changes the bytes of a file changes its time stamps too; whoever sets them back is not noticed. A block
//! device has no times of change, so nothing about it vouches for its bytes beyond the job that has it.
//! **Invariant**: two states of an image of files that were written to in between, by the file system's means and a tick
//! of its clock apart, never have the same fingerprint; nor do those of a block device in different jobs.

use failback_blockio::{DiskError, Operation};
use failback_image::Image;
use failback_model::{Digest, Epoch};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// A text about an image's files, in 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(Digest);

impl Fingerprint {
    /// Of a text that the caller made.
    pub fn of_text(text: &str) -> Self {
        Self(Digest(*blake3::hash(text.as_bytes()).as_bytes()))
    }

    /// Of an image as a job has it: device, inode, length, times of change of its files; id, else number, of a block device,
    /// and the job's epoch.
    pub fn of_image(image: &dyn Image, epoch: Epoch) -> Result<Self, DiskError> {
        let identity = image.identity();
        let geometry = image.geometry();
        let mut text = format!("{} {}", geometry.length_bytes, identity.uuid.as_deref().unwrap_or("-"));
        for path in &identity.files {
            let stat = match fs::metadata(path) {
                Ok(stat) => stat,
                // An image without files, as in memory, has only its identity.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(DiskError::io(Operation::Open, path, None, error)),
            };
            // A device has no times of its own, those of its node say nothing about its bytes; its number may be another
            // after it was attached anew, its id not.
            let line = if stat.file_type().is_block_device() {
                let number = if identity.uuid.is_some() { 0 } else { stat.rdev() };
                write!(text, "\ndevice {number} in job {epoch}")
            } else {
                let (modified, changed) =
                    ((stat.mtime(), stat.mtime_nsec()), (stat.ctime(), stat.ctime_nsec()));
                write!(text, "\n{} {} {} {modified:?} {changed:?}", stat.dev(), stat.ino(), stat.size())
            };
            line.expect("text grows");
        }
        Ok(Self::of_text(&text))
    }

    /// As records hold it.
    pub(crate) fn digest(self) -> Digest {
        self.0
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
        assert_eq!(Fingerprint::of_image(&*image, Epoch(1)).expect("looked at"), before);
        let file = fs::File::options().write(true).open(&path).expect("opened");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(5)).expect("set");
        assert_ne!(Fingerprint::of_image(&*image, Epoch(1)).expect("looked at"), before);
    }
}
