//! Positioned I/O on files and devices: the traits the whole product reads and writes through, and their
//! implementations over the operating system. The only crate that may hold `unsafe`.
//!
//! **Invariant**: every call is positioned and whole: it moves all bytes asked for or says at which offset it
//! failed and why.

mod device;
mod error;

pub use device::{ChangeFeed, Device, UnitSource, Zeroing};
pub use error::{DiskError, Operation};
