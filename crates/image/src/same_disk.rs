//! Whether two images are the same bytes, wholly or in part: one must not become the other's target.
//!
//! A disk and a partition of it are, a volume and what it is made of, a loop device and its file; two partitions of one
//! disk are not.
//!
//! **Invariant**: nothing is opened; what the host does not say is taken for different.

use crate::ImageIdentity;
use crate::device::host::{DeviceNumber, Host};
use rustix::fs::FileType;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Something that holds bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Medium {
    File { filesystem: u64, inode: u64 },
    Device(DeviceNumber),
}

/// What an image is made of.
#[derive(Debug, Default)]
struct Media {
    /// What it is, all of it.
    itself: BTreeSet<Medium>,
    /// That, and everything it is a part of or lies on.
    below: BTreeSet<Medium>,
}

/// Whether two images share a file or a device, or lie within each other.
pub fn same_disk(a: &ImageIdentity, b: &ImageIdentity) -> bool {
    let host = Host::this();
    let (a, b) = (Media::of(&host, a), Media::of(&host, b));
    !a.itself.is_disjoint(&b.below) || !b.itself.is_disjoint(&a.below)
}

/// Whether a path leads to a file or device that the image is made of, or lies within.
pub fn is_file_of(image: &ImageIdentity, path: &Path) -> bool {
    let named = ImageIdentity { files: vec![path.into()], ..image.clone() };
    same_disk(image, &named)
}

impl Media {
    fn of(host: &Host, image: &ImageIdentity) -> Self {
        let mut media = Self::default();
        for medium in image.files.iter().filter_map(|path| Medium::at(path)) {
            media.itself.insert(medium);
            media.below.insert(medium);
            let Medium::Device(device) = medium else { continue };
            for below in host.foundations(device) {
                media.below.insert(Medium::Device(below));
                let Some(backing) = host.loop_backing(below) else { continue };
                let Some(file) = Medium::at(&backing.file) else { continue };
                media.below.insert(file);
                // Two loop devices over one file are each other; over two parts of it they are not.
                if below == device && backing.is_whole {
                    media.itself.insert(file);
                }
            }
        }
        media
    }
}

impl Medium {
    fn at(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let is_device = FileType::from_raw_mode(metadata.mode()) == FileType::BlockDevice;
        Some(match is_device {
            true => Self::Device(DeviceNumber(metadata.rdev())),
            false => Self::File { filesystem: metadata.dev(), inode: metadata.ino() },
        })
    }
}
