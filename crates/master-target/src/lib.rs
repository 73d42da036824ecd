//! The master target: receives disks on the site, journals and writes them.

mod reception;
mod target;

pub use reception::{Reception, Registry, Session};
pub use target::TargetDisk;
