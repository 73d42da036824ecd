//! The two machines of a pass against each other, in many orders of events, and each against a hostile other end.

mod disk;
mod ending;
mod explore;
mod handshake;
mod hostile;
mod link;
mod liveness;
mod repair;
mod stranger;
mod walk;
mod world;
