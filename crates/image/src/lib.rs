//! Disks as local block devices: raw files, block devices, VHD, VHDX and VMDK, all behind one trait.

mod image;
mod options;

pub use failback_blockio::Access;
pub use failback_format::vmdk::descriptor::AdapterType;
pub use image::{Image, ImageFormat, ImageIdentity, Provisioning};
pub use options::{CreateOptions, FormatName, ImageSpec, VmdkType};
