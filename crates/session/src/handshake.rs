//! How a session is opened: the sending end asks ([`Opening`]), the receiving end checks and answers ([`Accepting`]).
//!
//! Neither knows a registry, a store or a clock: what they say is handed in, and so is the time.
//!
//! **Invariant**: whatever either end refuses, it names the values of both, and the receiving end says it on the wire
//! before the connection closes. A session stands only after [`Accepting::handle_session`], which comes after its number
//! is durable.

mod accepting;
mod opening;
mod terms;

pub use accepting::{Accepting, AcceptingOptions, Request, Target};
pub use opening::Opening;
