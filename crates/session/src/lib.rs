//! The two ends of a session as sans-IO state machines.
//!
//! A session is opened ([`handshake`]), carries one pass ([`Sender`], [`Receiver`]) while its connection is watched
//! ([`liveness`]), and ends with a goodbye of both. A machine is told what happened (`handle_*`) and asked what to do:
//! which message to send (`poll_transmit`), which work to start (`poll_work`), and when to tell it the time
//! (`poll_timeout`, `handle_time`). It reads no clock, no socket and no disk, so every order of events can be tried in a
//! test.
//!
//! **Invariant**: nothing is sent without credit for its class, so what is under way is bounded by
//! `failback_model::limits` whatever the other end does; and everything the other end says is checked against the disk's
//! layout before it leaves this crate.

mod credit;
mod error;
pub mod handshake;
pub mod liveness;
mod receiver;
mod refinement;
mod sender;
mod sequence;
mod stall;

pub use error::SessionError;
pub use receiver::{Receiver, ReceiverOptions, ReceiverWork};
pub use refinement::RefinementMode;
pub use sender::{Job, Sender, SenderOptions, SenderWork};
