//! Support for tests and measurements: what they run on, made from seeds. Only ever a dev-dependency.

#[cfg(feature = "arm")]
mod arm;
mod asked;
#[cfg(feature = "blobs")]
mod azurite;
#[cfg(feature = "blobs")]
mod blobs;
mod daemon;
mod disk;
mod document;
mod faulty;
mod host;
mod logged_file_system;
mod memory;
mod nbd_server;
mod power_cut;
mod random;
mod storage_daemon;
#[cfg(feature = "tls")]
mod tls;
mod write_log;

#[cfg(all(feature = "arm", feature = "blobs"))]
pub use arm::ArmServer;
#[cfg(feature = "arm")]
pub use arm::{ArmReply, FakeArm};
pub use asked::asked;
#[cfg(feature = "blobs")]
pub use azurite::Azurite;
#[cfg(feature = "blobs")]
pub use blobs::{BlobDisk, BlobFault, BlobServer};
pub use daemon::{DaemonEnd, DaemonProcess};
pub use disk::{Content, GeneratedDisk, Mutation};
pub use document::{assert_part, repository};
pub use faulty::{Call, Calls, Damage, Fault, Faulty, FaultyDevice, When};
pub use host::{LoopDevice, Mounted, reopen, run, sparse_file};
pub use logged_file_system::{CutFileSystem, LoggedDisk, LoggedFileSystem};
pub use memory::{MemoryDevice, MemorySource};
pub use nbd_server::{NbdServer, nbd_socket};
pub use power_cut::leave;
pub use random::Random;
pub use storage_daemon::ServedFile;
#[cfg(feature = "tls")]
pub use tls::trusting_client;
pub use write_log::{WriteLog, flushed_entries};
