//! The process server: reads the source disks beside Azure and sends what changed to master targets.

mod attempt;
mod known;

pub use attempt::{Attempt, Sent};
