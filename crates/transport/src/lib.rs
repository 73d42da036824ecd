//! Sessions over TCP.
mod error;
mod frames;
mod metered;
mod outbox;
mod socket;
mod throttle;
mod tls;
mod verify;
pub use error::{Layer, TransportError};
pub use socket::{SocketChoice, SocketOptions};
pub use throttle::{Rate, Schedule, ScheduleError, Throttle, WeekTime};
pub use tls::{Tls, TlsFiles};
