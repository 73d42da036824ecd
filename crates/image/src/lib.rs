//! Disks as local block devices: raw files, block devices, VHD, VHDX and VMDK, all behind one trait.

mod check;
mod check_create;
mod check_grow;
mod device;
mod disk_uuid;
mod encryption;
mod image;
mod open;
mod options;
mod provision;
mod raw;
mod same_disk;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;

pub use check::{Checked, check};
pub use check_create::{check_create, check_new_file};
pub use device::DeviceImage;
pub use disk_uuid::{DiskUuid, NoDiskUuid};
pub use encryption::encryption;
pub use failback_blockio::Access;
pub use failback_format::vmdk::descriptor::AdapterType;
pub use image::{Image, ImageFormat, ImageIdentity, Provisioning};
pub use open::{create, create_unless, exists, open};
pub use options::{CreateOptions, FormatName, ImageSpec, VmdkType};
pub use raw::RawImage;
pub use same_disk::{is_file_of, same_disk};
