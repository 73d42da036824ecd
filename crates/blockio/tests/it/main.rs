//! Devices of the host as the product uses them: files, loop devices, locks of others, full file systems.
//!
//! Needs root, losetup, mount and qemu-io.

mod content;
mod fault;
mod lock;
mod read_mode;
