//! VMDK: the descriptor that names a disk's files, and the layouts of those that are more than flat bytes.

pub mod descriptor;
pub mod space;
pub mod sparse;
#[cfg(test)]
mod sparse_tests;
pub mod stream;
