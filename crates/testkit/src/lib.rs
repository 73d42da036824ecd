//! Support for tests and measurements: what they run on, made from seeds. Only ever a dev-dependency.

mod daemon;
mod disk;
mod document;
mod faulty;
mod host;
mod memory;
mod random;
#[cfg(feature = "tls")]
mod tls;

pub use daemon::{DaemonEnd, DaemonProcess};
pub use disk::{Content, GeneratedDisk, Mutation};
pub use document::{assert_part, repository};
pub use faulty::{Call, Damage, Fault, Faulty, FaultyDevice, When};
pub use host::{LoopDevice, Mounted, reopen, run, sparse_file};
pub use memory::{MemoryDevice, MemorySource};
pub use random::Random;
#[cfg(feature = "tls")]
pub use tls::trusting_client;
