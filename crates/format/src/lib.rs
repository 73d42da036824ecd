//! On-disk formats as codecs: bytes in, structures out, and back. No I/O.
//!
//! **Invariant**: any bytes give a structure or a [`FormatError`]; nothing panics on input, and nothing is allocated
//! by a size that the input names before that size was bounded.

mod error;
mod field;
pub mod journal_record;
pub mod manifest;
pub mod receipt;
pub mod sidecar;
mod text;
pub mod vhd;
pub mod vmdk;

pub use error::FormatError;
