//! What every image can do.
//!
//! **Invariant**: `flush` is ordered: data and the file's extension become durable before any metadata that makes
//! them reachable. An image that was never written to is never changed, not even its descriptor.

use failback_blockio::{DiskError, ReadPath, UnitSource, Zeroing};
use failback_model::{ByteRange, Finding};

/// Container of a disk's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// A file that is the disk, byte for byte.
    Raw,
    /// A block device of this host.
    Device,
    /// VHD with a footer behind the data.
    VhdFixed,
    /// VHD with a block allocation table.
    VhdDynamic,
    /// VHDX; read only.
    Vhdx,
    /// VMDK: descriptor and `-flat.vmdk`, as ESXi keeps it on VMFS.
    VmdkVmfs,
    /// VMDK of hosted products: descriptor and one flat file.
    VmdkMonolithicFlat,
    /// VMDK of hosted products: descriptor and flat files of 2 GiB.
    VmdkTwoGbMaxExtentFlat,
    /// VMDK: one sparse file with an embedded descriptor.
    VmdkMonolithicSparse,
    /// VMDK: descriptor and sparse files of 2 GiB.
    VmdkTwoGbMaxExtentSparse,
    /// VMDK: compressed grains in one pass; not writable in place.
    VmdkStreamOptimized,
    /// An export of an NBD server; read only.
    Nbd,
    /// A page blob of Azure, or a snapshot of one; read only.
    PageBlob,
}

impl ImageFormat {
    /// The name used on the command line and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Device => "device",
            Self::VhdFixed => "vhd-fixed",
            Self::VhdDynamic => "vhd-dynamic",
            Self::Vhdx => "vhdx",
            Self::VmdkVmfs => "vmfs",
            Self::VmdkMonolithicFlat => "monolithicFlat",
            Self::VmdkTwoGbMaxExtentFlat => "twoGbMaxExtentFlat",
            Self::VmdkMonolithicSparse => "monolithicSparse",
            Self::VmdkTwoGbMaxExtentSparse => "twoGbMaxExtentSparse",
            Self::VmdkStreamOptimized => "streamOptimized",
            Self::Nbd => "nbd",
            Self::PageBlob => "page-blob",
        }
    }
}

/// How an image takes space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// Space is taken when it is written; zeros give it back.
    Thin,
    /// All space is reserved, zeroed when first written (lazily).
    Thick,
    /// All space is reserved and zeroed.
    Eager,
}

impl Provisioning {
    /// The name used on the command line and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Thin => "thin",
            Self::Thick => "thick",
            Self::Eager => "eager",
        }
    }
}

/// Who an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIdentity {
    /// Container.
    pub format: ImageFormat,
    /// `ddb.uuid` of a VMDK, unique id of a VHD, WWID of a device: as its format writes it.
    pub uuid: Option<String>,
    /// Content id (`CID`) of a VMDK.
    pub content_id: Option<u32>,
    /// `ddb.adapterType` of a VMDK.
    pub adapter_type: Option<String>,
    /// Every file it is made of, the one it was opened by first; none of a disk behind a network.
    pub files: Vec<std::path::PathBuf>,
    /// Of a disk behind a network: another text once its bytes are others, such as a snapshot's time and the ETag.
    pub version: Option<String>,
}

/// A disk image or device that was opened, read-only or for writing.
///
/// Calls may come from several threads at once; writes that overlap are the caller's to order.
pub trait Image: UnitSource {
    /// Who it is.
    fn identity(&self) -> ImageIdentity;

    /// What whoever reads or, where it was opened for writing, overwrites its contents should know first.
    fn warnings(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Runs of the disk that read as zero and can hold nothing else, in order: writing data there would fail.
    fn unwritable_ranges(&self) -> Vec<ByteRange> {
        Vec::new()
    }

    /// How it takes space.
    fn provisioning(&self) -> Provisioning;

    /// Bytes its files take on their medium.
    fn allocated_bytes(&self) -> Result<u64, DiskError>;

    /// Writes all of `bytes` at `offset_bytes` of the disk. The first write of a pass changes what the format wants
    /// changed once (a VMDK's CID). An image opened read-only refuses.
    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Writes `parts` one behind the other from `offset_bytes` of the disk.
    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        let mut at = offset_bytes;
        for part in parts {
            self.write_at(at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Makes these bytes of the disk read as zero.
    fn zero(&self, range: ByteRange, zeroing: Zeroing) -> Result<(), DiskError>;

    /// Lets go of what the kernel caches of this image, so that the next reads come from the medium; says whether they do.
    fn drop_cached(&self) -> ReadPath {
        ReadPath::Cached
    }

    /// Ordered flush: data and extension, then metadata, each durable before the next. After one failure every
    /// further call on this image fails until it is opened anew.
    fn flush(&self) -> Result<(), DiskError>;

    /// Why the disk cannot be extended to this length, asked before anything is written; by its kind, unless an image
    /// knows more about itself.
    fn check_grow(&self, length_bytes: u64) -> Result<(), DiskError> {
        crate::check_grow::by_kind(self, length_bytes)
    }

    /// Extends the disk; a device refuses and names the size to extend it to.
    fn grow(&self, length_bytes: u64) -> Result<(), DiskError>;

    /// Flushes and marks the image as closed cleanly. Without it, the image is as after a power cut.
    fn close(&self) -> Result<(), DiskError>;

    /// Looks through the image's own metadata; one finding for each fault, none for a sound image.
    fn check(&self) -> Result<Vec<Finding>, DiskError>;
}
