//! Messages of a session and their framing: bytes in, messages out. PROTOCOL.md is this crate in words.
//!
//! A frame is a fixed header, a small body that is encoded and decoded field by field, and a payload that is carried
//! apart and never copied.
//!
//! **Invariant**: every length and count is checked against a named limit before anything is allocated for it, and
//! a body that decodes has no byte left over.

mod codec;
mod error;
mod field;
mod frame;
mod kind;
mod message;
mod setup;
mod version;

pub use error::{ErrorKind, WireError};
pub use frame::{Frame, HEADER_BYTES, Header};
pub use kind::Class;
pub use message::{BlockPatch, Data, Encoding, Hello, Message, Offer, Role};
pub use setup::{Capabilities, Join, Open, SampledBlock, Welcome};
pub use version::Version;
