//! What the fuzz targets do with bytes from outside. A body panics where a property does not hold; an error of the code
//! under test is an answer like any other.
//!
//! The targets of cargo-fuzz and the test that replays the stored corpus call the same functions.

mod disk;
mod extents;
mod frames;
mod handshake;
mod journal;
mod manifest;
mod nbd;
mod page_ranges;
mod receipt;
mod session;
mod sketch;
mod unpack;
mod vhd;
mod vhdx;
mod vmdk;

pub use extents::extents;
pub use frames::frames;
pub use handshake::{handshake, handshake_request};
pub use journal::journal;
pub use manifest::manifest;
pub use nbd::nbd;
pub use page_ranges::page_ranges;
pub use receipt::receipt;
pub use session::{session, session_seals};
pub use sketch::{sketch_of, sketched};
pub use unpack::{unpack, unpack_disk};
pub use vhd::vhd;
pub use vhdx::vhdx;
pub use vmdk::{vmdk_descriptor, vmdk_sparse, vmdk_stream};

/// A target's body.
pub type Body = fn(&[u8]);

/// Every target by its name, which is also its folder in the corpus.
pub const TARGETS: [(&str, Body); 15] = [
    ("vmdk_descriptor", vmdk_descriptor),
    ("vmdk_sparse", vmdk_sparse),
    ("vmdk_stream", vmdk_stream),
    ("vhd", vhd),
    ("vhdx", vhdx),
    ("manifest", manifest),
    ("frames", frames),
    ("unpack", unpack),
    ("handshake", handshake),
    ("session", session),
    ("journal", journal),
    ("receipt", receipt),
    ("nbd", nbd),
    ("extents", extents),
    ("page_ranges", page_ranges),
];
