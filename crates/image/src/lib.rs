//! Disks as local block devices: raw files, block devices, VHD, VHDX and VMDK, all behind one trait.

mod image;

pub use image::{Image, ImageFormat, ImageIdentity, Provisioning};
