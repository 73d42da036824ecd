//! Sessions over TCP with TLS 1.3: who may connect, what a connection may cost, how many carry a session, how fast it may
//! go, and how it ends.
//!
//! [`connect`] opens a session, [`Listener`] accepts them; both give a [`RemoteLink`], which carries frames between two
//! passes. Frames of bulk travel over data connections, whichever is free; everything else over the control connection, in
//! order (`failback_wire::Class`). [`Tls`] holds the certificates of this end and changes them while links stand.
//!
//! **Invariant**: nothing of a peer is read before its certificate is proved, and nothing large is held for it before
//! its first frame is accepted; every state has a limit of time; a lost connection ends the whole link, so a pass sees a
//! link that works or none.

mod connect;
mod error;
mod frames;
mod link;
mod listen;
mod metered;
mod outbox;
mod pool;
mod setup;
mod socket;
mod throttle;
mod tls;
mod verify;

pub use connect::{ConnectOptions, connect};
pub use error::{Layer, TransportError};
pub use link::{ConnectionStats, LinkEnd, LinkHandle, LinkSender, LinkStats, RemoteLink};
pub use listen::{Host, LinkAcceptor, ListenOptions, ListenStats, Listener, Refusal};
pub use socket::{SocketChoice, SocketOptions};
pub use throttle::{Rate, Schedule, ScheduleError, Throttle, WeekTime};
pub use tls::{Tls, TlsFiles};
