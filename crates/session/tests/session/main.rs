//! The two machines of a pass against each other, in many orders of events, and each against a hostile other end.

mod credit;
mod cut;
mod disk;
mod durable;
mod ending;
mod explore;
mod handshake;
mod hostile;
mod link;
mod liveness;
mod log;
mod net;
mod pair;
mod repair;
mod stranger;
mod turn;
mod walk;
mod world;
