//! Raw files and block devices as images, and the choice of a format by name.
//!
//! Needs root, losetup, partx, sfdisk, mkfs.ext4 and mount.

mod check;
mod device;
mod open;
mod raw;
