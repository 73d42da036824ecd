//! The stages of a pass that use the CPU. They know the traits, not the formats.
//!
//! A block's way: `scan` hashes it, `compare` finds it different, `refine` picks its pages, `pack` collects them; at the
//! other end `unpack` verifies them for the sink.

mod compare;
mod compression;
mod digest_source;
pub mod manifest;
mod pack;
mod partly_trusted;
mod read;
pub mod reference;
mod refine;
mod scan;
pub mod seed;
mod sink;
mod unpack;

pub use compare::{Comparer, Comparison, TargetDigests, TargetRun};
pub use compression::packed_bytes;
pub use digest_source::{DigestRun, DigestSource, KeptBytes, NewDisk, ScanEnd};
pub use pack::Packer;
pub use partly_trusted::{Known, PartlyTrusted, ScanLog, TrustedDigests};
pub use read::{read_around_holes, read_digests};
pub use refine::{RefinedBlock, choose_pages, refine, whole};
pub use scan::{Meter, Scan};
pub use sink::Sink;
pub use unpack::{OldPages, Unpacked, Write, old_pages_of, unpack};
