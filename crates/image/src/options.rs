//! What a user says about an image: its path with an optional format, and how a new one is to be.
//!
//! **Invariant**: the format comes from what the user wrote (a prefix or the extension), never from the content; the
//! content may only contradict it.

use crate::{DiskUuid, Provisioning};
use failback_format::vmdk::descriptor::AdapterType;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A family of formats, as a prefix or an extension names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatName {
    /// The file is the disk.
    Raw,
    /// VMDK of any kind.
    Vmdk,
    /// VHD, fixed or dynamic.
    Vhd,
    /// VHDX.
    Vhdx,
    /// A block device.
    Device,
}

impl FormatName {
    const ALL: [Self; 5] = [Self::Raw, Self::Vmdk, Self::Vhd, Self::Vhdx, Self::Device];

    /// The prefix that names it, without the colon.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Device => "dev",
        }
    }

    /// What a file of this extension is; case does not matter.
    pub fn from_extension(extension: &OsStr) -> Option<Self> {
        match extension.to_ascii_lowercase().as_bytes() {
            b"raw" | b"img" | b"bin" => Some(Self::Raw),
            b"vmdk" => Some(Self::Vmdk),
            b"vhd" => Some(Self::Vhd),
            b"vhdx" => Some(Self::Vhdx),
            _ => None,
        }
    }
}

/// An image as the user names it: `PATH` or `FORMAT:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSpec {
    /// Where it lies.
    pub path: PathBuf,
    /// The format, where a prefix names it.
    pub format: Option<FormatName>,
}

impl ImageSpec {
    /// Splits a known prefix off. A file whose name begins like a prefix is named `./raw:x`.
    pub fn parse(text: impl AsRef<OsStr>) -> Self {
        let bytes = text.as_ref().as_bytes();
        for format in FormatName::ALL {
            let rest =
                bytes.strip_prefix(format.prefix().as_bytes()).and_then(|rest| rest.strip_prefix(b":"));
            if let Some(rest) = rest {
                return Self { path: OsString::from_vec(rest.to_vec()).into(), format: Some(format) };
            }
        }
        Self { path: text.as_ref().into(), format: None }
    }

    /// The format by prefix or extension; a block device is for [`crate::open`] to recognise.
    pub fn format_by_name(&self) -> Option<FormatName> {
        self.format.or_else(|| self.path.extension().and_then(FormatName::from_extension))
    }
}

impl<T: AsRef<OsStr>> From<T> for ImageSpec {
    fn from(text: T) -> Self {
        Self::parse(text)
    }
}

/// Kind of a VMDK to create. Thin, thick or eager is the provisioning's to say: `Vmfs` and thin is what ESXi calls
/// `vmfsThin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VmdkType {
    /// Descriptor and `-flat.vmdk`, as on a datastore.
    #[default]
    Vmfs,
    /// Descriptor and one flat file, for hosted products.
    MonolithicFlat,
    /// Descriptor and flat files of 2 GiB.
    TwoGbMaxExtentFlat,
    /// One sparse file.
    MonolithicSparse,
    /// Descriptor and sparse files of 2 GiB.
    TwoGbMaxExtentSparse,
    /// One compressed file, written in one pass.
    StreamOptimized,
}

impl VmdkType {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Vmfs,
        Self::MonolithicFlat,
        Self::TwoGbMaxExtentFlat,
        Self::MonolithicSparse,
        Self::TwoGbMaxExtentSparse,
        Self::StreamOptimized,
    ];

    /// The name used on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vmfs => "vmfs",
            Self::MonolithicFlat => "monolithicFlat",
            Self::TwoGbMaxExtentFlat => "twoGbMaxExtentFlat",
            Self::MonolithicSparse => "monolithicSparse",
            Self::TwoGbMaxExtentSparse => "twoGbMaxExtentSparse",
            Self::StreamOptimized => "streamOptimized",
        }
    }
}

/// How a new image is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOptions {
    /// Length of the disk as the guest will see it.
    pub length_bytes: u64,
    /// How it takes space; where none is chosen, thin.
    pub provisioning: Option<Provisioning>,
    /// Kind of VMDK; ignored by other formats.
    pub vmdk_type: VmdkType,
    /// Controller that a VMDK's descriptor names.
    pub adapter_type: AdapterType,
    /// Identity of the disk; where none is given, a fresh one. Raw files have none.
    pub uuid: Option<DiskUuid>,
}

impl CreateOptions {
    /// A disk of this length with everything else as by default.
    pub fn new(length_bytes: u64) -> Self {
        Self {
            length_bytes,
            provisioning: None,
            vmdk_type: VmdkType::default(),
            adapter_type: AdapterType::default(),
            uuid: None,
        }
    }

    /// How it takes space.
    pub fn provisioning(&self) -> Provisioning {
        self.provisioning.unwrap_or(Provisioning::Thin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_prefix_wins_over_the_extension() {
        let cases = [
            ("disk.vmdk", "disk.vmdk", Some(FormatName::Vmdk)),
            ("raw:disk.vmdk", "disk.vmdk", Some(FormatName::Raw)),
            ("vhd:disk", "disk", Some(FormatName::Vhd)),
            ("vhdx:disk.vhd", "disk.vhd", Some(FormatName::Vhdx)),
            ("dev:/dev/sdb", "/dev/sdb", Some(FormatName::Device)),
            ("DISK.IMG", "DISK.IMG", Some(FormatName::Raw)),
            ("./raw:x", "./raw:x", None),
            ("qcow2:x", "qcow2:x", None),
            ("disk.vmdk.old", "disk.vmdk.old", None),
            ("", "", None),
        ];
        for (text, path, format) in cases {
            let spec = ImageSpec::parse(text);
            assert_eq!((spec.path.as_path(), spec.format_by_name()), (Path::new(path), format), "{text}");
        }
    }
}
